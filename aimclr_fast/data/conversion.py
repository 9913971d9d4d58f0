"""From a plan to a store: read, preprocess and write, over several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast._errors import Error
from aimclr_fast.data import bodies as tracking
from aimclr_fast.data import preprocessing, sanity
from aimclr_fast.data.duration import Duration
from aimclr_fast.data.findings import Report
from aimclr_fast.data.gaps import Gaps, close_joints, last_frame, mark
from aimclr_fast.data.preprocessing import Preprocessing, resize_seen, without_nan
from aimclr_fast.data.readers import Plan, Problem, ReadError, Recording, in_meters, meters
from aimclr_fast.data.store import Store
from aimclr_fast.data.stream import StoreWriter
from aimclr_fast.layouts import Layout, layout_to_yaml

#: File in a store that lists everything left out of it, with file and line.
LEFT_OUT = "left_out.csv"
#: File in a store whose layout was derived from the source: the layout, to be edited.
LAYOUT = "layout.yaml"
ROTATIONS = ("auto", *preprocessing.ROTATIONS)
_GAPS = {
    "published": "the first frames, as many as have a first body",
    "fill": "empty ends cut and gaps interpolated",
    "keep": "empty frames kept",
}
_CHUNK = 32  # units a worker takes at once
_BATCH = 64  # recordings written at once
# Windows waits for no more processes at once.
_MOST_WORKERS = 61 if sys.platform == "win32" else 1000


class PrepareError(Error, ValueError):
    """Nothing could be prepared, or ``on_error="fatal"`` met a problem."""


@dataclass(frozen=True)
class Recipe:
    """What is done to each recording. Small, so that it can be sent to a worker.

    Attributes:
        layout: the skeleton.
        bodies: bodies per sample.
        frames: length of each sample; None keeps its own.
        exact: see :func:`aimclr_fast.data.preprocessing.rotate_about_y`.
        rotate: whether to turn it about y.
        gaps: what becomes of frames without a body (:mod:`aimclr_fast.data.gaps`).
        spurious: drop spurious bodies (:mod:`aimclr_fast.data.bodies`).
        ready: positions are preprocessed: resize them at most.
        unit: of lengths, where reading does not apply it.
        up: axis that points up, where reading does not turn it.
        normalize: see :mod:`aimclr_fast.data.preprocessing`.
    """

    layout: Layout
    bodies: int
    frames: int | None = 50
    exact: bool = False
    rotate: bool = True
    gaps: str = "fill"
    spurious: bool = False
    ready: bool = False
    unit: str = "m"
    up: str = "y"
    normalize: str = "frame"

    @property
    def fills(self) -> bool:
        """Whether gaps are interpolated."""
        return self.gaps == "fill" and not self.ready

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is done after the bodies are chosen; None where others preprocessed the source."""
        if self.ready:
            return None
        rotate = "none" if not self.rotate else "exact" if self.exact else "published"
        return Preprocessing(self.frames, rotate, self.gaps, self.normalize)

    def __call__(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], Gaps]:
        """Preprocess ``[3, T, V, M]``; ValueError where that cannot be done."""
        if (self.unit, self.up) != ("m", "y"):
            x = in_meters(x, self.unit, self.up)
        steps = self.preprocessing
        if steps is not None:
            if self.spurious:
                cut = self.gaps == "published"
                x = tracking.keep_best(mark(x), self.bodies, spurious=True, cut=cut)
            return steps.counted(x, self.layout)
        # Zeros after the last frame that holds anything fill the array up; they are no motion.
        length = last_frame(x) or x.shape[1]
        x, gaps = close_joints(x, self.gaps, self.layout.joints)
        if self.frames is not None:
            x = resize_seen(x[:, :length], self.frames)
        return without_nan(x).astype(np.float32), replace(gaps, length=length)


@dataclass
class Batch:
    """The results of some units.

    Attributes:
        positions: of each sample, ``[3, T, V, M]``.
        rows: its cells of samples.csv.
        where: its file.
        gaps: what was missing in it.
        rates: frames per second of each sample, where they are known.
        given: how many of these the user said.
        problems: what was left out.
        units: how many units are done.
    """

    positions: list[npt.NDArray[np.float32]] = field(default_factory=list)
    rows: list[dict[str, int | str]] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    gaps: list[Gaps] = field(default_factory=list)
    rates: list[float | None] = field(default_factory=list)
    given: int = 0
    problems: list[Problem] = field(default_factory=list)
    units: int = 0


@dataclass
class Result:
    """A finished store and what happened on the way.

    Attributes:
        store: the store.
        frames: recorded frames of each sample, ``[S]``.
        bodies: bodies seen in each sample, ``[S]``.
        left_out: everything that is not in the store.
        gaps: what was missing in each sample.
        report: the data check; kept in the store, too.
        unused: classes that have no sample, and no number therefore.
        rates_given: samples whose frame rate is known from the user alone.
    """

    store: Store
    frames: npt.NDArray[np.int64]
    bodies: npt.NDArray[np.int64]
    left_out: list[Problem]
    gaps: list[Gaps]
    report: Report
    unused: tuple[str, ...] = ()
    rates_given: int = 0


def make_recipe(
    plan: Plan, *, frames: int | None = None, original: bool = False, rotate: str = "auto",
    gaps: str = "auto", spurious: bool = False, unit: str = "m", up: str = "y",
    normalize: str = "auto",
) -> Recipe:  # fmt: skip
    """The published preprocessing of a plan's data set, except where the user asked otherwise.

    Args:
        plan: from a reader.
        frames: length of each sample; None is 50, or as it is for preprocessed sources.
        original: keep each sample's own length.
        rotate: "auto" (published for NTU RGB+D and PKU-MMD, exact for people who face the camera,
            none for 2D poses), "published", "exact" or "none".
        gaps: "auto" (published for NTU RGB+D and PKU-MMD, otherwise fill), or one of
            :data:`aimclr_fast.data.gaps.GAPS`.
        spurious: see :class:`Recipe`.
        unit: of the source's lengths; 2D poses have none.
        up: axis that points up in the source; turned up already in 2D poses.
        normalize: "auto" (the plan's), or one of NORMALIZATIONS.

    Raises:
        PrepareError: the published rotation of whole sequences.
    """
    kind = plan.normalize if normalize == "auto" else normalize
    if (kind, rotate) == ("sequence", "published") and not plan.ready:
        raise PrepareError(
            "--rotate published turns each frame: leave it out, or --normalize frame"
        )
    exact = plan.exact or kind == "sequence" if rotate == "auto" else rotate == "exact"
    turn = plan.rotate if rotate == "auto" else rotate != "none"
    length = None if original or (frames is None and plan.ready) else frames or 50
    rule = plan.gaps if gaps == "auto" else gaps
    if plan.in_meters or not plan.rotate:
        unit, up = "m", "y"
    return Recipe(
        plan.layout, plan.bodies, length, exact, turn, rule, spurious, plan.ready, unit, up, kind
    )


def _collect(
    readings: Callable[[Any], Iterator[Recording | Problem]],
    units: Iterable[Any],
    recipe: Recipe,
) -> Iterator[Batch]:
    """Read and preprocess units one after the other."""
    batch = Batch()
    for unit in units:
        try:
            for found in readings(unit):
                if isinstance(found, Recording):
                    _add(batch, found, recipe)
                else:
                    batch.problems.append(found)
                if len(batch.rows) >= _BATCH:
                    yield batch
                    batch = Batch()
        except ReadError as error:
            batch.problems.append(Problem.of(error))
        batch.units += 1
    yield batch


def _add(batch: Batch, found: Recording, recipe: Recipe) -> None:
    x = found.positions
    try:
        positions, gaps = recipe(x)
    except ValueError as error:
        batch.problems.append(Problem(found.where, str(error)))
        return
    if not np.isfinite(positions).all():
        batch.problems.append(Problem(found.where, "values are too large to be preprocessed"))
        return
    batch.positions.append(positions)
    batch.gaps.append(gaps)
    batch.rates.append(found.rate)
    batch.given += found.rate_given
    seen = sum(bool(positions[..., body].any()) for body in range(positions.shape[3]))
    row = {"name": found.name, **found.columns, "frames": gaps.length, "bodies": seen}
    if recipe.fills:
        row["filled"] = gaps.filled
    batch.rows.append(row)
    batch.where.append(found.where)


def _work(
    readings: Callable[[Any], Iterator[Recording | Problem]], units: Sequence[Any], recipe: Recipe
) -> list[Batch]:
    return list(_collect(readings, units, recipe))


def usable_cores() -> int:
    """Cores that this process may use, as far as the system says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS, Windows


def _context() -> BaseContext:
    """How workers start. Not forked from here: this process may have threads (a progress bar,
    torch). Each is a fork of one clean server that has the readers imported, or, on Windows, new.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def batches(plan: Plan, recipe: Recipe, jobs: int) -> Iterator[Batch]:
    """Batches of all units, in order, whichever worker made them."""
    chunks = [plan.units[i : i + _CHUNK] for i in range(0, len(plan.units), _CHUNK)]
    if plan.one_process or jobs == 1 or len(chunks) < 2:
        yield from _collect(plan.read, plan.units, recipe)
        return
    workers = min(jobs, len(chunks), _MOST_WORKERS)
    pool = ProcessPoolExecutor(workers, mp_context=_context())
    waiting: deque[Future[list[Batch]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work, plan.read, chunk, recipe))
            if len(waiting) > 2 * jobs:  # bounds the results that wait in memory
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def convert(
    plan: Plan,
    recipe: Recipe,
    out: Path,
    *,
    jobs: int = 1,
    fatal: bool = False,
    overwrite: bool = False,
    unit: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Result:
    """Make the store of a plan.

    Args:
        plan: from a reader.
        recipe: from :func:`make_recipe`.
        out: the store's folder.
        jobs: processes.
        fatal: stop at the first problem that is not expected of the data set.
        overwrite: replace a store that is there.
        unit: of the source's lengths, as given by the user; if None, impossible body sizes are
            refused after the first recordings, otherwise only reported.
        progress: called with the number of units done so far.
        warn: called with what the user should know immediately.

    Raises:
        PrepareError: nothing is left, bodies have an impossible size, or ``fatal``.
        StoreError: the store cannot be written.
    """
    left_out: list[Problem] = []
    note(left_out, plan.left_out, fatal)
    seen: dict[str, str] = {}
    gaps: list[Gaps] = []
    bodies: list[int] = []
    rates: list[float | None] = []
    labels: set[int] = set()
    done = given = 0
    with StoreWriter(
        out, plan.layout, bodies=recipe.bodies, frames=recipe.frames, overwrite=overwrite
    ) as writer:
        for batch in batches(plan, recipe, jobs):
            note(left_out, batch.problems, fatal)
            if (
                plan.rotate
                and batch.positions
                and not gaps
                and (odd := odd_size(batch.positions, plan.layout, unit))
            ):
                if unit is None:
                    raise PrepareError(odd)
                warn(odd)
            each = zip(
                batch.positions, batch.rows, batch.where, batch.gaps, batch.rates, strict=True
            )
            for positions, row, where, missing, rate in each:
                name = str(row["name"])
                if name in seen:
                    note(
                        left_out,
                        [Problem(where, f"{name} appears before, in {seen[name]}")],
                        fatal,
                    )
                    continue
                seen[name] = where
                writer.append(positions[None], [row])
                gaps.append(missing)
                bodies.append(int(row["bodies"]))
                rates.append(rate)
                labels.add(int(row.get("label", 0)))
            done += batch.units
            given += batch.given
            progress(done)
        if not len(writer):
            raise PrepareError(_nothing_left(left_out))
        if left_out:
            places = [(problem.where, problem.reason) for problem in left_out]
            writer.attach(LEFT_OUT, [("where", "reason"), *places])
        if plan.derived:
            writer.attach_text(LAYOUT, layout_to_yaml(plan.layout))
        classes, renumbered = _used_classes(plan, labels)
        frames = np.array([missing.length for missing in gaps])
        store = writer.finish(
            classes=classes,
            splits=plan.splits,
            source=f"{plan.source}; {describe(recipe)}",
            preprocessing=recipe.preprocessing,
            citation=plan.citation,
            duration=Duration.of(frames.tolist(), rates, plan.window),
            renumbered=renumbered,
        )
    report = sanity.check_store(store)
    sanity.keep(store, report)
    unused = tuple(name for name in plan.classes or () if name not in (classes or ()))
    return Result(store, frames, np.array(bodies), left_out, gaps, report, unused, given)


def _nothing_left(left_out: Sequence[Problem]) -> str:
    """What to say if there are no samples: the causes, most frequent first."""
    real = [problem for problem in left_out if not problem.expected] or left_out
    causes = [
        f"{first}: {reason}" + (f" (and {n - 1:,} more)" if n > 1 else "")
        for reason, n, first in reasons(real)[:3]
    ]
    if not causes:
        return "no sample is left: the source holds none"
    return f"no sample is left, {len(left_out):,} left out: {'; '.join(causes)}"


def _used_classes(
    plan: Plan, labels: Collection[int]
) -> tuple[tuple[str, ...] | None, dict[int, int] | None]:
    """Classes by label, and the new label of each old one where classes without a sample are left
    out.
    """
    if not plan.numbered or plan.classes is None or len(labels) == len(plan.classes):
        return plan.classes, None
    used = sorted(labels)
    return tuple(plan.classes[n] for n in used), {old: new for new, old in enumerate(used)}


def odd_size(positions: Sequence[npt.NDArray[np.float32]], layout: Layout, unit: str | None) -> str:
    """A message if the bodies of recordings ``[3, T, V, M]`` have an impossible size: the size, and
    the flag that gives the unit. Otherwise empty.
    """
    size = sanity.impossible_size(positions, layout)
    if size is None:
        return ""
    likely = sanity.likely_units(size / meters(unit or "m"), layout)
    likely = [one for one in likely if one != unit]
    units = " or ".join(likely)
    mend = f"lengths look like {units}: --unit {units}" if likely else "say their unit with --unit"
    if unit is None:
        mend += " (--unit m keeps them as they are)"
    else:
        mend += f", not {unit}" if likely else f", if they are not in {unit}"
    seen = f"bodies are {sanity.meters(size)} tall in the first {len(positions)} recordings"
    return f"{seen}; {mend}"


def note(left_out: list[Problem], problems: Iterable[Problem], fatal: bool) -> None:
    """Add problems to the list, or stop at the first that is not expected."""
    for problem in problems:
        if fatal and not problem.expected:
            raise PrepareError(f"{problem.where}: {problem.reason}")
        left_out.append(problem)


def describe(recipe: Recipe) -> str:
    """What was done, in words for meta.json."""
    if recipe.ready:
        return "taken as preprocessed by others"
    parts = ["spurious bodies dropped"] if recipe.spurious else []
    parts.append(_GAPS[recipe.gaps])
    center = recipe.layout.joints[recipe.layout.center]
    by_sequence = recipe.normalize == "sequence"
    parts.append(
        f"origin at the first frame's {center} of the first body, the trajectory kept"
        if by_sequence
        else f"centered on {center} in each frame"
    )
    parts.append(f"{recipe.frames} frames" if recipe.frames else "recorded frames kept")
    if recipe.rotate and recipe.layout.shoulders is not None:
        how = "exact" if recipe.exact else "published"
        whose = "its shoulders there" if by_sequence else "shoulders"
        parts.append(f"{whose} turned onto x ({how})")
    return ", ".join(parts)


def reasons(left_out: Sequence[Problem]) -> list[tuple[str, int, str]]:
    """Each reason with its count and its first place, most frequent first."""
    count = Counter(problem.reason for problem in left_out)
    first = {problem.reason: problem.where for problem in reversed(left_out)}
    return [(reason, number, first[reason]) for reason, number in count.most_common()]

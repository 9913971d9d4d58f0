"""Recordings in any format that `prepare` reads, as the sequences that an encoder takes."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies, keep_best, seen
from aimclr_fast.data.conversion import Recipe, convert
from aimclr_fast.data.duration import clearly_other
from aimclr_fast.data.gaps import mark
from aimclr_fast.data.readers import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    get_reader,
    with_sides,
)
from aimclr_fast.data.retargeting import retargeted
from aimclr_fast.data.store import Store
from aimclr_fast.data.timing import RECORDING, Timing, timed
from aimclr_fast.layouts import layout_to_yaml

from .encoder import Encoder
from .windows import MOST_MISSING, missing_share, stands_still

#: Column of a person's number in a recording of several, where an encoder takes one at a time.
PERSON = "person"
_START = re.compile(r"@([0-9.e+-]+)s$")
_OF_STORES = ("no labels.csv", "time: the column")  # notes that say nothing of what is classified
_TOLD = ("values", "height", "up", "sides")  # of the data check: how the files were read


@dataclass(frozen=True)
class Part:
    """A sequence to be classified: a whole recording or a window of one, of one person or all.

    Attributes:
        recording: its name.
        person: from 1, where an encoder takes one at a time and the recording has several; else 0.
        start: seconds from the beginning of the recording; None where it is taken whole.
        end: likewise.
        still: whether nobody moves in it.
    """

    recording: str
    person: int
    start: float | None
    end: float | None
    still: bool

    @property
    def title(self) -> str:
        """What it is, in words."""
        return title(self.recording, self.person, self.start, self.end)


@dataclass(frozen=True)
class Parts:
    """What recordings hold.

    Attributes:
        store: the sequences, preprocessed as the encoder's training data were.
        each: what each is, in the store's order.
        notes: how the recordings were understood, and whether they are clearly of another
            length than the sequences that the encoder was trained on.
        left_out: what could not be used.
    """

    store: Store
    each: list[Part]
    notes: list[str]
    left_out: list[Problem]

    def sequences(self, encoder: Encoder) -> npt.NDArray[np.float32]:
        """[N, M, T, V, 3], as ``encoder(..., preprocessed=True)`` takes them."""
        x = self.store.as_tensor().numpy()
        short = encoder.traits.frames - x.shape[2]
        if short > 0 and self.store.preprocessing and self.store.preprocessing.frames is None:
            x = np.pad(x, ((0, 0), (0, 0), (0, short), (0, 0), (0, 0)))
        return np.ascontiguousarray(x.transpose(0, 4, 2, 3, 1))


def title(recording: str, person: int, start: float | None, end: float | None) -> str:
    """A part of a recording in words; see `Part`."""
    who = f" person {person}" if person else ""
    return recording + who + ("" if start is None else f" {start:g}-{end:g} s")


def read_parts(
    source: Path,
    encoder: Encoder,
    scratch: Path,
    *,
    reader: str = "folder",
    options: Options | None = None,
    timing: Timing | None = None,
) -> Parts:
    """Read recordings for an encoder: its joints, its preprocessing, and as many people at a time.

    An encoder of one body takes each person on their own; one of several takes the people of a
    recording together, those who matter most if they are too many. A window is left out if they are
    missing from more than half of its frames, as in live motion.

    Args:
        source: a file, folder or zip file.
        encoder: which must know how its training data were preprocessed.
        scratch: a folder to work in; nothing of that name may be there.
        reader: of `prepare`; "folder" finds the format by itself.
        options: how the source is to be understood. Without a layout that of the files is taken,
            or, where they do not say, the encoder's, which is noted.
        timing: how recordings are cut.

    Raises:
        ReadError: the source cannot be read, or its joints are not the encoder's.
        PrepareError: nothing is left, or bodies have an impossible size.
        ValueError: the encoder does not know its preprocessing.
    """
    steps, layout = encoder.traits.preprocessing, encoder.layout
    if steps is None:
        raise ValueError("how the encoder's training data were preprocessed is not known")
    options, timing = options or Options(), timing or Timing()
    scratch.mkdir()
    own = scratch / "layout.yaml"
    own.write_text(layout_to_yaml(layout), encoding="utf-8")
    plan = _plan(source, reader, options, own)
    if plan.ready:
        raise ReadError(str(source), "holds preprocessed sequences, not recordings")
    plan = with_sides(plan, options.sides)
    if plan.layout != layout:
        plan = retargeted(plan, str(own))
    bodies = encoder.traits.bodies
    if bodies == 1:
        plan = replace(plan, read=functools.partial(_each_person, read=plan.read))
    else:
        plan = replace(plan, read=functools.partial(_together, read=plan.read, bodies=bodies))
        if plan.bodies > 1:
            plan.notes.append(
                f"people: up to {bodies} together, as the encoder was trained, with one answer for "
                "all of them; of more, those who are there longest and move most"
            )
    if timing != Timing():
        if not plan.timed and timing.rate is None:
            raise ReadError(str(source), "does not say its frame rate: say it with --rate")
        if timing.rate is not None and not plan.untimed:
            raise ReadError(f"--rate {timing.rate:g}", "the recordings say their frame rate")
        plan = timed(plan, timing)
        if timing.window is not None:
            plan = replace(plan, read=functools.partial(_attended, read=plan.read))
    known = plan.in_meters or not plan.rotate
    recipe = Recipe(
        layout=layout,
        bodies=encoder.traits.bodies,
        frames=steps.frames,
        exact=steps.rotate == "exact",
        rotate=steps.rotate != "none",
        gaps=steps.gaps,
        unit="m" if known else options.unit or "m",
        up="y" if known else options.up or "y",
        normalize=steps.normalize,
    )
    done = convert(plan, recipe, scratch / "store", unit=options.unit)
    notes = [note for note in plan.notes if not note.startswith(_OF_STORES)]
    trained = encoder.traits.duration
    if trained is not None:
        other = clearly_other(trained, done.store.duration, resized=steps.frames is not None)
        notes += [other] if other else []
    notes += [str(finding) for finding in done.report.odd if finding.check in _TOLD]
    return Parts(done.store, _told(done.store, timing), notes, done.left_out)


def _plan(source: Path, reader: str, options: Options, own: Path) -> Plan:
    """The plan of a source; its joints are the encoder's where nothing says what they are."""
    read = get_reader(reader).plan
    try:
        return read(source, options)
    except ReadError as error:
        if options.layout is not None or "layout" not in str(error):
            raise
        plan = read(source, replace(options, layout=str(own)))
        plan.notes.append(
            "joints: taken to be the encoder's, in its order, since the files do not name them "
            "(--layout says otherwise)"
        )
        return plan


def _each_person(unit: Any, *, read: Callable[[Any], Readings]) -> Readings:
    """Recordings of several people as one of each."""
    for found in read(unit):
        if not isinstance(found, Recording):
            yield found
            continue
        x = found.positions
        there = [m for m in range(x.shape[3]) if np.nan_to_num(x[..., m]).any()] or [0]
        for body in there:
            several = len(there) > 1
            yield replace(
                found,
                name=f"{found.name}#{body + 1}" if several else found.name,
                positions=x[..., body : body + 1],
                columns={**found.columns, PERSON: body + 1 if several else 0},
            )


def _together(unit: Any, *, read: Callable[[Any], Readings], bodies: int) -> Readings:
    """Recordings of so many people, or of those who matter most."""
    for found in read(unit):
        if isinstance(found, Recording):
            x = found.positions
            many = np.count_nonzero(seen(x).any(axis=0)) > bodies
            x = keep_best(mark(x), bodies, cut=False) if many else fit_bodies(x, bodies)
            found = replace(found, positions=x)
        yield found


def _attended(unit: Any, *, read: Callable[[Any], Readings]) -> Readings:
    """Windows without those in which nobody is there half of the time, which are counted."""
    empty: Counter[tuple[str, int]] = Counter()
    for found in read(unit):
        if isinstance(found, Recording) and missing_share(found.positions) > MOST_MISSING:
            empty[str(found.columns[RECORDING]), int(found.columns.get(PERSON, 0))] += 1
        else:
            yield found
    for (name, person), count in empty.items():
        windows = "1 window" if count == 1 else f"{count:,} windows"
        who = title(name.removesuffix(f"#{person}"), person, None, None)
        yield Problem(who, f"missing from more than half of the frames in {windows}")


def _told(store: Store, timing: Timing) -> list[Part]:
    names = store.samples["name"].tolist()
    people = store.samples.get(PERSON, np.zeros(len(names), np.int64)).tolist()
    parts = []
    for row, (name, person) in enumerate(zip(names, people, strict=True)):
        start = end = None
        if timing.window is not None:
            name = str(store.samples[RECORDING][row])
            found = _START.search(names[row])
            start = float(found[1]) if found else 0.0
            end = round(start + timing.window, 6)
        still = stands_still(store.as_tensor(row).numpy())
        parts.append(Part(name.removesuffix(f"#{person}"), int(person), start, end, still))
    return parts

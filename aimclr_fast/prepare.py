"""Make a store of raw recordings: python -m aimclr_fast.prepare DATASET SOURCE OUT."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import argparse
import re
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ._console import plain_console
from .cli import Parser, UserError, config_names, run
from .data import Store, resolve_store, split
from .data.conversion import (
    LAYOUT,
    LEFT_OUT,
    ROTATIONS,
    Result,
    convert,
    describe,
    make_recipe,
    reasons,
    usable_cores,
)
from .data.flags import refusal
from .data.gaps import GAPS, LONGEST
from .data.preprocessing import NORMALIZATIONS, USUAL_NORMALIZATION
from .data.readers import (
    SIDES,
    UNITS,
    Options,
    Plan,
    get_reader,
    meters,
    read_intervals,
    reader_names,
    with_sides,
)
from .data.retargeting import retargeted
from .data.splits import default_split
from .data.timing import Timing, timed, without_sample

PROGRAM = "python -m aimclr_fast.prepare"
_WHOLE_BATCH = 128  # of the published recipe


def parser() -> Parser:
    formats = "\n".join(f"  {n:<10} {get_reader(n).SUMMARY}" for n in reader_names())
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s DATASET SOURCE OUT [options]\n       %(prog)s check STORE\n"
        "       %(prog)s inspect STORE [--out FOLDER]",
        description=f"Turn raw recordings into a store. DATASET is one of:\n\n{formats}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("dataset", type=str, help="what the source is, see above")
    add("source", type=str, help="a folder, a zip file (never unpacked to disk) or a file")
    add("out", type=str, help="folder of the store to make")
    add(
        "--frames",
        type=str,
        default="auto",
        help="length of each sample: a number, or 'original'; auto: 50, preprocessed as they are",
    )
    add(
        "--normalize",
        type=str,
        default="auto",
        help="frame (each frame centered and turned on its own, as published) or sequence (moved "
        "and turned as a whole by its first frame, the trajectory kept); "
        f"auto: {USUAL_NORMALIZATION}, and always frame for NTU RGB+D and PKU-MMD",
    )
    add("--rotate", type=str, default="auto", help=f"about y: {', '.join(ROTATIONS)}")
    add(
        "--gaps",
        type=str,
        default="auto",
        help="missing frames and joints: fill (cut at the ends, interpolated inside), keep, or "
        "published; auto: published for ntu60, ntu120, pku1 and pku2, fill for all others",
    )
    add(
        "--bodies",
        type=str,
        default="order",
        help="order (first in each frame, as published) or follow (by the tracker's ids)",
    )
    add(
        "--drop-spurious",
        action="store_true",
        help="drop bodies seen too briefly, too wide, or moving too little or too much",
    )
    add("--missing", type=str, default=None, help="file that names samples to leave out (NTU)")
    add("--labels", type=str, default=None, help="csv of labels and metadata (folder)")
    add(
        "--to",
        type=str,
        default=None,
        help="bring the joints to another layout by their names: a built-in one or a YAML file",
    )
    add_source_flags(command)
    add(
        "--intervals",
        type=str,
        default=None,
        help="labels by interval: a csv with start,end,label (and name, where there are several "
        "recordings), BORIS's aggregated events, or an .eaf file of ELAN or a folder of these",
    )
    add("--tier", type=str, default=None, help="of .eaf files with several")
    add("--jobs", type=int, default=0, help="processes; 0 takes one per core")
    add(
        "--on-error",
        type=str,
        default="skip",
        help="skip (and report) what cannot be used, or fatal: stop at the first",
    )
    add("--overwrite", action="store_true", help="replace a store that is there")
    return command


def add_source_flags(command: Parser) -> None:
    """Add the flags that say how recordings are to be understood, whatever becomes of them."""
    add = command.add_argument
    add("--layout", type=str, default=None, help="skeleton: a built-in name or a YAML file")
    add(
        "--unit",
        type=str,
        default=None,
        help="of the source's lengths: m (default; found in motion capture), cm, mm, or its "
        "meters: 0.0254",
    )
    add(
        "--up",
        type=str,
        default=None,
        help="axis that points up: y (default; found in motion capture), -y or z",
    )
    add(
        "--sides",
        type=str,
        default=None,
        help="of joints called left and right: keep, swap (exchange the names) or mirror (negate "
        "an axis); left out, motion capture in which they are exchanged is refused",
    )
    add("--fps", type=float, default=None, help="resample to so many frames per second")
    add("--window", type=str, default=None, help="cut recordings into windows of, say, 4s")
    add("--hop", type=str, default=None, help="time from window to window; default: a window's")
    add(
        "--rate",
        type=float,
        default=None,
        help="frames per second of recordings that do not say theirs: for --fps, --window and "
        "--intervals, and kept in the store as the length of its sequences",
    )
    add("--pose", type=str, default="auto", help="of the source: auto, 2d or 3d")
    add(
        "--columns",
        type=str,
        default=None,
        help="what the columns of a joint are in tables without a heading (folder): x, y, z, "
        "c (confidence), _ (ignored); such as xyz, xyzc, xyz___",
    )
    add(
        "--markers",
        type=str,
        default=None,
        help="YAML file of the markers of each joint (c3d, trc, optitrack)",
    )
    add(
        "--body-model",
        type=str,
        default=None,
        help=".npz file of a body model (SMPL, SMPL-H, SMPL-X), for files with poses alone (amass)",
    )
    add("--csv-bodies", type=int, default=None, help="bodies side by side in tables (folder)")
    add("--skip-columns", type=int, default=0, help="leading columns of tables to skip")
    add("--min-confidence", type=float, default=0.05, help="2D joints at or below are missing")
    add(
        "--aspect",
        type=str,
        default=None,
        help="of the images, where 2D x and y were divided by width and height: 16:9, 1920x1080; "
        "1 where both are in one unit",
    )
    add("--max-bodies", type=int, default=None, help="bodies to keep; default: the data set's own")


def main(arguments: list[str]) -> None:
    command = {"inspect": inspect, "check": check}.get(arguments[0] if arguments else "")
    if command is not None:
        command(arguments[1:])
        return
    command_parser = parser()
    given = command_parser.parse_args(arguments)
    chosen = {
        field: value
        for field, value in vars(given).items()
        if value != command_parser.get_default(field)
    }
    for field, allowed in {
        "normalize": ("auto", *NORMALIZATIONS),
        "rotate": ROTATIONS,
        "gaps": ("auto", *GAPS),
        "bodies": ("order", "follow"),
        "on_error": ("skip", "fatal"),
    }.items():
        if given[field] not in (None, *allowed):
            flag = field.replace("_", "-")
            raise UserError(f"--{flag} {given[field]}: choose from {', '.join(allowed)}")
    frames = _frames(given.frames)
    if not 0 <= given.jobs <= 1000:
        raise UserError(f"--jobs {given.jobs}: must be from 0 to 1000")
    options = source_options(given)
    timing = source_timing(given)
    if given.tier is not None and given.intervals is None:
        raise UserError("--tier: only with --intervals")
    out = Path(given.out)
    if out.exists() and not given.overwrite:
        raise UserError(f"{out}: exists already (--overwrite replaces a store)")
    try:
        reader = get_reader(given.dataset)
    except ValueError as error:
        raise UserError(str(error)) from error
    options = replace(
        options,
        bodies=given.bodies,
        drop_spurious=given.drop_spurious,
        missing=None if given.missing is None else Path(given.missing),
        labels=None if given.labels is None else Path(given.labels),
        gaps=given.gaps,
    )
    check_flags(chosen, given.dataset)
    console = plain_console()
    plan = reader.plan(Path(given.source), options)
    check_flags(chosen, given.dataset, plan)
    plan = with_sides(plan, options.sides)
    if given.to is not None:
        plan = retargeted(plan, given.to)
    if given.intervals is not None:
        timing = replace(timing, intervals=read_intervals(Path(given.intervals), given.tier))
    if timing != Timing():
        plan = timed(plan, timing)
    if plan.ready and given.gaps != "auto":
        plan.notes.append("--gaps applies to NaN alone, since the sequences are preprocessed")
    recipe = make_recipe(
        plan,
        frames=frames or None,
        original=frames == 0,
        rotate=given.rotate,
        gaps=given.gaps,
        spurious=given.drop_spurious,
        unit=given.unit or "m",
        up=given.up or "y",
        normalize=given.normalize,
    )
    for text in plan.notes:
        console.print(text, soft_wrap=True)
    jobs = given.jobs or usable_cores()
    began = time.perf_counter()
    with _Bar(console, len(plan.units)) as bar:
        result = convert(
            plan,
            recipe,
            out,
            jobs=jobs,
            fatal=given.on_error == "fatal",
            overwrite=given.overwrite,
            unit=given.unit,
            progress=bar.update,
            warn=lambda text: console.print(text, highlight=False, soft_wrap=True),
        )
    seconds = time.perf_counter() - began
    for text in (
        summary(result, plan, seconds),
        *([f"layout: {result.store.path / LAYOUT} (--layout takes it)"] if plan.derived else []),
        f"done to each: {describe(recipe)}",
        str(result.report),
        *rate_used(given.rate, result),
        *without_sample(timing, result.store.samples),
        f"to train on it:\n  {train_command(result.store, given.dataset)}",
    ):
        console.print(text, soft_wrap=True)


def source_options(given: argparse.Namespace) -> Options:
    """What :func:`add_source_flags` was given, for a reader.

    Raises:
        UserError: a flag has a value that it does not take.
    """
    for flag, value, allowed in (
        ("up", given.up, ("y", "-y", "z")),
        ("pose", given.pose, ("auto", "2d", "3d")),
        ("sides", given.sides, SIDES),
    ):
        if value not in (None, *allowed):
            raise UserError(f"--{flag} {value}: choose from {', '.join(allowed)}")
    for flag, value, least in (
        ("max-bodies", given.max_bodies, 1),
        ("csv-bodies", given.csv_bodies, 1),
        ("skip-columns", given.skip_columns, 0),
    ):
        if value is not None and not least <= value <= 1000:
            raise UserError(f"--{flag} {value}: must be from {least} to 1000")
    if given.unit is not None:
        _check_unit(given.unit)
    return Options(
        max_bodies=given.max_bodies,
        layout=given.layout,
        unit=given.unit,
        up=given.up,
        pose=given.pose,
        min_confidence=given.min_confidence,
        aspect=None if given.aspect is None else _aspect(given.aspect),
        columns=given.columns,
        csv_bodies=given.csv_bodies,
        skip_columns=given.skip_columns,
        markers=None if given.markers is None else Path(given.markers),
        body_model=None if given.body_model is None else Path(given.body_model),
        sides=given.sides,
    )


def check_flags(given: Mapping[str, Any], dataset: str, plan: Plan | None = None) -> None:
    """Refuse a flag that would be ignored: by the format, or by what the source holds."""
    reason = refusal(given, dataset, plan)
    if reason:
        raise UserError(reason)


def _frames(text: str) -> int | None:
    """None is auto, 0 is original."""
    if text == "auto":
        return None
    if text == "original":
        return 0
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 10_000:
        raise UserError(f"--frames {text}: a number from 1 to 10000, original or auto")
    return int(text)


def _check_unit(text: str) -> None:
    try:
        meters(text)
    except ValueError as error:
        names = ", ".join(UNITS)
        raise UserError(f"--unit {text}: choose from {names}, or give its meters") from error


def source_timing(given: argparse.Namespace) -> Timing:
    """How recordings are cut in time."""
    if given.hop is not None and given.window is None:
        raise UserError("--hop: only with --window")
    for flag, value in (("fps", given.fps), ("rate", given.rate)):
        if value is not None and not 0.1 <= value <= 1000:
            raise UserError(f"--{flag} {value:g}: must be from 0.1 to 1000")
    window, hop = _seconds("window", given.window), _seconds("hop", given.hop)
    return Timing(given.fps, window, hop, given.rate)


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    number = re.fullmatch(r"(\d{1,5}(?:\.\d{1,6})?) ?s", text)
    if number is None or not 0.01 <= float(number[1]) <= 3600:
        raise UserError(f"--{flag} {text}: expected seconds, from 0.01s to 3600s, such as 4s")
    return float(number[1])


def _aspect(text: str) -> float:
    """Width / height, as a number or of both sides."""
    sides = re.fullmatch(r"(\d{1,5}(?:\.\d{1,9})?)(?:[:x](\d{1,5}(?:\.\d{1,9})?))?", text)
    width, height = (float(sides[1]), float(sides[2] or 1)) if sides else (0.0, 0.0)
    if not width or not height:
        raise UserError(f"--aspect {text}: width and height, such as 16:9 or 1920x1080, or 1")
    return width / height


def summary(result: Result, plan: Plan, seconds: float) -> str:
    """What is in the store, what is not and why, and how long it took."""
    frames, bodies = result.frames, result.bodies
    count = np.bincount(bodies, minlength=1)
    lines = [
        result.store.summary(),
        f"frames recorded: min {frames.min()}, median {int(np.median(frames))}, max {frames.max()}",
        "bodies: "
        + ", ".join(f"{n:,} samples with {m}" for m, n in enumerate(count.tolist()) if n),
        *gaps_found(result),
    ]
    labels = result.store.labels
    if labels is not None:
        of = f" of {len(plan.classes)}" if plan.classes else ""
        lines.append(f"classes: {len(np.unique(labels))}{of} have samples")
        if result.unused:
            lines.append(f"  without a sample, and left out: {', '.join(result.unused[:20])}")
    lines.append(
        f"left out: {len(result.left_out):,}" + (", because it" if result.left_out else "")
    )
    for reason, number, first in reasons(result.left_out)[:20]:
        lines.append(f"  {number:>6,} x {reason} (first: {first})")
    if result.left_out:
        lines.append(f"  each with its file and line: {result.store.path / LEFT_OUT}")
    if result.store.duration is not None:
        lines.append(f"seconds of a sequence: {result.store.duration}")
    rate = len(plan.units) / max(seconds, 1e-9)
    lines.append(f"{seconds:.1f} s, {rate:,.0f} units/s; written to {result.store.path}")
    return "\n".join(lines)


def train_command(store: Store, dataset: str) -> str:
    """The command that trains on a new store: with its data set's own config, if there is one and
    the store is not too small for it.
    """
    name, own = default_split(store), dataset.replace("-", "_")
    large = len(split(store, name)[0]) >= _WHOLE_BATCH
    config = own if own in config_names() and large else "small"
    words = ["python", "-m", "aimclr_fast.train", "--config", config]
    return shlex.join([*words, "--data", str(store.path), "--split", name])


def rate_used(rate: float | None, result: Result) -> list[str]:
    """What to say where --rate was not needed for all samples: their files say their rates."""
    count = len(result.store)
    if rate is None or result.rates_given == count:
        return []
    used = f"was used for {result.rates_given:,} of {count:,} samples"
    return [f"--rate {rate:g}: {used}; the files of the others say their frame rate"]


def gaps_found(result: Result) -> list[str]:
    """What was cut off and what was interpolated, a line each; empty for complete recordings."""
    gaps = result.gaps
    lines = []
    if cut := [gap.cut for gap in gaps if gap.cut]:
        lines.append(f"empty ends: {sum(cut):,} frames cut off {len(cut):,} samples")
    if filled := [gap for gap in gaps if gap.filled]:
        frames, joints = (
            sum(getattr(gap, part) for gap in filled) for part in ("frames", "joints")
        )
        lines.append(
            f"gaps: interpolated in {len(filled):,} samples, {frames:,} frames of a whole body and "
            f"{joints:,} single joints (--gaps keep leaves them missing)"
        )
    if placed := [gap.placed for gap in gaps if gap.placed]:
        lines.append(
            f"{sum(placed):,} joints of 2D poses are in no frame of {len(placed):,} samples: put "
            "into the middle of the body"
        )
    if left := [gap.left for gap in gaps if gap.left]:
        lines.append(
            f"gaps: in {len(left):,} samples, {sum(left):,} single joints are missing (zeros)"
        )
    if long := [index for index, gap in enumerate(gaps) if gap.longest > LONGEST]:
        longest = max(gaps[index].longest for index in long)
        first = result.store.samples["name"][long[0]]
        lines.append(
            f"  gaps of more than {LONGEST} frames, where motion is invented: {len(long):,} "
            f"samples (first: {first}), up to {longest} frames"
        )
    return lines


def check(arguments: list[str]) -> None:
    """Print the data check of a store."""
    from .data.sanity import check_store

    command = Parser(
        prog=f"{PROGRAM} check",
        description="Check whether a store can hold people in motion, with sound labels and "
        "splits; each problem is shown with the flag that would fix it.",
    )
    command.add_argument("store", type=str, help="folder of a store, or an embedded data set")
    print(check_store(resolve_store(command.parse_args(arguments).store)))


def inspect(arguments: list[str]) -> None:
    """Print the card of a store and draw it."""
    from .data.inspection import card, draw

    command = Parser(
        prog=f"{PROGRAM} inspect",
        description="Print what is in a store and draw it: a page that plays sequences side by "
        "side in a browser, a picture of classes and lengths, and one moving skeleton.",
    )
    command.add_argument("store", type=str, help="folder of a store, or an embedded data set")
    command.add_argument("--out", type=str, default=".", help="folder for the page and pictures")
    command.add_argument(
        "--sample",
        type=str,
        action="append",
        default=[],
        help="name of a sequence to show, several times for several; default: one of each class",
    )
    given = command.parse_args(arguments)
    store = resolve_store(given.store)
    print(card(store))
    for file in draw(store, Path(given.out), names=given.sample):
        print(f"drew {file}")


class _Bar:
    """A progress bar on a terminal; elsewhere nothing, the summary follows."""

    def __init__(self, console: Console, total: int) -> None:
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("reading", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("reading", total=total)

    def __enter__(self) -> _Bar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done)


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

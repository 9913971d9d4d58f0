"""Your own sequences: a folder of ``.npy``, ``.npz``, ``.csv`` or ``.txt`` files, and labels.

An array is ``[T, V, C]`` or ``[M, T, V, C]``, C being x y z, or x y, or x y confidence. A csv file
(also ``.tsv``, and ``.txt`` where it is a table) has a line per frame, and columns that a heading
names, or all joints' coordinates one after the other (:mod:`aimclr_fast.data.readers._columns`).
``labels.csv`` or ``samples.csv`` in the folder (or ``--labels``) has a column ``name`` (the file,
with or without its ending), perhaps ``label`` (numbers from 0, or names) and any others; without
labels the store can be used for pretraining. A source without such files is left to the reader
that knows its files: AMASS, AMC, BVH, C3D, TRC, OptiTrack's csv, OpenPose's or MediaPipe's JSON.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers import (
    _tables,
    amass,
    amc,
    bvh,
    c3d,
    mediapipe,
    openpose,
    optitrack,
    trc,
)
from aimclr_fast.data.readers._arrays import (
    check_order,
    read_header,
)
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
)
from aimclr_fast.data.readers._clips import JSON
from aimclr_fast.data.readers._columns import (
    UNKNOWN,
    Table,
    check_spec,
    understand,
)
from aimclr_fast.data.readers._files import Entry, Listing, list_entries, without_gz
from aimclr_fast.data.readers._labels import (
    Labels,
    find_labels,
    match_labels,
    name_sequences,
    read_labels,
    split_of,
)
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._long import long_heading
from aimclr_fast.data.readers._pose2d import NOTE, in_one_unit, lift, third_is_score
from aimclr_fast.data.readers._poses import (
    SUFFIXES,
    TABLES,
    Poses,
    array_axes,
    has_clock,
    load_poses,
    read_head,
)
from aimclr_fast.layouts import Layout

SUMMARY = "your own: a folder of .npy, .npz, .csv or .txt sequences, and labels (needs --layout)"
OPTIONS = ("max_bodies", "labels", "columns", "csv_bodies", "skip_columns")
NO_LABELS = "no labels.csv: the store is for pretraining, and has no label column"
#: Fewer columns of numbers than two joints have are no sequence, but a list.
_LEAST_COLUMNS = 6
#: The beginning of a .npy file that holds any header NumPy reads.
_NPY_HEAD = 1 << 14
#: Sequences whose numbers tell whether the third coordinate is a score.
_LOOKED_AT = 8
#: Readers of formats that are found by their files.
_OTHERS = (amass, amc, bvh, c3d, trc, optitrack, openpose, mediapipe)


@dataclass(frozen=True)
class Unit:
    """A file, what its sequence is called and, of a table, what planning found in it."""

    entry: Entry
    name: str
    table: Table | None = None


@dataclass(frozen=True)
class Peek:
    """What the beginning of a file tells: bodies, coordinates, the columns of a table, and whether
    it has times.
    """

    bodies: int
    axes: str
    table: Table | None = None
    timed: bool = False


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    check_spec(options.columns)
    listing = list_entries(source, _wanted)
    given = find_labels(listing, options)
    others = _take_others(listing)
    _ignore_texts(listing)
    if not listing.entries:
        if len(others) > 1:
            kinds = " and ".join(f"{len(of):,} {one.FILES}" for one, of in others.items())
            raise ReadError(str(source), f"holds {kinds}: name one of these formats")
        if others:
            handed_over: Plan = next(iter(others)).plan(source, options)
            return handed_over
        passed = "".join(f"; {note}" for note in listing.notes)
        raise ReadError(str(source), f"holds no .npy, .npz, .csv or .txt sequences{passed}")
    if options.layout is None:
        raise ReadError(str(source), "name the skeleton with --layout: a built-in one or YAML")
    layout = named_layout(options.layout)
    named = name_sequences(listing)
    units = [Unit(entry, one.name) for entry, one in zip(listing.entries, named, strict=True)]
    labels = read_labels(given) if given else None
    if labels:
        kept, problems = match_labels(labels, named)
        units = [units[index] for index in kept]
        listing.left_out += problems
    listing.notes += [f"ignored: {len(found):,} {one.FILES}" for one, found in others.items()]
    return _plan(layout, units, labels, listing, options)


def _wanted(path: str) -> bool:
    endings = (*SUFFIXES, *JSON, ".amc", ".asf", ".bvh", ".c3d", ".trc")
    return without_gz(path).endswith(endings)


def _take_others(listing: Listing) -> dict[ModuleType, list[Entry]]:
    """Take out the files of other formats, and return them by their readers."""
    found: dict[ModuleType, list[Entry]] = {}
    own, unknown = [], 0
    for entry in listing.entries:
        try:
            reader = next((one for one in _OTHERS if one.claims(entry)), None)
        except ReadError as error:
            listing.left_out.append(Problem.of(error))
            continue
        if reader is not None:
            found.setdefault(reader, []).append(entry)
        elif entry.suffix in JSON:
            unknown += 1
        else:
            own.append(entry)
    listing.entries = own
    if unknown:
        listing.notes.append(f"ignored: {unknown:,} .json files that hold no known poses")
    return found


def _ignore_texts(listing: Listing) -> None:
    """Take out the ``.txt`` files that are no tables: notes, lists and the like."""
    texts = {e for e in listing.entries if e.suffix == ".txt" and not _is_table(e)}
    listing.entries = [e for e in listing.entries if e not in texts]
    if texts:
        listing.notes.append(f"ignored: {len(texts):,} .txt files that are no tables of poses")


def _is_table(entry: Entry) -> bool:
    try:
        head, part = read_head(entry)
        if long_heading(head) is not None:
            return True
        return _tables.outline(head, entry.shown, part=part).columns >= _LEAST_COLUMNS
    except _tables.NoTableError:
        return False
    except ReadError:  # reading says what is wrong with it
        return True


def _plan(
    layout: Layout,
    units: Sequence[Unit],
    labels: Labels | None,
    listing: Listing,
    options: Options,
) -> Plan:
    known: dict[_tables.Outline, Table] = {}
    looks = [_peek(unit.entry, layout, options, known) for unit in units]
    units = [
        unit if look is None or look.table is None else replace(unit, table=look.table)
        for unit, look in zip(units, looks, strict=True)
    ]
    peeked = [look for look in looks if look is not None]
    flat, flat_notes = _is_flat({peek.axes for peek in peeked}, units, layout, options)
    bodies = options.max_bodies or max((peek.bodies for peek in peeked), default=1)
    said = Counter(n for peek in peeked if peek.table for n in peek.table.columns.notes)
    notes = [*listing.notes, *(f"tables: {note} ({n:,} files)" for note, n in said.most_common(10))]
    clocks = sum(
        one.timed and one.table is not None and not one.table.columns.times for one in peeked
    )
    if clocks:
        notes.append(
            f"tables: the column of frames rises by fractions, or unevenly, and is taken for times "
            f"({clocks:,} files)"
        )
    if timed := sum(one.timed for one in peeked):
        notes.append(
            f"tables: frames that the times skip, at a steady rate, have no body ({timed:,} files)"
        )
    notes += [NOTE.format(confidence=options.min_confidence)] if flat else []
    notes += flat_notes
    notes += labels.notes if labels else [NO_LABELS]
    splits, split_notes = split_of(labels)
    notes += split_notes
    return Plan(
        layout=layout,
        bodies=bodies,
        units=units,
        read=functools.partial(
            read, layout=layout, bodies=bodies, labels=labels, options=options, flat=flat
        ),
        classes=labels.classes if labels else None,
        numbered=True,
        splits=splits,
        source="own recordings",
        left_out=listing.left_out,
        notes=notes,
        exact=True,
        rotate=not flat,
        in_meters=True,
        tables=any(unit.entry.suffix in TABLES for unit in units),
        scores=flat and any(peek.axes != "xy" for peek in peeked),
        timed=any(peek.timed for peek in peeked),
        untimed=not all(peek is not None and peek.timed for peek in looks),
    )


def _is_flat(
    axes: set[str], units: Sequence[Unit], layout: Layout, options: Options
) -> tuple[bool, list[str]]:
    """Whether the sequences are 2D poses, and what to say. Where x, y and z are named, not."""
    known = axes - {UNKNOWN}
    deep = any("z" in one for one in known)
    if not units or options.pose == "3d":
        return options.pose == "2d", []
    if known and (UNKNOWN not in axes or (deep and options.pose == "auto")):
        return options.pose == "2d" or not deep, []
    if options.up == "z" and options.pose == "auto":  # images have no such axis
        return False, []
    poses = []
    for unit in units[:: max(1, len(units) // _LOOKED_AT)]:
        with contextlib.suppress(ReadError):  # said when it is read
            loaded = load_poses(unit.entry, layout, options, unit.table)
            if loaded.axes == UNKNOWN:
                poses.append(loaded.array.reshape(-1, 3))
    points = np.concatenate(poses) if poses else np.empty((0, 3))
    return third_is_score(points, [layout], units[0].entry.shown, pose=options.pose)


def _peek(
    entry: Entry, layout: Layout, options: Options, known: dict[_tables.Outline, Table]
) -> Peek | None:
    """What the beginning of a file tells; reading says what is wrong with it.

    Args:
        entry: the file.
        layout: of all sequences.
        options: the user's.
        known: tables by their outline: most of a folder's are alike.
    """
    try:
        if entry.suffix == ".npz":
            poses = load_poses(entry, layout, options)
            return Peek(len(poses.array), poses.axes)
        if entry.suffix in TABLES:
            head, part = read_head(entry)
            long = long_heading(head) if options.columns is None else None
            if long is not None:
                return Peek(1, long.axes, timed="time" in long.place)
            table = understand(head, layout, options, entry.shown, known, part=part)
            timed = has_clock(head, table, entry.shown, part=part)
            return Peek(table.columns.bodies, table.columns.axes, table, timed)
        shape = read_header(io.BytesIO(entry.read_head(_NPY_HEAD)), entry.shown)[0]
        check_order(shape, options, entry.shown)
    except ReadError:
        return None
    if len(shape) not in (3, 4) or not (axes := array_axes(shape[-1], options)):
        return None
    return Peek(shape[0] if len(shape) == 4 else 1, axes)


def read(
    unit: Unit,
    *,
    layout: Layout,
    bodies: int,
    labels: Labels | None,
    options: Options,
    flat: bool,
) -> Readings:
    """Read one sequence."""
    where = unit.entry.shown
    poses = load_poses(unit.entry, layout, options, unit.table)
    array = poses.array
    scored = poses.axes in ("xyc", "xyzc", UNKNOWN)
    if poses.lines is not None:
        used = array[..., :2] if flat else array[..., :3]
        _check_whole(used, array[..., -1] if flat and scored else None, poses.lines, layout, where)
    if flat:
        score = array[..., -1] if scored else None
        positions = lift(array[..., :2], score, bodies, options, where)
    elif poses.axes == "xy" or poses.axes == "xyc":
        other = "--pose 3d was given" if options.pose == "3d" else "other sequences are 3D"
        raise ReadError(where, f"2D, while {other}: prepare them separately")
    else:
        xyz = check_positions(fit_bodies(array[..., :3].transpose(3, 1, 2, 0), bodies), where)
        xyz = in_one_unit(xyz, layout, options, where)
        positions = in_meters(xyz, _unit(poses, options, where), options.up)
    columns = dict(labels.rows[unit.name]) if labels else {}
    yield Recording(unit.name, check_positions(positions, where), columns, where, poses.rate)


def _unit(poses: Poses, options: Options, where: str) -> str:
    if poses.unit is not None and options.unit not in (None, poses.unit):
        raise ReadError(
            where,
            f"--unit {options.unit}, but the headings say {poses.unit}: leave --unit out, or "
            "correct the headings",
        )
    return poses.unit or options.unit or "m"


def _check_whole(
    used: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64] | None,
    lines: npt.NDArray[np.int64],
    layout: Layout,
    where: str,
) -> None:
    """A joint of ``used [M, T, V, C]`` may be missing, but not one number of it."""
    empty = np.isnan(used)
    part = empty.any(axis=-1) & ~empty.all(axis=-1)
    if score is not None:
        part |= np.isnan(score) & ~empty.all(axis=-1)
    if part.any():
        _, frame, joint = np.argwhere(part)[0]
        reason = f"{layout.joints[joint]} has some of its coordinates only; leave out all or none"
        raise ReadError(where, reason, int(lines[frame]))

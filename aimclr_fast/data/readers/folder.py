"""Your own sequences: a folder of ``.npy``, ``.npz`` or ``.csv`` files, and a csv of labels.

An array is ``[T, V, C]`` or ``[M, T, V, C]``, C being x y z, or x y, or x y confidence. A csv file
has a line per frame: all joints' coordinates one after the other, those of a second body after the
first's; a heading is passed over. ``labels.csv`` or ``samples.csv`` in the folder (or ``--labels``)
has a column ``name`` (the file, with or without its ending), perhaps ``label`` (numbers from 0, or
names) and any others; without labels the store is good for pretraining.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._arrays import UNREADABLE, members, parse_npy, read_header
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_metres,
)
from aimclr_fast.data.readers._files import MAX_BYTES, Entry, list_entries
from aimclr_fast.data.readers._labels import Labels, read_labels
from aimclr_fast.data.readers._pose2d import FLAT_LAYOUTS, NOTE, lift
from aimclr_fast.data.readers._splits import column_rule
from aimclr_fast.data.readers._text import first_line, read_table
from aimclr_fast.layouts import Layout, get_layout

SUMMARY = (
    "your own: a folder of .npy, .npz or .csv sequences, with a csv of labels (needs --layout)"
)
LABEL_FILES = ("labels.csv", "samples.csv")
_SUFFIXES = (".npy", ".npz", ".csv")


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    if options.layout is None:
        raise ReadError(str(source), "name the skeleton with --layout: a built-in one or YAML")
    layout = _layout(options.layout)
    entries = list_entries(source, lambda path: path.endswith(_SUFFIXES))
    given = [e for e in entries if e.path in LABEL_FILES] if options.labels is None else []
    if len(given) > 1:
        raise ReadError(str(source), "has labels.csv and samples.csv: name one with --labels")
    if options.labels is not None:
        given = [Entry(options.labels, options.labels.name)]
    sequences = [e for e in entries if e.path not in LABEL_FILES and e not in given]
    if not sequences:
        raise ReadError(str(source), "holds no .npy, .npz or .csv sequences")
    labels = read_labels(given[0]) if given else None
    left_out = list(labels.problems) if labels else []
    units = []
    for entry in sequences:
        if labels is None or _name(entry) in labels.rows:
            units.append(entry)
        elif _name(entry) not in labels.dropped:
            left_out.append(Problem(entry.shown, f"has no row in {given[0].shown}"))
    if labels:
        have = {_name(entry) for entry in sequences}
        left_out += [
            Problem(f"{given[0].shown}:{line}", f"there is no sequence {name}")
            for name, line in labels.lines.items()
            if name not in have
        ]
    return _plan(layout, units, labels, left_out, options)


def _plan(
    layout: Layout,
    units: list[Entry],
    labels: Labels | None,
    left_out: list[Problem],
    options: Options,
) -> Plan:
    peeked = [shape for entry in units if (shape := _peek(entry, layout)) is not None]
    flat = options.pose == "2d" or any(coordinates == 2 for _, coordinates in peeked)
    if options.pose == "auto" and layout.name in FLAT_LAYOUTS:
        flat = True
    bodies = options.max_bodies or max((bodies for bodies, _ in peeked), default=1)
    rule = None
    notes = [NOTE.format(confidence=options.min_confidence)] if flat else []
    if labels is None:
        notes.append("no labels.csv: the store is for pretraining, and has no label column")
    elif "split" in labels.columns:
        rule, said = column_rule("split", (str(row["split"]) for row in labels.rows.values()))
        notes += said
    return Plan(
        layout=layout,
        bodies=bodies,
        units=units,
        read=functools.partial(
            read, layout=layout, bodies=bodies, labels=labels, options=options, flat=flat
        ),
        classes=labels.classes if labels else None,
        protocols={} if rule is None else {"split": rule},
        source="own recordings",
        left_out=left_out,
        notes=notes,
        exact=True,
        rotate=not flat,
        in_metres=True,
    )


def _layout(given: str) -> Layout:
    try:
        return get_layout(given)
    except (ValueError, OSError) as error:
        raise ReadError(f"--layout {given}", str(error)) from error


def _name(entry: Entry) -> str:
    return entry.path.rpartition(".")[0] if "." in entry.path else entry.path


def _peek(entry: Entry, layout: Layout) -> tuple[int, int] | None:
    """Bodies and coordinates of a file, as its beginning tells; reading says what is wrong."""
    suffix = Path(entry.name).suffix.lower()
    try:
        if suffix == ".npz":
            shape = _load(entry, layout).shape
            return shape[0], shape[3]
        head = entry.read_head()
        if suffix == ".csv":
            return _columns(len(first_line(head)), layout, entry.shown)
        shape = read_header(io.BytesIO(head), entry.shown)[0]
    except ReadError:
        return None
    if len(shape) not in (3, 4) or shape[-1] not in (2, 3):
        return None
    return (shape[0] if len(shape) == 4 else 1), shape[-1]


def _columns(count: int, layout: Layout, where: str) -> tuple[int, int]:
    """Bodies and coordinates of a csv file with so many columns."""
    per_joint, rest = divmod(count, layout.num_joints)
    for coordinates in (3, 2):
        if not rest and per_joint and per_joint % coordinates == 0:
            return per_joint // coordinates, coordinates
    raise ReadError(
        where, f"{count} columns, not 2 or 3 for each of {layout.num_joints} joints and body", 1
    )


def read(
    entry: Entry,
    *,
    layout: Layout,
    bodies: int,
    labels: Labels | None,
    options: Options,
    flat: bool,
) -> Readings:
    """Read one sequence."""
    where = entry.shown
    array = _load(entry, layout)[:bodies]
    if not np.isfinite(array).all():
        body, frame, joint, _ = np.argwhere(~np.isfinite(array))[0]
        raise ReadError(where, f"a value is not finite (body {body}, frame {frame}, joint {joint})")
    if flat:
        confidence = array[..., 2] if array.shape[3] == 3 else None
        positions = lift(array[..., :2], confidence, options.min_confidence, where)
    elif array.shape[3] == 2:
        raise ReadError(where, "2D, while other sequences are 3D: prepare them apart")
    else:
        positions = in_metres(array.transpose(3, 1, 2, 0), options.unit, options.up)
    positions = fit_bodies(positions, bodies)
    name = _name(entry)
    columns = dict(labels.rows[name]) if labels else {}
    yield Recording(name, check_positions(positions, where), columns, where)


def _load(entry: Entry, layout: Layout) -> npt.NDArray[np.float64]:
    """The array of a file as ``[M, T, V, C]``."""
    where, suffix = entry.shown, Path(entry.name).suffix.lower()
    data = entry.read()
    if suffix == ".csv":
        return _load_csv(data, layout, where)
    array = parse_npy(data, where) if suffix == ".npy" else _load_npz(data, where)
    if array.ndim == 3:
        array = array[None]
    joints = layout.num_joints
    if array.ndim != 4 or array.shape[2] != joints or array.shape[3] not in (2, 3):
        raise ReadError(
            where,
            f"expected [T, {joints}, C] or [M, T, {joints}, C] (layout {layout.name}, C = 2 or 3), "
            f"got shape {list(array.shape)}",
        )
    if not array.size:
        raise ReadError(where, f"is empty, shape {list(array.shape)}")
    return array.astype(np.float64)


def _load_npz(data: bytes, where: str) -> npt.NDArray[Any]:
    with members(data, where) as archive:
        names = archive.namelist()
        chosen = names[0] if len(names) == 1 else "positions.npy"
        if chosen not in names:
            raise ReadError(where, f"holds {len(names)} arrays, and none is named positions")
        try:
            with archive.open(chosen) as stream:
                raw = stream.read(MAX_BYTES + 1)
        except UNREADABLE as error:
            raise ReadError(where, f"cannot be read: {error}") from error
    if len(raw) > MAX_BYTES:
        raise ReadError(where, f"more than {MAX_BYTES >> 20} MiB, which no recording has")
    return parse_npy(raw, where)


def _load_csv(data: bytes, layout: Layout, where: str) -> npt.NDArray[np.float64]:
    cells = first_line(data)
    if not cells:
        raise ReadError(where, "is empty")
    bodies, coordinates = _columns(len(cells), layout, where)
    if not _is_number(cells[0]):
        head, _, body = data.partition(b"\n")
        data = b" " * len(head) + b"\n" + body  # an empty line keeps the count of lines
    table = read_table(data, len(cells), where)
    if not len(table):
        raise ReadError(where, "has no frames")
    shape = (len(table), bodies, layout.num_joints, coordinates)
    return table.reshape(shape).transpose(1, 0, 2, 3)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

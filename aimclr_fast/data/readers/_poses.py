"""Arrays and tables of poses: the numbers of a file, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers import _tables
from aimclr_fast.data.readers._arrays import check_order, parse_npy, parse_npz
from aimclr_fast.data.readers._base import Options, ReadError
from aimclr_fast.data.readers._columns import UNKNOWN, Table, axes_of, understand
from aimclr_fast.data.readers._counting import (
    check_index,
    check_last,
    clock_of,
    rate_of,
    with_dropped_frames,
)
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers._long import long_heading, read_long
from aimclr_fast.layouts import Layout

TABLES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".npz", *TABLES)
#: Lines that tell a column of times from one of frames.
_CLOCK_LINES = 40


@dataclass
class Poses:
    """The numbers of a file.

    Attributes:
        array: ``[M, T, V, C]``, NaN where a joint is missing.
        axes: what C is: "xyz", "xy", "xyc", "xyzc", or "xy?" where the third is not known.
        unit: of lengths, where the file says so.
        lines: of each frame in a table with empty cells.
        rate: frames per second, where a table has times.
    """

    array: npt.NDArray[np.float64]
    axes: str
    unit: str | None = None
    lines: npt.NDArray[np.int64] | None = None
    rate: float | None = None


def load_poses(entry: Entry, layout: Layout, options: Options, table: Table | None = None) -> Poses:
    """The numbers of a file.

    Args:
        entry: the file, whose ending is one of SUFFIXES.
        layout: the skeleton.
        options: ``columns`` and the like.
        table: what its columns are, where that is known.

    Raises:
        ReadError: it is no array or table of this skeleton.
    """
    where = entry.shown
    data = entry.read()
    if entry.suffix in TABLES:
        data = _tables.decode(data, where)
        long = long_heading(data) if options.columns is None else None
        if long is not None:
            for flag, given in (
                ("csv-bodies", options.csv_bodies),
                ("skip-columns", options.skip_columns or None),
            ):
                if given is not None:
                    reason = f"--{flag} {given} has no effect on a table with a line for each joint"
                    raise ReadError(where, f"{reason}: leave it out")
            array, lines, rate = read_long(data, long, layout, where)
            return Poses(array, long.axes, long.unit, lines, rate)
        table = table or understand(data, layout, options, where, {})
        return _load_table(data, table, layout, where)
    array = parse_npy(data, where) if entry.suffix == ".npy" else parse_npz(data, where)
    shape = array.shape
    if array.ndim == 3:
        array = array[None]
    axes = array_axes(array.shape[-1], options) if array.ndim == 4 else None
    if axes is None or array.shape[2] != layout.num_joints:
        raise ReadError(where, _wrong_shape(shape, layout, options.columns))
    if not array.size:
        raise ReadError(where, f"is empty, shape {list(shape)}")
    check_order(array.shape, options, where)
    if options.columns is not None:
        array = array[..., [options.columns.index(axis) for axis in axes]]
    return Poses(array.astype(np.float64), axes)


def _wrong_shape(shape: tuple[int, ...], layout: Layout, columns: str | None) -> str:
    joints, ask = layout.num_joints, ""
    wanted = f"C = {len(columns)}, --columns {columns}" if columns else "C = 2 or 3"
    if columns is None and shape[-2:-1] == (joints,) and 3 < shape[-1] < 14:
        ask = "; --columns says what C is, such as xyz" + "_" * (shape[-1] - 3)
        ask += " or, with a confidence, xyzc" if shape[-1] == 4 else " (_ is ignored)"
    return (
        f"expected [T, {joints}, C] or [M, T, {joints}, C] (layout {layout.name}, {wanted}), "
        f"got shape {list(shape)}{ask}"
    )


def _load_table(data: bytes, found: Table, layout: Layout, where: str) -> Poses:
    columns = found.columns
    table, lines = _tables.read_numbers(data, found.outline, where)
    if not len(table):
        raise ReadError(where, "has no frames")
    check_index(table, columns, where)
    check_last(table, columns, where)
    clock = clock_of(table, columns)
    rate = None if clock is None else rate_of(table[:, clock])
    table, lines = with_dropped_frames(table, lines, columns, where)
    shape = (len(table), columns.bodies, layout.num_joints, len(columns.axes))
    array = table[:, columns.take].reshape(shape)
    return Poses(array.transpose(1, 0, 2, 3), columns.axes, columns.unit, lines, rate)


def array_axes(coordinates: int, options: Options) -> str | None:
    """What the last axis of an array is, or None."""
    if options.columns is not None:
        return axes_of(options.columns) if len(options.columns) == coordinates else None
    return {2: "xy", 3: UNKNOWN}.get(coordinates)


def read_head(entry: Entry) -> tuple[bytes, bool]:
    """The decoded beginning of a table, and whether there is more."""
    head = entry.read_head(_tables.HEAD)
    part = len(head) == _tables.HEAD
    return _tables.decode(head, entry.shown, part=part), part


def has_clock(head: bytes, table: Table, where: str, *, part: bool) -> bool:
    """Whether a table has a column of times, by its heading or by its first lines.

    Args:
        head: the decoded beginning.
        table: what its columns are.
        where: what errors name.
        part: whether there is more, so that the last line may be cut.
    """
    if table.columns.times or not table.columns.index:
        return bool(table.columns.times)
    lines = head.split(b"\n")[: -1 if part else None]
    lines = lines[: table.outline.first + _CLOCK_LINES]
    try:
        numbers, _ = _tables.read_numbers(b"\n".join(lines), table.outline, where)
    except ReadError:  # reading says what is wrong
        return False
    return clock_of(numbers, table.columns) is not None

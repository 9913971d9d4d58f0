"""Tables with a line for each joint of each frame: ``frame,landmark,x,y,z``.

The heading has to name x and y once, without a joint, a column of frames or times, and one of
joints, by name or by number. Each file holds one person.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers import _headings
from aimclr_fast.data.readers._base import MAX_FRAMES, PARTIAL, ReadError
from aimclr_fast.data.readers._counting import check_places, frame_places, rate_of, time_places
from aimclr_fast.data.readers._dialects import Dialect
from aimclr_fast.layouts import Layout

#: Bytes that hold the heading.
_HEAD = 1 << 14
_WORD = re.compile(r"[a-z]+")
#: Words of the heading of a column of joints.
_JOINT = {
    "landmark", "landmarks", "joint", "joints", "keypoint", "keypoints", "kp", "marker", "markers",
    "bodypart", "bodyparts", "body", "part", "point", "name", "id", "idx", "index", "number", "no",
    "num",
}  # fmt: skip


@dataclass(frozen=True)
class Long:
    """The heading of such a table.

    Attributes:
        delimiter: between its cells.
        line: that it is in, from 1.
        place: the column of each of x, y, z, c (confidence), joint, frame, time and person that
            there is.
        units: of lengths, that the headings say.
    """

    delimiter: str
    line: int
    place: Mapping[str, int]
    units: tuple[str, ...] = ()

    @property
    def axes(self) -> str:
        """The coordinates in the order xyzc."""
        return "".join(axis for axis in "xyzc" if axis in self.place)

    @property
    def unit(self) -> str | None:
        """Of lengths, where the headings say it."""
        return self.units[0] if self.units else None


def long_heading(data: bytes) -> Long | None:
    """The heading of a decoded table of this kind; None of any other."""
    lines = [raw.decode("utf-8", "replace").strip() for raw in data[:_HEAD].split(b"\n")[:20]]
    line = next((n for n, text in enumerate(lines) if text and text[0] not in "#%"), None)
    if line is None:
        return None
    text = lines[line]
    delimiter = max(",;\t", key=text.count)
    columns = [_headings.parse(cell) for cell in Dialect(delimiter, ".").split(text)]
    place: dict[str, int] = {}
    for at, column in enumerate(columns):
        kind = _kind(column, columns)
        if kind in ("c", "joint"):  # visibility before presence, a number before a name
            place.setdefault(kind, at)
        elif kind == "row":
            continue
        elif kind in place or not kind:
            return None
        else:
            place[kind] = at
    if not {"x", "y", "joint"} <= place.keys() or not {"frame", "time"} & place.keys():
        return None
    units = {columns[place[axis]].unit for axis in "xyz" if axis in place}
    return Long(delimiter, line + 1, place, tuple(sorted(unit for unit in units if unit)))


def _kind(column: _headings.Column, columns: Sequence[_headings.Column]) -> str:
    """What a column is; "row" for one to skip, empty for none that such tables have."""
    words = _WORD.findall(column.text.lower())
    if column.kind in tuple("xyzc"):
        return column.kind if set(column.joint) <= _JOINT else ""
    if column.kind == "time":
        return "time"
    frames = [other for other in columns if other.kind == "index" and other.text.strip()]
    if column.kind == "index" and not words:
        return "row"  # as pandas numbers them
    if column.kind == "index" and (len(frames) == 1 or "frame" in words):
        return "frame"
    if column.kind == "person":
        named = any(_names_joints(other) for other in columns if other is not column)
        return "joint" if words == ["id"] and not named else "person"
    return "joint" if words and set(words) <= _JOINT else ""


def _names_joints(column: _headings.Column) -> bool:
    words = _WORD.findall(column.text.lower())
    return column.kind == "" and bool(words) and set(words) <= _JOINT


def read_long(
    data: bytes, found: Long, layout: Layout, where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], float | None]:
    """The joints of a decoded table.

    Returns:
        ``[1, T, V, C]``, NaN where a frame has no line of a joint; the line of each frame; and the
        frames per second, where there are times.

    Raises:
        ReadError: a line is damaged, names another joint, or is of a second person; or lengths are
            in different units, or in another than m, cm or mm.
    """
    if len(found.units) > 1:
        reason = f"headings name different units: {', '.join(found.units)}"
        raise ReadError(where, reason, found.line)
    if found.unit in _headings.FOREIGN:
        reason = f"lengths in {found.unit}: convert them to m, cm or mm"
        raise ReadError(where, reason, found.line)
    lines = _lines(data, found, where)
    joints = _joints([cells[found.place["joint"]] for _, cells in lines], layout, lines, where)
    table = _numbers(lines, found, where)
    clock = table["frame"] if "frame" in table else table["time"]
    starts = np.flatnonzero(np.diff(clock, prepend=np.nan) != 0)  # the first is not equal to NaN
    steps = np.diff(clock[starts])
    if len(steps) and (steps <= 0).any():
        line = lines[int(starts[1 + int(np.argmax(steps <= 0))])][0]
        raise ReadError(where, "frames or times decrease: one file must hold one recording", line)
    row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(clock))))
    pairs = row * layout.num_joints + joints
    again = np.setdiff1d(np.arange(len(pairs)), np.unique(pairs, return_index=True)[1])
    if len(again):
        name, line = layout.joints[joints[again[0]]], lines[int(again[0])][0]
        raise ReadError(where, f"a second {name} in one frame: give one file per person", line)
    places = np.arange(len(starts))
    if "frame" in table and not (clock[starts] % 1).any() and (np.abs(clock) < 2**53).all():
        places = frame_places(clock[starts].astype(np.int64))
    times = table.get("time", clock if (clock[starts] % 1).any() else None)
    if times is not None and places[-1] < len(starts):  # no number is skipped
        skipping = time_places(times[starts])
        places = places if skipping is None else skipping
    check_places(places, where, "frames: renumber them, or correct their times")
    if places[-1] >= MAX_FRAMES:
        raise ReadError(where, f"{places[-1] + 1:,} frames; at most {MAX_FRAMES:,} are read")
    out = np.full((1, int(places[-1]) + 1, layout.num_joints, len(found.axes)), np.nan)
    out[0, places[row], joints] = np.stack([table[axis] for axis in found.axes], axis=1)
    first = np.interp(np.arange(out.shape[1]), places, [lines[int(at)][0] for at in starts])
    return out, first.astype(np.int64), None if times is None else rate_of(times[starts])


def _lines(data: bytes, found: Long, where: str) -> list[tuple[int, list[str]]]:
    """The number and cells of each line below the heading that has any."""
    text = data.decode("utf-8", "replace")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=found.delimiter, skipinitialspace=True
    )
    width = max(found.place.values()) + 1
    lines = []
    try:
        for cells in reader:
            if reader.line_num <= found.line or not any(cell.strip() for cell in cells):
                continue
            if len(cells) < width:
                reason = f"{len(cells)} columns, the heading has {width}"
                raise ReadError(where, reason, reader.line_num)
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise ReadError(where, f"not a table: {error}", reader.line_num) from error
    if not lines:
        raise ReadError(where, "has no frames")
    return lines


def _numbers(
    lines: Sequence[tuple[int, list[str]]], found: Long, where: str
) -> dict[str, npt.NDArray[np.float64]]:
    """The columns of numbers; NaN in coordinates that are empty."""
    wanted = [kind for kind in ("frame", "time", *found.axes) if kind in found.place]
    dialects = [Dialect(found.delimiter, mark) for mark in (".,"[: 1 + (found.delimiter != ",")])]
    values: list[list[float]] = []
    for line, cells in lines:
        own = [cells[found.place[kind]] for kind in wanted]
        dialects = [d for d in dialects if None not in [d.number(cell) for cell in own]] or dialects
        numbers = [dialects[0].number(cell) for cell in own]
        if None in numbers:
            bad = own[numbers.index(None)]
            raise ReadError(where, f"expected a finite number, got {bad!r:.40}", line)
        values.append([number for number in numbers if number is not None])
    table = dict(zip(wanted, np.array(values).T, strict=True))
    clock = table["frame"] if "frame" in table else table["time"]
    empty = np.isnan(np.stack([table[axis] for axis in found.axes if axis != "c"]))
    part = empty.any(axis=0) & ~empty.all(axis=0)
    for odd, reason in ((np.isnan(clock), "a line without a frame or a time"), (part, PARTIAL)):
        if odd.any():
            raise ReadError(where, reason, lines[int(np.argmax(odd))][0])
    if "person" in found.place:
        people = {cells[found.place["person"]] for _, cells in lines}
        if len(people) > 1:
            raise ReadError(where, f"the lines are of {len(people)} people: give one file each")
    return table


def _joints(
    texts: Sequence[str], layout: Layout, lines: Sequence[tuple[int, list[str]]], where: str
) -> npt.NDArray[np.int64]:
    """The joint of each line, by its name, or its number from 0 or 1."""
    keys = _headings.layout_keys(layout)
    known: dict[str, int] = {}
    if all(text.isdecimal() for text in set(texts)):
        numbers = sorted({int(text[:9]) for text in texts})
        start, count = numbers[0], layout.num_joints
        if start > 1 or numbers != list(range(start, start + count)):
            seen = f"{len(numbers)} joints from {start} to {numbers[-1]}"
            raise ReadError(where, f"numbers {seen}, and layout {layout.name} has {count}")
        known = {text: int(text[:9]) - start for text in set(texts)}
    else:
        for text, (line, _) in zip(texts, lines, strict=True):
            if text in known:
                continue
            joint = _headings.known_joint(text.rpartition(".")[2], keys)
            if joint is None:
                reason = f"{text!r:.40} is no joint of layout {layout.name}"
                raise ReadError(where, reason, line)
            known[text] = joint
        missing = sorted(set(range(layout.num_joints)) - set(known.values()))
        if missing:
            raise ReadError(where, f"no line is of {layout.joints[missing[0]]}")
    return np.array([known[text] for text in texts], dtype=np.int64)

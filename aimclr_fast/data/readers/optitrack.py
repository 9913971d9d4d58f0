"""OptiTrack's csv files, as Motive exports takes: bones of skeletons, markers, rigid bodies.

The first line holds facts in pairs. The lines below it, up to the one that begins with ``Frame``,
say of each column its type, name, id, perhaps its parent, what it is (Position, Rotation) and its
axis; empty cells are gaps. Read are positions in global coordinates, which for a bone are those of
the joint where it begins. Joints are found among bones and markers by a marker set, units and axes
as for C3D (:mod:`._markers`); ``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aimclr_fast.data.readers._base import MAX_FRAMES, PARTIAL, Options, Plan, ReadError
from aimclr_fast.data.readers._files import MAX_BYTES, Entry, read_text
from aimclr_fast.data.readers._markers import Markers, places_in_time, plan_markers, with_gaps

SUMMARY = "OptiTrack: csv files of Motive, skeletons and markers of motion capture"
OPTIONS = ("max_bodies", "labels", "markers")
#: What ``folder`` says of such files among others.
FILES = "csv files of OptiTrack's Motive (prepare optitrack reads them)"
_BEGINNING = "format version,"
_MOST_COLUMNS, _MOST_LINES = 20_000, 20  # of the heading
_LARGEST = 1e7
#: Types of columns whose positions are read. Of two with one name, the first is taken: a bone, or a
#: marker as it was seen, before one as the solved skeleton has it.
_TYPES = ("bone", "marker", "bone marker", "rigid body", "rigid body marker")


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader: it begins as Motive's do."""
    if entry.suffix != ".csv":
        return False
    try:
        head = entry.read_head(1 << 12).removeprefix(b"\xef\xbb\xbf")
    except ReadError:  # reading says what is wrong
        return False
    return head.decode("latin-1").lower().replace('"', "").startswith(_BEGINNING)


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    return plan_markers(source, options, load, ".csv", "OptiTrack", claims)


def load(entry: Entry) -> Markers:
    """The bones and markers of a file.

    Raises:
        ReadError: it is no such file, or damaged; with the line.
    """
    where, lines = entry.shown, read_text(entry, MAX_BYTES).splitlines()
    facts, heading, start = _heading(lines, where)
    rate = _rate(facts, where)
    if facts.get("coordinate space", "global").lower() != "global":
        reason = f"Coordinate Space {facts['coordinate space']:.40}: export global coordinates"
        raise ReadError(where, reason, 1)
    names, columns = _points(heading, where)
    rows = [number for number in range(start, len(lines)) if lines[number].strip(" ,")]
    if not 1 <= len(rows) <= MAX_FRAMES:
        raise ReadError(where, f"{len(rows):,} frames; 1 to {MAX_FRAMES:,} are read")
    take = [0, 1, *(column for triple in columns for column in triple)]
    width = len(heading[-1])
    table = np.array([np.array(_row(lines[row], take, width, where, row + 1)) for row in rows])
    places = places_in_time(
        table[:, 0], table[:, 1], rate, where, ("Frame", rows[0] + 1), ("the frame rate", 1)
    )
    x = table[:, 2:].reshape(len(rows), len(names), 3)
    lost = np.isnan(x)
    if (lost.any(axis=2) & ~lost.all(axis=2)).any():
        frame, point = np.argwhere(lost.any(axis=2) & ~lost.all(axis=2))[0]
        reason = PARTIAL.replace("a joint", f"{names[point]:.60}")
        raise ReadError(where, reason, rows[frame] + 1)
    unit = facts.get("length units", "")
    return Markers(names, with_gaps(x, places, where), rate, unit, "y", "Motive's convention")


def _heading(lines: list[str], where: str) -> tuple[dict[str, str], list[list[str]], int]:
    """The facts, the heading's lines of cells, and the number of the line behind them."""
    if not lines or not lines[0].lower().replace('"', "").startswith(_BEGINNING):
        raise ReadError(where, "a csv file of Motive begins with Format Version", 1)
    try:
        cells = list(csv.reader(lines[:_MOST_LINES]))
    except csv.Error as error:
        raise ReadError(where, f"the heading is not csv: {error}") from error
    facts = dict(zip(map(_plain, cells[0][::2]), map(str.strip, cells[0][1::2]), strict=False))
    end = next((n for n, row in enumerate(cells) if row and _plain(row[0]) == "frame"), None)
    if end is None:
        raise ReadError(where, "expected a line that begins with Frame, below the columns' names")
    heading = [row for row in cells[1 : end + 1] if any(map(str.strip, row))]
    if len(heading) < 4 or len(heading[-1]) > _MOST_COLUMNS:
        reason = "expected lines of types, names, ids, quantities and axes, of at most "
        raise ReadError(where, f"{reason}{_MOST_COLUMNS:,} columns", end + 1)
    return facts, heading, end + 1


def _plain(cell: str) -> str:
    return cell.strip().lower()


def _rate(facts: dict[str, str], where: str) -> float:
    given = facts.get("export frame rate") or facts.get("capture frame rate", "")
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not 0.1 <= rate <= 10_000:
        reason = f"Export Frame Rate: {given!r:.40}: expected frames per second"
        raise ReadError(where, reason, 1)
    return rate


def _points(heading: Sequence[list[str]], where: str) -> tuple[list[str], list[list[int]]]:
    """The names of all points that are read, and the three columns of each."""
    kinds, names, ids = heading[:3]
    quantities, axes = heading[-2:]
    width = min(map(len, (kinds, names, ids, quantities, axes)))
    found: dict[str, tuple[int, list[int]]] = {}
    bodies = {names[n] for n in range(width) if _plain(kinds[n]) == "rigid body"}
    for n in range(2, width - 2):
        triple = [n, n + 1, n + 2]
        if [_plain(axes[k]) for k in triple] != ["x", "y", "z"]:
            continue
        if any(_plain(quantities[k]) != "position" or ids[k] != ids[n] for k in triple):
            continue
        kind, name = _plain(kinds[n]), names[n].strip()
        subject, _, own = name.rpartition(":")
        if kind not in _TYPES or own.lower().startswith("unlabeled") or subject in bodies:
            continue
        if subject.lower() == "unlabeled":
            continue
        if kind == "bone" and own == subject:  # Motive names the first bone as the skeleton
            name = f"{subject}:Hip"
        rank = _TYPES.index(kind)
        if name not in found or rank < found[name][0]:
            found[name] = (rank, triple)
    if not found:
        reason = "no positions of bones, labeled markers or rigid bodies among the columns"
        raise ReadError(where, reason)
    return list(found), [triple for _, triple in found.values()]


def _row(line: str, take: Sequence[int], width: int, where: str, number: int) -> list[float]:
    """The numbers of some columns of a line, NaN for empty cells."""
    cells = line.split(",")
    if len(cells) != width:
        reason = f"{len(cells):,} cells, but the heading has {width:,}: the line is damaged"
        raise ReadError(where, reason, number)
    out = []
    for column in take:
        cell = cells[column].strip()
        try:
            value = float(cell) if cell else float("nan")
        except ValueError:
            value = float("inf")
        if abs(value) > _LARGEST:
            reason = f"expected a number of at most {_LARGEST:g}, got {cell!r:.40}"
            raise ReadError(where, reason, number)
        out.append(value)
    return out

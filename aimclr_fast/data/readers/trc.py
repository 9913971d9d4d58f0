"""TRC files (track row column) of OpenSim, Cortex and Pose2Sim: joints between markers.

Text with tabs: three lines of facts, one of the markers' names, one of their coordinates' names,
and a line per frame, in which a marker that was not seen has empty cells. Splitting at any white
space, as other readers do, would move all markers behind such a gap. Marker sets, units and axes
are as for C3D (:mod:`._markers`); ``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aimclr_fast.data.readers._base import MAX_FRAMES, PARTIAL, Options, Plan, ReadError
from aimclr_fast.data.readers._files import MAX_BYTES, Entry, read_text
from aimclr_fast.data.readers._markers import Markers, places_in_time, plan_markers, with_gaps

SUMMARY = "TRC: markers of motion capture, or joints triangulated from videos"
OPTIONS = ("max_bodies", "labels", "markers")
#: What ``folder`` says of such files among others.
FILES = "TRC files (prepare trc reads them)"
_MOST_MARKERS = 5000
_LARGEST = 1e7


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader."""
    return entry.suffix == ".trc"


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    return plan_markers(source, options, load, ".trc", "TRC")


def load(entry: Entry) -> Markers:
    """The markers of a file.

    Raises:
        ReadError: it is no such file, or damaged; with the line.
    """
    where, lines = entry.shown, read_text(entry, MAX_BYTES).splitlines()
    if len(lines) < 5 or not lines[0].lower().startswith("pathfiletype"):
        raise ReadError(where, "a TRC file begins with PathFileType, and has five lines of heading")
    facts = dict(zip(_cells(lines[1]), _cells(lines[2]), strict=False))
    facts = {key.strip().lower(): value.strip() for key, value in facts.items()}
    rate = _number(facts, "DataRate", where, 10_000)
    frames = int(_number(facts, "NumFrames", where, MAX_FRAMES))
    count = int(_number(facts, "NumMarkers", where, _MOST_MARKERS))
    heading = _cells(lines[3])
    if [cell.strip().lower() for cell in heading[:2]] != ["frame#", "time"]:
        raise ReadError(where, "expected Frame#, Time and the markers' names, with tabs", 4)
    names = [cell.strip() for cell in heading[2:]][::3]
    labels = names[:count]  # Cortex names markers that it computed behind those with numbers
    if len(labels) < count or not all(labels):
        named = sum(map(bool, labels))
        reason = f"NumMarkers: {count:,}, but {named:,} names in every third column"
        raise ReadError(where, reason, 4)
    rows = [number for number in range(5, len(lines)) if lines[number].strip()]
    if len(rows) != frames:
        more = "the file was cut off" if len(rows) < frames else "there are more lines"
        raise ReadError(where, f"NumFrames: {frames:,}, but {len(rows):,} lines: {more}", 3)
    width = 2 + 3 * len(names)
    table = np.array([np.array(_row(lines[row], width, where, row + 1)) for row in rows])
    places = places_in_time(
        table[:, 0], table[:, 1], rate, where, ("Frame#", rows[0] + 1), ("DataRate", 3)
    )
    x = table[:, 2 : 2 + 3 * count].reshape(frames, count, 3)
    part = np.isnan(x).any(axis=2) & ~np.isnan(x).all(axis=2)
    if part.any():
        frame, marker = np.argwhere(part)[0]
        reason = PARTIAL.replace("a joint", f"marker {labels[marker]:.40}")
        raise ReadError(where, reason, rows[frame] + 1)
    x = np.where(x.any(axis=2, keepdims=True), x, np.nan)
    return Markers(labels, with_gaps(x, places, where), rate, facts.get("units", ""))


def _cells(line: str) -> list[str]:
    return line.rstrip().split("\t")


def _number(facts: dict[str, str], key: str, where: str, most: float) -> float:
    text = facts.get(key.lower(), "")
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most or (key != "DataRate" and value % 1):
        expected = f"{key}: {text!r:.40}: expected a number up to {most:,}"
        raise ReadError(where, expected, 3)
    return value


def _row(line: str, width: int, where: str, number: int) -> list[float]:
    """The numbers of a line, NaN for empty cells, also for those that lack at its end."""
    cells = line.rstrip("\t \r\n").split("\t")
    if len(cells) > width or len(cells) < 2 or (len(cells) - 2) % 3:
        reason = f"{len(cells):,} cells, but the heading has {width:,}: the line is damaged"
        raise ReadError(where, reason, number)
    out = [float("nan")] * width
    for place, cell in enumerate(cells):
        try:
            out[place] = float(cell) if cell.strip() else float("nan")
        except ValueError:
            out[place] = float("inf")
        if abs(out[place]) > _LARGEST:
            reason = f"expected a number of at most {_LARGEST:g}, got {cell.strip()!r:.40}"
            raise ReadError(where, reason, number)
    return out

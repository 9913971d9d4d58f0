"""Labels by interval: csv files with ``start,end,label``, BORIS exports, and ELAN's .eaf files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import Problem, ReadError, composed
from aimclr_fast.data.readers._classes import number_names
from aimclr_fast.data.readers._files import Entry, read_text
from aimclr_fast.data.readers._labels import cells_of

#: What a column may be called, in lower case without its unit; the first is ours. BORIS's
#: aggregated events have "Behavior", "Start (s)" and "Stop (s)".
_COLUMNS = {
    "start": ("start", "begin", "start time", "begin time", "onset"),
    "end": ("end", "stop", "end time", "stop time", "offset"),
    "label": ("label", "behavior", "annotation"),
    "name": ("name", "media file", "media file name", "observation id", "file"),
}
_HEADING = re.compile(r"(.*?)(?: *[-(\[] *(s|sec|seconds|ss\.msec|ms|msec|milliseconds)[)\]]?)?")
_MILLISECONDS = ("ms", "msec", "milliseconds")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,9})?)")
_SECONDS = re.compile(r"\d{1,9}(?:[.,]\d{1,9})?")
_EAF = ".eaf"


@dataclass(frozen=True)
class Interval:
    """A stretch of a recording that has a label.

    Attributes:
        start: seconds from the recording's first frame.
        end: seconds, after ``start``.
        label: its class.
        where: the file and line that say so.
    """

    start: float
    end: float
    label: int
    where: str


@dataclass
class Intervals:
    """The labeled intervals of recordings.

    Attributes:
        shown: how messages name the file.
        of: those of each recording, by its name or path as it is written, without the ending;
            ``""`` where the file names none.
        classes: names by label.
        problems: rows that cannot be used.
        notes: how the file was understood.
    """

    shown: str
    of: dict[str, list[Interval]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of_recording(self, name: str) -> tuple[str, Sequence[Interval]]:
        """What the file calls a recording, and its intervals; none where it names it nowhere.

        A path ends with the recording's name: ``D:/films/day1/walk.mp4`` is ``day1/walk`` or
        ``walk``.

        Raises:
            ReadError: several paths end so.
        """
        if set(self.of) == {""}:
            return "", self.of[""]
        found = [key for key in self.of if key == name or key.endswith(f"/{name}")]
        if len(found) > 1:
            raise ReadError(
                self.shown, f"{found[0]} and {found[1]} may both be the recording {name}"
            )
        return (found[0], self.of[found[0]]) if found else ("", ())


class _Row(NamedTuple):
    name: str
    start: float
    end: float
    label: str
    where: str


def read_intervals(path: Path, tier: str | None = None) -> Intervals:
    """Read a csv of intervals, an .eaf file or a folder of these.

    Args:
        path: the file or folder.
        tier: of .eaf files with several.

    Raises:
        ReadError: it is not such a file, a needed column is missing, or tiers are to be chosen.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(_EAF))
        if not files:
            raise ReadError(str(path), "holds no .eaf files")
    else:
        files = [path]
    intervals = Intervals(str(path))
    rows: list[_Row] = []
    for file in files:
        entry = Entry(file, file.name)
        if file.name.lower().endswith(_EAF):
            rows += _eaf_rows(entry, tier, intervals)
        elif tier is not None:
            raise ReadError(str(path), f"--tier {tier}: only .eaf files have tiers")
        else:
            rows += _csv_rows(entry, intervals)
    if not rows:
        raise ReadError(str(path), "holds no labeled interval")
    numbers, intervals.classes, notes = number_names(row.label for row in rows)
    intervals.notes += notes
    for row in rows:
        one = Interval(row.start, row.end, numbers[row.label], row.where)
        intervals.of.setdefault(row.name, []).append(one)
    for some in intervals.of.values():
        some.sort(key=lambda one: (one.start, one.end))
    overlapping = sum(
        later.start < earlier.end
        for some in intervals.of.values()
        for earlier, later in pairwise(some)
    )
    if overlapping:
        intervals.notes.append(
            f"{path}: {overlapping:,} intervals begin before the one before them ends; each is a "
            "sample of its own"
        )
    return intervals


def _recording(text: str) -> str:
    """A recording's name from a name or path: forward slashes, without the ending."""
    path = composed(printable(text.strip().replace("\\", "/").removeprefix("file://")))
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", path.removeprefix("./"))


def _csv_rows(entry: Entry, intervals: Intervals) -> Iterator[_Row]:
    lines = cells_of(entry)[1]
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    place, scale = _columns(entry, header)
    for number, cells in lines[1:]:
        where = f"{entry.shown}:{number}"

        def cell(column: str, cells: list[str] = cells) -> str:
            at = place.get(column, -1)
            return cells[at].strip() if 0 <= at < len(cells) else ""

        def drop(reason: str, where: str = where) -> None:
            intervals.problems.append(Problem(where, reason))

        start, end = (_time(cell(column), scale[column]) for column in ("start", "end"))
        if start is None or end is None:
            drop("start or end is not a time")
        elif start >= end:
            drop("the interval has no length")
        elif not cell("label"):
            drop("the interval has no label")
        elif "name" in place and not cell("name"):
            drop("the interval names no recording")
        else:
            yield _Row(_recording(cell("name")), start, end, cell("label"), where)


def _columns(entry: Entry, header: Sequence[str]) -> tuple[dict[str, int], dict[str, float]]:
    """The place of each column that is needed, and the seconds of a number in it."""
    place: dict[str, int] = {}
    scale: dict[str, float] = {}
    split = [_HEADING.fullmatch(cell.casefold()) for cell in header]
    for column, names in _COLUMNS.items():
        found = [
            (names.index(match[1].strip()), at)
            for at, match in enumerate(split)
            if match and match[1].strip() in names
        ]
        if not found:
            continue
        best, at = min(found)
        if column != "name" and sum(rank == best for rank, _ in found) > 1:
            raise ReadError(entry.shown, f"header: several columns are a {column}", 1)
        place[column] = at
        match = split[at]
        scale[column] = 0.001 if match and match[2] in _MILLISECONDS else 1.0
    missing = [column for column in ("start", "end", "label") if column not in place]
    if missing:
        raise ReadError(
            entry.shown,
            f"header: no column {', '.join(missing)}; intervals need start, end (in seconds), "
            f"label and, for several recordings, name; it has {', '.join(header)!r:.200}",
            1,
        )
    return place, scale


def _time(text: str, scale: float) -> float | None:
    """Seconds of a number, or of hours, minutes and seconds."""
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = clock[1] or "0", clock[2], clock[3].replace(",", ".")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return float(text.replace(",", ".")) * scale if _SECONDS.fullmatch(text) else None


def _eaf_rows(entry: Entry, tier: str | None, intervals: Intervals) -> Iterator[_Row]:
    """The aligned annotations of one tier of an ELAN file, which is named like its recording."""
    text = read_text(entry)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # ELAN writes neither; entities can explode
        raise ReadError(entry.shown, "defines a document type or entities, which ELAN does not")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ReadError(entry.shown, f"not XML: {error}") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ReadError(entry.shown, f"not an ELAN file: it is a {root.tag!r:.40}")
    if any(one.get("TIME_ORIGIN", "0") != "0" for one in root.iterfind("HEADER/MEDIA_DESCRIPTOR")):
        raise ReadError(
            entry.shown,
            "its film begins at another time than its annotations (TIME_ORIGIN): which of both the "
            "recording begins with is not known; export the annotations as a csv",
        )
    times = {
        slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE")
        for slot in root.iterfind("TIME_ORDER/TIME_SLOT")
    }
    tiers = {
        one.get("TIER_ID", ""): list(one.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"))
        for one in root.iterfind("TIER")
    }
    filled = {name: found for name, found in tiers.items() if found}
    if tier is None and len(filled) > 1:
        said = ", ".join(f"{name} ({len(found):,})" for name, found in filled.items())
        raise ReadError(
            entry.shown, f"several tiers have annotations, name one with --tier: {said}"
        )
    if tier is not None and tier not in tiers:
        raise ReadError(entry.shown, f"has no tier {tier}; it has {', '.join(tiers)}")
    chosen = filled.get(tier, []) if tier is not None else next(iter(filled.values()), [])
    for annotation in chosen:
        where = f"{entry.shown}: {annotation.get('ANNOTATION_ID', '')}"
        ends = [times.get(annotation.get(f"TIME_SLOT_REF{end}")) for end in (1, 2)]
        start, end = (_time(text or "", 0.001) for text in ends)
        label = (annotation.findtext("ANNOTATION_VALUE") or "").strip()
        if start is None or end is None or start >= end or not label:
            reason = "the interval has no label" if not label else "the interval has no length"
            intervals.problems.append(Problem(where, reason))
        else:
            yield _Row(_recording(entry.name), start, end, label, where)

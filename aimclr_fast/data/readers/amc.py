"""AMC files, Acclaim's motion, as of CMU's database; the skeletons are in .asf files beside them.

An .amc takes the .asf of its folder, or of the nearest folder above that has one; of several, the
one whose name its own begins with (``11_01.amc`` has ``11.asf``, and ``113_01.amc`` has not).
How joints, unit and the axis that points up are found is in
:mod:`aimclr_fast.data.readers._trees`, the format itself in :mod:`aimclr_fast.data.readers._amc`.
``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aimclr_fast.data.readers import _amc
from aimclr_fast.data.readers._base import Options, Plan, Problem
from aimclr_fast.data.readers._files import Entry, Listing, without_gz
from aimclr_fast.data.readers._labels import Named
from aimclr_fast.data.readers._sequences import Unit, by_file, find_sequences
from aimclr_fast.data.readers._trees import Motion, plan_trees

SUMMARY = "AMC: Acclaim motion capture (CMU's), .amc files with their .asf skeletons"
OPTIONS = ("labels",)
#: What ``folder`` says of such files among others.
FILES = "AMC and ASF files (prepare amc reads them)"


@dataclass(frozen=True)
class AmcUnit(Unit):
    """A file of motion, its name, and the file of its skeleton."""

    skeleton: Entry


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader."""
    return entry.suffix in (".amc", ".asf")


def plan(source: Path, options: Options) -> Plan:
    """One sample per .amc file."""
    what = ".amc files with an .asf file of their skeleton"
    found = find_sequences(source, options, _wanted, what, _with_skeletons)
    return plan_trees(found, options, str(source), "AMC", load)


def load(unit: Unit, first: bool) -> Motion:
    """A file, or its skeleton and first frame.

    Raises:
        ReadError: it or its skeleton is no such file, or damaged.
    """
    assert isinstance(unit, AmcUnit)
    return _amc.load(unit.entry, unit.skeleton, first=first)


def _wanted(path: str) -> bool:
    return without_gz(path).endswith((".amc", ".asf"))


def _with_skeletons(listing: Listing) -> tuple[list[AmcUnit], list[Named]]:
    """A sequence for each .amc file that has a skeleton."""
    skeletons = [entry for entry in listing.entries if entry.suffix == ".asf"]
    pairs: dict[Entry, Entry] = {}
    lost = []
    for entry in listing.entries:
        if entry.suffix == ".amc":
            skeleton = _skeleton_of(entry, skeletons or _beside(entry))
            if skeleton is not None:
                pairs[entry] = skeleton
            else:
                lost.append(entry)
    reason = "no .asf file in its folder or above has its skeleton, or several might"
    listing.left_out += [Problem(entry.shown, reason) for entry in lost]
    if lost:
        listing.notes.append(f"{lost[0].shown} and {len(lost) - 1:,} others: {reason}")
    others = [entry for entry in pairs if not _is_called(entry, pairs[entry])]
    if others:
        listing.notes.append(
            f"skeletons: {len(others):,} files take the only .asf file there is, whose name is "
            f"another, such as {others[0].shown} that of {pairs[others[0]].shown}; the bones of "
            "another subject have other lengths"
        )
    listing.entries = list(pairs)
    units, named = by_file(listing)
    return [AmcUnit(unit.entry, unit.name, pairs[unit.entry]) for unit in units], named


def _beside(entry: Entry) -> list[Entry]:
    """The skeletons on disk beside a file that is the whole source."""
    if entry.member:
        return []
    near = sorted(entry.file.parent.iterdir())
    return [Entry(file, file.name) for file in near if file.suffix.lower() == ".asf"]


def _skeleton_of(entry: Entry, skeletons: Sequence[Entry]) -> Entry | None:
    """The skeleton of a file of motion, or None where that is not clear."""
    folders = entry.folders
    for depth in range(len(folders), -1, -1):
        own = [one for one in skeletons if one.folders == folders[:depth] and _together(one, entry)]
        if len(own) == 1:
            return own[0]
        called = [one for one in own if _is_called(entry, one)]
        if own:
            return max(called, key=lambda one: len(one.stem), default=None)
    return None


def _is_called(entry: Entry, skeleton: Entry) -> bool:
    """Whether a file's name is its skeleton's, or goes on after it with neither a letter nor a
    digit.
    """
    name, stem = entry.stem.lower(), skeleton.stem.lower()
    return name.startswith(stem) and not name[len(stem) :][:1].isalnum()


def _together(one: Entry, other: Entry) -> bool:
    """Whether two files are both on disk, or in one archive."""
    if one.member and other.member:
        return (one.file, one.inner) == (other.file, other.inner)
    return one.member == other.member

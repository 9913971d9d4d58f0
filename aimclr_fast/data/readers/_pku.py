"""PKU-MMD: continuous skeleton files, label files and split lists.

A skeleton file has 150 numbers a line: two bodies of 25 joints, x y z. A label file has
``class,start,end,confidence`` a line, frames counted from 1, both ends included. Split lists name
videos under "Training videos" and "Validation videos".
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_label,
    check_positions,
)
from aimclr_fast.data.readers._files import Entry, list_entries, read_text
from aimclr_fast.data.readers._names import PKU
from aimclr_fast.data.readers._text import read_table
from aimclr_fast.layouts import get_layout

LAYOUT = "ntu-rgb+d"
BODIES, JOINTS = 2, 25
CITATION = (
    "C. Liu, Y. Hu, Y. Li, S. Song, J. Liu. PKU-MMD: A Large Scale Benchmark for Continuous "
    "Multi-Modal Human Action Understanding. arXiv:1703.07475, 2017."
)
_VIDEO = re.compile(r"(?P<file>[A-Za-z0-9]+)-(?P<view>[LMR])")
_SPLITS = {"xsub": "subject", "xview": "view"}


@dataclass(frozen=True)
class Video:
    """A skeleton file, its label file and the side it is on in each split."""

    skeleton: Entry
    label: Entry
    sides: tuple[tuple[str, str], ...]


def plan_pku(source: Path, options: Options, *, title: str) -> Plan:
    """Plan a folder (or zip files) with skeleton and label folders and split lists in it."""
    listing = list_entries(source, lambda path: path.endswith(".txt"))
    skeletons, labels, lists = [], {}, []
    for entry in listing.entries:
        folders = "/".join(entry.folders).lower()
        if _VIDEO.fullmatch(entry.stem) is None:
            lists.append(entry)
        elif "label" in folders:
            labels[entry.stem] = entry
        elif "skeleton" in folders:
            skeletons.append(entry)
    if not skeletons:
        raise ReadError(str(source), "holds no skeleton files (skeleton/0002-L.txt and so on)")
    sides, notes = _read_splits(lists)
    left_out = listing.left_out
    units: list[Video] = []
    for skeleton in skeletons:
        if skeleton.stem in labels:
            on = tuple((split, sides[split].get(skeleton.stem, "none")) for split in sides)
            units.append(Video(skeleton, labels[skeleton.stem], on))
        else:
            left_out.append(Problem(skeleton.shown, "has no label file"))
    return Plan(
        layout=get_layout(LAYOUT),
        bodies=options.max_bodies or BODIES,
        units=units,
        read=functools.partial(read_video, bodies=options.max_bodies or BODIES),
        classes=PKU,
        splits={s: {"column": s, "train": ["train"], "test": ["test"]} for s in sides},
        source=f"{title}, skeletons of Kinect v2, cut at the labeled actions",
        citation=CITATION,
        left_out=left_out,
        notes=listing.notes + notes,
        gaps="published",
        normalize="frame",
    )


def _read_splits(lists: list[Entry]) -> tuple[dict[str, dict[str, str]], list[str]]:
    sides: dict[str, dict[str, str]] = {}
    notes = []
    for split, word in _SPLITS.items():
        found = [entry for entry in lists if word in entry.name.lower()]
        if not found:
            notes.append(f"no split list for {split} (a file named cross-{word}.txt) was found")
            continue
        if len(found) > 1:
            names = ", ".join(entry.shown for entry in found)
            raise ReadError(names, f"more than one split list for {split}: keep one")
        sides[split] = parse_split(found[0])
    return sides, notes


def parse_split(entry: Entry) -> dict[str, str]:
    """Side, "train" or "test", of each video that a split list names."""
    sides: dict[str, str] = {}
    side = None
    for number, line in enumerate(read_text(entry).splitlines(), start=1):
        lower = line.lower()
        if "train" in lower:
            side = "train"
        elif "valid" in lower or "test" in lower:
            side = "test"
        for match in _VIDEO.finditer(line):
            if side is None:
                raise ReadError(entry.shown, "a video before any heading", number)
            if sides.setdefault(match[0], side) != side:
                raise ReadError(entry.shown, f"{match[0]} would both train and test", number)
    if not sides:
        raise ReadError(entry.shown, "names no video")
    return sides


def read_video(video: Video, *, bodies: int) -> Readings:
    """Read one video and cut its labeled actions."""
    match = _VIDEO.fullmatch(video.skeleton.stem)
    assert match is not None  # plan_pku lets no other name through
    file, view = match["file"], "LMR".index(match["view"]) + 1
    file = f"F{int(file):03}" if file.isdecimal() else file
    where = video.skeleton.shown
    table = read_table(video.skeleton.read(), BODIES * JOINTS * 3, where)
    whole = fit_bodies(table.reshape(-1, BODIES, JOINTS, 3).transpose(3, 0, 2, 1), bodies)
    rows = read_table(video.label.read(), 4, video.label.shown)
    for line, (label, start, end, _) in enumerate(rows.tolist(), start=1):
        try:
            yield _cut(whole, int(label), int(start), int(end), line, (file, view), video)
        except ReadError as error:
            yield Problem.of(error)


def _cut(
    whole: np.ndarray,
    label: int,
    start: int,
    end: int,
    line: int,
    place: tuple[str, int],
    video: Video,
) -> Recording:
    where = video.label.shown
    frames = whole.shape[1]
    check_label(label - 1, len(PKU), where, line)
    if not 1 <= start <= end or start > frames:
        raise ReadError(where, f"frames {start} to {end} are not among 1 to {frames}", line)
    file, view = place
    return Recording(
        f"{file}V{view:03}C{label:03}L{line:03}",
        # An end beyond the recording is cut off, as slicing does in the published code.
        check_positions(whole[:, start - 1 : end].astype(np.float32), video.skeleton.shown),
        {
            "label": label - 1,
            "video": video.skeleton.stem,
            "camera": view,
            "start": start,
            "end": min(end, frames),
            **dict(video.sides),
        },
        video.skeleton.shown,
    )

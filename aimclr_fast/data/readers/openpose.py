"""OpenPose's JSON files, one a frame, of one person: ``clip_000000000000_keypoints.json``.

Files of one folder and one name before the number are a sequence; numbers that are skipped are
frames without a body, unless all go in steps. ``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import (
    PARTIAL,
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    composed,
)
from aimclr_fast.data.readers._counting import check_places, frame_places
from aimclr_fast.data.readers._files import Entry, Listing, list_entries, without_gz
from aimclr_fast.data.readers._labels import (
    LABEL_FILES,
    Labels,
    Named,
    find_labels,
    match_labels,
    read_labels,
    split_of,
)
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._pose2d import NOTE, lift
from aimclr_fast.layouts import LAYOUTS, Layout

SUMMARY = "OpenPose: folders or zips of its JSON files, one a frame, 2D, one person"
OPTIONS = ("max_bodies", "labels")
#: What ``folder`` says of such files among others.
FILES = "OpenPose frames (prepare openpose reads them)"
_NAME = re.compile(r"(?P<clip>.*?)[_-]?(?P<frame>\d+)_keypoints\.json", re.IGNORECASE | re.DOTALL)
_POINTS = "pose_keypoints_2d"
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Clip:
    """The files of a sequence, and the frame each one is."""

    name: str
    entries: tuple[Entry, ...]
    frames: tuple[int, ...]


def is_frame(path: str) -> bool:
    """Whether a path is named as OpenPose names its frames."""
    return _NAME.fullmatch(path.rpartition("/")[2]) is not None


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader."""
    return is_frame(entry.path)


def plan(source: Path, options: Options) -> Plan:
    """One sample per clip."""
    if options.pose == "3d":
        raise ReadError(str(source), "--pose 3d, but OpenPose's JSON is read in 2D")
    if options.max_bodies not in (None, 1):
        raise ReadError(str(source), f"--max-bodies {options.max_bodies}: one person is read")
    listing = list_entries(source, lambda p: is_frame(p) or without_gz(p).endswith(LABEL_FILES))
    given = find_labels(listing, options)
    clips = _clips(listing, source)
    if not clips:
        raise ReadError(str(source), "holds no files named like clip_000000000000_keypoints.json")
    labels = read_labels(given) if given else None
    if labels:
        named = [Named(clip.name, shown=clip.entries[0].shown) for clip in clips]
        kept, problems = match_labels(labels, named)
        clips = [clips[index] for index in kept]
        listing.left_out += problems
    layout = _layout(clips, options, str(source))
    notes = [f"OpenPose: {len(clips):,} clips, layout {layout.name}", *listing.notes]
    notes.append(NOTE.format(confidence=options.min_confidence))
    notes += labels.notes if labels else ["no labels.csv: the store is for pretraining"]
    splits, split_notes = split_of(labels)
    notes += split_notes
    return Plan(
        layout=layout,
        bodies=1,
        units=clips,
        read=functools.partial(read, layout=layout, labels=labels, options=options),
        classes=labels.classes if labels else None,
        splits=splits,
        source="OpenPose key points",
        left_out=listing.left_out,
        notes=notes,
        rotate=False,
        reader="openpose",
        scores=True,
    )


def _clips(listing: Listing, source: Path) -> list[Clip]:
    """Sequences by folder and name; a folder's own name where it holds one only."""
    groups: dict[tuple[str, str], dict[int, Entry]] = {}
    for entry in listing.entries:
        match = _NAME.fullmatch(entry.path.rpartition("/")[2])
        if match is None:
            continue
        place = ("/".join(entry.folders), match["clip"])
        frame = int(match["frame"][-18:])
        other = groups.setdefault(place, {}).setdefault(frame, entry)
        if other is not entry:
            reason = f"is frame {frame} again, as {other.shown}"
            listing.left_out.append(Problem(entry.shown, reason))
    clips_in = Counter(folder for folder, _ in groups)
    clips = []
    for (folder, clip), files in groups.items():
        below = folder.removeprefix(listing.base).strip("/") or folder.rpartition("/")[2]
        parts = (below,) if below and clips_in[folder] == 1 else (below, clip)
        frames = sorted(files)
        places = frame_places(np.array(frames, dtype=np.int64))
        clips.append(
            Clip(
                composed(printable("/".join(filter(None, parts)) or source.stem)),
                tuple(files[n] for n in frames),
                tuple(places.tolist()),
            )
        )
    return clips


def _layout(clips: list[Clip], options: Options, where: str) -> Layout:
    """The layout that was named, or OpenPose's own with so many joints."""
    unread = None
    for clip in clips:
        for entry in clip.entries:
            try:
                people = _people(entry)
            except ReadError as error:  # reading says what is wrong
                unread = unread or error
                continue
            if people:
                return _layout_for(len(people[0]), options, entry.shown)
    raise unread or ReadError(where, "no body is in any frame")


def _layout_for(joints: int, options: Options, where: str) -> Layout:
    if options.layout is not None:
        layout = named_layout(options.layout)
        if layout.num_joints == joints:
            return layout
        raise ReadError(where, f"{joints} joints, but layout {layout.name} has {layout.num_joints}")
    for layout in LAYOUTS.values():
        if layout.num_joints == joints and layout.name.startswith("openpose"):
            return layout
    raise ReadError(where, f"{joints} joints: name their layout with --layout")


def _people(entry: Entry) -> list[npt.NDArray[np.float64]]:
    """``[V, 3]`` (x, y, confidence) of each person in a frame whose body was seen."""
    where = entry.shown
    try:
        data = json.loads(entry.read(_LIMIT))
    except (ValueError, RecursionError) as error:
        raise ReadError(where, f"not JSON: {error}") from error
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list):
        raise ReadError(where, "expected an object with people, a list")
    found = []
    for person in people:
        points: Any = person.get(_POINTS) if isinstance(person, dict) else None
        if points is None and isinstance(person, dict):
            points = person.get("pose_keypoints")  # before version 1.2
        if points == []:
            continue  # hands or a face alone
        try:
            array = np.array(points, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise ReadError(where, f"{_POINTS}: not a list of numbers") from error
        if array.ndim != 1 or not array.size or array.size % 3 or np.isinf(array).any():
            raise ReadError(where, f"{_POINTS}: expected x, y and confidence of each joint")
        array = array.reshape(-1, 3)
        array[np.isnan(array[:, :2]).all(axis=1)] = 0.0  # null or NaN: not seen
        if np.isnan(array).any():
            raise ReadError(where, f"{_POINTS}: {PARTIAL}")
        found.append(array)
    return found


def read(clip: Clip, *, layout: Layout, labels: Labels | None, options: Options) -> Readings:
    """Read one clip."""
    where = clip.entries[0].shown
    check_places(np.array(clip.frames), where, "files: renumber them")
    array = np.zeros((1, clip.frames[-1] + 1, layout.num_joints, 3))
    for frame, entry in zip(clip.frames, clip.entries, strict=True):
        people = _people(entry)
        if len(people) > 1 and options.max_bodies is None:
            raise ReadError(
                entry.shown,
                f"{len(people)} people; one is read: --max-bodies 1 takes the most certain in each "
                "frame",
            )
        if people:
            best = max(people, key=lambda points: points[:, 2].sum())
            if len(best) != layout.num_joints:
                raise ReadError(
                    entry.shown, f"{len(best)} joints, and layout {layout.name} has "
                    f"{layout.num_joints}",
                )  # fmt: skip
            array[0, frame] = best
    positions = lift(array[..., :2], array[..., 2], 1, options, where)
    columns = dict(labels.rows[clip.name]) if labels else {}
    yield Recording(clip.name, check_positions(positions, where), columns, where)

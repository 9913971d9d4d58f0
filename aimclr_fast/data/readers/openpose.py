"""OpenPose's JSON: one file a frame (``clip_000000000000_keypoints.json``), or one a video.

Files of one folder and one name before the number are a sequence; numbers that are skipped are
frames without a body, unless all go in steps. Other programs leave ``_keypoints`` out. A file
without a number, or alone with its name, holds all frames of a video, in the forms of
:mod:`aimclr_fast.data.readers._clips`. ``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import (
    PARTIAL,
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_positions,
)
from aimclr_fast.data.readers._clips import (
    JSON,
    Clip,
    FormError,
    frames_of,
    group_clips,
    load_json,
)
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers._labels import Labels
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._pose2d import NOTE, lift
from aimclr_fast.data.readers._sequences import columns_of, find_sequences
from aimclr_fast.data.readers._tracks import ASK_PEOPLE, Seen, most_at_once, place_people
from aimclr_fast.layouts import LAYOUTS, Layout

SUMMARY = "OpenPose: folders or zips of its JSON files, one a frame or a video, 2D"
OPTIONS = ("max_bodies", "labels")
#: What ``folder`` says of such files among others.
FILES = "OpenPose files (prepare openpose reads them)"
_NUMBERED = re.compile(
    r"(?P<clip>.*?)[._-]?(?P<frame>\d+)(?P<ending>_keypoints)?\.json", re.IGNORECASE | re.DOTALL
)
_POINTS = "pose_keypoints_2d"
_OLD_POINTS = "pose_keypoints"  # before version 1.2


@dataclass
class Person:
    """A person in a frame: ``[V, 3]`` x, y, confidence; the id, if there is one; what else."""

    points: npt.NDArray[np.float64] | None
    ident: int | None
    others: tuple[str, ...]


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader: by its name, or JSON that begins so."""
    if _is_named(entry):
        return True
    return entry.suffix in JSON and b'"pose_keypoints' in entry.read_head()


def _is_named(entry: Entry) -> bool:
    """Whether a file is named as OpenPose names those of a frame."""
    match = _NUMBERED.fullmatch(entry.path.rpartition("/")[2])
    return match is not None and match["ending"] is not None


def _holds_frame(entry: Entry, files: int) -> bool:
    """Whether a file with a number in its name, one of so many, holds a frame.

    Pose2Sim and others leave out OpenPose's ending (``cam01.0031.json``).
    """
    if _is_named(entry):
        return True
    try:
        return files > 1 and _is_frame(load_json(entry))
    except ReadError:  # reading says it again
        return files > 1


def plan(source: Path, options: Options) -> Plan:
    """One sample per clip."""
    if options.pose == "3d":
        raise ReadError(str(source), "--pose 3d, but OpenPose's JSON is read in 2D")
    found = find_sequences(
        source,
        options,
        lambda path: path.endswith(JSON),
        "files named like clip_000000000000_keypoints.json, and no other .json",
        lambda listing: group_clips(listing, _NUMBERED, _holds_frame),
    )
    layout, notes, rate = _look(found.units, options, str(source))
    return found.plan(
        layout,
        functools.partial(read, layout=layout, options=options),
        [
            f"OpenPose: {len(found.units):,} clips, layout {layout.name}",
            *([f"frames per second: {rate:.4g} in the first"] if rate else []),
            *notes,
            NOTE.format(confidence=options.min_confidence),
        ],
        bodies=options.max_bodies or 1,
        source="OpenPose key points",
        rotate=False,
        reader="openpose",
        scores=True,
        timed=rate is not None,
        untimed=rate is None or len(found.units) > 1,
    )


def _look(
    clips: Sequence[Clip], options: Options, where: str
) -> tuple[Layout, list[str], float | None]:
    """The layout, what is not read, and the frame rate, by the first clip with somebody in it."""
    unread = None
    for clip in clips:
        others: Counter[str] = Counter()
        first: tuple[int, str] | None = None
        try:
            frames = frames_of(clip, _is_frame)
        except ReadError as error:  # reading says what is wrong
            unread = unread or error
            continue
        for shown, load in zip(frames.wheres, frames.load, strict=True):
            try:
                people = _people(load())
            except (ReadError, FormError) as error:  # reading says it again
                known = error if isinstance(error, ReadError) else ReadError(shown, str(error))
                unread = unread or known
                continue
            others.update({kind for one in people for kind in one.others})
            sizes = [len(one.points) for one in people if one.points is not None]
            first = first or ((sizes[0], shown) if sizes else None)
        if first is not None:
            layout = _layout_for(first[0], options, first[1])
            notes = [f"not read: {kind} ({n:,} frames)" for kind, n in sorted(others.items())]
            return layout, notes, frames.rate
    raise unread or ReadError(where, "no body is in any frame")


def _layout_for(joints: int, options: Options, where: str) -> Layout:
    if options.layout is not None:
        layout = named_layout(options.layout)
        if layout.num_joints == joints:
            return layout
        raise ReadError(where, f"{joints} joints, but layout {layout.name} has {layout.num_joints}")
    for layout in LAYOUTS.values():
        if layout.num_joints == joints and layout.name.startswith(("openpose", "halpe")):
            return layout
    raise ReadError(where, f"{joints} joints: name their layout with --layout")


def _is_frame(data: Any) -> bool:
    return isinstance(data, dict) and "people" in data


def _people(data: Any) -> list[Person]:
    """The people in a frame."""
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list):
        raise FormError("expected an object with people, a list")
    return [_person(person if isinstance(person, dict) else {}) for person in people]


def _person(person: dict[str, Any]) -> Person:
    others = tuple(
        key.partition("_keypoints")[0]
        for key, value in person.items()
        if "_keypoints" in key and key not in (_POINTS, _OLD_POINTS) and value
    )
    points = person.get(_POINTS, person.get(_OLD_POINTS))
    if points == []:
        return Person(None, None, others)  # hands or a face alone
    try:
        array = np.array(points, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormError(f"{_POINTS}: not a list of numbers") from error
    if array.ndim != 1 or not array.size or array.size % 3 or np.isinf(array).any():
        raise FormError(f"{_POINTS}: expected x, y and confidence of each joint")
    array = array.reshape(-1, 3)
    array[np.isnan(array[:, :2]).all(axis=1)] = 0.0  # null or NaN: not seen
    if np.isnan(array).any():
        raise FormError(f"{_POINTS}: {PARTIAL}")
    return Person(array, _ident(person.get("person_id")), others)


def _ident(given: Any) -> int | None:
    """The id of a person; None for the -1 that stands for none."""
    if isinstance(given, list):
        given = given[0] if len(given) == 1 else None
    return given if type(given) is int and 0 <= given < 10**9 else None


def read(clip: Clip, *, layout: Layout, labels: Labels | None, options: Options) -> Readings:
    """Read one clip."""
    where = clip.shown
    frames = frames_of(clip, _is_frame)
    people = []
    each = zip(frames.places, frames.wheres, frames.parsed(_people), strict=True)
    for place, shown, persons in each:
        for one in persons:
            if one.points is None:
                continue
            if len(one.points) != layout.num_joints:
                reason = f"{len(one.points)} joints, and layout {layout.name} has"
                raise ReadError(shown, f"{reason} {layout.num_joints}")
            score = one.points[:, 2]
            seen = np.where(score[:, None] > options.min_confidence, one.points[:, :2], np.nan)
            people.append(Seen(place, one.points[:, :2], score, one.ident, shown, seen))
    several = most_at_once(people)
    if several is not None and options.max_bodies is None:
        count = sum(one.frame == several.frame for one in people)
        raise ReadError(several.where, ASK_PEOPLE.format(count=count))
    if not people:
        raise ReadError(where, "no body is in any frame")
    bodies = options.max_bodies or 1
    points, score = place_people(people, frames.places[-1] + 1, bodies)
    positions = lift(points, score, bodies, options, where, frames.aspect)
    columns = columns_of(clip.name, labels)
    yield Recording(clip.name, check_positions(positions, where), columns, where, frames.rate)

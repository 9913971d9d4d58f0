"""MediaPipe Pose, Holistic and Tasks: landmarks saved as JSON, as tables or as arrays.

World landmarks are in meters about the middle of the hips, with y down; they are read in 3D and
turned up. Image landmarks are shares of the image's width and height; they are read in 2D
(:mod:`aimclr_fast.data.readers._pose2d`). JSON is read in the forms of
:mod:`aimclr_fast.data.readers._landmarks`, a file a frame or a video; tables and arrays as by
``folder``. ``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.measures import ends_of_body
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
)
from aimclr_fast.data.readers._clips import (
    JSON,
    Clip,
    frames_of,
    group_clips,
    holds_frames,
    load_json,
)
from aimclr_fast.data.readers._columns import UNKNOWN
from aimclr_fast.data.readers._derived import upward
from aimclr_fast.data.readers._files import Entry, without_gz
from aimclr_fast.data.readers._labels import Labels
from aimclr_fast.data.readers._landmarks import (
    IMAGE,
    LAYOUT,
    MOST_PEOPLE,
    PLAIN,
    WORLD,
    Frame,
    by_frame,
    counted,
    is_frame,
    parse_frame,
)
from aimclr_fast.data.readers._pose2d import NOTE, is_score, lift
from aimclr_fast.data.readers._poses import SUFFIXES, load_poses
from aimclr_fast.data.readers._sequences import columns_of, find_sequences
from aimclr_fast.data.readers._sides import sides_note
from aimclr_fast.data.readers._tracks import ASK_PEOPLE, Seen, most_at_once, place_people

Array = npt.NDArray[np.float64]

SUMMARY = "MediaPipe: pose landmarks in .json (a file a frame or a video), .jsonl, .csv or .npy"
OPTIONS = ("max_bodies", "labels", "csv_bodies", "skip_columns")
#: What ``folder`` says of such files among others.
FILES = "files of MediaPipe's landmarks (prepare mediapipe reads them)"
_NUMBERED = re.compile(
    r"(?P<clip>.*?)[._-]?(?P<frame>\d+)(?:[_-][a-z_]+)?\.json", re.IGNORECASE | re.DOTALL
)
#: Of world landmarks, the middle of the hips is within this many meters of the origin.
_ORIGIN = 0.05
#: Clips whose sides are looked at, and poses of each.
_CLIPS, _POSES = 16, 1000
_HIPS = [LAYOUT.joints.index(name) for name in ("left_hip", "right_hip")]


@dataclass
class Taken:
    """What a sequence holds.

    Attributes:
        kind: WORLD or IMAGE, which include pixels.
        points: ``[N, T, V, C]`` of N bodies.
        score: ``[N, T, V]``, where there is one.
        rate: frames per second, where the source says so.
        aspect: width / height of the image, where the source says so.
        notes: what is not read.
    """

    kind: str
    points: Array
    score: Array | None
    rate: float | None = None
    aspect: float | None = None
    notes: list[str] = field(default_factory=list)


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader: JSON that begins as landmarks do."""
    if entry.suffix not in JSON:
        return False
    head = entry.read_head()
    return b'"x"' in head and (b"andmark" in head or b'"visibility"' in head)


def plan(source: Path, options: Options) -> Plan:
    """One sample per clip."""
    found = find_sequences(
        source,
        options,
        lambda path: without_gz(path).endswith((*JSON, *SUFFIXES)),
        ".json, .csv or .npy files",
        lambda listing: group_clips(listing, _NUMBERED, _is_frame),
    )
    unread, first = None, None
    for clip in found.units:
        try:
            first = _take(clip, options, None)
            break
        except ReadError as error:  # reading says it again
            unread = unread or error
    if first is None:
        raise unread or ReadError(str(source), "no landmarks are in any file")
    flat = first.kind == IMAGE
    notes = [f"MediaPipe: {len(found.units):,} sequences, {len(first.points[0]):,} frames in the "
             f"first; {first.kind} landmarks"]  # fmt: skip
    notes += [f"not read: {kind}" for kind in first.notes]
    notes += [f"frames per second: {first.rate:.4g} in the first"] if first.rate else []
    if flat:
        notes.append(NOTE.format(confidence=options.min_confidence))
    else:
        frames = {clip.shown: _poses(first)}
        _check_up(frames[clip.shown], options, str(source))
        for other in found.units[:: -(-len(found.units) // _CLIPS)]:
            if other is not clip:
                with contextlib.suppress(ReadError):  # reading says it again
                    frames[other.shown] = _poses(_take(other, options, WORLD))
        notes += sides_note(LAYOUT, frames, options.sides, str(source))
        notes.append(
            "world landmarks: meters about the middle of each person's hips, y down, turned up; "
            "where people go, and how far apart they are, is not in them"
        )
    return found.plan(
        LAYOUT,
        functools.partial(read, kind=first.kind, options=options),
        notes,
        bodies=options.max_bodies or 1,
        source=f"MediaPipe's {first.kind} landmarks",
        exact=True,
        rotate=not flat,
        in_meters=True,
        reader="mediapipe",
        scores=flat and first.score is not None,
        tables=any(e.suffix in SUFFIXES[2:] for clip in found.units for e in clip.entries),
        timed=first.rate is not None,
        untimed=first.rate is None or len(found.units) > 1,
    )


def _poses(taken: Taken) -> Array:
    """Poses of a clip, evenly spread, ``[n, V, 3]``, NaN where a joint is missing."""
    x = taken.points[..., :3].reshape(-1, LAYOUT.num_joints, 3)
    x = x[:: -(-len(x) // _POSES)]
    return np.where(x.any(axis=2, keepdims=True), x, np.nan)


def _check_up(x: Array, options: Options, where: str) -> None:
    """Refuse world landmarks ``[n, V, 3]`` that seem to be turned up already."""
    top, bottom = ends_of_body(LAYOUT)
    along = x[:, top].mean(axis=1) - x[:, bottom].mean(axis=1)
    axis, share = upward(along[np.isfinite(along).all(axis=1)])
    if options.up is None and share >= 0.5 and axis in ("y", "z"):
        raise ReadError(
            where,
            f"from feet to head it is {axis} in {share:.0%} of the first frames, but MediaPipe's y "
            f"points down: --up {axis} if the landmarks were turned up before they were saved, "
            "--up -y if people are upside down or lie",
        )


def _is_frame(entry: Entry, files: int) -> bool:
    """Whether a file with a number in its name, one of so many, holds a frame."""
    try:
        data = load_json(entry)
    except ReadError:  # reading says it again
        return True
    if not holds_frames(data, is_frame):
        return True
    if files > 1 and isinstance(data, list) and len(data) <= MOST_PEOPLE:
        raise ReadError(
            entry.shown,
            f"a list of {len(data)} poses: of people in one frame, or of frames? Put it into an "
            'object, as {"pose_landmarks": ...} or {"frames": ...}',
        )
    return False


def read(clip: Clip, *, kind: str, labels: Labels | None, options: Options) -> Readings:
    """Read one clip."""
    where = clip.shown
    taken = _take(clip, options, kind)
    bodies = options.max_bodies or 1
    if kind == IMAGE:
        x = lift(taken.points[..., :2], taken.score, bodies, options, where, taken.aspect)
    else:
        x = check_positions(fit_bodies(taken.points.transpose(3, 1, 2, 0), bodies), where)
        x = in_meters(x, options.unit or "m", options.up or "-y")
    columns = columns_of(clip.name, labels)
    yield Recording(clip.name, check_positions(x, where), columns, where, taken.rate)


def _take(clip: Clip, options: Options, kind: str | None) -> Taken:
    """What a clip holds, of one kind of landmarks, or of the first that there is."""
    if clip.entries[0].suffix not in JSON:
        taken = _from_table(clip.entries[0], options)
    else:
        taken = _from_json(clip, options, kind)
    if kind not in (None, taken.kind):
        raise ReadError(
            clip.shown,
            f"{taken.kind} landmarks alone, while other sequences have {kind} landmarks: prepare "
            "them separately",
        )
    return taken


def _from_table(entry: Entry, options: Options) -> Taken:
    """By the columns' headings, or 3, 4 (visibility) or 5 (and presence) for each landmark."""
    error = None
    for columns in (None, "xyzc", "xyzc_"):
        try:
            poses = load_poses(entry, LAYOUT, replace(options, columns=columns))
            break
        except ReadError as found:
            error = error or found
    else:
        raise error or ReadError(entry.shown, "no table of landmarks")
    array, axes = poses.array, poses.axes
    score = array[..., -1] if axes.endswith("c") else None
    if axes in ("xyz", "xyzc", UNKNOWN):
        if axes == UNKNOWN and options.pose != "3d" and is_score(array[..., 2]):
            return Taken(IMAGE, array[..., :2], array[..., 2], poses.rate)
        kind = _kind(array[..., :3])
        return _checked(Taken(kind, array[..., :3], score, poses.rate), options, entry.shown)
    return _checked(Taken(IMAGE, array, score, poses.rate), options, entry.shown)


def _from_json(clip: Clip, options: Options, kind: str | None) -> Taken:
    where = clip.shown
    read = frames_of(clip, is_frame, by_frame)
    frames = read.parsed(parse_frame)
    if not any(any(frame.people.values()) for frame in frames):
        raise ReadError(where, "nobody is in any frame")
    kind, field_ = _choose(frames, options, kind, where)
    people = _seen(frames, read.places, read.wheres, field_, 3 if kind == WORLD else 2)
    several = most_at_once(people)
    if several is not None and options.max_bodies is None:
        count = sum(one.frame == several.frame for one in people)
        raise ReadError(several.where, ASK_PEOPLE.format(count=count))
    points, score = place_people(people, read.places[-1] + 1, options.max_bodies or 1)
    taken = Taken(kind, points, score, read.rate, read.aspect, counted(frames))
    return _checked(taken, options, where)


def _choose(
    frames: Sequence[Frame], options: Options, kind: str | None, where: str
) -> tuple[str, str]:
    """The kind of landmarks to read, and the field of a frame that has them."""
    there = {name for frame in frames for name, people in frame.people.items() if people}
    wanted = kind or (IMAGE if options.pose == "2d" else WORLD)
    for field_ in (wanted, WORLD, IMAGE):
        if field_ in there:
            return field_, field_
    points = [person[:, :3] for frame in frames for person in frame.people.get(PLAIN, [])]
    return _kind(np.stack(points)[None]), PLAIN


def _kind(points: npt.NDArray[Any]) -> str:
    """World landmarks if the middle of the hips is the origin, of ``points [N, T, V, 3]``."""
    hips = points[:, :, _HIPS].mean(axis=2).reshape(-1, 3)
    hips = hips[np.isfinite(hips).all(axis=1) & points.any(axis=(2, 3)).reshape(-1)]
    return WORLD if len(hips) and bool(np.median(np.abs(hips).max(axis=1)) < _ORIGIN) else IMAGE


def _checked(taken: Taken, options: Options, where: str) -> Taken:
    if options.pose == "3d" and taken.kind != WORLD:
        raise ReadError(
            where, "--pose 3d, but these are image landmarks, read in 2D: save pose_world_landmarks"
        )
    if options.pose == "2d" and taken.kind == WORLD:
        raise ReadError(where, "--pose 2d, but these are world landmarks, which are 3D")
    return taken


def _seen(
    frames: Sequence[Frame], numbers: Sequence[int], wheres: Sequence[str], kind: str, width: int
) -> list[Seen]:
    """The people of all frames; followed by their places in the image, if all have these."""
    pairs = [(frame.people.get(kind, []), frame.people.get(IMAGE, [])) for frame in frames]
    placed = all(len(people) == len(images) for people, images in pairs)
    found = []
    for (people, images), number, where in zip(pairs, numbers, wheres, strict=True):
        for person, image in zip(people, images if placed else people, strict=True):
            visible = np.where(np.isnan(person[:, 3]), image[:, 3], person[:, 3])
            score = np.where(np.isnan(visible), 1.0, visible)
            found.append(Seen(number, person[:, :width], score, None, where, image[:, :2]))
    return found

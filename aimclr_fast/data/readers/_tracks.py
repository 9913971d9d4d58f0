"""Who is who from frame to frame, where several people are seen.

By ids, where the source has them. Else each pose goes to the person whose last pose is nearest, in
the assignment with the least total distance; a pose too far from all of them is somebody new.
Those who were seen longest and most certainly are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import MIN_FRAMES
from aimclr_fast.data.gaps import LONGEST
from aimclr_fast.data.readers._base import MAX_FRAMES, ReadError

Array = npt.NDArray[np.float64]

#: A person moves less than this share of their size from one frame to the next, and so much more
#: for each frame in which they were not seen.
_STEP, _MORE = 0.4, 0.1
#: Most people in one frame.
_CROWD = 50
ASK_PEOPLE = (
    "{count} people in a frame: say how many to keep with --max-bodies; they are followed from "
    "frame to frame, and those seen longest and most certainly are kept"
)


@dataclass(frozen=True)
class Seen:
    """A person in a frame.

    Attributes:
        frame: from 0; those of a recording come in order.
        points: ``[V, C]``, NaN for joints that were not seen.
        score: of each joint, ``[V]``.
        ident: the source's id of the person, where it has one.
        where: how messages name the frame.
        place: ``[V, D]``, what to follow people by, where ``points`` do not tell their places.
    """

    frame: int
    points: Array
    score: Array
    ident: int | None = None
    where: str = ""
    place: Array | None = None


@dataclass
class _Track:
    """A person: where they were last, and what is theirs among all that was seen."""

    frame: int
    place: Array
    rows: list[int] = field(default_factory=list)


def most_at_once(people: Sequence[Seen]) -> Seen | None:
    """One of those in the first frame with several people; None where there is none."""
    for before, one in pairwise(people):
        if before.frame == one.frame:
            return one
    return None


def place_people(people: Sequence[Seen], frames: int, bodies: int) -> tuple[Array, Array]:
    """Give each person one slot for the whole recording.

    Args:
        people: all that were seen, frame after frame, at least one.
        frames: T.
        bodies: slots to fill.

    Returns:
        Points ``[M, T, V, C]`` and scores ``[M, T, V]`` of at most so many bodies, zeros where
        somebody was not seen.

    Raises:
        ReadError: an id is in one frame twice, only some people have one, or there are too many
            people or frames.
    """
    if frames > MAX_FRAMES:
        raise ReadError(people[0].where, f"{frames:,} frames; at most {MAX_FRAMES:,} are read")
    slots = _slots(people, bodies)
    shape = (1 + max(slot for _, slot in slots), frames, *people[0].points.shape)
    points, score = np.zeros(shape), np.zeros(shape[:3])
    for row, slot in slots:
        one = people[row]
        points[slot, one.frame], score[slot, one.frame] = one.points, one.score
    return points, score


def _slots(people: Sequence[Seen], bodies: int) -> list[tuple[int, int]]:
    """Row and slot of those who are kept."""
    known = [one.ident is not None for one in people]
    if any(known) and not all(known):
        other = people[known.index(False)]
        raise ReadError(other.where, "a person without an id, while others have one")
    tracks = _by_id(people) if all(known) else _by_place(people)
    weight = [sum(float(np.nansum(people[row].score)) for row in rows) for rows in tracks]
    order = sorted(range(len(tracks)), key=lambda track: -weight[track])
    taken: list[set[int]] = []
    found = []
    for track in order:
        own = {people[row].frame for row in tracks[track]}
        # Without ids, somebody who comes back is somebody new: they may have been here before.
        returns = not all(known) and len(own) >= MIN_FRAMES
        free = next((k for k, t in enumerate(taken) if returns and not own & t), len(taken))
        if free >= bodies:
            continue
        if free == len(taken):
            taken.append(set())
        taken[free] |= own
        found += [(row, free) for row in tracks[track]]
    return found


def _by_id(people: Sequence[Seen]) -> list[list[int]]:
    tracks: dict[int | None, list[int]] = {}
    for row, one in enumerate(people):
        rows = tracks.setdefault(one.ident, [])
        if rows and people[rows[-1]].frame == one.frame:
            raise ReadError(one.where, f"the id {one.ident} is in one frame twice")
        rows.append(row)
    return list(tracks.values())


def _by_place(people: Sequence[Seen]) -> list[list[int]]:
    tracks: list[_Track] = []
    recent: list[_Track] = []
    for frame, group in groupby(range(len(people)), key=lambda row: people[row].frame):
        rows = list(group)
        if len(rows) > _CROWD:
            reason = f"{len(rows)} people in a frame; at most {_CROWD} are read"
            raise ReadError(people[rows[0]].where, reason)
        places = [_place(people[row]) for row in rows]
        recent = [track for track in recent if frame - track.frame <= LONGEST + 1]
        pairs = _assign(recent, places, frame)
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            track = pairs.get(number)
            if track is None:
                track = _Track(frame, place)
                tracks.append(track)
                recent.append(track)
            track.frame, track.place = frame, place
            track.rows.append(row)
    return [track.rows for track in tracks]


def _place(one: Seen) -> Array:
    return one.points if one.place is None else one.place


def _assign(tracks: Sequence[_Track], places: Sequence[Array], frame: int) -> dict[int, _Track]:
    """The person that each pose of a frame is of, by its number; none for somebody new."""
    if not tracks:
        return {}
    from scipy.optimize import linear_sum_assignment  # slow to load

    last = np.stack([track.place for track in tracks])
    now = np.stack(places)
    apart = np.linalg.norm(last[:, None] - now, axis=3)  # [tracks, poses, V]
    known = np.isfinite(apart)
    count = known.sum(axis=2)
    mean = np.where(known, apart, 0.0).sum(axis=2) / np.maximum(count, 1)
    size = np.maximum.outer([_size(place) for place in last], [_size(place) for place in now])
    waited = np.array([frame - track.frame - 1 for track in tracks])
    most = (_STEP + _MORE * waited)[:, None] * size
    cost = np.where((count > 0) & (mean <= most), mean / np.maximum(most, 1e-12), len(places) + 1.0)
    return {
        pose: tracks[track]
        for track, pose in zip(*linear_sum_assignment(cost), strict=True)
        if cost[track, pose] <= 1
    }


def _size(place: Array) -> float:
    """Diagonal of the box around a pose ``[V, D]``."""
    seen = place[np.isfinite(place).all(axis=1)]
    return float(np.linalg.norm(np.ptp(seen, axis=0))) if len(seen) else 0.0

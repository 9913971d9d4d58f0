"""Whether the joints called left are on a body's left.

A person who faces z, with y up, has their left at x, in right-handed coordinates. If the joints
called left are on the other side, either their names are exchanged or the coordinates are
left-handed (one axis is negated). Both look alike, since bodies are symmetric. Where a body's front
is, the feet and the face tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimclr_fast.layouts import Layout

Array = npt.NDArray[np.float64]

#: Joints behind and in front of each other in a foot, the surest first.
_FEET = (
    ("heel", "foot_index"), ("heel", "big_toe"), ("foot", "toes"), ("ankle", "toes"),
    ("ankle", "foot"), ("foot", "foot_end"),
)  # fmt: skip
_HIPS, _SHOULDERS = ("upper_leg", "hip", "thigh"), ("upper_arm", "shoulder")
#: A front that is less clear than this, of 1, and one that is shorter than this share of the trunk
#: tell nothing.
_CLEAR, _SHORT = 0.3, 0.05
#: Hips that are narrower than this share of the trunk are none.
_NARROW = 0.1
#: Frames that have to tell the front, and share of them that have to agree.
_FRAMES, _AGREE = 5, 0.9


@dataclass(frozen=True)
class Sides:
    """What a body's front says of its sides.

    Attributes:
        mirrored: whether joints called left are on the right; None if it is not to be seen.
        said: by what, in words; empty if it is not to be seen.
    """

    mirrored: bool | None
    said: str = ""


def sides_of(layout: Layout, x: Array) -> Sides:
    """Whether joints called left are on the right of a body.

    Args:
        layout: the skeleton, whose names tell left and right.
        x: ``[T, V, 3]`` in any unit, with any axis up; NaN where a joint is missing.
    """
    place = {name: joint for joint, name in enumerate(layout.joints)}
    hips, shoulders = _pair(place, _HIPS), _pair(place, _SHOULDERS)
    if hips is None or shoulders is None:
        return Sides(None)
    up = x[:, list(shoulders)].mean(axis=1) - x[:, list(hips)].mean(axis=1)
    across = x[:, hips[0]] - x[:, hips[1]]
    trunk = np.linalg.norm(up, axis=1)
    body = (trunk > 0) & (np.linalg.norm(across, axis=1) > _NARROW * trunk)
    votes = {}
    for name, front in _fronts(place, x).items():
        length = np.linalg.norm(front, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            volume = (across * np.cross(up, front)).sum(axis=1)
            side = volume / (np.linalg.norm(across, axis=1) * trunk * length)
        told = side[body & (length > _SHORT * trunk) & (np.abs(side) > _CLEAR)]
        if len(told) >= _FRAMES:
            votes[name] = float((told < 0).mean()), len(told)
    shares = [share for share, _ in votes.values()]
    for mirrored in (False, True):
        agreeing = [share if mirrored else 1 - share for share in shares]
        if agreeing and min(agreeing) >= _AGREE:
            frames = max(count for _, count in votes.values())
            by = " and ".join(votes)
            return Sides(mirrored, f"{min(agreeing):.0%} of {frames:,} frames, by the {by}")
    return Sides(None)


def _pair(place: Mapping[str, int], names: tuple[str, ...]) -> tuple[int, int] | None:
    """The left and the right joint of the first of some names that a skeleton has."""
    for name in names:
        left, right = place.get(f"left_{name}"), place.get(f"right_{name}")
        if left is not None and right is not None:
            return left, right
    return None


def _fronts(place: Mapping[str, int], x: Array) -> dict[str, Array]:
    """Vectors ``[T, 3]`` towards a body's front, by what they are taken from."""
    found = {}
    for back, front in _FEET:
        behind, before = _pair(place, (back,)), _pair(place, (front,))
        if behind is not None and before is not None:
            found["feet"] = (x[:, list(before)] - x[:, list(behind)]).sum(axis=1)
            break
    ears = _pair(place, ("ear",))
    if ears is not None and "nose" in place:
        found["face"] = x[:, place["nose"]] - x[:, list(ears)].mean(axis=1)
    return found

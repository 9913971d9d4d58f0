"""Which skeleton a source's poses are of, and whether they are 2D, where a file does not say.

A number of joints is not enough: 25 joints are Kinect v2's or OpenPose's, and many formats have 17,
20 or 22. A guess needs a second criterion, from the poses themselves. Bones are *short*: they join
neighboring joints, so that the bones of the right layout are much shorter than the way between any
two joints; and in 3D they are *steady*: their lengths do not change as a person moves. A wrong
layout's bones, which join a wrist with an ankle, are neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import Options, ReadError
from aimclr_fast.data.readers._pose2d import FLAT_LAYOUTS, NOTE, third_is_score
from aimclr_fast.layouts import LAYOUTS, Layout, get_layout

#: A layout's bones must be below this share of the mean over all pairs of joints, ...
_LEAST = 0.6
#: ... and, where two layouts differ, below these shares of the other's bones. (Steadiness alone is
#: the weaker criterion: head to hips hardly changes, neck to shoulders does.)
_SHORTER, _STEADIER = 0.75, 0.5
#: Sequences, and frames of each, that are examined.
SEQUENCES, _FRAMES = 32, 64
_ASK = "name their layout with --layout: {} or YAML".format(
    ", ".join(f"{layout.name} ({layout.num_joints})" for layout in LAYOUTS.values())
)


@dataclass(frozen=True)
class Skeleton:
    """The skeleton of a source's poses.

    Attributes:
        layout: the joints.
        flat: whether the poses are 2D, perhaps with a score as third coordinate.
        notes: what was guessed, for the user.
    """

    layout: Layout
    flat: bool
    notes: list[str]


def recognize(
    poses: Sequence[npt.NDArray[Any]],
    options: Options,
    where: str,
    *,
    scored: bool = False,
    known: str | None = None,
    usual: str | None = None,
) -> Skeleton:
    """Find the skeleton of a source's poses, as the user says or as they show.

    Args:
        poses: some of them, each ``[T, V, C]``, C = 2 or 3; the joints that were not seen are 0.
        options: ``layout`` and ``pose`` count.
        where: what errors name.
        scored: whether the source has scores beside the coordinates, as pose estimators give them.
        known: the layout, where the source can only be of one.
        usual: the layout of 3D poses that show none.

    Raises:
        ReadError: the named layout does not exist or does not fit, or the poses do not show one;
            names the flag that settles it.
    """
    joints, coordinates = poses[0].shape[1:]
    given = None
    if options.layout is not None:
        given = named_layout(options.layout)
        check_joints(poses[0].shape, given, where)
    if given is None and known is not None:
        given = get_layout(known)
    candidates = [one for one in LAYOUTS.values() if one.num_joints == joints]
    if given is None and not candidates:
        counts = {layout.num_joints for layout in LAYOUTS.values()}
        raise ReadError(where, f"{joints} joints{_exchanged(poses[0].shape, counts)}: {_ASK}")
    notes: list[str] = []
    if coordinates == 2:
        if options.pose == "3d":
            raise ReadError(where, "--pose 3d: the poses have two coordinates")
        flat = True
    elif known is not None and options.pose == "auto":
        flat = False
    else:
        points = np.concatenate([pose.reshape(-1, 3) for pose in poses])
        layouts = candidates if given is None else [given]
        flat, notes = third_is_score(points, layouts, where, pose=options.pose, scored=scored)
    if given is None:
        if flat:
            poses = [pose[..., :2] for pose in poses]
            estimators = [one for one in candidates if one.name in FLAT_LAYOUTS]
            scored = scored or coordinates == 3
            fallback = estimators[0] if scored and len(estimators) == 1 else None
            reason = f"{joints} joints in 2D with a score"
        else:
            fallback = None if usual is None else get_layout(usual)
            reason = "such sources have it"
        shown = _guess(candidates, poses, joints, flat)
        if shown is not None:
            given, reason = shown
        elif fallback is not None:
            given = fallback
        else:
            could = " or ".join(one.name for one in candidates)
            raise ReadError(
                where,
                f"{joints} joints could be {could}, and the lengths of the bones do not show it: "
                "name the layout with --layout",
            )
        notes.append(f"layout {given.name} is taken: {reason} (--layout says otherwise)")
    if flat:
        notes.append(NOTE.format(confidence=options.min_confidence))
    return Skeleton(given, flat, notes)


def named_layout(given: str) -> Layout:
    """The layout that ``--layout`` names.

    Raises:
        ReadError: there is none by that name, or the file cannot be used.
    """
    try:
        return get_layout(given)
    except (ValueError, OSError) as error:
        raise ReadError(f"--layout {given}", str(error)) from error


def check_joints(shape: tuple[int, ...], layout: Layout, where: str) -> None:
    """Refuse poses of ``shape`` [..., T, V, C] with other joints than the layout has.

    Raises:
        ReadError: with both counts, and whether frames and joints seem to be exchanged.
    """
    joints = shape[-2]
    if joints != layout.num_joints:
        raise ReadError(
            where,
            f"{joints} joints, but layout {layout.name} has {layout.num_joints}"
            f"{_exchanged(shape, {layout.num_joints})}",
        )


def _exchanged(shape: tuple[int, ...], joints: set[int]) -> str:
    """A remark if the axis of frames is as long as an axis of joints can be."""
    if shape[-3] not in joints:
        return ""
    return f" ({shape[-3]} frames: are the two axes exchanged? Frames come before joints)"


def _guess(
    candidates: Sequence[Layout], poses: Sequence[npt.NDArray[Any]], joints: int, flat: bool
) -> tuple[Layout, str] | None:
    """The layout that the poses show, and how; None where they do not."""
    length, change = _measure(poses, joints)
    found = {"short": _best(candidates, length, _SHORTER)}
    if not flat:
        found["steady"] = _best(candidates, change, _STEADIER)
    if len({one.name for one in found.values() if one is not None}) != 1:
        return None
    layout = next(one for one in found.values() if one is not None)
    how = " and ".join(sign for sign, one in found.items() if one is not None)
    others = ", ".join(one.name for one in candidates if one is not layout)
    versus = f", those of {others} would not be" if others else ""
    return layout, f"with {joints} joints, its bones are {how}{versus}"


def _measure(
    poses: Sequence[npt.NDArray[Any]], joints: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean distance of each pair of joints ``[V, V]`` and its relative change over the frames.

    Both relative to the mean over all pairs.
    """
    one, other = np.triu_indices(joints, 1)
    sums = np.zeros((3, len(one)))  # of distances, of changes, of sequences
    for pose in poses:
        x = pose[:: max(1, len(pose) // _FRAMES)].astype(np.float64)
        shown: npt.NDArray[np.bool_] = np.asarray(x.any(axis=2) & np.isfinite(x).all(axis=2))
        x = np.where(shown[..., None], x, 0.0)
        both = shown[:, one] & shown[:, other]  # [T, pairs]
        count = both.sum(axis=0)
        apart = np.where(both, np.linalg.norm(x[:, one] - x[:, other], axis=2), 0.0)
        mean = apart.sum(axis=0) / np.maximum(count, 1)
        spread = np.sqrt(
            (np.where(both, apart - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count, 1)
        )
        used = (count > 1) & (mean > 0)
        if used.any():
            sums[0, used] += mean[used] / mean[used].mean()
            sums[1, used] += spread[used] / mean[used]
            sums[2, used] += 1
    out = []
    for total in sums[:2]:
        value = np.divide(total, sums[2], out=np.full(len(one), np.nan), where=sums[2] > 0)
        middle = np.nanmean(value) if sums[2].any() else 1.0
        matrix = np.full((joints, joints), np.nan)
        matrix[one, other] = matrix[other, one] = value / middle if middle > 0 else 1.0
        out.append(matrix)
    return out[0], out[1]


def _best(
    candidates: Sequence[Layout], pairs: npt.NDArray[np.float64], clear: float
) -> Layout | None:
    """The candidate whose bones have clearly the smallest values of ``pairs [V, V]``."""

    def mean(bones: set[tuple[int, int]]) -> float:
        values = np.array([pairs[bone] for bone in bones])
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else 1.0

    sets = {one.name: {(min(e), max(e)) for e in one.edges} for one in candidates}
    for one in candidates:
        own = sets[one.name]
        rivals = [sets[other.name] for other in candidates if other is not one]
        if mean(own) < _LEAST and all(
            mean(own - rival) < clear * mean(rival - own) for rival in rivals
        ):
            return one
    return None

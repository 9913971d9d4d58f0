"""Frames and joints that a recording lacks: empty ends are cut, gaps inside are interpolated.

A joint that is missing is NaN or zero (:func:`mark` tells which zeros are places), a body that was
not seen is zero. Three rules say what becomes of it:

``published``
    What NTU RGB+D and PKU-MMD had: the first L frames are kept, L = the number of frames with
    body 0 in them, so that a gap stays and as many frames are lost at the end.
``fill``
    A frame exists where any joint of any body is there. Frames before the first and after the last
    are cut. A body that is missing in between is interpolated, as is a joint that is missing where
    its body is there.
``keep``
    Nothing is cut and nothing is interpolated.

What is not interpolated is zero in the end, whatever else preprocessing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import lacks, seen, shown

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

GAPS = ("published", "fill", "keep")
#: Half a second at 30 frames a second. A longer gap of one body among others stays: it may have
#: left. A longer gap of everybody is interpolated and counted apart: the frames are invented.
LONGEST = 15
#: A joint at the origin is in its place, not missing, where it would be interpolated to within this
#: share of its body's size: recordings may start at the origin.
_NEAR = 0.05


@dataclass(frozen=True)
class Gaps:
    """What :func:`close` did to a recording.

    Attributes:
        length: frames that are left.
        cut: empty frames cut off both ends.
        frames: frames in which a whole body was interpolated.
        joints: single joints that were interpolated, each frame counted.
        longest: frames of the longest gap that was interpolated.
        filled: frames in which anything was interpolated.
        placed: joints of 2D poses that no frame shows, put into the middle of their body.
        left: single joints that are missing still, each frame counted.
    """

    length: int
    cut: int = 0
    frames: int = 0
    joints: int = 0
    longest: int = 0
    filled: int = 0
    placed: int = 0
    left: int = 0


def count_frames(x: Array) -> int:
    """Number of frames of ``x [3, T, V, M]`` with body 0 in them, whichever of its joints.

    The published code looks at joint 0 alone. In its data that is zero only where the whole body
    is; in recordings with joint 0 at the origin it always is.
    """
    return int(seen(x[..., :1]).sum())


def last_frame(x: Array) -> int:
    """One more than the last frame of ``x [3, T, V, M]`` that holds anything; 0 for none."""
    there = np.flatnonzero(seen(x).any(axis=1))
    return int(there[-1]) + 1 if len(there) else 0


def mark(x: Array, *, zeros: bool = True) -> Array:
    """NaN for each joint that is missing while its body is there; zeros for bodies that are not.

    Args:
        x: ``[3, T, V, M]``; a joint that is NaN is missing, and so, unless it is there at the
            origin, is one that is zero.
        zeros: whether zeros can stand for a joint that is missing.

    Returns:
        ``x`` itself where nothing is to be marked.
    """
    known = shown(x)  # [T, V, M]
    there: Mask = np.asarray(known.any(axis=1))[:, None]  # [T, 1, M]
    if (known == there).all() and not lacks(x):
        return x
    lost: Mask = np.asarray(np.isnan(x).any(axis=0))
    missing = there & lost
    # A joint that is zero in every frame is the origin of coordinates.
    at_zero = there & ~known & ~lost & known.any(axis=0) if zeros else np.zeros_like(lost)
    for joint, body in np.argwhere(at_zero.any(axis=0)).tolist():
        at = at_zero[:, joint, body]
        place = _interpolate(x[:, :, joint, body], at, known[:, joint, body])
        near = np.linalg.norm(place, axis=0) <= _NEAR * _size(x[:, there[:, 0, body], :, body])
        missing[at, joint, body] = ~near
    if missing.any() or lost.any():
        x = x.astype(np.float64)
        x[:, lost & ~there] = 0.0
        x[:, missing] = np.nan
    return x


def close(x: Array, rule: str, joints: Sequence[str] = ()) -> tuple[Array, Gaps]:
    """Cut and interpolate what is missing.

    Args:
        x: ``[3, T, V, M]``, zeros or NaN where something was not seen.
        rule: one of GAPS.
        joints: their names, for errors.

    Returns:
        The recording, which may be ``x`` or a part of it, with NaN for joints that are missing
        still, and what was done.

    Raises:
        ValueError: no body is in any frame, or a joint of 3D poses that is to be interpolated is in
            none.
    """
    x = mark(x, zeros=rule != "published")  # the authors' code takes every zero for a place
    if rule == "published":
        length = count_frames(x)
        if not length:
            raise ValueError("body 0 is in no frame")
        return _left(x[:, :length])
    if x.all() and not lacks(x):  # much cheaper to check than what is missing
        return x, Gaps(x.shape[1])
    there = seen(x)
    if not there.any():
        others = ", and neither is any other" if x.shape[3] > 1 else ""
        raise ValueError(f"body 0 is in no frame{others}")
    if rule == "keep":
        return _left(x)
    occupied = np.flatnonzero(there.any(axis=1))
    ends = slice(occupied[0], occupied[-1] + 1)
    cut = x.shape[1] - int(ends.stop - ends.start)
    x, there = x[:, ends], there[ends]
    return _fill(x, there, _lost_bodies(there), joints, cut)


def close_joints(x: Array, rule: str, joints: Sequence[str] = ()) -> tuple[Array, Gaps]:
    """:func:`close` for what others preprocessed: only NaN is missing, and no frame is cut."""
    unknown: Mask = np.asarray(np.isnan(x).all(axis=(0, 2))) if lacks(x) else np.array(False)
    x = mark(x, zeros=False)
    if rule != "fill":
        return _left(x)
    there = seen(x)
    return _fill(x, there, _lost_bodies(there) & unknown, joints, 0)


def _lost_bodies(there: Mask) -> Mask:
    """Where to interpolate whole bodies, ``[T, M]``: see ``fill`` above."""
    nobody: Mask = np.asarray(~there.any(axis=1))
    lost = np.zeros_like(there)
    for body in range(there.shape[1]):
        for start, stop in _runs(~there[:, body], inner=True):
            lost[start:stop, body] = stop - start <= LONGEST or nobody[start:stop].mean() > 0.5
    return lost


def _left(x: Array) -> tuple[Array, Gaps]:
    return x, Gaps(x.shape[1], left=int(np.isnan(x[0]).sum()) if lacks(x) else 0)


def _fill(
    x: Array, there: Mask, whole: Mask, joints: Sequence[str], cut: int
) -> tuple[Array, Gaps]:
    """Interpolate the bodies ``whole [T, M]`` and the joints of ``x`` that are NaN."""
    missing: Mask = np.asarray(np.isnan(x[0]))  # [T, V, M]
    if not missing.any() and not whole.any():
        return x, Gaps(x.shape[1], cut)
    known = there[:, None] & ~missing
    never: Mask = np.asarray(there.any(axis=0) & ~known.any(axis=0))  # [V, M]
    flat = not np.nan_to_num(x[2]).any()
    if never.any() and not flat:
        joint, body = np.argwhere(never)[0].tolist()
        name = joints[joint] if joints else f"joint {joint}"
        raise ValueError(f"{name} is in no frame (body {body}): --gaps keep leaves it missing")
    gone = (missing | whole[:, None]) & ~never
    x = x.astype(np.float64)
    longest = 0
    for joint, body in np.argwhere(gone.any(axis=0)).tolist():
        at = gone[:, joint, body]
        x[:, at, joint, body] = _interpolate(x[:, :, joint, body], at, known[:, joint, body])
        longest = max(longest, *(stop - start for start, stop in _runs(at)))
    for body in np.flatnonzero(never.any(axis=0)).tolist():
        pose, at = x[..., body], there[:, body] | whole[:, body]
        middle = pose[:, :, ~never[:, body]].mean(axis=2, keepdims=True)  # [3, T, 1]
        pose[:, :, never[:, body]] = np.where(at[:, None], middle, 0.0)
    return x, Gaps(
        length=x.shape[1],
        cut=cut,
        frames=int(whole.any(axis=1).sum()),
        joints=int((missing & ~never).sum()),
        longest=longest,
        filled=int(gone.any(axis=(1, 2)).sum()),
        placed=int(never.sum()),
    )


def _size(x: Array) -> float:
    """Usual diagonal of the box around a body ``[3, T, V]``."""
    extent = np.fmax.reduce(x, axis=2) - np.fmin.reduce(x, axis=2)
    return float(np.median(np.linalg.norm(extent, axis=0)))


def _interpolate(x: Array, at: Mask, known: Mask) -> Array:
    """Values ``[3, n]`` of ``x [3, T]`` at some frames, on lines between the known ones."""
    time = np.arange(x.shape[1])
    return np.stack([np.interp(time[at], time[known], axis[known]) for axis in x])


def _runs(mask: Mask, *, inner: bool = False) -> list[tuple[int, int]]:
    """Start and end of each run of True; ``inner`` leaves out those at either end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    if inner:
        runs = [(start, stop) for start, stop in runs if start > 0 and stop < len(mask)]
    return runs

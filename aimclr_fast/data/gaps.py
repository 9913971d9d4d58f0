"""Frames and joints that a recording lacks: empty ends are cut, gaps inside are interpolated.

Zeros stand for what was not seen. Three rules say what becomes of it:

``published``
    What NTU RGB+D and PKU-MMD had: the first L frames are kept, L = the number of frames with
    body 0 in them, so that a gap stays and as many frames are lost at the end.
``fill``
    A frame exists where any joint of any body is there. Frames before the first and after the last
    are cut. A body that is missing in between is interpolated, as is a joint that is missing where
    its body is there.
``keep``
    Nothing is cut and nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import seen

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
    """

    length: int
    cut: int = 0
    frames: int = 0
    joints: int = 0
    longest: int = 0
    filled: int = 0


def count_frames(x: Array) -> int:
    """Number of frames of ``x [3, T, V, M]`` with body 0 in them, whichever of its joints.

    The published code looks at joint 0 alone. In its data that is zero only where the whole body
    is; in recordings with joint 0 at the origin it always is.
    """
    return int(seen(x[..., :1]).sum())


def last_frame(x: Array) -> int:
    """One more than the last frame of ``x [3, T, V, M]`` that holds anything; 0 for none."""
    there = np.flatnonzero(x.any(axis=(0, 2, 3)))
    return int(there[-1]) + 1 if len(there) else 0


def close(x: Array, rule: str) -> tuple[Array, Gaps]:
    """Cut and interpolate what is missing.

    Args:
        x: ``[3, T, V, M]``, zeros where something was not seen.
        rule: one of GAPS.

    Returns:
        The recording, which may be ``x`` or a part of it, and what was done.

    Raises:
        ValueError: nobody is in any frame.
    """
    if rule == "published":
        length = count_frames(x)
        if not length:
            raise ValueError("body 0 is in no frame")
        return x[:, :length], Gaps(length)
    if x.all():  # nothing is missing: far cheaper to see than what is
        return x, Gaps(x.shape[1])
    there = seen(x)
    if not there.any():
        others = ", and neither is any other" if x.shape[3] > 1 else ""
        raise ValueError(f"body 0 is in no frame{others}")
    if rule == "keep":
        return x, Gaps(x.shape[1])
    occupied = np.flatnonzero(there.any(axis=1))
    ends = slice(occupied[0], occupied[-1] + 1)
    cut = x.shape[1] - int(ends.stop - ends.start)
    return _fill(x[:, ends], there[ends], cut)


def _fill(x: Array, there: Mask, cut: int) -> tuple[Array, Gaps]:
    """Interpolate the bodies and joints of ``x`` that are missing; ``there [T, M]``."""
    shown: Mask = np.asarray(x.any(axis=0))  # [T, V, M]
    if shown.all():
        return x, Gaps(x.shape[1], cut)
    ever: Mask = np.asarray(shown.any(axis=0))  # [V, M], False for the origin of coordinates
    nobody: Mask = np.asarray(~there.any(axis=1))
    whole = np.zeros_like(there)  # bodies to interpolate
    missing = there[:, None] & ~shown & ever  # joints to interpolate
    for body in range(there.shape[1]):
        for start, stop in _runs(~there[:, body], inner=True):
            whole[start:stop, body] = stop - start <= LONGEST or nobody[start:stop].mean() > 0.5
    for joint, body in np.argwhere(missing.any(axis=0)).tolist():
        missing[:, joint, body] &= ~_in_place(
            x[..., body], joint, missing[:, joint, body], there[:, body]
        )
    gone = missing | (whole[:, None] & ever)
    longest = 0
    if gone.any():
        x = x.astype(np.float64)
    for joint, body in np.argwhere(gone.any(axis=0)).tolist():
        at = gone[:, joint, body]
        x[:, at, joint, body] = _interpolate(x[:, :, joint, body], at, there[:, body] & ~at)
        longest = max(longest, *(stop - start for start, stop in _runs(at)))
    return x, Gaps(
        length=x.shape[1],
        cut=cut,
        frames=int(whole.any(axis=1).sum()),
        joints=int(missing.sum()),
        longest=longest,
        filled=int(gone.any(axis=(1, 2)).sum()),
    )


def _in_place(x: Array, joint: int, lost: Mask, there: Mask) -> Mask:
    """Frames in which a joint that seems to be lost would be close to the origin anyway."""
    place = _interpolate(x[:, :, joint], lost, there & ~lost)
    size = np.median(np.linalg.norm(np.ptp(x[:, there], axis=2), axis=0))
    near = np.zeros_like(lost)
    near[lost] = np.linalg.norm(place, axis=0) <= _NEAR * size
    return near


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

"""Body tracks: follow the tracker's ids over the frames, and drop spurious bodies.

Published preprocessing does neither: it takes the first two bodies of each frame as listed. Both
are offered because trackers swap people and see people in furniture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: A body seen in fewer frames than this, or in less than a tenth of them, is spurious.
MIN_FRAMES = 12
#: A body wider than this share of its height is a piece of furniture, ...
MAX_WIDTH = 0.8
#: ... if it is so in more than this share of its frames.
MAX_WIDE_FRAMES = 0.7
#: Root mean square motion about the mean pose in meters; less is a frozen ghost, more a flicker.
MOTION = (0.005, 1.5)
_CANDIDATES = 16


def lacks(x: Array) -> bool:
    """Whether anything is NaN. (The least value is, then, which is faster than a mask.)"""
    return bool(x.size and np.isnan(x.min()))


def shown(x: Array) -> npt.NDArray[np.bool_]:
    """Joints ``[T, V, M]`` of ``x [C, T, V, M]`` that are neither zero nor NaN."""
    found = x[0] != 0
    for axis in x[1:]:  # three times as fast as any(axis=0)
        found = found | (axis != 0)
    return np.asarray(found & ~np.isnan(x).any(axis=0) if lacks(x) else found)


def seen(x: Array) -> npt.NDArray[np.bool_]:
    """Frames in which each body was seen, ``[T, M]``, of ``x [3, T, V, M]``; NaN is not."""
    return np.asarray(shown(x).any(axis=1))


def motion(x: Array) -> npt.NDArray[np.float64]:
    """Root mean square distance of the joints from their mean place, ``[M]``, in meters."""
    known = seen(x)[:, None] & ~np.isnan(x).any(axis=0)  # [T, V, M]
    x = np.where(known, x.astype(np.float64), 0.0)
    mean = x.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=0), 1)
    squares = np.where(known, x - mean, 0.0) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=(0, 1, 2)) / np.maximum(known.sum(axis=(0, 1)), 1)))


def follow(
    frame: npt.NDArray[np.int64], ident: npt.NDArray[np.int64], bodies: int
) -> npt.NDArray[np.intp]:
    """Give each body id one slot for the whole recording, the longest seen first.

    Args:
        frame: ``[K]`` frame of each row, never falling.
        ident: ``[K]`` the tracker's id of each row.
        bodies: slots that will be looked at.

    Returns:
        slot of each row ``[K]``; ids beyond the sixteen longest seen, and the second of two rows
        with one id in one frame, get a slot that is never looked at.
    """
    ids, first, inverse, count = np.unique(
        ident, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -count))
    rank = np.empty(len(ids), dtype=np.intp)
    rank[order] = np.arange(len(ids))
    slot = rank[inverse.reshape(-1)]
    _, once = np.unique(np.stack([frame, slot]), axis=1, return_index=True)
    out = np.full(len(frame), max(bodies, _CANDIDATES), dtype=np.intp)
    out[once] = slot[once]
    return out


def candidates(bodies: int, rows: int) -> int:
    """Slots to fill before the best ``bodies`` are chosen among them."""
    return max(bodies, min(_CANDIDATES, rows))


def real_first(x: Array) -> Array:
    """``x [C, T, V, M]`` with the bodies that are in no frame behind the others."""
    absent = ~seen(x).any(axis=0)
    return x[..., np.argsort(absent, kind="stable")] if absent.any() else x


def fit_bodies(x: Array, bodies: int) -> Array:
    """The first ``bodies`` of ``[3, T, V, M]`` that are in any frame; zeros for those it lacks."""
    x = real_first(x)[..., :bodies]
    if x.shape[3] == bodies:
        return x
    return np.pad(x, [(0, 0)] * 3 + [(0, bodies - x.shape[3])])


def keep_best(x: Array, bodies: int, *, spurious: bool = False, cut: bool = True) -> Array:
    """The ``bodies`` that matter most, first; frames without the first of them are cut.

    A body matters by the frames it is seen in times how much it moves.

    Args:
        x: ``[3, T, V, M]`` in meters, NaN where a joint of a body is missing.
        bodies: how many to keep; zeros are added where there are fewer.
        spurious: drop bodies that :func:`is_spurious`, but never the last one.
        cut: whether frames without the first body are cut off.
    """
    present = seen(x)
    weight = present.sum(axis=0) * (motion(x) + 1e-6)
    if spurious:
        weight = np.where(is_spurious(x), weight * 1e-9, weight)
    order = np.argsort(-weight, kind="stable")
    if spurious:
        good = [body for body in order if not is_spurious(x[..., [body]])[0]]
        order = np.array(good or order[:1], dtype=np.intp)
    kept = fit_bodies(x[..., order], bodies)
    return np.asarray(kept[:, seen(kept)[:, 0]] if cut else kept)


def is_spurious(x: Array) -> npt.NDArray[np.bool_]:
    """Bodies that are too short, too wide for their height, or move too little or too much, [M]."""
    present = seen(x)
    count = present.sum(axis=0)
    extent = np.fmax.reduce(x, axis=2) - np.fmin.reduce(x, axis=2)  # [3, T, M]
    wide = (np.maximum(extent[0], extent[2]) > MAX_WIDTH * extent[1]) & present
    moved = motion(x)
    return np.asarray(
        (count < min(MIN_FRAMES, x.shape[1]))
        | (count < 0.1 * x.shape[1])
        | (wide.sum(axis=0) > MAX_WIDE_FRAMES * count)
        | (moved < MOTION[0])
        | (moved > MOTION[1])
    )

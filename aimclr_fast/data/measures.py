"""Numbers about the sequences of a store that tell whether they can be people in motion.

Read in blocks from the memory map; every number is of a sequence, or of a sequence and body, so
that :mod:`aimclr_fast.data.sanity` can say how many are odd and which is the first.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.store import Store
from aimclr_fast.layouts import Layout

Array = npt.NDArray[np.float64]

#: Sequences that are looked at: evenly spread over a store that has more.
SAMPLES = 2000
#: Coordinates that are looked at, so that long recordings take no longer.
VALUES = 20_000_000
#: Longest side of the box around a person in meters: a child that crouches, arms raised.
SIZE = (0.3, 2.6)
#: The same for a skeleton whose joints' names are not those of a whole body: a hand, a horse.
ANY_SIZE = (0.03, 6.0)
_BLOCK = 2_000_000  # coordinates at a time
_TOP = {"head", "nose", "neck", "eye", "ear", "shoulder", "shoulders", "collar", "clavicle"}
_BOTTOM = {"hip", "hips", "pelvis", "knee", "ankle", "foot", "toe", "toes", "heel", "thigh", "shin"}


@dataclass
class Measures:
    """Of n sequences with T frames, M bodies and E bones; NaN where a body was not seen.

    Attributes:
        rows: which sequences of the store, ``[n]``.
        frames: frames that should hold a body, ``[n]``.
        empty: of these, how many hold no body, ``[n]``.
        tail: of these, how many at the end, ``[n]``.
        finite: whether all coordinates are, ``[n]``.
        repeated: share of frames that equal the one before, ``[n]``.
        content: a hash of the coordinates, ``[n]``.
        size: longest side of the box around a body in meters, mean over frames, ``[n, M]``.
        moved: root mean square distance from the mean pose as a share of the size, ``[n, M]``.
        depth: extent in z as a share of the size, ``[n, M]``; 0 for 2D poses.
        up: unit vector from hips and feet to head and shoulders, ``[n, M, 3]``; NaN where the
            layout names none.
        bones: length of each edge in meters, mean over frames, ``[n, M, E]``.
        change: standard deviation of that over frames, ``[n, M, E]``.
    """

    rows: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    empty: npt.NDArray[np.int64]
    tail: npt.NDArray[np.int64]
    finite: npt.NDArray[np.bool_]
    repeated: Array
    content: npt.NDArray[np.str_]
    size: Array
    moved: Array
    depth: Array
    up: Array
    bones: Array
    change: Array


def measure(store: Store) -> Measures:
    """Measure every sequence of a store, or evenly spread ones of a large store."""
    count, _, frames, joints, bodies = store.positions.shape
    each = 3 * frames * joints * bodies
    looked = min(count, SAMPLES, max(VALUES // each, 50))
    rows = np.unique(np.linspace(0, count - 1, looked).round().astype(np.int64))
    length = expected_frames(store)[rows]
    step = max(1, _BLOCK // each)
    blocks = [
        _measure(store, rows[start : start + step], length[start : start + step])
        for start in range(0, len(rows), step)
    ]
    return Measures(
        *(np.concatenate([getattr(block, f.name) for block in blocks]) for f in fields(Measures))
    )


def expected_frames(store: Store) -> npt.NDArray[np.int64]:
    """Frames of each sequence without padding, ``[S]``."""
    frames = store.positions.shape[2]
    own = store.samples.get("frames")
    steps = store.preprocessing
    if own is None or own.dtype.kind != "i" or (steps is not None and steps.frames is not None):
        return np.full(len(store), frames, dtype=np.int64)
    return own.clip(1, frames)


def body_size(x: npt.NDArray[np.floating]) -> Array:
    """Longest side of the box around each body of ``[n, 3, T, V, M]``, ``[n, M]``.

    The mean over the frames in which it was seen; NaN where it was in none.
    """
    joints = _joints_first(x)
    return _mean(_box(joints).max(axis=1), _there(joints))


def size_limits(layout: Layout) -> tuple[float, float]:
    """The least and most :func:`body_size` that bodies of a layout have, in meters."""
    return SIZE if names_a_body(layout) else ANY_SIZE


def names_a_body(layout: Layout) -> bool:
    """Whether a layout's joints are named as those of a whole body, head and feet."""
    top, bottom = ends_of_body(layout)
    return bool(top) and bool(bottom)


def _joints_first(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """``[V, n, 3, T, M]``, over whose first axis NumPy reduces several times as fast."""
    return np.ascontiguousarray(np.moveaxis(x, 3, 0))


def _box(joints: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Sides of the box around each body in each frame, ``[n, 3, T, M]``."""
    return np.asarray(joints.max(axis=0) - joints.min(axis=0))


def _there(joints: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Whether a body is in a frame, ``[n, T, M]``."""
    return np.asarray(np.any(joints, axis=(0, 2)))


def ends_of_body(layout: Layout) -> tuple[list[int], list[int]]:
    """Joints near the head and near the feet, told from their names."""
    top, bottom = [], []
    for joint, name in enumerate(layout.joints):
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        if words & _BOTTOM or any(word.endswith("leg") for word in words):
            bottom.append(joint)
        elif words & _TOP:
            top.append(joint)
    return top, bottom


def _mean(values: npt.NDArray[np.floating], there: npt.NDArray[Any]) -> Array:
    """Mean over frames (axis 1) of ``[n, T, ..., M]`` where ``there [n, T, M]``, else NaN."""
    shape = (*there.shape[:2], *[1] * (values.ndim - 3), there.shape[2])
    mask = there.reshape(shape)
    count = mask.sum(axis=1)
    total = np.where(mask, values, 0).sum(axis=1, dtype=np.float64)  # faster than where= of sum
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _measure(store: Store, rows: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> Measures:
    raw = store.positions[rows]
    x = raw.astype(np.float32) * np.float32(store.scale)  # [n, 3, T, V, M]
    time = np.arange(x.shape[2])
    joints = _joints_first(x)
    there = _there(joints)
    occupied = np.asarray(there.any(axis=2))
    inside = time < frames[:, None]
    last = np.where(occupied, time + 1, 0).max(axis=1)
    alike = (raw[:, :, 1:] == raw[:, :, :-1]).all(axis=(1, 3, 4)) & inside[:, 1:] & occupied[:, 1:]
    box = _box(joints)
    size = _mean(box.max(axis=1), there)
    pose = _mean(x.transpose(0, 2, 1, 3, 4), there)  # [n, 3, V, M]
    apart = ((x - pose[:, :, None]) ** 2).sum(axis=1).mean(axis=2)  # [n, T, M]
    moved = np.sqrt(_mean(apart, there)) / size
    depth = _mean(box[:, 2], there) / size
    up = np.full((*size.shape, 3), np.nan)
    top, bottom = ends_of_body(store.layout)
    if top and bottom:
        along = pose[:, :, top].mean(axis=2) - pose[:, :, bottom].mean(axis=2)  # [n, 3, M]
        up = (along / np.linalg.norm(along, axis=1, keepdims=True)).transpose(0, 2, 1)
    child, parent = np.array(store.layout.edges, dtype=np.intp).reshape(-1, 2).T
    bones = np.sqrt(((joints[child] - joints[parent]) ** 2).sum(axis=2))  # [E, n, T, M]
    bones = np.moveaxis(bones, 0, 2)
    length = _mean(bones, there)  # [n, E, M]
    change = np.sqrt(_mean((bones - length[:, None]) ** 2, there))
    return Measures(
        rows=rows,
        frames=frames,
        empty=(inside & ~occupied).sum(axis=1),
        tail=frames - np.minimum(last, frames),
        finite=np.isfinite(raw).all(axis=(1, 2, 3, 4)),
        repeated=alike.sum(axis=1) / np.maximum(frames - 1, 1),
        content=np.array([hashlib.blake2b(one.tobytes()).hexdigest() for one in raw]),
        size=size,
        moved=moved,
        depth=depth,
        up=up,
        bones=length.transpose(0, 2, 1),
        change=change.transpose(0, 2, 1),
    )

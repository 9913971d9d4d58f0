"""Skeleton sequences in the form that a page's player reads."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.layouts import Layout

#: Type of a coordinate by its bits; the largest value marks a body that is absent.
_TYPES: dict[int, np.dtype[Any]] = {8: np.dtype("u1"), 16: np.dtype("<u2")}


@dataclass(frozen=True)
class Clip:
    """A sequence to play.

    Args:
        title: shown above it.
        positions: [3, T, V, M], y up; a body of zeros in a frame is not drawn.
        weights: [W, V] between 0 and 1 of each joint in W equal parts of the time, drawn as dots;
            None for none.
    """

    title: str
    positions: npt.NDArray[Any]
    weights: npt.NDArray[Any] | None = None


def pack_clip(clip: Clip, *, frames: int | None = None, bits: int = 16) -> dict[str, Any]:
    """A clip for JSON, each coordinate a whole number between its own smallest and largest.

    Args:
        clip: the sequence.
        frames: at most so many of its frames, evenly spread; None keeps all.
        bits: of a coordinate, 8 or 16.

    Raises:
        ValueError: `positions` has another shape, no frames, or values that are not finite.
    """
    positions = np.asarray(clip.positions, dtype=np.float64)
    if positions.ndim != 4 or positions.shape[0] != 3 or 0 in positions.shape:
        raise ValueError(f"{clip.title}: expected positions [3, T, V, M], got {positions.shape}")
    if not np.isfinite(positions).all():
        raise ValueError(f"{clip.title}: positions hold values that are not finite")
    if frames is not None and frames < positions.shape[1]:
        positions = positions[:, np.linspace(0, positions.shape[1] - 1, frames).round().astype(int)]
    kind, missing = _TYPES[bits], 2**bits - 1
    present = (positions != 0).any(axis=(0, 2))  # [T, M]
    bodies = np.flatnonzero((positions != 0).any(axis=(0, 1, 2)))
    positions, present = positions[..., bodies], present[:, bodies]
    shown = positions.transpose(1, 3, 2, 0)[present]  # [bodies in frames, V, 3]
    low = shown.min(axis=(0, 1)) if len(shown) else np.zeros(3)
    size = max(float((shown.max(axis=(0, 1)) - low).max()), 1e-6) if len(shown) else 1.0
    step = size / (missing - 1)
    levels = np.round((positions.transpose(1, 3, 2, 0) - low) / step)  # [T, M, V, 3]
    levels = np.where(present[:, :, None, None], levels, missing).astype(kind)
    return {
        "title": clip.title,
        "frames": positions.shape[1],
        "bodies": len(bodies),
        "low": low.tolist(),
        "step": step,
        "bits": bits,
        "flat": bool(len(shown) and np.ptp(shown[..., 2]) == 0.0),
        **({} if clip.weights is None else {"weights": np.round(clip.weights, 3).tolist()}),
        "data": base64.b64encode(levels.tobytes()).decode("ascii"),
    }


def pack_skeleton(layout: Layout, sides: list[str]) -> dict[str, Any]:
    """Bones and joints for JSON; `sides` names the side of each edge: left, right or middle."""
    return {
        "joints": list(layout.joints),
        "bones": [[a, b, side] for (a, b), side in zip(layout.edges, sides, strict=True)],
    }

"""Preprocessing: center, resize time, turn the body to face along z.

As published, each frame of each body is centered and turned on its own (``normalize="frame"``).
``normalize="sequence"`` moves and turns a recording as a whole, by the first frame of its first
body, so that it keeps where people go, how they turn and where they are relative to each other.

Arrays are ``[..., 3, T, V, M]``: coordinates x, y (up), z; frames; joints; bodies. Coordinates are
in one length unit throughout (meters, but most functions of this module work in any).
Everything is computed in float64 and vectorized over the leading axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import lacks, real_first, seen
from aimclr_fast.data.gaps import GAPS, Gaps, close, count_frames
from aimclr_fast.layouts import Layout

__all__ = [
    "NORMALIZATIONS", "ROTATIONS", "Preprocessing", "center", "count_frames", "normalize_sequence",
    "preprocess", "resize_time", "rotate_about_y", "turn_about_y",
]  # fmt: skip

Array = npt.NDArray[Any]
#: How bodies may be turned about y: see :func:`rotate_about_y`.
ROTATIONS = ("published", "exact", "none")
#: What is moved and turned as one: see the module's text.
NORMALIZATIONS = ("frame", "sequence")
#: The normalization of recordings other than NTU RGB+D, PKU-MMD and UI-PRMD, where none is named.
USUAL_NORMALIZATION = "frame"
_C, _T, _V, _M = -4, -3, -2, -1


@dataclass(frozen=True)
class Preprocessing:
    """What :func:`preprocess` did to every sequence of a store, as meta.json keeps it.

    Attributes:
        frames: length that time was resized to; None where each sequence kept its own.
        rotate: one of ROTATIONS.
        gaps: one of :data:`aimclr_fast.data.gaps.GAPS`. Left out, and in files of older versions,
            which do not say: "published" with the published rotation, otherwise "fill".
        normalize: one of NORMALIZATIONS; "frame" in files of older versions, which do not say.

    Raises:
        ValueError: a field is of the wrong type or has a value that cannot work.
    """

    frames: int | None = 50
    rotate: str = "published"
    gaps: str = ""
    normalize: str = "frame"

    def __post_init__(self) -> None:
        if self.frames is not None and (type(self.frames) is not int or self.frames < 1):
            raise ValueError(f"frames must be a count or null, got {self.frames!r}")
        if self.rotate not in ROTATIONS:
            raise ValueError(f"rotate must be one of {', '.join(ROTATIONS)}, got {self.rotate!r}")
        if self.gaps == "":
            object.__setattr__(self, "gaps", "published" if self.rotate == "published" else "fill")
        if self.gaps not in GAPS:
            raise ValueError(f"gaps must be one of {', '.join(GAPS)}, got {self.gaps!r}")
        if self.normalize not in NORMALIZATIONS:
            choices = ", ".join(NORMALIZATIONS)
            raise ValueError(f"normalize must be one of {choices}, got {self.normalize!r}")
        if self.normalize == "sequence" and self.rotate == "published":
            raise ValueError("normalize sequence turns by the exact angle: rotate exact, or none")

    @classmethod
    def from_dict(cls, fields: Any) -> Preprocessing:
        """The inverse of `to_dict`, for fields read from a file."""
        known = isinstance(fields, Mapping) and set(fields) - {"gaps", "normalize"}
        if known != {"frames", "rotate"}:
            raise ValueError(
                f"expected the fields frames, rotate, gaps and normalize, got {fields!r}"
            )
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without ``normalize`` if it is what earlier versions did."""
        fields = asdict(self)
        if self.normalize == "frame":
            del fields["normalize"]
        return fields

    def __call__(self, x: Array, layout: Layout) -> npt.NDArray[np.float32]:
        """One recorded sequence ``[3, T, V, M]`` as the store holds it; see :func:`preprocess`."""
        return self.counted(x, layout)[0]

    def counted(self, x: Array, layout: Layout) -> tuple[npt.NDArray[np.float32], Gaps]:
        """As a call, with what was missing and what became of it."""
        _check(x, 4)
        if x.shape[_V] != layout.num_joints:
            raise ValueError(
                f"{x.shape[_V]} joints, but layout {layout.name!r} has {layout.num_joints}"
            )
        if np.isinf(x).any():
            raise ValueError("positions must be finite, or NaN where a joint is missing")
        published = self.gaps == "published"  # to the last digit as the authors' code
        x, gaps = close(x if published else real_first(x), self.gaps, layout.joints)
        by_sequence = self.normalize == "sequence"
        there = seen(x)  # [T, M]
        centered = there & ~np.isnan(x[0, :, layout.center])
        nowhere: Array = np.asarray(there.any(axis=0) & ~centered.any(axis=0))  # [M]
        if nowhere[: 1 if by_sequence else None].any():
            name, body = layout.joints[layout.center], int(np.flatnonzero(nowhere)[0])
            raise ValueError(f"{name} is in no frame (body {body}), and bodies are centered on it")
        shoulders = layout.shoulders if self.rotate != "none" else None
        if by_sequence:
            x = normalize_sequence(x, layout.center, shoulders)
        else:
            x = center(x, layout.center)
        if self.frames is not None:
            x = (resize_time if published else resize_seen)(x, self.frames)
        if shoulders is not None and not by_sequence:
            x = rotate_about_y(x, shoulders, exact=self.rotate == "exact")
        return without_nan(x).astype(np.float32), gaps


def without_nan(x: Array) -> Array:
    """Zeros for the joints that are missing still: what stands for them in a store."""
    return np.where(np.isnan(x), 0.0, x) if lacks(x) else x


def center(x: Array, joint: int) -> Array:
    """Move ``joint`` to the origin in each frame, for each body on its own.

    Args:
        x: ``[..., 3, T, V, M]``.
        joint: index of the joint, usually ``layout.center``.

    Returns:
        float64, shaped as ``x``. A body that is absent (all zero) stays zero, and a joint that is
        missing NaN; where that is the center, its place between the frames before and after counts.
    """
    _check(x)
    x = x.astype(np.float64)
    origin = x[..., joint, :]
    if lacks(origin):
        origin = _bridged(origin, np.asarray(np.nan_to_num(x).any(axis=(_C, _V))))
    return x - origin[..., None, :]


def normalize_sequence(x: Array, joint: int, shoulders: tuple[int, int] | None) -> Array:
    """Move and turn a recording as a whole, all bodies alike.

    The first body's ``joint`` is at the origin in the first frame that has it, and its shoulders,
    in the first frame that has both, lie along x (right minus left towards +x, turned about y).

    Args:
        x: ``[3, T, V, M]``, NaN where a joint is missing and zeros where a body is; body 0 has
            ``joint`` in some frame.
        joint: index of the joint, usually ``layout.center``.
        shoulders: (left, right), or None to turn nothing; a body that never has both is not turned.

    Returns:
        float64, shaped as ``x``. A body that is absent stays zero, and a missing joint NaN.
    """
    _check(x, 4)
    x = x.astype(np.float64)
    there = seen(x)  # [T, M]
    known = there[:, :1] & ~np.isnan(x[0, :, :, 0])  # [T, V], of the first body
    x -= x[:, known[:, joint].argmax(), joint, 0][:, None, None, None]
    if shoulders is not None:
        left, right = shoulders
        both = known[:, left] & known[:, right]
        across = x[:, :, right, 0] - x[:, :, left, 0]  # [3, T]
        dx, _, dz = across[:, both.argmax()] if both.any() else (1.0, 0.0, 0.0)
        x = turn_about_y(x, np.arctan2(dz, dx))
    return np.where(there[:, None], x, 0.0)


def resize_time(x: Array, frames: int) -> Array:
    """Stretch or squeeze time to ``frames`` by half-pixel bilinear interpolation.

    Source position of frame i is ``(i + 0.5) * T / frames - 0.5``, clamped to the first and last
    frame: what ``cv2.resize`` and ``torch.nn.functional.interpolate(align_corners=False)`` do.

    Args:
        x: ``[..., 3, T, V, M]``.
        frames: length of the result, at least 1.

    Returns:
        float64 ``[..., 3, frames, V, M]``. A joint that is missing (NaN) in one of two frames is as
        it is in the nearer one.

    Raises:
        ValueError: ``x`` has no frames, or ``frames`` is below 1.
    """
    _check(x)
    length = x.shape[_T]
    if length < 1 or frames < 1:
        raise ValueError(f"cannot resize {length} frames to {frames}: both must be at least 1")
    position = (np.arange(frames) + 0.5) * length / frames - 0.5
    position = position.clip(0, length - 1)
    before = position.astype(np.intp)
    after = np.minimum(before + 1, length - 1)
    weight = (position - before)[:, None, None]
    first = x.take(before, axis=_T).astype(np.float64)
    second = x.take(after, axis=_T).astype(np.float64)
    resized: Array = first + weight * (second - first)
    if lacks(resized):
        resized = np.where(np.isnan(resized), np.where(weight < 0.5, first, second), resized)
    return resized


def resize_seen(x: Array, frames: int) -> Array:
    """:func:`resize_time` of ``x [3, T, V, M]`` in which a body that is absent is missing.

    Its zeros and NaN are blended with nothing: it is as it is in the nearer of two frames.
    """
    there = seen(x)
    if there.all():
        return resize_time(x, frames)
    out = resize_time(np.where(there[:, None], x, np.nan), frames)
    return np.where(np.isnan(out).all(axis=(0, 2), keepdims=True), 0.0, out)


def rotate_about_y(x: Array, shoulders: tuple[int, int], *, exact: bool = False) -> Array:
    """Turn each frame of each body about the y axis so that the shoulders lie along x.

    The published code takes the angle from ``arccos(dx / (length + 1e-4))``, in meters, and one
    direction of turning for a whole sequence, the one that suits its shoulders' mean z. That is
    kept as the default, because published numbers depend on it. It is off by a degree or two near
    0 and 180 degrees, and turns a frame the wrong way where the shoulders cross the x axis.

    Args:
        x: ``[..., 3, T, V, M]``, in meters unless ``exact``.
        shoulders: (left, right); right minus left ends up along +x.
        exact: use each frame's true angle instead.

    Returns:
        float64, shaped as ``x``; y is unchanged. Where a shoulder is missing (NaN), the shoulders
        between the frames before and after count; a body that never has both is not turned.
    """
    _check(x)
    x = x.astype(np.float64)
    left, right = shoulders
    across = x[..., right, :] - x[..., left, :]  # [..., 3, T, M]
    if lacks(across):
        across = np.nan_to_num(_bridged(across, np.asarray(across.any(axis=-3))))
    dx, dz = across[..., 0, :, :], across[..., 2, :, :]
    if exact:
        angle = np.arctan2(dz, dx)
    else:
        direction = np.where(dz.sum(axis=-2, keepdims=True) < 0, -1.0, 1.0)
        angle = direction * np.arccos(dx / (np.hypot(dx, dz) + 1e-4))
    return turn_about_y(x, angle[..., None, :])


def turn_about_y(x: Array, angle: Array | float) -> Array:
    """``x [..., 3, T, V, M]`` turned about y by radians that broadcast with ``[..., T, V, M]``.

    A positive angle turns z towards x.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    out = x.copy()
    out[..., 0, :, :, :] = cos * x[..., 0, :, :, :] + sin * x[..., 2, :, :, :]
    out[..., 2, :, :, :] = cos * x[..., 2, :, :, :] - sin * x[..., 0, :, :, :]
    return out


def _bridged(x: Array, there: Array) -> Array:
    """``x [..., 3, T, M]`` with NaN replaced by what lies between the frames that are ``there``."""
    frames, axes = x.shape[-2], (-3, -2, -1)
    series = np.moveaxis(x, axes, (-1, -2, -3)).copy()  # [..., M, T, 3]
    each = zip(
        series.reshape(-1, frames, 3), there.swapaxes(-1, -2).reshape(-1, frames), strict=True
    )
    for line, known in each:  # lines are views
        lost = np.isnan(line).any(axis=1)
        known = known & ~lost
        for axis in range(3) if lost.any() and known.any() else ():
            time = np.arange(frames)
            line[lost, axis] = np.interp(time[lost], time[known], line[known, axis])
    return np.moveaxis(series, (-1, -2, -3), axes)


def preprocess(
    x: Array,
    layout: Layout,
    *,
    frames: int | None = 50,
    exact: bool = False,
    rotate: bool = True,
    gaps: str = "published",
) -> npt.NDArray[np.float32]:
    """Apply the published preprocessing to one recorded sequence.

    Cut and fill as ``gaps`` says; center on ``layout.center``; resize to ``frames``; rotate about y
    (skipped where the layout names no shoulders).

    Args:
        x: ``[3, T, V, M]`` positions in meters, y up; zeros where a body was not seen, zeros or NaN
            where a joint was not. Joints that are missing still in the end are zero.
        layout: the skeleton, with V joints.
        frames: length of the result; None keeps the frames as they are.
        exact: see :func:`rotate_about_y`.
        rotate: whether to rotate at all.
        gaps: what becomes of frames without a body (:mod:`aimclr_fast.data.gaps`).

    Returns:
        float32 ``[3, frames, V, M]``.

    Raises:
        ValueError: wrong shape or number of joints, an infinite value, a joint that is in no frame
            and has to be, or no body is in any frame (for published gaps: body 0).
    """
    how = "none" if not rotate else "exact" if exact else "published"
    return Preprocessing(frames, how, gaps)(x, layout)


def _check(x: Array, ndim: int | None = None) -> None:
    if x.ndim < 4 or x.shape[_C] != 3 or ndim not in (None, x.ndim):
        wanted = "[3, T, V, M]" if ndim == 4 else "[..., 3, T, V, M]"
        raise ValueError(f"positions must be {wanted}, got shape {list(x.shape)}")

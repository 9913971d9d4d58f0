"""2D poses (OpenPose, COCO, ...) as positions in a plane.

x stays, the image's y, which points down, is turned up, z is 0, and the size is brought near a
person's: the diagonal of the box around the joints becomes 1.8 in the median frame. Confidence is
not a coordinate, since rotation and shear would mix it with them; it says which joints were seen.
A joint that was not is drawn on a line between the frames before and after; one that never was
takes the middle of its body.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.layouts import Layout

DIAGONAL = 1.8
#: Layouts of pose estimators on images: three coordinates of theirs are x, y and a score.
FLAT_LAYOUTS = ("coco", "openpose", "openpose-25")
#: x or y beyond this beside a third coordinate within 0 to 1 are pixels.
PIXELS = 10.0
#: Scores lie in 0 to 1, but estimators overshoot a little.
MAX_SCORE = 1.2
NOTE = (
    "2D poses: x and y (turned up) with z = 0, scaled to a person's size, not rotated; joints of "
    "confidence {confidence} or less are interpolated over time"
)


def lift(
    pose: npt.NDArray[Any],
    confidence: npt.NDArray[Any] | None,
    min_confidence: float,
    where: str,
) -> npt.NDArray[np.float64]:
    """Positions of 2D poses.

    Args:
        pose: ``[M, T, V, 2]`` in pixels or any unit, y down.
        confidence: ``[M, T, V]``, or None: then a joint at (0, 0) was not seen, unless it always
            is and that is a place within the body: the origin of coordinates.
        min_confidence: joints at or below it were not seen.
        where: what errors name.

    Returns:
        ``[3, T, V, M]``, zeros where a body has no joint in a frame.

    Raises:
        ReadError: no joint was seen at all.
    """
    xy = pose.astype(np.float64)
    shown = _not_at_origin(xy) if confidence is None else confidence > min_confidence
    seen: npt.NDArray[np.bool_] = np.asarray(shown)  # [M, T, V]
    if not seen.any():
        raise ReadError(where, "no joint was seen in any frame")
    present: npt.NDArray[np.bool_] = np.asarray(seen.any(axis=-1))  # [M, T]
    for body in range(len(xy)):
        _fill(xy[body], seen[body], present[body])
    low = np.where(present[..., None], xy.min(axis=2), 0.0)
    high = np.where(present[..., None], xy.max(axis=2), 0.0)
    diagonal = np.median(np.linalg.norm(high - low, axis=-1)[present])
    scale = DIAGONAL / diagonal if diagonal > 0 else 1.0
    # About the middle of all, so that turning y up does not lift the body over its own height.
    middle = (low[present].min(axis=0) + high[present].max(axis=0)) / 2
    out = np.zeros((3, *xy.shape[1:3], xy.shape[0]))
    flat = (xy - middle) * (scale, -scale)
    # Zero means "not seen" to all that follows, so a body's own zeros are moved by a hair.
    flat[flat == 0] = 1e-9
    out[:2] = np.where(present[..., None, None], flat, 0.0).transpose(3, 1, 2, 0)
    return out


def _not_at_origin(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Joints ``[M, T, V]`` of ``xy [M, T, V, 2]`` that were seen, where no confidence says so."""
    seen: npt.NDArray[np.bool_] = np.asarray(xy.any(axis=-1))
    for body, shown in zip(xy, seen, strict=True):
        present, never = shown.any(axis=1), ~shown.any(axis=0)
        others = body[present][:, ~never]
        if never.any() and others.size:
            inside = (others.min(axis=1) < 0) & (others.max(axis=1) > 0)
            if inside.all(axis=1).mean() > 0.5:
                shown[np.ix_(present, never)] = True
    return seen


def is_score(values: npt.NDArray[Any]) -> bool:
    """Whether a third coordinate can be a score: nowhere below 0 or far beyond 1, not all zero."""
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() >= 0 and 0 < values.max() <= MAX_SCORE)


def third_is_score(points: npt.NDArray[Any], layout: Layout, where: str) -> tuple[bool, list[str]]:
    """Whether the third of three coordinates is a score, and what to tell the user.

    Args:
        points: ``[N, 3]`` of some sequences; zeros or NaN for joints that were not seen.
        layout: those of pose estimators on images usually have scores, others z.
        where: what errors name.

    Raises:
        ReadError: there is no telling.
    """
    flat = layout.name in FLAT_LAYOUTS
    points = points[np.isfinite(points).all(axis=1) & points[:, :2].any(axis=1)]
    if not len(points):
        return flat, []
    ask = "a score, or z? Say --pose 2d or --pose 3d"
    if not is_score(points[:, 2]):
        if flat:
            raise ReadError(
                where,
                f"layout {layout.name} with three coordinates, the third not within 0 to "
                f"{MAX_SCORE} as scores are: {ask}",
            )
        return False, []
    xy = points[:, :2]
    low, high = np.percentile(xy, [5, 95])
    # No body is so much wider than it is deep.
    pixels = bool((np.abs(xy) > PIXELS).any())
    normalized = low >= -0.25 and high <= 1.25 and high - low >= 0.05
    if flat and not (pixels or normalized or np.abs(xy).max() <= 1):
        raise ReadError(
            where,
            f"the third coordinate lies in 0 to {MAX_SCORE}, but x and y are neither pixels nor "
            f"within 0 to 1 or -1 to 1: {ask}",
        )
    if not flat and normalized:
        raise ReadError(
            where,
            f"x and y lie in 0 to 1, as in an image, and so does the third coordinate: {ask}",
        )
    if flat or pixels:
        return True, ["the third coordinate lies in 0 to 1: taken as a score (--pose 3d: as z)"]
    return False, []


def _fill(xy: npt.NDArray[np.float64], seen: npt.NDArray[Any], present: npt.NDArray[Any]) -> None:
    """Fill in place the joints of one body ``[T, V, 2]`` that were not seen."""
    time = np.arange(len(xy))
    never = ~seen.any(axis=0)
    for joint in np.flatnonzero(~never & ~seen.all(axis=0)):
        at = seen[:, joint]
        for axis in range(2):
            xy[:, joint, axis] = np.interp(time, time[at], xy[at, joint, axis])
    if never.any() and present.any():
        xy[:, never] = xy[:, ~never].mean(axis=1, keepdims=True)

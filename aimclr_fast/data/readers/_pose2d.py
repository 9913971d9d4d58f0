"""2D poses (OpenPose, COCO, ...) as positions in a plane.

x stays, the image's y, which points down, is turned up, z is 0, and the size is brought near a
person's: the diagonal of the box around the joints becomes 1.8 in the median frame. Confidence is
not a coordinate, since rotation and shear would mix it with them; it says which joints were seen.
Those that were not are missing, and :mod:`aimclr_fast.data.gaps` says what becomes of them.

Coordinates that were divided by the image's width and height are in two units: the image's aspect
ratio brings them back to one. Only pixels are known to be in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies, shown
from aimclr_fast.data.gaps import close_joints
from aimclr_fast.data.readers._base import Options, ReadError, check_no_placeholder, missing_joints
from aimclr_fast.layouts import Layout

DIAGONAL = 1.8
#: Layouts of pose estimators on images: their three coordinates are x, y and a score.
FLAT_LAYOUTS = ("coco", "halpe-26", "openpose", "openpose-25")
#: Layouts whose 3D poses may be shares of an image.
LANDMARKS = ("mediapipe", "hand-21")
#: x or y beyond this beside a third coordinate within 0 to 1 are pixels.
PIXELS = 10.0
#: Scores lie in 0 to 1, but estimators overshoot a little.
MAX_SCORE = 1.2
NOTE = (
    "2D poses: x and y (turned up) with z = 0, scaled to a person's size, not rotated; joints of "
    "confidence {confidence} or less are missing (see --gaps)"
)


def lift(
    pose: npt.NDArray[Any],
    confidence: npt.NDArray[Any] | None,
    bodies: int,
    options: Options,
    where: str,
    image: float | None = None,
) -> npt.NDArray[np.float64]:
    """Positions of 2D poses.

    Args:
        pose: ``[N, T, V, 2]`` of N bodies in pixels or any unit, y down; NaN where a joint was not
            seen.
        confidence: ``[N, T, V]``, or None: then a joint at (0, 0) was not seen, unless it always
            is and that is a place within the body: the origin of coordinates.
        bodies: bodies to keep, M: the first that are in any frame.
        options: ``min_confidence``: joints at or below it were not seen; ``aspect``.
        where: what errors name.
        image: width / height of the image, where the source says so.

    Returns:
        ``[3, T, V, M]``, NaN for a joint that was not seen, zeros where a body has none.

    Raises:
        ReadError: no joint was seen at all, a value is infinite or stands for a missing one, a
            joint has some of its numbers only, or x and y may be in two units.
    """
    xy = pose.transpose(3, 1, 2, 0).astype(np.float64)  # [2, T, V, N]
    score = None if confidence is None else confidence.transpose(1, 2, 0)  # [T, V, N]
    there = shown(xy) if score is None else shown(xy) & (score > options.min_confidence)
    order = np.argsort(~there.any(axis=(0, 1)), kind="stable")[:bodies]
    xy, score = xy[..., order], None if score is None else score[..., order]
    missing = missing_joints(xy, where)
    if score is not None and (np.isnan(score) & ~missing).any():
        raise ReadError(where, "a joint has coordinates, but its score is NaN")
    if np.isinf(xy).any() or (score is not None and np.isinf(score).any()):
        raise ReadError(where, "a value is not finite")
    xy = np.where(missing, 0.0, xy)
    seen: npt.NDArray[np.bool_] = np.asarray(
        (_not_at_origin(xy) if score is None else score > options.min_confidence) & ~missing
    )
    if not seen.any():
        raise ReadError(where, "no joint was seen in any frame")
    check_no_placeholder(np.where(seen, xy, np.nan), where)
    xy[0] *= _aspect(xy[:, seen], options.aspect, image, where)
    present: npt.NDArray[np.bool_] = np.asarray(seen.any(axis=1))  # [T, M]
    out = np.zeros((3, *seen.shape))
    out[:2] = xy
    out[:, ~seen] = np.nan
    whole = close_joints(out, "fill")[0][:2]  # joints come and go, bodies do not change their size
    low, high = whole.min(axis=2), whole.max(axis=2)  # [2, T, M]
    diagonal = np.median(np.linalg.norm(high - low, axis=0)[present])
    scale = DIAGONAL / diagonal if diagonal > 0 else 1.0
    # About the middle of all, so that flipping y does not raise the body.
    middle = (low[:, present].min(axis=1) + high[:, present].max(axis=1)) / 2
    flat = (xy - middle[:, None, None, None]) * np.reshape([scale, -scale], (2, 1, 1, 1))
    # Later steps take zero for "not seen", so real zeros are moved slightly.
    flat[flat == 0] = 1e-9
    out[:2] = np.where(seen, flat, np.nan)
    return fit_bodies(np.where(present[:, None], out, 0.0), bodies)


def _aspect(
    xy: npt.NDArray[np.float64], given: float | None, image: float | None, where: str
) -> float:
    """The factor that brings x of ``xy [2, N]`` to the unit of y.

    Args:
        xy: the joints that were seen.
        given: by the user: width / height of the image that coordinates are shares of; 1 where
            they are in one unit.
        image: likewise, by the source.
        where: what errors name.

    Raises:
        ReadError: the numbers do not settle it, or they are pixels and ``given`` is for shares.
    """
    low, high = float(xy.min()), float(xy.max())
    seen = f"x and y lie within {low:.4g} to {high:.4g}"
    if max(-low, high) > PIXELS:
        if given not in (None, 1.0):
            raise ReadError(
                where, f"--aspect: {seen}, as pixels do, which are in one unit: leave it out"
            )
        return 1.0
    if given is not None:
        return given
    if image is not None and are_shares(xy.T):
        return image
    raise ReadError(
        where,
        f"{seen}, so they are not pixels: if they were divided by the image's width and height, "
        "give its --aspect, such as 16:9; if both are in one unit, --aspect 1",
    )


def are_shares(xy: npt.NDArray[Any]) -> bool:
    """Whether ``xy [N, 2]`` of an image of known size are shares of it, in 0 to 1."""
    return _in_image(xy, 0.05)


def _in_image(xy: npt.NDArray[Any], beyond: float = 0.25) -> bool:
    """Whether 90 % of ``xy [N, 2]`` lie in 0 to 1, or at most ``beyond`` outside."""
    low, high = np.percentile(xy, [5, 95])
    return bool(low >= -beyond and high <= 1 + beyond and high - low >= 0.05)


def in_one_unit(
    x: npt.NDArray[Any], layout: Layout, options: Options, where: str
) -> npt.NDArray[Any]:
    """3D poses ``[3, T, V, M]`` with x, y and z in one unit.

    MediaPipe's image landmarks (not its world landmarks) have x and z as shares of the image's
    width and y as a share of its height; x and y are positive.

    Raises:
        ReadError: they seem to be of that kind, and the image's aspect ratio is not known.
    """
    if layout.name not in LANDMARKS:
        return x
    points = x[:2, shown(x)]
    of_image = points.size > 0 and bool(
        (np.percentile(points, 25, axis=1) >= 0).all() and points.max() <= PIXELS
    )
    if options.aspect is None and of_image:
        raise ReadError(
            where,
            "x and y are positive, as in MediaPipe's image landmarks, which are divided by the "
            "image's width and height: give its --aspect, such as 16:9, or --aspect 1 if all axes "
            "are in one unit (world landmarks need no flag)",
        )
    if not of_image and options.aspect not in (None, 1.0):
        raise ReadError(where, "--aspect: x and y are not shares of an image: leave it out")
    aspect = options.aspect or 1.0
    return np.asarray(x * np.reshape([aspect, 1.0, aspect], (3, 1, 1, 1)))


def _not_at_origin(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Joints ``[T, V, M]`` of ``xy [2, T, V, M]`` that were seen, where no confidence says so."""
    seen: npt.NDArray[np.bool_] = np.asarray(xy.any(axis=0))
    for body in range(seen.shape[2]):
        shown = seen[..., body]  # a view
        present, never = shown.any(axis=1), ~shown.any(axis=0)
        others = xy[..., body][:, present][..., ~never]
        if never.any() and others.size:
            inside = (others.min(axis=2) < 0) & (others.max(axis=2) > 0)
            if inside.all(axis=0).mean() > 0.5:
                shown[np.ix_(present, never)] = True
    return seen


def is_score(values: npt.NDArray[Any]) -> bool:
    """Whether a third coordinate can be a score: nowhere below 0 or far beyond 1, not all zero."""
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() >= 0 and 0 < values.max() <= MAX_SCORE)


def third_is_score(
    points: npt.NDArray[Any],
    layouts: Sequence[Layout],
    where: str,
    *,
    pose: str = "auto",
    scored: bool = False,
) -> tuple[bool, list[str]]:
    """Whether the third of three coordinates is a score, and what to tell the user.

    Args:
        points: ``[N, 3]`` of some sequences; zeros or NaN for joints that were not seen.
        layouts: what the poses can be of. Pose estimators' on images usually have scores, others z.
        where: what errors name.
        pose: "2d" or "3d" where the user says so, else "auto".
        scored: whether the scores are known to be elsewhere, so that the third may be anything.

    Raises:
        ReadError: the numbers do not settle it, or contradict the user.
    """
    of_images = [layout.name in FLAT_LAYOUTS for layout in layouts]
    flat = all(of_images)
    points = points[np.isfinite(points).all(axis=1) & points[:, :2].any(axis=1)]
    score = is_score(points[:, 2])
    if pose == "2d" and len(points) and not (score or scored):
        raise ReadError(
            where,
            f"--pose 2d: the third coordinate is not within 0 to {MAX_SCORE}, so it is no score",
        )
    if pose != "auto":
        return pose == "2d", []
    if not len(points):
        return flat, []
    ask = "a score, or z? Say --pose 2d or --pose 3d"
    if not score:
        if flat:
            names = " or ".join(layout.name for layout in layouts)
            raise ReadError(
                where,
                f"layout {names} with three coordinates, the third not within 0 to {MAX_SCORE} as "
                f"scores are: {ask}",
            )
        return False, []
    xy = points[:, :2]
    # If these were lengths, the body would be far wider than deep.
    pixels = bool((np.abs(xy) > PIXELS).any())
    normalized = _in_image(xy)
    if pixels or (flat and (normalized or np.abs(xy).max() <= 1)):
        return True, ["the third coordinate lies in 0 to 1: taken as a score (--pose 3d: as z)"]
    if flat:
        raise ReadError(
            where,
            f"the third coordinate lies in 0 to {MAX_SCORE}, but x and y are neither pixels nor "
            f"within 0 to 1 or -1 to 1: {ask}",
        )
    if normalized:
        raise ReadError(
            where,
            f"x and y lie in 0 to 1, as in an image, and so does the third coordinate: {ask}",
        )
    if len(layouts) > 1:
        raise ReadError(where, f"the third coordinate lies in 0 to {MAX_SCORE} throughout: {ask}")
    return False, []

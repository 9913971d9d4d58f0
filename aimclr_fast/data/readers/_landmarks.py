"""MediaPipe's pose landmarks in JSON, in the forms in which people save them.

MediaPipe has no file format. A pose is a list of 33 landmarks, each an object with x, y, z and
perhaps visibility and presence, or a list of these; a list within ``{"landmark": [...]}``, as
``MessageToDict`` gives it; or an object with a landmark for each name. A frame is a pose, a list of
poses, or an object with ``pose_world_landmarks``, ``pose_landmarks`` or both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import PARTIAL
from aimclr_fast.data.readers._clips import FRAME_KEYS, FormError, plain, plain_fields
from aimclr_fast.layouts import LAYOUTS

Array = npt.NDArray[np.float64]

LAYOUT = LAYOUTS["mediapipe"]
WORLD, IMAGE, PLAIN = "world", "image", "plain"
#: More poses than this are not of one frame.
MOST_PEOPLE = 10
_KEYS = {
    "poseworldlandmarks": WORLD, "worldlandmarks": WORLD, "poselandmarks": IMAGE,
    "landmarks": PLAIN, "landmark": PLAIN, "pose": PLAIN, "keypoints": PLAIN,
}  # fmt: skip
#: What the landmark of a record may be called.
_JOINT_KEYS = (
    "landmark", "landmarkname", "landmarkid", "landmarkindex", "landmarkidx", "joint", "jointname",
    "jointid", "keypoint", "keypointname", "keypointid", "name", "id", "index", "idx",
)  # fmt: skip
_LARGEST = 1e7


@dataclass
class Frame:
    """What is in one frame.

    Attributes:
        people: of each kind of landmarks, ``[33, 4]`` of each person: x, y, z, visibility. NaN for
            landmarks that are not there, and for a z or a visibility that is not said.
        others: kinds of landmarks that are not read.
    """

    people: dict[str, list[Array]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def is_frame(data: Any) -> bool:
    """Whether something is a pose or an object of landmarks. A list of poses is no frame, unless it
    is one of a list.
    """
    return _is_pose(data) or any(
        key in _KEYS or key.endswith("landmarks") for key in plain_fields(data)
    )


def parse_frame(data: Any) -> Frame:
    """What is in a frame.

    Raises:
        FormError: it is none.
    """
    frame = Frame()
    if data is None or data == [] or data == {}:
        return frame
    if isinstance(data, list) or _is_pose(data):
        frame.people[PLAIN] = _people(data, "landmarks")
        return frame
    if not isinstance(data, dict):
        raise FormError(f"expected landmarks, got {type(data).__name__}")
    for key, value in data.items():
        short = plain(key)
        if short in _KEYS:
            frame.people[_KEYS[short]] = _people(value, key)
        elif short.endswith("landmarks") and value:
            frame.others.add(short.removesuffix("landmarks"))
    if not frame.people and not frame.others:
        keys = ", ".join(map(repr, list(data)[:5]))
        raise FormError(f"no pose_world_landmarks, pose_landmarks or landmarks, but {keys:.80}")
    return frame


def _people(data: Any, key: str) -> list[Array]:
    """``[33, 4]`` of each person."""
    if data is None or data == [] or data == {}:
        return []
    if _is_pose(data):
        return [_pose(data, key)]
    if not isinstance(data, list):
        raise FormError(f"{key}: expected a list of landmarks, got {type(data).__name__}")
    if len(data) > MOST_PEOPLE:
        raise FormError(
            f"{key}: {len(data)} poses are not of one frame: put an object with {key} for each "
            "frame into a list",
        )
    return [_pose(one, key) for one in data if one]


def _is_pose(data: Any) -> bool:
    """Whether it is a pose, right or wrong, and not a list of poses."""
    if isinstance(data, dict):
        if data.keys() & {"landmark", "landmarks"}:
            return len(data) == 1 and "landmark" in data
        return any(_joint(key) is not None for key in data)
    return isinstance(data, list) and bool(data) and any(_is_point(one) for one in data)


def _is_point(data: Any) -> bool:
    if isinstance(data, dict):
        return "x" in data or "y" in data
    return (
        isinstance(data, list)
        and 2 <= len(data) <= 5
        and all(value is None or isinstance(value, int | float) for value in data)
    )


def _joint(name: Any) -> int | None:
    """The landmark that a key names: ``LEFT_HIP``, ``left_hip`` and ``leftHip`` are alike."""
    return _JOINTS.get(plain(name))


def _pose(data: Any, key: str) -> Array:
    if isinstance(data, dict):
        inner = data.get("landmark")
        if isinstance(inner, list):
            return _pose(inner, key)
        places = [_joint(name) for name in data]
        unknown = [name for name, place in zip(data, places, strict=True) if place is None]
        if unknown or not places:
            raise FormError(f"{key}: {str(unknown[:1])[1:-1]:.40} is no pose landmark")
        points: list[Any] = [None] * LAYOUT.num_joints
        for place, point in zip(places, data.values(), strict=True):
            points[place or 0] = point
        return _pose(points, key)
    if not isinstance(data, list) or len(data) != LAYOUT.num_joints:
        seen = f"{len(data)}" if isinstance(data, list) else type(data).__name__
        raise FormError(
            f"{key}: expected {LAYOUT.num_joints} landmarks, got {seen} (hands have 21)"
        )
    rows = [_point(one) for one in data]
    try:
        array = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormError(f"{key}: a landmark is not numbers") from error
    if array.shape != (len(rows), 4):
        raise FormError(f"{key}: a landmark is not numbers")
    if np.isinf(array).any() or (np.abs(np.nan_to_num(array)) > _LARGEST).any():
        raise FormError(f"{key}: a landmark has a number that is not finite or too large")
    if (np.isnan(array[:, 0]) != np.isnan(array[:, 1])).any():
        raise FormError(f"{key}: {PARTIAL}")
    return array


def _point(data: Any) -> tuple[Any, Any, Any, Any]:
    nan = float("nan")
    if isinstance(data, dict):
        values = [data.get(name) for name in ("x", "y", "z", "visibility")]
    elif isinstance(data, list):
        values = [*data, *[None] * 4][:4]
    else:
        values = [None] * 4 if data is None else [data, None, None, None]
    x, y, z, v = (nan if value is None else value for value in values)
    return x, y, z, v


def counted(frames: Sequence[Frame]) -> list[str]:
    """What is not read, for the user."""
    count = Counter(kind for frame in frames for kind in frame.others)
    return [f"{kind} ({n:,} frames)" for kind, n in sorted(count.items())]


_JOINTS = {plain(name): joint for joint, name in enumerate(LAYOUT.joints)}


def by_frame(data: Any) -> Any:
    """Records of a landmark each, ``{"frame": 0, "landmark": "nose", "x": ...}``, as frames;
    anything else as it is.

    Raises:
        FormError: a frame has a landmark twice.
    """
    if not isinstance(data, list) or not all(isinstance(one, dict) and "x" in one for one in data):
        return data
    fields = [plain_fields(one) for one in data]
    known = set(fields[0]).intersection(*fields[1:]) if fields else set()
    frame = next((key for key in FRAME_KEYS if key in known), None)
    joint = next((key for key in _JOINT_KEYS if key in known), None)
    if frame is None or joint is None:
        return data
    frames: dict[str, dict[str, Any]] = {}
    for of, one in zip(fields, data, strict=True):
        named = of[joint]
        if type(named) is int and 0 <= named < LAYOUT.num_joints:
            named = LAYOUT.joints[named]
        own = frames.setdefault(str(of[frame]), {frame: of[frame], "landmarks": {}})["landmarks"]
        if str(named) in own:
            raise FormError(f"a second {named!s:.40} in one frame: give one file per person")
        own[str(named)] = one
    return list(frames.values())

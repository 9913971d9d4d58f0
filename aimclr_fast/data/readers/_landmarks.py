"""MediaPipe's pose landmarks in JSON, in the forms in which people save them.

MediaPipe has no file format. A pose is a list of 33 landmarks, each an object with x, y, z and
perhaps visibility and presence, or a list of these; a list within ``{"landmark": [...]}``, as
``MessageToDict`` gives it; or an object with a landmark for each name. A frame is a pose, a list of
poses, or an object with ``pose_world_landmarks``, ``pose_landmarks`` or both. A video is a list of
frames, an object with such a list under ``frames`` or ``results``, or with a frame for each number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import MAX_FRAMES, PARTIAL, ReadError
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
_LISTS = ("frames", "results", "data")
_NUMBERS = ("frame", "frameid", "framenumber", "frameindex", "frameidx", "framenum", "frameno")
#: Seconds of a unit of the times of frames; None where the numbers have to tell.
_TIMES = {
    "timestampms": 1e-3, "timems": 1e-3, "timestampus": 1e-6, "timestamps": 1.0, "times": 1.0,
    "timesec": 1.0, "timestampsec": 1.0, "timestamp": None, "time": None,
}  # fmt: skip
_RATES = ("fps", "framerate", "videofps")
_SIDES = (("width", "height"), ("imagewidth", "imageheight"), ("framewidth", "frameheight"),
          ("videowidth", "videoheight"))  # fmt: skip
_LARGEST = 1e7
_FRAME = re.compile(r"(?:frame[ _-]?)?(\d{1,18})(?:\.\w+)?", re.IGNORECASE)


@dataclass
class Frame:
    """What is in one frame.

    Attributes:
        people: of each kind of landmarks, ``[33, 4]`` of each person: x, y, z, visibility. NaN for
            landmarks that are not there, and for a z or a visibility that is not said.
        number: that the file gives it.
        time: likewise, and seconds of its unit, if they are known.
        others: kinds of landmarks that are not read.
    """

    people: dict[str, list[Array]] = field(default_factory=dict)
    number: int | None = None
    time: tuple[float, float | None] | None = None
    others: set[str] = field(default_factory=set)


@dataclass
class Video:
    """The frames of a file.

    Attributes:
        frames: one after the other.
        whole: whether the file holds a list of frames, not a single one.
        rate: frames per second, where it is said.
        aspect: width / height of the image, where they are said.
    """

    frames: list[Frame]
    whole: bool
    rate: float | None = None
    aspect: float | None = None


def parse_video(data: Any, where: str) -> Video:
    """The frames of what a JSON file holds.

    Raises:
        ReadError: it is none of the forms above.
    """
    named = _named(data)
    rate = _positive(next((named[key] for key in _RATES if key in named), None))
    sides = next((pair for pair in _SIDES if set(pair) <= named.keys()), None)
    width, height = (_positive(named[side]) for side in sides) if sides else (None, None)
    aspect = width / height if width and height else None
    frames, whole = _frames(data, named, where)
    if len(frames) > MAX_FRAMES:
        raise ReadError(where, f"{len(frames):,} frames; at most {MAX_FRAMES:,} are read")
    parsed = []
    for place, frame in enumerate(frames):
        try:
            parsed.append(_frame(frame, where))
        except ReadError as error:
            reason = f"frame {place}: {error.reason}" if whole else error.reason
            raise ReadError(where, reason) from error
    return Video(parsed, whole, rate, aspect)


def is_one_frame(data: Any) -> bool:
    """Whether what a file holds is one frame, not a list of frames. A list of poses, with nothing
    around it, is taken for frames.
    """
    named = _named(data)
    return not _listed_frames(named) and not _by_number(data) and (
        bool(named) or not isinstance(data, list) or _is_pose(data)
    )  # fmt: skip


def _frames(data: Any, named: Mapping[str, Any], where: str) -> tuple[Sequence[Any], bool]:
    inside = _listed_frames(named)
    if inside is not None:
        return inside, True
    numbers = _by_number(data)
    if numbers:
        return [_with_number(data[key], number) for key, number in numbers], True
    if is_one_frame(data):
        return [data], False
    if not data:
        raise ReadError(where, "an empty list: no frames")
    return data, True


def _listed_frames(named: Mapping[str, Any]) -> list[Any] | None:
    if any(key in named for key in _KEYS):
        return None
    return next((named[key] for key in _LISTS if isinstance(named.get(key), list)), None)


def _by_number(data: Any) -> list[tuple[str, int]]:
    """The keys of an object that has a frame for each number, in order; none for others."""
    if not isinstance(data, dict) or not data:
        return []
    found = [
        (key, re.fullmatch(r"(?:frame[ _-]?)?(\d{1,18})(?:\.\w+)?", key, re.I)) for key in data
    ]
    if not all(match for _, match in found):
        return []
    return sorted(((key, int(match[1])) for key, match in found if match), key=lambda one: one[1])


def _with_number(frame: Any, number: int) -> Any:
    if isinstance(frame, dict) and not _is_pose(frame):
        return {"frame": number, **frame}
    return {"frame": number, "landmarks": frame}


def _frame(data: Any, where: str) -> Frame:
    frame = Frame()
    named = _named(data)
    if data is None or data == [] or data == {}:
        return frame
    if isinstance(data, list) or _is_pose(data):
        frame.people[PLAIN] = _people(data, "landmarks", where)
        return frame
    if not named:
        raise ReadError(where, f"expected landmarks, got {type(data).__name__}")
    known = {}
    for key, value in named.items():
        if key in _KEYS:
            known[_KEYS[key]] = _people(value, key, where)
        elif key.endswith("landmarks") and value:
            frame.others.add(key.removesuffix("landmarks"))
    if not known and not frame.others:
        keys = ", ".join(map(repr, list(data)[:5]))
        raise ReadError(where, f"no pose_world_landmarks, pose_landmarks or landmarks, but {keys}")
    frame.people = known
    number = next((named[key] for key in _NUMBERS if type(named.get(key)) is int), None)
    if number is not None and not 0 <= number < 10**15:
        raise ReadError(where, f"frame number {number}: expected 0 or more")
    frame.number = number
    for key, unit in _TIMES.items():
        value = named.get(key)
        if isinstance(value, int | float) and abs(value) < 1e18:
            frame.time = float(value), unit
            break
    return frame


def _people(data: Any, key: str, where: str) -> list[Array]:
    """``[33, 4]`` of each person."""
    if data is None or data == [] or data == {}:
        return []
    if _is_pose(data):
        return [_pose(data, key, where)]
    if not isinstance(data, list):
        raise ReadError(where, f"{key}: expected a list of landmarks, got {type(data).__name__}")
    if len(data) > MOST_PEOPLE:
        raise ReadError(
            where,
            f"{key}: {len(data)} poses are not of one frame: put an object with {key} for each "
            "frame into a list",
        )
    return [_pose(one, key, where) for one in data if one]


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
    plain = _plain(name)
    return _JOINTS.get(plain)


def _pose(data: Any, key: str, where: str) -> Array:
    if isinstance(data, dict):
        inner = data.get("landmark")
        if isinstance(inner, list):
            return _pose(inner, key, where)
        places = [_joint(name) for name in data]
        unknown = [name for name, place in zip(data, places, strict=True) if place is None]
        if unknown or not places:
            raise ReadError(where, f"{key}: {str(unknown[:1])[1:-1]:.40} is no pose landmark")
        points: list[Any] = [None] * LAYOUT.num_joints
        for place, point in zip(places, data.values(), strict=True):
            points[place or 0] = point
        return _pose(points, key, where)
    if not isinstance(data, list) or len(data) != LAYOUT.num_joints:
        seen = f"{len(data)}" if isinstance(data, list) else type(data).__name__
        raise ReadError(
            where, f"{key}: expected {LAYOUT.num_joints} landmarks, got {seen} (hands have 21)"
        )
    rows = [_point(one) for one in data]
    try:
        array = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError(where, f"{key}: a landmark is not numbers") from error
    if np.isinf(array).any() or (np.abs(np.nan_to_num(array)) > _LARGEST).any():
        raise ReadError(where, f"{key}: a landmark has a number that is not finite or too large")
    if (np.isnan(array[:, 0]) != np.isnan(array[:, 1])).any():
        raise ReadError(where, f"{key}: {PARTIAL}")
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


def _named(data: Any) -> dict[str, Any]:
    """The fields of an object by their names in lower case, without underscores."""
    return {_plain(key): value for key, value in data.items()} if isinstance(data, dict) else {}


def _plain(key: Any) -> str:
    return re.sub(r"[ _-]", "", str(key)).lower()


def _positive(value: Any) -> float | None:
    sound = isinstance(value, int | float) and 0 < value < 1e6
    return float(value) if sound else None


def frame_rate(video: Video, where: str) -> tuple[float | None, list[int]]:
    """Frames per second, where the file tells, and the place of each frame.

    Raises:
        ReadError: numbers or times of frames repeat or decrease.
    """
    frames = video.frames
    numbers = [frame.number for frame in frames if frame.number is not None]
    times = [frame.time for frame in frames if frame.time is not None]
    if len(numbers) == len(frames) > 1:
        _check_rising(np.diff(numbers), "frame numbers", where)
    if len(times) < max(len(frames), 2):
        return video.rate, numbers if len(numbers) == len(frames) else []
    clock = np.array([time for time, _ in times])
    steps = np.diff(clock)
    _check_rising(steps, "times", where)
    step = float(np.median(steps))
    unit = times[0][1]
    if unit is None:  # a frame lasts a millisecond to a second
        unit = 1.0 if step < 1 else 1e-3 if step < 1e3 else 1e-6
    if len(numbers) != len(frames):
        numbers = np.rint((clock - clock[0]) / step).astype(np.int64).tolist()
        if len(set(numbers)) < len(numbers):
            numbers = []
    rate = video.rate or 1 / (step * unit)
    return (rate if 0.1 <= rate <= 1000 else None), numbers


def _check_rising(steps: npt.NDArray[Any], what: str, where: str) -> None:
    if len(steps) and (steps <= 0).any():
        place = int(np.flatnonzero(steps <= 0)[0]) + 1
        raise ReadError(where, f"{what} repeat or decrease, at frame {place} of the list")


def counted(frames: Sequence[Frame]) -> list[str]:
    """What is not read, for the user."""
    count = Counter(kind for frame in frames for kind in frame.others)
    return [f"{kind} ({n:,} frames)" for kind, n in sorted(count.items())]


_JOINTS = {_plain(name): joint for joint, name in enumerate(LAYOUT.joints)}

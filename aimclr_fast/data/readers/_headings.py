"""Headings of tables: which joint and which coordinate a column is.

``LeftHand_x``, ``left_hand.X``, ``joint 3 y``, ``x0``, ``body 1 nose confidence``, ``hip (mm) x``
and their like are understood, with joints by the layout's names or by number from 0 or 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from aimclr_fast.layouts import Layout

_UNIT = re.compile(
    r"[(\[]\s*(?P<unit>[a-zµ%°]+)\s*[)\]]|[_ .](?P<bare>mm|cm|dm|ft|inch)$", re.IGNORECASE
)
_LENGTHS = {
    "m": "m", "metre": "m", "metres": "m", "meter": "m", "meters": "m", "cm": "cm", "mm": "mm",
}  # fmt: skip
#: Lengths that are not read.
FOREIGN = {
    "ft", "feet", "foot", "in", "inch", "inches", "dm", "decimeter", "decimeters", "yd", "km", "um",
    "µm",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
# fmt: off
_INDEX = {
    "", "unnamed 0", "index", "idx", "frame", "frames", "frame id", "frame no", "frame nr",
    "frame number", "frame num", "frame index", "frame idx", "frame count", "bodyparts coords",
}
_TIMES = {"time", "times", "timestamp", "timestamps", "time stamp", "frame time", "t"}
_TIME_UNITS = {
    "s", "sec", "secs", "seconds", "ms", "msec", "milliseconds", "us", "usec", "microseconds", "ns",
    "nanoseconds",
}
_PERSONS = {
    "id", "person", "person id", "personid", "body", "body id", "bodyid", "skeleton id", "subject",
    "subject id", "track id", "trackid", "tracking id", "person idx", "person index", "body index",
    "actor", "actor id", "player", "player id",
}
#: What programs call the levels of a heading of several lines, above the column of frames.
_LEVELS = {
    "joint", "joints", "bodypart", "bodyparts", "keypoint", "keypoints", "marker", "markers",
    "landmark", "landmarks", "scorer", "individuals", "coord", "coords", "coordinate",
    "coordinates", "axis", "axes", "name", "names", "level",
}
_POSITION = {"pos", "position", "location", "loc", "coord", "coords", "coordinate", "coordinates"}
_OTHER = {
    "rot", "rotation", "orientation", "orient", "quat", "quaternion", "euler", "angle", "angles",
    "vel", "velocity", "velocities", "acc", "acceleration", "accel", "speed",
}
_CONFIDENCE = {
    "c", "v", "conf", "confidence", "score", "scores", "visibility", "vis", "likelihood",
    "presence", "prob", "probability",
}
_OTHER_AXES = {
    "rx", "ry", "rz", "rw", "qx", "qy", "qz", "qw", "rotx", "roty", "rotz", "rotw", "quatx",
    "quaty", "quatz", "quatw", "roll", "pitch", "yaw", "vx", "vy", "vz", "dx", "dy", "dz",
}
_BODY = {"body", "person", "skeleton", "subject", "actor", "individual", "human"}
_JOINT = {
    "j", "joint", "joints", "kp", "keypoint", "keypoints", "landmark", "landmarks", "point",
    "marker",
}
# fmt: on
_POSITION_AXES = {f"{word}{axis}": axis for word in ("pos", "p", "t") for axis in "xyz"}
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_SPELLINGS = {"center": "centre"}


@dataclass(frozen=True)
class Column:
    """What one heading says.

    Attributes:
        text: as it is written.
        kind: x, y, z, c (confidence), "index" (of frames), "time", "person" (who it is), "other"
            (rotations, velocities) or "".
        joint: the words for the joint; a single number is its place.
        body: the number of the body, or None.
        unit: m, cm or mm, or one of FOREIGN, where it is said.
    """

    text: str
    kind: str
    joint: tuple[str, ...] = ()
    body: int | None = None
    unit: str | None = None


def parse(text: str) -> Column:
    """Parse one heading, as far as possible without the layout."""
    unit = None
    found = _UNIT.search(text)
    bare = text
    if found is not None:
        word = (found["unit"] or found["bare"]).lower()
        unit = _LENGTHS.get(word, word if word in FOREIGN else None)
        bare = text[: found.start()] + " " + text[found.end() :]
    words = [word.lower() for word in _WORDS.findall(bare)]
    said = " ".join(words)
    if said in _INDEX:
        return Column(text, "index")
    if said in _TIMES | _TIME_UNITS or (
        words[-1] in _TIME_UNITS and " ".join(words[:-1]) in _TIMES
    ):
        return Column(text, "time")
    if said in _PERSONS:
        return Column(text, "person")
    rest = [word for word in words if word not in _LEVELS]
    if len(words) - len(rest) > 1 and " ".join(rest) in _INDEX | _TIMES:
        return Column(text, "index")
    body, words = _take_body(words)
    kind, words = _take_kind(words)
    words = [_SPELLINGS.get(word, word) for word in words]
    if len(words) > 1 and words[0] in _JOINT:
        words = words[1:]
    return Column(text, kind, tuple(words), body, unit)


def _take_body(words: list[str]) -> tuple[int | None, list[str]]:
    for place in range(len(words) - 1):
        if words[place] in _BODY and words[place + 1].isdecimal():
            return int(words[place + 1][:9]), words[:place] + words[place + 2 :]
    return None, words


def _take_kind(words: list[str]) -> tuple[str, list[str]]:
    """x, y, z, c or "other", and the words that are left."""
    left = [word for word in words if word not in _POSITION]
    if _OTHER.intersection(left):
        return "other", left
    for place in (-1, 0):
        word = left[place] if left else ""
        rest = left[:-1] if place else left[1:]
        if word in ("x", "y", "z"):
            return word, rest
        if word in _OTHER_AXES:
            return "other", rest
        if word in _POSITION_AXES:
            return _POSITION_AXES[word], rest
        if word in _CONFIDENCE:
            return "c", rest
    return "", words


def joint_key(words: tuple[str, ...]) -> str:
    """A joint's name without separators, its side first: "hand_L" and "LeftHand" are alike."""
    named = list(words)
    for place in (0, -1):
        if len(named) > 1 and named[place] in _SIDES:
            side = _SIDES[named.pop(place)]
            return side + "".join(named)
    return "".join(named)


def with_axes_by_number(columns: list[Column], keys: dict[str, int]) -> list[Column]:
    """The columns with x, y, z for 1, 2, 3, as MATLAB numbers them, if all joints have these."""
    numbers = {column.joint[-1] for column in columns if len(column.joint) > 1}
    if numbers not in ({"1", "2", "3"}, {"0", "1", "2"}) or any(
        column.kind or joint_key(column.joint[:-1]) not in keys for column in columns
    ):
        return columns
    start = int(min(numbers))
    return [
        replace(column, kind="xyz"[int(column.joint[-1]) - start], joint=column.joint[:-1])
        for column in columns
    ]


def known_joint(text: str, keys: dict[str, int]) -> int | None:
    """The layout's joint that a heading names, whatever number or coordinate follows; or None."""
    words = parse(text).joint
    while words and joint_key(words) not in keys and words[-1].isdecimal():
        words = words[:-1]
    return keys.get(joint_key(words))


def layout_keys(layout: Layout) -> dict[str, int]:
    """The index of each joint by its key."""
    keys = {}
    for index, name in enumerate(layout.joints):
        words = [_SPELLINGS.get(w.lower(), w.lower()) for w in _WORDS.findall(name)]
        keys[joint_key(tuple(words))] = index
    return keys

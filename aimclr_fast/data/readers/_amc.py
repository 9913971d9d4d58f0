"""Acclaim's text files: a skeleton (.asf), its motion (.amc), and where the joints are.

A bone of an .asf begins where its parent ends, and has a direction in the axes of the room, a
length, a frame of its own (``axis``) and the rotations that move it (``dof``). An .amc has the
values of these in each frame, and those of the root. Rotations are about fixed axes, in the order
of the letters of ``axis``: with XYZ, first about x. Source: J. Lander, Working with Motion Capture
File Formats, Game Developer, January 1998; and the files of CMU's motion capture database.

A node is where a bone ends. It is named after the bone that begins there, as joints are in other
formats: the end of ``lradius``, where ``lwrist`` begins, is ``lwrist``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aimclr_fast.data.readers._base import MAX_FRAMES, ReadError, composed
from aimclr_fast.data.readers._files import Entry, read_text
from aimclr_fast.data.readers._trees import USUAL_UNITS, Array, Motion, Tree

_ROOT = "root"
_MOST_BONES, _LONGEST_NAME = 1000, 200
#: Larger numbers are no degrees and no place of a body in any unit.
_LARGEST = 1e7
_MOST_SKELETON, _MOST_MOTION = 1 << 20, 128 << 20  # bytes
_HEAD = 1 << 16  # bytes that hold the first frame
_ROTATIONS, _CHANNELS = ("rx", "ry", "rz"), ("tx", "ty", "tz", "rx", "ry", "rz")
_INCH = 0.0254
#: What the joints at which these bones of Vicon's skeletons begin are called elsewhere: the back
#: has three bones, and the lower half of the forearm is called wrist.
_CALLED = {
    "upperback": "spine", "thorax": "spine2", "upperneck": "neck", "lwrist": "lforearm_twist",
    "rwrist": "rforearm_twist",
}  # fmt: skip


@dataclass(frozen=True)
class Bone:
    """A bone, or the root, whose tip is the place from which the motion moves it.

    Attributes:
        name: of the bone.
        parent: index of the bone at whose end it begins; -1 for the root.
        tip: from where it begins to its end, without any motion.
        axis: angles of its own frame.
        order: of the rotations, such as "xyz".
        channels: in the order of the values.
    """

    name: str
    parent: int = -1
    tip: tuple[float, ...] = (0.0, 0.0, 0.0)
    axis: tuple[float, ...] = (0.0, 0.0, 0.0)
    order: str = "xyz"
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """An .asf file.

    Attributes:
        bones: the root first, parents before their children.
        degrees: whether its angles are in degrees.
        length: the factor that ``:units`` gives, or None.
    """

    bones: tuple[Bone, ...]
    degrees: bool = True
    length: float | None = None

    @property
    def tree(self) -> Tree:
        """The nodes at the ends of the bones; those where none begins are end sites."""
        below: list[list[str]] = [[] for _ in self.bones]
        for bone in self.bones[1:]:
            below[bone.parent].append(bone.name)
        names = [_begins(own, below[place]) for place, own in enumerate(self.bones)]
        known = {bone.name for bone in self.bones}
        if not known & set(_CALLED.values()):
            names = [_CALLED.get(name, name) for name in names]
        return tuple(
            (name or f"{names[bone.parent]}_end", bone.parent, not name)
            for name, bone in zip(names, self.bones, strict=True)
        )

    @property
    def units(self) -> tuple[tuple[str, str], ...]:
        """Units in which lengths may be: inches by the factor, as Vicon's programs write, first."""
        if self.length is None:
            return USUAL_UNITS
        own = f"{_INCH / self.length:.9g}"
        return ((own, f"{own} m (inches / {self.length:g}, by :units length)"), *USUAL_UNITS)


def _begins(bone: Bone, below: Sequence[str]) -> str:
    """The bone after which the end of one is named: one in the middle, or the first."""
    if bone.name == _ROOT:
        return _ROOT
    known = set(below)
    middle = [name for name in below if not known & {f"l{name[1:]}", f"r{name[1:]}"} - {name}]
    return (middle or list(below) or [""])[0]


@dataclass
class AmcMotion(Motion):
    """An .amc file: its skeleton, and what :class:`Motion` says.

    Attributes:
        skeleton: of the values.
        degrees: whether the values' angles are in degrees.
    """

    skeleton: Skeleton = field(default_factory=lambda: Skeleton((Bone(_ROOT),)))
    degrees: bool = True

    def kinematics(self, values: Array) -> Array:
        out = np.zeros((len(values), len(self.skeleton.bones), 3))
        turned: list[Array] = []
        column = 0
        for place, bone in enumerate(self.skeleton.bones):
            own = dict(zip(bone.channels, values.T[column:], strict=False))
            column += len(bone.channels)
            axis = _turns(dict(zip(_ROTATIONS, bone.axis, strict=True)), bone.order,
                          self.skeleton.degrees)  # fmt: skip
            turn = axis @ _turns(own, bone.order, self.degrees) @ axis.T
            tip = np.array(bone.tip)
            if bone.parent < 0:
                moved = [own.get(name, np.zeros(len(values))) for name in _CHANNELS[:3]]
                out[:, place] = tip + np.stack(moved, axis=1)
            else:
                turn = turned[bone.parent] @ turn
                out[:, place] = out[:, bone.parent] + turn @ tip
            turned.append(np.broadcast_to(turn, (len(values), 3, 3)))
        return out


def _turns(angles: Mapping[str, Array | float], order: str, degrees: bool) -> Array:
    """Matrices of rotations about fixed axes, ``[T, 3, 3]``, or ``[3, 3]`` of single angles."""
    from scipy.spatial.transform import Rotation  # slow to load, and only motion needs it

    given = np.broadcast_arrays(*(angles.get(f"r{letter}", 0.0) for letter in order))
    # Small letters: about axes that stay.
    matrix: Array = Rotation.from_euler(
        order, np.stack(given, axis=-1), degrees=degrees
    ).as_matrix()
    return matrix


def load(motion: Entry, skeleton: Entry, *, first: bool = False) -> AmcMotion:
    """A file and its skeleton.

    Args:
        motion: the .amc file.
        skeleton: the .asf file.
        first: read the first frame alone; most of a long file is not read.

    Raises:
        ReadError: one of them is no such file, or they do not fit; with the line that is wrong.
    """
    own = parse_skeleton(read_text(skeleton, _MOST_SKELETON), skeleton.shown)
    if first:
        head = motion.read_head(_HEAD)
        if len(head) == _HEAD:
            text = head[: head.rfind(b"\n") + 1].decode("utf-8-sig", errors="replace")
            with contextlib.suppress(ReadError):  # there may be more to it
                return parse_motion(text, own, motion.shown, first=True)
    return parse_motion(read_text(motion, _MOST_MOTION), own, motion.shown, first=first)


# The skeleton.


@dataclass(slots=True)
class _Line:
    """Words of a line, and errors about it."""

    words: list[str]
    number: int
    where: str

    @property
    def key(self) -> str:
        return self.words[0].lower()

    def fail(self, reason: str) -> ReadError:
        return ReadError(self.where, reason, self.number)

    def numbers(self, count: int) -> tuple[float, ...]:
        """So many numbers behind the first word."""
        values: tuple[float, ...] = ()
        with contextlib.suppress(ValueError):
            values = tuple(map(float, self.words[1 : 1 + count]))
        if len(values) < count or not all(-_LARGEST <= value <= _LARGEST for value in values):
            seen = " ".join(self.words[1:])
            what = "a number" if count == 1 else f"{count} numbers"
            reason = f"{self.key:.40}: expected {what} of at most {_LARGEST:g}, got {seen!r:.40}"
            raise self.fail(reason)
        return values


def _lines(text: str, where: str) -> Iterator[_Line]:
    """The lines that say something; ``#`` begins a comment."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words:
            yield _Line(words, number, where)


def parse_skeleton(text: str, where: str) -> Skeleton:
    """Read an .asf file's text.

    Args:
        text: all of it.
        where: what errors name.

    Raises:
        ReadError: it is no such file; with the line that is wrong.
    """
    sections: dict[str, list[_Line]] = {}
    rows: list[_Line] = []
    for line in _lines(text, where):
        if line.words[0].startswith(":"):
            rows = sections.setdefault(line.key, [])
            line.words = line.words[1:]
        if line.words:
            rows.append(line)
    for name in (":root", ":bonedata", ":hierarchy"):
        if name not in sections:
            raise ReadError(where, f"an .asf file has {name}, and this has none")
    units = {line.key: line for line in sections.get(":units", ())}
    degrees = "angle" not in units or units["angle"].words[1:2] != ["rad"]
    length = units["length"].numbers(1)[0] if "length" in units else None
    if length is not None and not 1e-6 <= length <= 1e6:
        raise units["length"].fail(f"length {length:g}: expected the factor of all lengths")
    bones = _bones(sections[":bonedata"])
    parents = _parents(sections[":hierarchy"], bones)
    return Skeleton(_in_order(_root(sections[":root"]), bones, parents, where), degrees, length)


def _root(rows: list[_Line]) -> Bone:
    fields = {line.key: line for line in rows}
    order = "xyz"
    if "axis" in fields:
        order = _order(fields["axis"], fields["axis"].words[1:])
    channels = _channels(fields["order"], _CHANNELS) if "order" in fields else _CHANNELS
    places = [
        fields[key].numbers(3) if key in fields else (0.0,) * 3
        for key in ("position", "orientation")
    ]
    return Bone(_ROOT, -1, places[0], _by_axis(places[1], order), order, channels)


def _bones(rows: list[_Line]) -> dict[str, Bone]:
    """The bones by their names, not yet with parents."""
    bones: dict[str, Bone] = {}
    fields: dict[str, _Line] = {}
    for line in rows:
        if line.key == "begin":
            fields = {"begin": line}
        elif line.key == "end" and fields:
            bone = _bone(fields)
            if bone.name in bones or bone.name == _ROOT:
                raise fields["name"].fail(f"a second bone named {bone.name!r:.60}")
            bones[bone.name] = bone
            fields = {}
            if len(bones) > _MOST_BONES:
                raise line.fail(f"at most {_MOST_BONES:,} bones are read")
        elif not fields:
            raise line.fail(f"expected begin, got {line.words[0]!r:.40}")
        else:
            fields.setdefault(line.key, line)
    if fields:
        raise fields["begin"].fail("the bone that begins here has no end")
    return bones


def _bone(fields: Mapping[str, _Line]) -> Bone:
    lacking = next((key for key in ("name", "direction", "length") if key not in fields), None)
    if lacking is not None:
        raise fields["begin"].fail(f"the bone that begins here has no {lacking}")
    name = composed(" ".join(fields["name"].words[1:]))
    if not 0 < len(name) <= _LONGEST_NAME or " " in name:
        raise fields["name"].fail(f"a bone has a name of one word, not {name!r:.60}")
    direction = np.array(fields["direction"].numbers(3))
    norm = float(np.linalg.norm(direction))
    length = fields["length"].numbers(1)[0]
    tip = direction * (length / norm if norm > 0 else 0.0)
    axis: tuple[float, ...] = (0.0, 0.0, 0.0)
    order = "xyz"
    if "axis" in fields:
        order = _order(fields["axis"], fields["axis"].words[4:])
        axis = _by_axis(fields["axis"].numbers(3), order)
    channels = _channels(fields["dof"], _ROTATIONS) if "dof" in fields else ()
    return Bone(name, -1, tuple(tip.tolist()), axis, order, channels)


def _by_axis(angles: tuple[float, ...], order: str) -> tuple[float, ...]:
    """Angles in the order of the letters as those about x, y and z."""
    found = dict(zip(order, angles, strict=True))
    return found["x"], found["y"], found["z"]


def _order(line: _Line, words: list[str]) -> str:
    order = words[0].lower() if words else "xyz"
    if sorted(order) != ["x", "y", "z"]:
        raise line.fail(f"axis: expected an order such as XYZ, got {order!r:.40}")
    return order


def _channels(line: _Line, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(word.lower() for word in line.words[1:])
    odd = next((name for name in names if name not in known), None)
    if odd is not None:
        raise line.fail(f"{line.key}: {odd!r:.40} is not one of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise line.fail(f"{line.key}: a channel twice")
    return names


def _parents(rows: list[_Line], bones: Mapping[str, Bone]) -> dict[str, list[str]]:
    """The bones below each."""
    below: dict[str, list[str]] = {}
    seen: set[str] = set()
    for line in rows:
        names = [composed(word) for word in line.words]
        if len(names) == 1 and names[0].lower() in ("begin", "end"):
            continue
        for place, name in enumerate(names):
            if name not in bones and (place or name != _ROOT):
                raise line.fail(f"{name!r:.60} is not a bone of :bonedata")
            if place and name in seen:
                raise line.fail(f"{name!r:.60} hangs from two bones")
            if place:
                seen.add(name)
        below.setdefault(names[0], []).extend(names[1:])
    return below


def _in_order(
    root: Bone, bones: Mapping[str, Bone], below: Mapping[str, list[str]], where: str
) -> tuple[Bone, ...]:
    """The root and the bones, parents before their children."""
    found = [root]
    open_bones = [(name, 0) for name in reversed(below.get(_ROOT, []))]
    while open_bones:
        name, parent = open_bones.pop()
        bone = bones[name]
        found.append(Bone(name, parent, bone.tip, bone.axis, bone.order, bone.channels))
        open_bones += [(child, len(found) - 1) for child in reversed(below.get(name, []))]
    known = {bone.name for bone in found}
    lost = next((name for name in bones if name not in known), None)
    if lost is not None:
        raise ReadError(where, f":hierarchy: {lost!r:.60} does not hang from the root")
    return tuple(found)


# The motion.


def parse_motion(text: str, skeleton: Skeleton, where: str, *, first: bool = False) -> AmcMotion:
    """Read an .amc file's text.

    Args:
        text: all of it, or its beginning.
        skeleton: of the bones that it names.
        where: what errors name.
        first: stop after the first frame.

    Raises:
        ReadError: it is no such file, or of another skeleton; with the line that is wrong.
    """
    columns: dict[str, slice] = {}
    width = 0
    for bone in skeleton.bones:
        if bone.channels:
            columns[bone.name] = slice(width, width + len(bone.channels))
            width += len(bone.channels)
    degrees, frames, row = skeleton.degrees, list[Array](), np.empty(width)
    missing: set[str] = set()
    number, line = 0, _Line([], 1, where)
    for line in _lines(text, where):
        name = composed(line.words[0])
        if name in missing:
            row[columns[name]] = _values(line, columns[name])
            missing.discard(name)
        elif name.startswith(":"):
            degrees = {":degrees": True, ":radians": False}.get(line.key, degrees)
        elif len(line.words) == 1 and name.isdecimal() and len(name) < 10:
            _check_whole(missing, number, line)
            if frames and first:
                break
            if frames and int(name) != number + 1:
                reason = f"frame {name} after frame {number}: frames must be consecutive"
                raise line.fail(reason)
            if len(frames) == MAX_FRAMES:
                raise line.fail(f"at most {MAX_FRAMES:,} frames are read")
            number, missing, row = int(name), set(columns), np.empty(width)
            frames.append(row)
        elif not frames:
            raise line.fail(f"expected the number of a frame, got {name!r:.40}")
        else:
            known = "twice in one frame" if name in columns else "no bone with channels in the .asf"
            raise line.fail(f"{name!r:.60}: {known}")
    _check_whole(missing, number, line)
    if not frames:
        raise ReadError(where, "has no frames")
    if not width:
        raise ReadError(where, "no bone of the skeleton has channels: nothing moves")
    return AmcMotion(
        skeleton.tree,
        np.array(frames),
        units=skeleton.units,
        skeleton=skeleton,
        degrees=degrees,
    )


def _values(line: _Line, place: slice) -> tuple[float, ...]:
    """The values of a bone in a frame."""
    count = place.stop - place.start
    if len(line.words) != count + 1:
        name, seen = line.words[0], len(line.words) - 1
        raise line.fail(f"{name:.60}: {seen:,} values, but it has {count} channels")
    return line.numbers(count)


def _check_whole(missing: set[str], number: int, line: _Line) -> None:
    """Refuse a frame without the values of a bone."""
    if missing:
        names = ", ".join(sorted(missing)[:3])
        more = " and others" if len(missing) > 3 else ""
        raise line.fail(f"frame {number} lacks {names}{more}: the file was cut off, or damaged")

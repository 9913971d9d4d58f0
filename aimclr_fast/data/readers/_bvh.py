"""The text of a BVH file (Biovision hierarchy), and where its joints are in each frame.

HIERARCHY names a tree of joints, each with an offset from its parent and the channels that move it;
MOTION has the channels' values, a line per frame. There is no standard: channels come in any order,
rotations are applied in the order in which they are listed, and a position channel takes the place
of the offset along its axis, at the root or at any other joint. An end site is the tip of a joint,
without channels. Rotations are in degrees; nothing says the unit of lengths.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from aimclr_fast.data.readers._base import MAX_FRAMES, ReadError, composed
from aimclr_fast.data.readers._files import MAX_BYTES, Entry, read_text
from aimclr_fast.data.readers._trees import Array, Motion

#: Joints and end sites, and how deep they may lie; rigs of faces and fingers have 200, and 30.
MAX_NODES, MAX_DEPTH = 1000, 200
_LONGEST_NAME = 200
#: Larger numbers are no degrees and no place of a body in any unit.
_LARGEST = 1e7
#: Longest time of a frame in seconds; a larger number is a rate.
_LONGEST_FRAME = 1.0
_TOKEN = re.compile(r"[{}]|[^\s{}]+")
_FRAMES = re.compile(r"\s*frames\s*:\s*(\S+)\s*", re.IGNORECASE)
_FRAME_TIME = re.compile(r"\s*frame\s*time\s*:\s*(\S+)\s*", re.IGNORECASE)
_CHANNEL = re.compile(r"([xyz])(position|rotation)", re.IGNORECASE)
_HEAD = 1 << 16  # bytes that hold most hierarchies and a frame


@dataclass
class Node:
    """A joint, or an end site.

    Attributes:
        name: of an end site, its joint's with ``_end``.
        parent: index of its parent, -1 for the root.
        line: where it begins.
        end: whether it is an end site.
        offset: from the parent.
        channels: such as ``xposition``, in the order of the values.
    """

    name: str
    parent: int
    line: int
    end: bool = False
    offset: tuple[float, ...] = ()
    channels: tuple[str, ...] | None = None


@dataclass
class BvhMotion(Motion):
    """A file: its nodes, parents before their children, and what :class:`Motion` says."""

    nodes: list[Node] = field(default_factory=list)

    def kinematics(self, values: Array) -> Array:
        return _kinematics(self.nodes, values)

    def rest(self) -> Array:
        places: list[Array] = []
        for node in self.nodes:
            above = places[node.parent] if node.parent >= 0 else np.zeros(3)
            places.append(above + np.array(node.offset))
        return np.stack(places)


def load(entry: Entry) -> BvhMotion:
    """A whole file.

    Raises:
        ReadError: it is no such file; with the line that is wrong.
    """
    return parse(read_text(entry, MAX_BYTES), entry.shown)


def load_first(entry: Entry) -> BvhMotion:
    """The skeleton and the first frame of a file; most of a long one is not read."""
    head = entry.read_head(_HEAD)
    if len(head) == _HEAD:
        text = head[: head.rfind(b"\n") + 1].decode("utf-8-sig", errors="replace")
        with contextlib.suppress(ReadError):  # there may be more to it
            return parse(text, entry.shown, first=True)
    return parse(read_text(entry, MAX_BYTES), entry.shown, first=True)


def parse(text: str, where: str, *, first: bool = False) -> BvhMotion:
    """Read a file's text.

    Args:
        text: all of it, or its beginning.
        where: what errors name.
        first: stop after the first frame.

    Raises:
        ReadError: it is no such file; with the line that is wrong.
    """
    lines = text.splitlines()
    nodes, line = _hierarchy(lines, where)
    width = sum(len(node.channels or ()) for node in nodes)
    filled = [number for number in range(line, len(lines)) if lines[number].strip()]
    count, frame_time = _timing(lines, filled[:2], where)
    rows = filled[2:]
    if first:
        rows, count = rows[:1], 1
    if len(rows) != count:
        more = "the file was cut off" if len(rows) < count else "there are more lines"
        raise ReadError(
            where, f"Frames: {count:,}, but {len(rows):,} lines of values: {more}", filled[0] + 1
        )
    values = _values([lines[row] for row in rows], rows, width, where)
    tree = tuple((node.name, node.parent, node.end) for node in nodes)
    return BvhMotion(tree, values, 1 / frame_time, nodes=nodes)


def _hierarchy(lines: list[str], where: str) -> tuple[list[Node], int]:
    """The nodes, and how many lines there are up to the one that says MOTION."""
    tokens = _Tokens(lines, where)
    tokens.expect("hierarchy", "a BVH file begins with HIERARCHY")
    tokens.expect("root", "expected ROOT after HIERARCHY")
    nodes: list[Node] = []
    named: dict[str, int] = {}
    open_nodes = [_begin(tokens, nodes, named, -1)]
    while open_nodes:
        node = nodes[open_nodes[-1]]
        word = tokens.next("the hierarchy ends too early: a } is missing")
        kind = word.lower()
        if word == "}":
            _check_whole(node, where, tokens.line)
            open_nodes.pop()
        elif kind == "offset" and not node.offset:
            node.offset = tuple(tokens.number() for _ in range(3))
        elif kind == "channels" and node.channels is None and not node.end:
            node.channels = _channels(tokens)
        elif kind in ("joint", "end") and not node.end:
            if len(open_nodes) > MAX_DEPTH or len(nodes) >= MAX_NODES:
                limits = f"{MAX_NODES:,} joints, and {MAX_DEPTH} in a chain"
                raise ReadError(where, f"at most {limits}, are read", tokens.line)
            open_nodes.append(_begin(tokens, nodes, named, open_nodes[-1], end=kind == "end"))
        else:
            expected = "OFFSET or }" if node.end else "OFFSET, CHANNELS, JOINT, End Site or }, once"
            raise ReadError(where, f"expected {expected}, got {word!r:.40}", tokens.line)
    word = tokens.next("no MOTION after the hierarchy")
    if word.lower() == "root":
        reason = "a second ROOT: files of one skeleton are read, so split it into one for each"
        raise ReadError(where, reason, tokens.line)
    if word.lower() != "motion":
        raise ReadError(where, f"expected MOTION, got {word!r:.40}", tokens.line)
    return nodes, tokens.line


class _Tokens:
    """Words and braces of the lines, one after the other."""

    def __init__(self, lines: list[str], where: str) -> None:
        self._all = self._each(lines)
        self._where = where
        self.line = 1

    def _each(self, lines: list[str]) -> Iterator[str]:
        for number, line in enumerate(lines):
            self.line = number + 1
            yield from _TOKEN.findall(line)

    def next(self, missing: str) -> str:
        word = next(self._all, None)
        if word is None:
            raise ReadError(self._where, missing, self.line)
        return word

    def expect(self, wanted: str, otherwise: str) -> None:
        word = self.next(otherwise)
        if word.lower() != wanted:
            raise ReadError(self._where, f"{otherwise}, got {word!r:.40}", self.line)

    def until_brace(self) -> str:
        words = []
        while (word := self.next("expected { after a joint's name")) != "{":
            words.append(word)
        return composed(" ".join(words))

    def number(self) -> float:
        word = self.next("the hierarchy ends too early: numbers are missing")
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not abs(value) <= _LARGEST:
            reason = f"expected a number of at most {_LARGEST:g}, got {word!r:.40}"
            raise ReadError(self._where, reason, self.line)
        return value

    def fail(self, reason: str) -> ReadError:
        return ReadError(self._where, reason, self.line)


def _begin(
    tokens: _Tokens, nodes: list[Node], named: dict[str, int], parent: int, *, end: bool = False
) -> int:
    """Add the node that begins here."""
    line = tokens.line
    name = tokens.until_brace()
    if end:
        tips = sum(node.end and node.parent == parent for node in nodes)
        name = f"{nodes[parent].name}_end{tips + 1 if tips else ''}"
    elif not 0 < len(name) <= _LONGEST_NAME:
        raise tokens.fail(
            f"a joint has a name of 1 to {_LONGEST_NAME} characters, not of {len(name):,}"
        )
    elif name in named:
        raise tokens.fail(f"joint {name!r:.60} has the name of the one in line {named[name]}")
    else:
        named[name] = line
    nodes.append(Node(name, parent, line, end))
    return len(nodes) - 1


def _channels(tokens: _Tokens) -> tuple[str, ...]:
    count = tokens.number()
    if count not in range(7):
        raise tokens.fail(f"CHANNELS {count:g}: a joint has 0 to 6")
    names = []
    for _ in range(int(count)):
        word = tokens.next("the hierarchy ends too early: names of channels are missing")
        if _CHANNEL.fullmatch(word) is None:
            raise tokens.fail(f"expected Xposition, Yrotation or the like, got {word!r:.40}")
        if word.lower() in names:
            raise tokens.fail(f"channel {word} twice in one joint")
        names.append(word.lower())
    return tuple(names)


def _check_whole(node: Node, where: str, line: int) -> None:
    """Refuse a node without what it must have, at its closing brace."""
    if not node.offset:
        raise ReadError(where, f"{node.name!r:.60} has no OFFSET", line)
    if node.channels is None and not node.end:
        raise ReadError(where, f"joint {node.name!r:.60} has no CHANNELS", line)


def _timing(lines: list[str], rows: list[int], where: str) -> tuple[int, float]:
    """What the two lines below MOTION say: how many frames, and the time of each."""
    found = []
    wanted = (_FRAMES, "Frames: and a whole number"), (_FRAME_TIME, "Frame Time: and seconds")
    for place, (pattern, expected) in enumerate(wanted):
        line = rows[place] if place < len(rows) else max(len(lines) - 1, 0)
        text = lines[line] if place < len(rows) else ""
        match = pattern.fullmatch(text)
        if match is None:
            seen = f"got {text.strip()!r:.40}" if text else "and the file ends"
            raise ReadError(where, f"expected {expected}, {seen}", line + 1)
        found.append((match[1], line + 1))
    (count, line), (time, time_line) = found
    if not count.isdecimal() or not 1 <= int(count[:12]) <= MAX_FRAMES:
        reason = f"Frames: {count:.40}: 1 to {MAX_FRAMES:,} frames are read"
        raise ReadError(where, reason, line)
    try:
        seconds = float(time)
    except ValueError:
        seconds = 0.0
    if not 1e-6 < seconds <= _LONGEST_FRAME:
        reason = f"Frame Time: {time:.40}: expected the seconds of a frame, such as 0.0333333"
        raise ReadError(where, reason, time_line)
    return int(count), seconds


def _values(texts: list[str], rows: list[int], width: int, where: str) -> Array:
    """The numbers of all frames, ``[T, C]``."""
    if not width:
        raise ReadError(where, "no joint has channels: nothing moves")
    try:
        values = np.loadtxt(io.StringIO("\n".join(texts)), ndmin=2, comments=None)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape == (len(texts), width) and bool((np.abs(values) <= _LARGEST).all()):
        return values
    for text, row in zip(texts, rows, strict=True):  # which line it is
        words = text.split()
        if len(words) != width:
            reason = f"{len(words):,} values, but the joints have {width:,} channels"
            raise ReadError(where, reason, row + 1)
        for word in words:
            try:
                sound = abs(float(word)) <= _LARGEST
            except ValueError:
                sound = False
            if not sound:
                reason = f"expected a number of at most {_LARGEST:g}, got {word!r:.40}"
                raise ReadError(where, reason, row + 1)
    raise ReadError(where, "the values of the frames cannot be read as numbers")


def _kinematics(nodes: list[Node], values: Array) -> Array:
    """Where each node is in frames with these ``values [T, C]``, ``[T, nodes, 3]``."""
    from scipy.spatial.transform import Rotation  # slow to load, and only motion needs it

    out = np.empty((len(values), len(nodes), 3))
    turned: list[Array] = []
    column = 0
    for place, node in enumerate(nodes):
        channels = node.channels or ()
        own = dict(zip(channels, values.T[column : column + len(channels)], strict=True))
        column += len(channels)
        local = np.tile(np.array(node.offset), (len(values), 1))
        for axis, letter in enumerate("xyz"):
            local[:, axis] = own.get(f"{letter}position", local[:, axis])
        rotations = [name for name in channels if name.endswith("rotation")]
        turn = np.broadcast_to(np.eye(3), (len(values), 3, 3))
        if rotations:
            # Capital letters: each about the axes that the ones before have turned.
            order = "".join(name[0].upper() for name in rotations)
            angles = np.stack([own[name] for name in rotations], axis=1)
            turn = Rotation.from_euler(order, angles, degrees=True).as_matrix()
        if node.parent < 0:
            out[:, place] = local
            turned.append(turn)
            continue
        above = turned[node.parent]
        out[:, place] = out[:, node.parent] + (above @ local[..., None])[..., 0]
        turned.append(above @ turn)
    return out

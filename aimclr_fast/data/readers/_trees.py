"""Motion capture with a tree of joints in each file (BVH, AMC): one skeleton, derived from it.

The joints are those from the hips down the tree. A root above them that only carries the
trajectory, and joints and end sites that are always where their parent is, are left out. Unit and
axis that points up are found from the bodies' size and their heads and feet.
"""

from __future__ import annotations

import abc
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.measures import ends_of_body
from aimclr_fast.data.readers._base import (
    TURNS,
    UNITS,
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
    meters,
)
from aimclr_fast.data.readers._derived import (
    Joint,
    derive_layout,
    is_hips,
    listed,
    upward,
)
from aimclr_fast.data.readers._labels import Labels
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._sequences import Found, Unit, columns_of
from aimclr_fast.data.readers._sides import sides_note
from aimclr_fast.layouts import Layout

Array = npt.NDArray[np.float64]
#: Files whose frames are looked at for the unit and the axis that points up, and frames of each.
_FILES, _FRAMES = 16, 16
#: Lengths of a person in meters, from head to feet along the bones. Narrow, so that inches are not
#: taken for centimeters.
_PERSON = (1.0, 2.5)
#: Parts of the skeleton's size: joints so near are in one place; a distance that changes by more is
#: no bone.
_SAME, _NO_BONE = 1e-6, 0.01
_BLOCK = 4096  # frames whose matrices are in memory at once
#: Places of all joints in all frames: an hour at 30 per second of a rig of 300 joints.
_MOST_PLACES = 1 << 25

#: Units of lengths, each as ``--unit`` takes it, and how to say it.
USUAL_UNITS = tuple((name, name) for name in UNITS)
#: What files of one skeleton have in common: each node's name, parent (-1: none) and whether it is
#: an end site. Parents come before their children.
Tree: TypeAlias = tuple[tuple[str, int, bool], ...]


@dataclass
class Motion(abc.ABC):
    """A file.

    Attributes:
        tree: its nodes, see :data:`Tree`.
        values: of all channels, ``[T, C]``.
        rate: frames per second, where the file says so.
        units: in which lengths may be, the likeliest first; see :data:`USUAL_UNITS`.
    """

    tree: Tree
    values: Array = field(repr=False)
    rate: float | None = None
    units: tuple[tuple[str, str], ...] = USUAL_UNITS

    def positions(self) -> Array:
        """Where each node is, ``[T, nodes, 3]``, in the file's unit and axes."""
        blocks = range(0, len(self.values), _BLOCK)
        return np.concatenate([self.kinematics(self.values[t : t + _BLOCK]) for t in blocks])

    def rest(self) -> Array:
        """Where each node is if nothing is turned or moved, ``[nodes, 3]``."""
        places: Array = self.kinematics(np.zeros((1, self.values.shape[1])))[0]
        return places

    @abc.abstractmethod
    def kinematics(self, values: Array) -> Array:
        """Where each node is in frames with these ``values [T, C]``, ``[T, nodes, 3]``."""


#: Reads a unit, or its skeleton and first frame alone.
Load = Callable[[Unit, bool], Motion]


@dataclass(frozen=True)
class Skeleton:
    """What all files of a source share, and how their lengths and axes are read.

    Attributes:
        layout: the joints.
        tree: of the nodes of a file, to be found in each.
        nodes: which node each joint is.
        unit: of lengths.
        up: axis that points up.
    """

    layout: Layout
    tree: Tree
    nodes: tuple[int, ...]
    unit: str
    up: str


@dataclass(frozen=True)
class _Look:
    """The first frame of a file, or some of them: the motion, and places ``[T, nodes, 3]``."""

    unit: Unit
    motion: Motion
    places: Array

    @property
    def where(self) -> str:
        return self.unit.entry.shown


def plan_trees(found: Found, options: Options, where: str, kind: str, load: Load) -> Plan:
    """One sample per file.

    Args:
        found: the files.
        options: the user's.
        where: what errors name.
        kind: what the files are called.
        load: reads one; can be pickled.
    """
    skeleton, timed, notes = _skeleton(found.units, options, where, kind, load)
    return found.plan(
        skeleton.layout,
        functools.partial(read, skeleton=skeleton, load=load),
        notes,
        bodies=1,
        source=f"motion capture ({kind})",
        exact=True,
        in_meters=True,
        reader=kind.lower(),
        derived=options.layout is None,
        timed=timed,
        untimed=not timed,
    )


def read(unit: Unit, *, skeleton: Skeleton, load: Load, labels: Labels | None) -> Readings:
    """Read one file."""
    where = unit.entry.shown
    motion = load(unit, False)
    if motion.tree != skeleton.tree:
        raise ReadError(where, "has other joints than the other files")
    frames, joints = len(motion.values), len(motion.tree)
    if frames * joints > _MOST_PLACES:  # joints without channels take no place in a file
        reason = f"{frames:,} frames of {joints:,} joints; at most {_MOST_PLACES:,} places are read"
        raise ReadError(where, reason)
    places = motion.positions()[:, list(skeleton.nodes)]  # [T, V, 3]
    x = in_meters(places.transpose(2, 0, 1)[..., None], skeleton.unit, skeleton.up)
    columns = columns_of(unit.name, labels)
    yield Recording(unit.name, check_positions(x, where), columns, where, motion.rate)


def _skeleton(
    units: Sequence[Unit], options: Options, where: str, kind: str, load: Load
) -> tuple[Skeleton, bool, list[str]]:
    """The skeleton of all files, whether they know their rate, and how they were understood."""
    firsts = _first_frames(units, where, load)
    some = _some_frames([look.unit for look in firsts], load) or firsts
    joints, notes = _joints(firsts, some, where)
    tree = firsts[0].motion.tree
    nodes = [node for node, _ in joints]
    kept = [Joint(tree[node][0], parent, tree[node][2]) for node, parent in joints]
    derived, found = derive_layout(f"{kind.lower()}-{len(kept)}", kept)
    unit, up = options.unit, options.up
    if unit is None:
        unit, said = _unit(derived, nodes, firsts, where)
        notes.append(said)
    if up is None:
        up, said = _up(derived, nodes, some, where)
        notes.append(said)
    frames = {look.where: look.places[:, nodes] for look in some}
    notes += sides_note(derived, frames, options.sides, where)
    notes += _rates(firsts)
    layout = derived
    if options.layout is None:
        notes += [
            f"layout: {len(kept)} joints as in the hierarchy (--layout says otherwise)",
            *found,
        ]
    else:
        layout = named_layout(options.layout)
        nodes = _nodes_of(layout, derived, nodes, tree, where)
    timed = firsts[0].motion.rate is not None
    return Skeleton(layout, tree, tuple(nodes), unit, up), timed, notes


def _first_frames(units: Sequence[Unit], where: str, load: Load) -> list[_Look]:
    """The first frames of all files that can be read, which have one skeleton."""
    looks, unread = [], None
    for unit in units:
        try:
            motion = load(unit, True)
            looks.append(_Look(unit, motion, motion.positions()))
        except ReadError as error:  # reading says it again
            unread = unread or error
    if not looks:
        raise unread or ReadError(where, "no file is left")
    trees = Counter(look.motion.tree for look in looks)
    usual = trees.most_common(1)[0][0]
    if len(trees) > 1:
        one = next(look for look in looks if look.motion.tree == usual)
        other = next(look for look in looks if look.motion.tree != usual)
        raise ReadError(
            other.where,
            f"another skeleton than {one.where} ({_differ(usual, other.motion.tree)}); of "
            f"{len(looks):,} files, {trees[usual]:,} have that: prepare each kind on its own, with "
            "--to where one encoder is to take both",
        )
    return looks


def _differ(usual: Tree, tree: Tree) -> str:
    """How a tree differs from the usual one, in words."""
    names, usual_names = {name for name, _, _ in tree}, {name for name, _, _ in usual}
    said = []
    for words, some in (("without", usual_names - names), ("with", names - usual_names)):
        if some:
            said.append(f"{words} {listed(sorted(some))}")
    return "; ".join(said) or "the same joints in another order, or with other parents"


def _some_frames(units: Sequence[Unit], load: Load) -> list[_Look]:
    """Frames of some of the files, both evenly spread."""
    looks = []
    for unit in units[:: -(-len(units) // _FILES)]:
        with contextlib.suppress(ReadError):  # reading says it again
            motion = load(unit, False)
            step = -(-len(motion.values) // _FRAMES)
            motion = replace(motion, values=motion.values[::step])
            looks.append(_Look(unit, motion, motion.positions()))
    return looks


def _rates(firsts: Sequence[_Look]) -> list[str]:
    count = Counter(f"{look.motion.rate:.4g}" for look in firsts if look.motion.rate is not None)
    if not count:
        return ["frames per second: the files do not say (--rate does, for --fps and --window)"]
    said = ", ".join(f"{rate} ({n:,} files)" for rate, n in count.most_common(5))
    mend = "; --fps brings them to one rate" if len(count) > 1 else ""
    return [f"frames per second: {said}{mend}"]


def _joints(
    firsts: Sequence[_Look], some: Sequence[_Look], where: str
) -> tuple[list[tuple[int, int]], list[str]]:
    """The nodes that are joints, each with its parent's place among them (-1: none), and notes."""
    tree = firsts[0].motion.tree
    parents = [max(parent, 0) for _, parent, _ in tree]
    looks = [*firsts, *some]
    lengths = [np.linalg.norm(look.places - look.places[:, parents], axis=2) for look in looks]
    longest = np.max([length.max(axis=0) for length in lengths], axis=0)
    change = np.max([np.ptp(length, axis=0) for length in lengths], axis=0)
    start = 0
    while True:
        below = [node for node, (_, parent, _) in enumerate(tree) if parent == start]
        if len(below) != 1 or tree[below[0]][2]:
            break
        first = below[0]
        begins = is_hips(tree[first][0]) and not is_hips(tree[start][0])
        if not begins and change[first] <= _NO_BONE * _size(looks, first):
            break
        start = first
    same = _SAME * _size(looks, start)
    kept: dict[int, int] = {}
    for node in range(start, len(tree)):
        if node == start or longest[node] > same:
            kept[node] = len(kept)
    if len(kept) < 2:
        raise ReadError(where, "all joints are in one place")
    joints = []
    for node in kept:
        parent = tree[node][1]
        while parent >= start and parent not in kept:
            parent = tree[parent][1]
        joints.append((node, kept.get(parent, -1)))
    notes = []
    if start:
        above = ", ".join(name for name, _, _ in tree[:start])
        notes.append(
            f"{above}: carries the trajectory alone and is left out; the skeleton starts at "
            f"{tree[start][0]}"
        )
    left_out = [tree[node][0] for node in range(start, len(tree)) if node not in kept]
    if left_out:
        notes.append(f"always where their parent is, and left out: {listed(left_out)}")
    return joints, notes


def _size(looks: Sequence[_Look], start: int) -> float:
    """Longest side of the box around the nodes from ``start`` on, in any first frame."""
    return max(float(np.ptp(look.places[0, start:], axis=0).max()) for look in looks)


def _nodes_of(
    layout: Layout, derived: Layout, nodes: Sequence[int], tree: Tree, where: str
) -> list[int]:
    """The node of each joint of a layout that the user named, by its name there or in the files."""
    known = {name: place for place, (name, _, end) in enumerate(tree) if not end}
    known |= dict(zip(derived.joints, nodes, strict=True))
    missing = [name for name in layout.joints if name not in known]
    if missing:
        raise ReadError(
            where,
            f"layout {layout.name} has joints that are not in the files: {listed(missing)} (they "
            f"have {', '.join(derived.joints)}); --to, in place of --layout, brings the files' "
            "joints to those of a layout as far as the names tell",
        )
    return [known[name] for name in layout.joints]


def _statures(layout: Layout, nodes: Sequence[int], firsts: Sequence[_Look]) -> list[float]:
    """Length along the bones from head to feet in each file; none if names do not tell these."""
    top, bottom = ends_of_body(layout)
    bottom = [joint for joint in bottom if not is_hips(layout.joints[joint])]
    if not top or not bottom:
        return []
    above = np.zeros((layout.num_joints, layout.num_joints), dtype=bool)
    for joint in range(layout.num_joints):
        at = joint
        while at != layout.center:
            above[joint, at] = True  # the bone from `at` towards the center
            at = layout.parents[at]
    ways = np.array([above[a] ^ above[b] for a in top for b in bottom])
    found = []
    for look in firsts:
        x = look.places[0, list(nodes)]
        bones = np.linalg.norm(x - x[list(layout.parents)], axis=1)
        found.append(float((ways @ bones).max()))
    return found


def _unit(
    layout: Layout, nodes: Sequence[int], firsts: Sequence[_Look], where: str
) -> tuple[str, str]:
    """The unit in which all bodies have a person's size, and what to say."""
    ask = "say the unit of lengths with --unit: m, cm, mm, or how many meters it has"
    statures = _statures(layout, nodes, firsts)
    if not statures:
        size = _size(firsts, nodes[0])
        raise ReadError(
            where,
            f"the joints' names do not tell head and feet, and a body is {size:.4g} long: {ask}",
        )
    fitting = [
        [unit for unit in look.motion.units if _is_person(meters(unit[0]) * one)]
        for look, one in zip(firsts, statures, strict=True)
    ]
    units = [own[0] if own else ("", "") for own in fitting]
    middle = float(np.median(statures))
    if len(set(units)) > 1:
        other = next(i for i, unit in enumerate(units) if unit != units[0])
        raise ReadError(
            firsts[other].where,
            f"the body is {statures[other]:.4g} long from head to feet, but "
            f"{statures[0]:.4g} in {firsts[0].where}, which is another unit: prepare them "
            f"separately, or {ask}",
        )
    unit, said = units[0]
    if not unit:
        raise ReadError(
            where,
            f"the body is {middle:.4g} long from head to feet, which is no person in m, cm or mm: "
            f"{ask} ({1.7 / middle:.3g} would make it 1.7 m)",
        )
    long = meters(unit) * middle
    return unit, (
        f"unit: {said}, in which the body is {long:.2f} m long from head to feet along its "
        "bones (--unit says otherwise)"
    )


def _is_person(size: float) -> bool:
    return _PERSON[0] <= size <= _PERSON[1]


def _up(layout: Layout, nodes: Sequence[int], some: Sequence[_Look], where: str) -> tuple[str, str]:
    """The axis that points up, and what to say.

    By the frames; where no axis has half of them, since people lie and sit, a guess by the rest
    pose of the hierarchy.

    Raises:
        ReadError: they do not agree, neither tells, or it is another axis than can be turned up.
    """
    top, bottom = ends_of_body(layout)
    otherwise = "(--up says otherwise)"
    if not top or not bottom:
        return "y", f"up: y, as is usual; the joints' names do not tell head and feet {otherwise}"
    along = np.concatenate([_along(look.places[:, list(nodes)], top, bottom) for look in some])
    axis, share = upward(along)
    seen = f"from feet to head it is {axis} in {share:.0%} of {len(along):,} frames"
    rest = _rest_up(layout, some[0].motion.rest()[list(nodes)])
    mend = "say which axis points up with --up: y, -y or z"
    sure, other = share >= 0.5, rest in TURNS and rest != axis
    if other and not sure:
        return rest, (
            f"up: {rest}, a guess by the rest pose, in which the body stands along it; {seen}: "
            f"people lie, sit or bend {otherwise}"
        )
    if other:
        raise ReadError(
            where,
            f"{seen}, but in the rest pose the body stands along {rest}: either people lie or the "
            f"rest pose is turned; {mend}",
        )
    if axis not in TURNS or (not sure and rest != axis):
        raise ReadError(where, f"{seen}: {mend}")
    also = ", and in the rest pose" if rest == axis else ""
    return axis, f"up: {axis}; {seen}{also} {otherwise}"


def _along(x: Array, top: Sequence[int], bottom: Sequence[int]) -> Array:
    """From some joints of ``x [..., V, 3]`` to others, ``[..., 3]``."""
    return np.asarray(x[..., list(top), :].mean(axis=-2) - x[..., list(bottom), :].mean(axis=-2))


def _rest_up(layout: Layout, x: Array) -> str:
    """The axis along which a body stands in the rest pose ``x [V, 3]``, with its feet opposite to
    its head; empty if it does not stand so.
    """
    top, bottom = ends_of_body(layout)
    hips = [joint for joint in bottom if is_hips(layout.joints[joint])]
    feet = [joint for joint in bottom if joint not in hips]
    if not hips or not feet:
        return ""
    head, legs = _along(x, top, hips), _along(x, feet, hips)
    lengths = float(np.linalg.norm(head) * np.linalg.norm(legs))
    if not lengths or float(head @ legs) > -0.5 * lengths:
        return ""
    axis, share = upward(_along(x, top, feet)[None])
    return axis if share else ""

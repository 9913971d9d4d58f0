"""A layout derived from a tree of named joints, for skeletons that files bring along.

Programs name the same joint in many ways (``LeftArm``, ``lShldr``, ``upperarm_l``, ``UpperArm_L``).
Names are brought to those of the built-in layouts as far as they are understood, so that swapping
sides, body parts and matching with other layouts work; all others are kept, in lower case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimclr_fast._files import printable
from aimclr_fast.layouts import PARTS, Layout

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER = {"left": "right", "right": "left"}
#: Words that say nothing, at the end of a name.
_NOISE = ("joint", "jnt", "bone")
#: A limb's joints and the names they go by, the surest first. Joints are named by the segment that
#: begins at them. What "shoulder" and "leg" mean depends on the others, see :func:`_roles`.
_LIMBS = {
    "collar": ("collar", "clavicle", "clav"),
    "upper_arm": ("upperarm", "uparm", "shldr", "humerus", "arm"),
    "lower_arm": ("lowerarm", "forearm", "lowarm", "loarm", "elbow", "radius"),
    "hand": ("hand", "wrist"),
    "upper_leg": ("upperleg", "upleg", "thigh", "femur", "hip"),
    "lower_leg": ("lowerleg", "lowleg", "loleg", "shin", "calf", "tibia", "knee"),
    "foot": ("foot", "ankle"),
    "toes": ("toes", "toe", "toebase", "toe0", "ball"),
}
_HIPS = ("hips", "pelvis", "hip")
#: Within 60 degrees of an axis.
_ALONG = 0.5
_SHOWN = 12  # pairs and names that a note lists


@dataclass(frozen=True)
class Joint:
    """A joint of a tree: its name in the file, its parent's index (-1: none), whether an end site
    (which is named after its parent).
    """

    name: str
    parent: int
    end: bool = False


@dataclass(frozen=True)
class _Words:
    """A name in words: the side, if it tells one, and the rest."""

    side: str
    rest: tuple[str, ...]

    @property
    def compact(self) -> str:
        """The rest in one piece, without what says nothing."""
        kept = self.rest
        while len(kept) > 1 and kept[-1] in _NOISE:
            kept = kept[:-1]
        return "".join(kept)


def is_hips(name: str) -> bool:
    """Whether a joint is called hips or pelvis, without a side."""
    own = _side(_words(name))
    return not own.side and any("".join(own.rest[k:]) in _HIPS for k in range(len(own.rest)))


def upward(along: npt.NDArray[np.float64]) -> tuple[str, float]:
    """The axis of most vectors from feet to head ``[n, 3]``, such as "-z", and the share of them
    that are within 60 degrees of it; 0 for none.
    """
    share = along_axes(along)
    axis = max(share, key=lambda one: share[one])
    return axis, share[axis]


def along_axes(along: npt.NDArray[np.float64]) -> dict[str, float]:
    """The share of vectors ``[n, 3]`` that are within 60 degrees of each axis, such as "-z"."""
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    return {
        f"{sign}{axis}": float((factor * along[:, place] > _ALONG).sum()) / max(len(along), 1)
        for place, axis in enumerate("xyz")
        for sign, factor in (("", 1), ("-", -1))
    }


def derive_layout(name: str, joints: Sequence[Joint]) -> tuple[Layout, list[str]]:
    """A layout of a tree, and what was found, for the user.

    Args:
        name: of the layout.
        joints: parents before their children; the first is the root.
    """
    names, swap, notes = _named(joints)
    parents = [joint.parent for joint in joints]
    index = {name: place for place, name in enumerate(names)}
    shoulders = tuple(index.get(f"{side}_upper_arm", -1) for side in ("left", "right"))
    across = None if -1 in shoulders else (shoulders[0], shoulders[1])
    center = index.get("chest", index.get("neck", 0))
    if across is not None:
        center = _meet(parents, *across)
    layout = Layout(name, tuple(names), _edges(parents, center), center, tuple(swap), across)
    notes.append(
        f"center: {names[center]}; "
        + ("no shoulders are found, so nothing is turned" if across is None else "shoulders: "
           + " and ".join(names[joint] for joint in across))
    )  # fmt: skip
    try:
        parts = zip(PARTS, layout.body_parts, strict=True)
        sizes = ", ".join(f"{part.replace('_', ' ')} {len(of)}" for part, of in parts)
        notes.append(f"body parts by their names: joints of {sizes}")
    except ValueError:
        notes.append("body parts: the names do not tell them (SkeleMixCLR needs them in a layout)")
    return layout, notes


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without a namespace; none if letters are left over."""
    bare = re.split(r"[:|]", name)[-1]
    words = _WORD.findall(bare)
    letters = sum(map(len, words))
    return [word.lower() for word in words] if letters == sum(map(str.isalnum, bare)) else []


def _named(joints: Sequence[Joint]) -> tuple[list[str], list[int], list[str]]:
    """The joints' names, which joint each changes places with, and notes."""
    words = _without_prefix([[] if joint.end else _words(joint.name) for joint in joints])
    words = _with_sides(words)
    sided = [_side(one) for one in words]
    pairs = _pairs(sided)
    roles = _roles({sided[left].compact for left, _ in pairs})
    names: list[str] = []
    for joint, own in zip(joints, words, strict=True):
        names.append(_snake(own) or printable(joint.name))
    for place in (place for pair in pairs for place in pair):
        limb = sided[place]
        names[place] = f"{limb.side}_{roles.get(limb.compact) or _snake(limb.rest)}"
    _name_trunk(names, joints, words)
    swap = list(range(len(joints)))
    for left, right in pairs:
        swap[left], swap[right] = right, left
    for place, joint in enumerate(joints):  # parents are named already
        if joint.end:
            names[place] = f"{names[joint.parent]}_end"
    _make_unique(names, joints)
    _pair_ends(swap, joints)
    return names, swap, _notes(joints, names, words, pairs)


def _without_prefix(words: list[list[str]]) -> list[list[str]]:
    """Names without the words that all of them but the root's begin with, such as ``Bip01``."""
    while True:
        first = Counter(own[0] for own in words if len(own) > 1).most_common(1)
        named = [own for own in words[1:] if own]
        if not first or first[0][0] in _SIDES or len(named) < 2:
            return words
        word = first[0][0]
        if not all(own[0] == word and len(own) > 1 for own in named):
            return words
        words = [own[1:] if len(own) > 1 and own[0] == word else own for own in words]


def _with_sides(words: list[list[str]]) -> list[list[str]]:
    """Names with their side as a word, where a first letter tells it: ``lfemur`` and ``rfemur``."""
    known = {tuple(own) for own in words}
    out = []
    for own in words:
        first = own[0] if own else ""
        other = {"l": "r", "r": "l"}.get(first[:1], "")
        paired = len(first) > 2 and (other + first[1:], *own[1:]) in known
        out.append([first[0], first[1:], *own[1:]] if other and paired else own)
    return out


def _side(words: Sequence[str]) -> _Words:
    """The side that a name tells: left and right anywhere, L and R at either end."""
    for place, word in enumerate(words):
        at_end = place in (0, len(words) - 1)
        if word in ("left", "right") or (word in _SIDES and at_end):
            rest = (*words[:place], *words[place + 1 :])
            if rest:
                return _Words(_SIDES[word], rest)
    return _Words("", tuple(words))


def _pairs(sided: Sequence[_Words]) -> list[tuple[int, int]]:
    """Left and right joints that differ by the side alone."""
    places: dict[_Words, list[int]] = {}
    for place, own in enumerate(sided):
        places.setdefault(own, []).append(place)
    found = []
    for own, at in places.items():
        other = places.get(_Words("right", own.rest), [])
        if own.side == "left" and len(at) == len(other) == 1:
            found.append((at[0], other[0]))
    return found


def _roles(known: set[str]) -> dict[str, str]:
    """What the names of a limb's joints stand for, told from those that there are."""
    roles = {}
    for role, names in _LIMBS.items():
        called = next((name for name in names if name in known), None)
        if called is not None:
            roles[called] = role
    if "shoulder" in known:
        if "upper_arm" not in roles.values():
            roles["shoulder"] = "upper_arm"
        elif "collar" not in roles.values():
            roles["shoulder"] = "collar"
    if "leg" in known:
        free = next((r for r in ("upper_leg", "lower_leg") if r not in roles.values()), None)
        if free is not None:
            roles["leg"] = free
    return roles


def _snake(words: Sequence[str]) -> str:
    return re.sub(r"_(?=[0-9])", "", "_".join(words))


def _name_trunk(names: list[str], joints: Sequence[Joint], words: Sequence[Sequence[str]]) -> None:
    """Name the joints where the legs and the arms begin, unless others have these names."""
    for place, own in enumerate(words):
        if "hips" not in names and "".join(own) in _HIPS:
            names[place] = "hips"
    parents = [joint.parent for joint in joints]
    for role, limb, kept in (("hips", "upper_leg", ()), ("chest", "upper_arm", ("hips", "neck"))):
        ends = [f"{side}_{limb}" for side in ("left", "right")]
        if role in names or not set(ends) <= set(names):
            continue
        place = _meet(parents, *(names.index(end) for end in ends))
        if names[place] not in kept and not names[place].startswith(("left_", "right_")):
            names[place] = role


def _make_unique(names: list[str], joints: Sequence[Joint]) -> None:
    """Number the end sites of one joint; of others with one name, keep those of the file."""
    count = Counter(names)
    for place, joint in enumerate(joints):
        if count[names[place]] > 1 and not joint.end:
            names[place] = printable(joint.name)
    taken: set[str] = set()
    for place, name in enumerate(names):
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}{number}", number + 1
        taken.add(unique)
        names[place] = unique


def _pair_ends(swap: list[int], joints: Sequence[Joint]) -> None:
    """End sites change places as their joints do, one by one."""
    ends: dict[int, list[int]] = {}
    for place, joint in enumerate(joints):
        if joint.end:
            ends.setdefault(joint.parent, []).append(place)
    for parent, own in ends.items():
        other = ends.get(swap[parent], [])
        if swap[parent] != parent and len(own) == len(other):
            for one, mirrored in zip(own, other, strict=True):
                swap[one] = mirrored


def _notes(
    joints: Sequence[Joint],
    names: Sequence[str],
    words: Sequence[Sequence[str]],
    pairs: Sequence[tuple[int, int]],
) -> list[str]:
    notes = []
    if pairs:
        some = [f"{joints[left].name} and {joints[right].name}" for left, right in pairs]
        notes.append(f"left and right by their names: {listed(some)}")
    else:
        notes.append("left and right: no names tell them, so no joints are exchanged")
    sides = [_side(own) for own in words]
    renamed = [
        f"{joint.name} is {name}"
        for joint, name, own in zip(joints, names, sides, strict=True)
        if not joint.end and name not in (_snake(own.rest), f"{own.side}_{_snake(own.rest)}")
    ]
    if renamed:
        notes.append(f"joints: {listed(renamed)}")
    return [printable(note) for note in notes]


def listed(some: Sequence[str]) -> str:
    """Names for a message, the first of many."""
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return ", ".join(some[:_SHOWN]) + more


def _meet(parents: Sequence[int], one: int, other: int) -> int:
    """The joint at which the ways from two joints to the root meet."""
    way = set()
    while one >= 0:
        way.add(one)
        one = parents[one]
    while other not in way:
        other = parents[other]
    return other


def _edges(parents: Sequence[int], center: int) -> tuple[tuple[int, int], ...]:
    """Edges towards the center: as from the root, but for those between the two."""
    towards = dict(enumerate(parents))
    joint, before = center, -1
    while joint >= 0:
        towards[joint], before, joint = before, joint, parents[joint]
    return tuple((joint, other) for joint, other in sorted(towards.items()) if other >= 0)

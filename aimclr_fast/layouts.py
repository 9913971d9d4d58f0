"""Skeleton layouts: joint names, the tree of edges, the center, the left-right swap, body parts.

A layout is all the package knows about a skeleton; nothing else assumes a number of joints. The
ones in :data:`LAYOUTS` are built in, a file each in ``skeletons/``; :func:`get_layout` also reads
one from any other YAML file::

    name: hand-3
    joints: [wrist, left_tip, right_tip]      # or a count: 3
    edges: [[left_tip, wrist], [right_tip, wrist]]   # joint -> next joint towards the center
    center: wrist
    swap: names   # left_tip and right_tip; or pairs: [[1, 2]], or the permutation: [0, 2, 1]
    shoulders: [left_tip, right_tip]   # optional: left, right; preprocessing turns them onto x
    parts: {trunk: [...], right_arm: [...], left_arm: [...], right_leg: [...], left_leg: [...]}

``parts`` is optional: the joints of each body part, every joint in one. Without it the parts follow
from the names: a limb begins at a joint called left or right ``shoulder``, ``arm``, ``hip``,
``leg`` or ``thigh``, as in ``left_upper_arm``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ._renamed import with_new_keys

STRATEGIES = ("uniform", "distance", "spatial", "directed")
_MAX_JOINTS = 1000  # a typo must not cost minutes
#: Body parts. Sides are the body's own; the order is that of SkeleMixCLR's parts of NTU RGB+D.
PARTS = ("trunk", "right_arm", "left_arm", "right_leg", "left_leg")
_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
#: Words of a joint that a limb begins at.
_LIMB = re.compile(r"(?<![a-z])(?:(?P<arm>shoulder|arm)|(?P<leg>hip|leg|thigh))(?![a-z])")
# libyaml's parser, where PyYAML has it: the layouts are read at import.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Keys of files that 0.1.0 wrote, and what they are called today.
_RENAMED = {"centre": "center"}
_FIELDS = ("name", "joints", "edges", "center", "swap")
_OPTIONAL = ("shoulders", "parts")


@dataclass(frozen=True)
class Layout:
    """A skeleton: a tree of joints rooted at its center.

    Args:
        name: what a store or a recipe calls it.
        joints: one unique name per joint, ``V`` in all.
        edges: ``V - 1`` pairs (joint, next joint towards the center). They are the bones, too:
            the bone of a joint is ``x[joint] - x[parent]``.
        center: index of the joint that preprocessing moves to the origin and distances start at.
        swap: permutation of the joints that exchanges left and right; its own inverse.
        shoulders: (left, right) joints that preprocessing rotates onto the x axis, or ``None``.
        parts: the joints of each body part, in the order of :data:`PARTS`, or ``None``: then they
            follow from the joints' names (see :attr:`body_parts`).

    Raises:
        ValueError: the fields do not describe one tree rooted at ``center``, a joint name is
            repeated, ``swap`` is not an involution of the ``V`` joints, or ``parts`` do not divide
            them.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    center: int
    swap: tuple[int, ...]
    shoulders: tuple[int, int] | None = None
    parts: tuple[tuple[int, ...], ...] | None = None
    #: The next joint towards the center, for each joint; the center's is itself.
    parents: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _named_parts: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Lists are accepted and frozen, so that a layout stays hashable.
        object.__setattr__(self, "joints", tuple(self.joints))
        object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        object.__setattr__(self, "swap", tuple(self.swap))
        if self.shoulders is not None:
            object.__setattr__(self, "shoulders", tuple(self.shoulders))
        if self.parts is not None:
            object.__setattr__(self, "parts", tuple(tuple(part) for part in self.parts))
        problem = _problem(self)
        if problem:
            raise ValueError(f"layout {self.name!r}: {problem}")
        # At once, and not when first asked for: torch.compile traces no cached property.
        towards = dict(self.edges)
        parents = tuple(towards.get(joint, joint) for joint in range(self.num_joints))
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "_named_parts", _parts_by_name(self))

    @property
    def num_joints(self) -> int:
        """Number of joints, ``V``."""
        return len(self.joints)

    @property
    def body_parts(self) -> tuple[tuple[int, ...], ...]:
        """The joints of each body part, in the order of :data:`PARTS`; every joint is in one.

        Where the layout names no parts, a limb is what hangs from a joint that its name makes a
        shoulder or a hip (see the module's text), and all else is the trunk.

        Raises:
            ValueError: the layout names no parts, and its joints' names do not tell them.
        """
        parts = self.parts or self._named_parts
        if not all(parts):
            lacking = ", ".join(name for name, part in zip(PARTS, parts, strict=True) if not part)
            raise ValueError(
                f"layout {self.name!r} has no body parts, and its joints' names do not tell them "
                f"(none of {lacking}): give the joints of {', '.join(PARTS)} under parts in its "
                "YAML file"
            )
        return parts

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """The pairs of shoulders and of hips, (left, right) each, as far as they are known.

        Without :attr:`shoulders`, and for hips, the joint of a limb that is nearest to the center
        counts; empty for a layout that tells neither.
        """
        parts = self.parts or self._named_parts
        limbs = dict(zip(PARTS, parts, strict=True))

        def begun(limb: str) -> tuple[int, int] | None:
            left, right = limbs[f"left_{limb}"], limbs[f"right_{limb}"]
            if not left or not right:
                return None
            return min(left, key=self._depth), min(right, key=self._depth)

        return tuple(pair for pair in (self.shoulders or begun("arm"), begun("leg")) if pair)

    def _depth(self, joint: int) -> int:
        """Number of bones to the center."""
        return 0 if joint == self.center else 1 + self._depth(self.parents[joint])

    def adjacency(self, strategy: str = "spatial") -> npt.NDArray[np.float32]:
        """Normalized adjacency of self and one-hop neighbors, split into parts.

        Each column of A + I is divided by its sum. ``uniform`` keeps one part; ``distance`` has
        hop 0 and hop 1; ``spatial`` (ST-GCN, Yan et al. 2018, section 3.3) has hop 0, hop 1 where
        the row's joint is as far from the center as the column's or farther, and hop 1 where it is
        nearer. As in the published AimCLR graphs, distances are known up to one hop only: joints
        farther from the center than that all count as equally far. ``directed`` (SkeleMixCLR's
        graph, after Shi et al. 2019) has hop 0 with weight 1, the edge from each joint's parent
        with weight 1, and those from its children, whose weights sum to 1.

        Returns:
            float32 ``[parts, V, V]``; a graph convolution computes ``x[v] @ A[part, v, w]``.

        Raises:
            ValueError: ``strategy`` is not uniform, distance, spatial or directed.
        """
        eye = np.eye(self.num_joints)
        to_child = np.zeros_like(eye)
        for joint, parent in self.edges:
            to_child[parent, joint] = 1.0
        if strategy == "directed":
            to_parent = to_child.T / np.maximum(to_child.sum(axis=1), 1)
            return np.stack([eye, to_child, to_parent]).astype(np.float32)
        hop1 = to_child + to_child.T
        degree = (eye + hop1).sum(axis=0)
        eye, hop1 = eye / degree, hop1 / degree
        if strategy == "uniform":
            parts = [eye + hop1]
        elif strategy == "distance":
            parts = [eye, hop1]
        elif strategy == "spatial":
            distance = np.full(self.num_joints, np.inf)
            distance[hop1[self.center] > 0] = 1.0
            distance[self.center] = 0.0
            nearer = distance[:, None] < distance[None, :]
            parts = [eye, np.where(nearer, 0.0, hop1), np.where(nearer, hop1, 0.0)]
        else:
            raise ValueError(f"unknown adjacency strategy {strategy!r}: use one of {STRATEGIES}")
        return np.stack(parts).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings for YAML or JSON; :func:`layout_from_dict` reads them back."""
        data: dict[str, Any] = {
            "name": self.name,
            "joints": list(self.joints),
            "edges": [list(edge) for edge in self.edges],
            "center": self.center,
            "swap": list(self.swap),
        }
        if self.shoulders is not None:
            data["shoulders"] = list(self.shoulders)
        if self.parts is not None:
            data["parts"] = dict(zip(PARTS, map(list, self.parts), strict=True))
        return data


def same_skeleton(one: Layout, other: Layout) -> bool:
    """Whether sequences of one layout mean the same in the other."""
    return (one.joints, one.parents, one.swap) == (other.joints, other.parents, other.swap)


def _parts_by_name(layout: Layout) -> tuple[tuple[int, ...], ...]:
    """Body parts by the names of the joints that limbs begin at; empty ones are not there."""
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for joint in range(layout.num_joints):
        at = joint
        while (limb := _limb_begun(layout.joints[at])) is None and at != layout.center:
            at = layout.parents[at]
        parts[limb or "trunk"].append(joint)
    return tuple(tuple(joints) for joints in parts.values())


def _limb_begun(name: str) -> str | None:
    """The limb that begins at a joint of this name, if one does."""
    side, limb = _SIDE.search(name), _LIMB.search(name)
    return f"{side[0]}_{limb.lastgroup}" if side and limb else None


def _problem(layout: Layout) -> str | None:
    """What is wrong with a layout, or None."""
    size = len(layout.joints)

    def outside(*joints: Any) -> bool:
        return any(type(joint) is not int or not 0 <= joint < size for joint in joints)

    if not isinstance(layout.name, str) or not layout.name:
        return "name must be a non-empty string"
    if not size or not all(isinstance(name, str) and name for name in layout.joints):
        return "joints must be one or more non-empty names"
    if len(set(layout.joints)) != size:
        repeated = sorted({name for name in layout.joints if layout.joints.count(name) > 1})
        return f"joints: names must be unique, repeated: {', '.join(repeated)}"
    if outside(layout.center):
        return f"center: {layout.center!r} is not a joint index (0 to {size - 1})"
    for edge in layout.edges:
        if len(edge) != 2 or outside(*edge):
            return f"edges: {list(edge)} is not a pair of joint indices (0 to {size - 1})"
    if problem := _problem_of_tree(layout):
        return problem
    if len(layout.swap) != size or outside(*layout.swap):
        return f"swap: must list a joint index (0 to {size - 1}) for each of the {size} joints"
    if any(layout.swap[other] != joint for joint, other in enumerate(layout.swap)):
        return "swap: must be its own inverse (if a goes to b, then b goes to a)"
    if layout.shoulders is not None:
        pair = layout.shoulders
        if len(pair) != 2 or outside(*pair) or pair[0] == pair[1]:
            return f"shoulders: {list(pair)} is not a pair of different joint indices"
    return None if layout.parts is None else _problem_of_parts(layout.parts, size)


def _problem_of_parts(parts: tuple[tuple[int, ...], ...], size: int) -> str | None:
    if len(parts) != len(PARTS) or not all(parts):
        return f"parts: must have joints for each of {', '.join(PARTS)}"
    if sorted(joint for part in parts for joint in part) != list(range(size)):
        return f"parts: must have each joint index (0 to {size - 1}) in one part"
    return None


def _problem_of_tree(layout: Layout) -> str | None:
    towards: dict[int, int] = {}
    for joint, neighbor in layout.edges:
        if joint in towards:
            return f"edges: joint {joint} has two edges towards the center"
        towards[joint] = neighbor
    if layout.center in towards:
        return f"edges: the center, joint {layout.center}, must not have an edge of its own"
    for start in range(len(layout.joints)):
        joint = start
        for _ in layout.joints:
            joint = towards.get(joint, joint)
        if joint != layout.center:
            return f"edges: not one tree, joint {start} does not lead to the center {layout.center}"
    return None


def _known_fields(data: Any, source: str) -> dict[str, Any]:
    """The fields of a layout under today's names; refuses missing and unknown ones."""
    try:
        fields = with_new_keys(data if isinstance(data, Mapping) else {}, _RENAMED)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    missing = [field for field in _FIELDS if field not in fields]
    unknown = [str(field) for field in fields if field not in _FIELDS + _OPTIONAL]
    if missing or unknown:
        kind, wrong = ("missing", missing) if missing else ("unknown", unknown)
        known = ", ".join(_FIELDS + _OPTIONAL)
        raise ValueError(f"{source}: {kind} {', '.join(wrong)}; a layout has the fields {known}")
    return fields


def layout_from_dict(data: Any, *, source: str = "layout") -> Layout:
    """Build a layout from the fields of a YAML or JSON mapping (see the module's text).

    Args:
        data: the mapping; joints may be referred to by index or by name.
        source: what an error names, for instance the file that the mapping came from.

    Raises:
        ValueError: a field is missing, unknown or invalid; names the source and the field.
    """
    data = _known_fields(data, source)
    joints = data["joints"]
    if type(joints) is int and 0 < joints <= _MAX_JOINTS:
        joints = [f"joint_{index}" for index in range(joints)]
    if not _is_list(joints):
        raise ValueError(f"{source}: joints: expected names, or a count from 1 to {_MAX_JOINTS}")
    indices = {name: index for index, name in enumerate(joints) if isinstance(name, str)}

    def joint(value: Any, field: str) -> int:
        if isinstance(value, str) and value in indices:
            return indices[value]
        if type(value) is int and 0 <= value < len(joints):
            return value
        raise ValueError(f"{source}: {field}: {value!r} is neither a joint's name nor its index")

    def pair(value: Any, field: str) -> tuple[int, int]:
        if not _is_list(value) or len(value) != 2:
            raise ValueError(f"{source}: {field}: expected a pair of joints, got {value!r}")
        return joint(value[0], field), joint(value[1], field)

    for key in ("edges", "swap"):
        if not _is_list(data[key]) and (key, data[key]) != ("swap", "names"):
            raise ValueError(f"{source}: {key}: expected a list, got {data[key]!r}")
    if data["swap"] == "names":
        swap = [joint(_mirrored(str(name)), "swap") for name in joints]
    elif all(_is_list(item) for item in data["swap"]):
        swap = list(range(len(joints)))
        for item in data["swap"]:
            left, right = pair(item, "swap")
            swap[left], swap[right] = right, left
    else:
        swap = [joint(item, "swap") for item in data["swap"]]
    shoulders = data.get("shoulders")
    parts = None if data.get("parts") is None else _listed_parts(data["parts"], joint, source)
    edges = tuple(pair(item, "edges") for item in data["edges"])
    center = joint(data["center"], "center")
    across = None if shoulders is None else pair(shoulders, "shoulders")
    try:
        return Layout(data["name"], tuple(joints), edges, center, tuple(swap), across, parts)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _listed_parts(
    parts: Any, joint: Callable[[Any, str], int], source: str
) -> tuple[tuple[int, ...], ...]:
    """The joints of each body part of a mapping."""
    if not isinstance(parts, Mapping) or set(parts) != set(PARTS):
        raise ValueError(f"{source}: parts: expected the joints of each of {', '.join(PARTS)}")
    for name in PARTS:
        if not _is_list(parts[name]):
            raise ValueError(f"{source}: parts: expected a list for {name}, got {parts[name]!r}")
    return tuple(tuple(joint(item, "parts") for item in parts[name]) for name in PARTS)


def layout_from_yaml(path: str | os.PathLike[str]) -> Layout:
    """Read a layout from a YAML file (fields as in the module's text).

    Raises:
        ValueError: the file cannot be read, is not YAML, or a field is invalid; names both.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot read the layout: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    return layout_from_dict(data, source=str(path))


def layout_to_yaml(layout: Layout) -> str:
    """A layout as the text of a YAML file that people can edit: joints by name.

    :func:`layout_from_yaml` reads the same layout back.
    """
    names = layout.joints

    def named(joints: Sequence[int]) -> list[str]:
        return [names[joint] for joint in joints]

    data: dict[str, Any] = {
        "name": layout.name,
        "joints": list(names),
        "edges": [named(edge) for edge in layout.edges],
        "center": names[layout.center],
        "swap": [named((one, other)) for one, other in enumerate(layout.swap) if one < other],
    }
    if layout.shoulders is not None:
        data["shoulders"] = named(layout.shoulders)
    if layout.parts is not None:
        data["parts"] = {part: named(of) for part, of in zip(PARTS, layout.parts, strict=True)}
    return yaml.safe_dump(
        data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=98
    )


def get_layout(spec: str | os.PathLike[str] | Layout) -> Layout:
    """Return a layout given as itself, by a built-in name, or as a path to a YAML file.

    Raises:
        ValueError: no such built-in name (the message lists them), or the file is invalid.
        TypeError: it is none of these.
    """
    if isinstance(spec, Layout):
        return spec
    if not isinstance(spec, str | os.PathLike):
        raise TypeError(f"layout must be a name, a path or a Layout, got {type(spec).__name__}")
    if isinstance(spec, str) and spec in LAYOUTS:
        return LAYOUTS[spec]
    if Path(spec).suffix.lower() in (".yaml", ".yml"):
        return layout_from_yaml(spec)
    raise ValueError(
        f"unknown layout {str(spec)!r}: use one of {', '.join(LAYOUTS)}, or a path to a .yaml file"
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _mirrored(name: str) -> str:
    """A joint's name on the other side: ``left_knee`` for ``right_knee``."""
    return _SIDE.sub(lambda word: "right" if word[0] == "left" else "left", name)


def _read_built_in() -> dict[str, Layout]:
    files = (Path(__file__).parent / "skeletons").glob("*.yaml")
    return {file.stem: layout_from_yaml(file) for file in sorted(files, key=lambda file: file.stem)}


#: The built-in layouts, by name: one YAML file each.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(_read_built_in())

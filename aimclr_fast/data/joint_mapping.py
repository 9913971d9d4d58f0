"""Joints of one skeleton that are joints of another, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aimclr_fast.layouts import Layout

LEAST = 0.5  # of the encoder's joints that must be there

# Names of the same joint in different layouts. A segment (an upper arm) stands for the joint at
# which it starts. Where a skeleton has several names of one joint, the first here is meant.
_TRUNK = {
    "pelvis": "spine_base", "hips": "spine_base", "mid_hip": "spine_base",
    "hip_centre": "spine_base", "hip_center": "spine_base", "waist": "spine_base",
    "spine": "spine_mid", "torso": "spine_mid",
    "shoulder_centre": "spine_shoulder", "shoulder_center": "spine_shoulder",
    "thorax": "spine_shoulder", "chest": "spine_shoulder",
}  # fmt: skip
_SEGMENTS = {
    "upper_arm": "shoulder", "forearm": "elbow", "lower_arm": "elbow", "hand": "wrist",
    "upper_leg": "hip", "lower_leg": "knee", "foot": "ankle", "toes": "foot",
}  # fmt: skip
#: Joints so near each other that one is put where the other is, if the data have only that one.
_BESIDE = {
    "wrist": "hand", "hand": "wrist", "ankle": "foot", "foot": "ankle",
    "spine_shoulder": "neck", "neck": "spine_shoulder",
}  # fmt: skip


class JointMap(NamedTuple):
    """Where each joint of an encoder's skeleton comes from.

    Attributes:
        source: joint of the data's skeleton for each joint of the encoder's.
        named: (encoder's joint, data's joint) that were matched by name.
        filled: (encoder's joint without a match, encoder's joint whose position it takes), which
            is the nearest along the encoder's skeleton.
        unused: the data's joints that no joint of the encoder was matched with.
    """

    source: tuple[int, ...]
    named: tuple[tuple[str, str], ...]
    filled: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]

    def describe(self) -> str:
        """One line for messages."""
        text = f"{len(self.named)} of {len(self.source)} joints matched by name"
        if self.filled:
            pairs = ", ".join(f"{missing} at {at}" for missing, at in self.filled)
            text += f"; missing joints are put at their nearest neighbor: {pairs}"
        if self.unused:
            text += f"; not used: {', '.join(self.unused)}"
        return text


def canonical_names(layout: Layout) -> tuple[str, ...]:
    """The joints of a layout under names that are the same in every layout."""
    segments = any(name.endswith("upper_arm") for name in layout.joints)
    names = []
    for name in layout.joints:
        side, _, part = name.partition("_")
        if side in ("left", "right") and segments:
            name = f"{side}_{_segment_start(side, part, layout)}"
        names.append(_TRUNK.get(name, name))
    return tuple(names)


def _by_name(layout: Layout) -> dict[str, int]:
    """Joints by canonical name; of several under one name that which has it, or the likeliest."""
    order = list(_TRUNK)
    names = list(enumerate(canonical_names(layout)))

    def rank(joint: int, canonical: str) -> int:
        own = layout.joints[joint]
        return -1 if own == canonical else order.index(own) if own in order else len(order)

    # The last of a name stays in a dict.
    return {name: joint for joint, name in sorted(names, key=lambda each: -rank(*each))}


def _segment_start(side: str, part: str, layout: Layout) -> str:
    """The joint at which a segment starts, unless that is one of its own: a wrist beside a hand."""
    start = _SEGMENTS.get(part, part)
    if start == part or f"{side}_{start}" not in layout.joints:
        return start
    return part if _segment_start(side, start, layout) == start else start


def _beside(name: str) -> str:
    """The joint so near that it can stand in; empty for none."""
    side, _, part = name.partition("_")
    if side in ("left", "right"):
        return f"{side}_{_BESIDE[part]}" if part in _BESIDE else ""
    return _BESIDE.get(name, "")


def map_joints(encoder: Layout, data: Layout, given: Mapping[str, str] | None = None) -> JointMap:
    """Match the joints of two layouts by name.

    Args:
        encoder: the skeleton an encoder takes.
        data: the skeleton that there is.
        given: matches (encoder's joint to data's joint) that go first.

    Raises:
        ValueError: a given joint does not exist, or fewer than half of the encoder's joints have a
            match.
    """
    given = dict(given or {})
    for name, layout in [(n, encoder) for n in given] + [(n, data) for n in given.values()]:
        if name not in layout.joints:
            raise ValueError(
                f"layout {layout.name!r} has no joint {name!r}; it has {', '.join(layout.joints)}"
            )
    joints = _by_name(data)
    found: dict[int, int] = {}
    names = canonical_names(encoder)
    for joint, canonical in enumerate(names):
        if encoder.joints[joint] in given:
            found[joint] = data.joints.index(given[encoder.joints[joint]])
        elif canonical in joints:
            found[joint] = joints[canonical]
    nearest: dict[int, int] = {}
    for joint, canonical in enumerate(names):
        other = _beside(canonical)
        if joint in found or other not in joints:
            continue
        if other in names:
            nearest[joint] = names.index(other)
        else:
            found[joint] = joints[other]
    if len(found) < LEAST * encoder.num_joints:
        missing = [name for j, name in enumerate(encoder.joints) if j not in found]
        raise ValueError(
            f"layout {data.name!r} has only {len(found)} of the {encoder.num_joints} joints of "
            f"layout {encoder.name!r} (missing: {', '.join(missing)})"
        )
    for joint in range(encoder.num_joints):
        nearest.setdefault(joint, _nearest(encoder, joint, found))
    used = set(found.values())
    unmatched = [joint for joint in range(encoder.num_joints) if joint not in found]
    return JointMap(
        tuple(found[nearest[joint]] for joint in range(encoder.num_joints)),
        tuple((encoder.joints[j], data.joints[at]) for j, at in found.items()),
        tuple((encoder.joints[j], encoder.joints[nearest[j]]) for j in unmatched),
        tuple(name for joint, name in enumerate(data.joints) if joint not in used),
    )


def _nearest(layout: Layout, joint: int, found: Mapping[int, int]) -> int:
    """The found joint that is fewest bones away; ties go to the one nearer the center."""
    ring, seen = [joint], {joint}
    while True:
        hits = [at for at in ring if at in found]
        if hits:
            return hits[0]
        # Parents before children, so that a finger falls to the hand and not beyond.
        after = [layout.parents[at] for at in ring]
        after += [child for child, parent in layout.edges if parent in ring]
        ring = [at for at in dict.fromkeys(after) if at not in seen]
        seen.update(ring)

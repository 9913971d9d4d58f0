"""BVH files, and where their joints are: 4 x 4 matrices, joint by joint and frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

#: A standing person in cm, arms along x, facing z: joint, its parent, its offset.
PERSON = (
    ("hips", "", (0, 0, 0)), ("spine", "hips", (0, 12, 0)), ("chest", "spine", (0, 20, 0)),
    ("neck", "chest", (0, 22, 0)), ("head", "neck", (0, 10, 0)),
    *(
        (f"{side}_{joint}", f"{side}_{parent}" if parent in ("collar", "upper_arm", "lower_arm",
         "upper_leg", "lower_leg", "foot") else parent, (sign * x, y, z))
        for side, sign in (("left", 1), ("right", -1))
        for joint, parent, (x, y, z) in (
            ("collar", "chest", (4, 18, 0)), ("upper_arm", "collar", (12, 0, 0)),
            ("lower_arm", "upper_arm", (28, 0, 0)), ("hand", "lower_arm", (25, 0, 0)),
            ("upper_leg", "hips", (9, -4, 0)), ("lower_leg", "upper_leg", (0, -42, 0)),
            ("foot", "lower_leg", (0, -40, 0)), ("toes", "foot", (0, -6, 12)),
        )
    ),
)  # fmt: skip
TIPS = {"head": (0, 16, 0), "left_hand": (0, 0, 0), "right_hand": (0, 0, 0)}
ROTATIONS = ("Zrotation", "Xrotation", "Yrotation")
POSITIONS = ("Xposition", "Yposition", "Zposition")


def usual_channels(joint: str) -> Sequence[str]:
    """Positions at the root alone."""
    return (*POSITIONS, *ROTATIONS) if joint == "hips" else ROTATIONS


def bvh_text(
    *,
    frames: int = 12,
    seed: int = 0,
    person: Sequence[tuple[str, str, Sequence[float]]] = PERSON,
    tips: Mapping[str, Sequence[float]] = TIPS,
    channels: Callable[[str], Sequence[str]] = usual_channels,
    called: Callable[[str], str] = str,
    scale: float = 1.0,
    time: str = "0.0333333",
    above: tuple[str, Sequence[str]] | None = None,
) -> str:
    """A file of a person who walks off and moves all joints.

    Args:
        frames: how many.
        seed: of the motion.
        person: joints, parents and offsets.
        tips: offsets of end sites.
        channels: of a joint.
        called: what the file calls a joint.
        scale: of all lengths.
        time: of a frame.
        above: a root above the hips, and its channels.
    """
    rng = np.random.default_rng(seed)
    offsets = {joint: np.array(offset) * scale for joint, _, offset in person}
    lines: list[str] = ["HIERARCHY"]
    columns: list[np.ndarray] = []
    walk = np.linspace(0, 1, frames)[:, None] * np.array([80.0, 0, 40]) + [3, 97, -20]

    def joint_lines(joint: str, depth: int, word: str) -> None:
        pad = "\t" * depth
        offset = " ".join(f"{value:g}" for value in offsets[joint])
        own = channels(joint)
        lines.extend([f"{pad}{word} {called(joint)}", f"{pad}{{", f"{pad}\tOFFSET {offset}"])
        lines.append(f"{pad}\tCHANNELS {len(own)} {' '.join(own)}")
        for channel in own:
            axis = "XYZ".index(channel[0])
            if channel.endswith("position"):
                moved = walk[:, axis] * scale if joint == "hips" else offsets[joint][axis]
                columns.append(np.broadcast_to(moved, frames))
            else:
                swing = rng.uniform(5, 20) * np.sin(np.linspace(0, rng.uniform(2, 6), frames))
                columns.append(swing + rng.uniform(-8, 8))
        for child, parent, _ in person:
            if parent == joint:
                joint_lines(child, depth + 1, "JOINT")
        if joint in tips:
            tip = " ".join(f"{value * scale:g}" for value in tips[joint])
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {tip}", f"{pad}\t}}"])
        lines.append(f"{pad}}}")

    if above is not None:
        name, own = above
        lines.extend([f"ROOT {name}", "{", "OFFSET 0 0 0", f"CHANNELS {len(own)} {' '.join(own)}"])
        columns.extend(np.zeros((len(own), frames)))
    joint_lines(person[0][0], 0, "ROOT" if above is None else "JOINT")
    lines.extend(["}"] * (above is not None))
    lines.extend(["MOTION", f"Frames: {frames}", f"Frame Time: {time}"])
    lines.extend(" ".join(f"{value:.6f}" for value in row) for row in np.column_stack(columns))
    return "\n".join(lines) + "\n"


def _matrix(channel: str, value: float) -> np.ndarray:
    made = np.eye(4)
    axis = "XYZ".index(channel[0])
    if channel.endswith("position"):
        made[axis, 3] = value
        return made
    one, other = (axis + 1) % 3, (axis + 2) % 3
    cos, sin = np.cos(np.radians(value)), np.sin(np.radians(value))
    made[[one, other], [one, other]] = cos
    made[other, one], made[one, other] = sin, -sin
    return made


def places(text: str) -> dict[str, np.ndarray]:
    """Where each joint of a sound file is, ``[T, 3]``; end sites are ``NAME_end``."""
    hierarchy, motion = text.split("MOTION")
    words = hierarchy.split()[1:]
    rows = [[float(word) for word in row.split()] for row in motion.strip().splitlines()[2:]]
    found: dict[str, list[np.ndarray]] = {}
    position = 0

    def read(above: list[np.ndarray], parent: str, column: int) -> int:
        """Read the joint that begins here; returns the next column of the values."""
        nonlocal position
        kind, name = words[position], words[position + 1]
        name = f"{parent}_end" if kind == "End" else name
        offset = np.array([float(word) for word in words[position + 4 : position + 7]])
        position += 7
        channels = []
        if words[position] == "CHANNELS":
            count = int(words[position + 1])
            channels = words[position + 2 : position + 2 + count]
            position += 2 + count
        world = []
        for t, row in enumerate(rows):
            shift, turn = np.eye(4), np.eye(4)
            shift[:3, 3] = offset
            for k, channel in enumerate(channels):
                made = _matrix(channel, row[column + k])
                if channel.endswith("position"):
                    axis = "XYZ".index(channel[0])
                    shift[axis, 3] = made[axis, 3]
                else:
                    turn = turn @ made
            world.append(above[t] @ shift @ turn)
        found[name] = [one[:3, 3] for one in world]
        column += len(channels)
        while words[position] != "}":
            column = read(world, name, column)
        position += 1
        return column

    read([np.eye(4)] * len(rows), "", 0)
    return {name: np.array(each) for name, each in found.items()}

"""ASF and AMC files, and where their bones end: one matrix after the other, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: A standing person in inches / 0.45: bone, its parent, direction, length, axis, order, channels.
PERSON = (
    ("lhipjoint", "root", (0.7, -0.7, 0.2), 2.6, (0, 0, 0), "XYZ", ""),
    ("lfemur", "lhipjoint", (0.34, -0.94, 0), 7.3, (0, 0, 20), "XYZ", "rx ry rz"),
    ("ltibia", "lfemur", (0.34, -0.94, 0), 7.6, (0, 0, 20), "XYZ", "rx"),
    ("lfoot", "ltibia", (0.1, -0.2, 1), 2.2, (-90, 0, 20), "XYZ", "rx rz"),
    ("rhipjoint", "root", (-0.7, -0.7, 0.2), 2.6, (0, 0, 0), "XYZ", ""),
    ("rfemur", "rhipjoint", (-0.34, -0.94, 0), 7.3, (0, 0, -20), "XYZ", "rx ry rz"),
    ("rtibia", "rfemur", (-0.34, -0.94, 0), 7.6, (0, 0, -20), "XYZ", "rx"),
    ("rfoot", "rtibia", (-0.1, -0.2, 1), 2.2, (-90, 0, -20), "XYZ", "rx rz"),
    ("lowerback", "root", (0, 1, -0.1), 2.2, (10, 5, 3), "ZYX", "rz ry rx"),
    ("thorax", "lowerback", (0, 1, 0), 4.4, (0, 0, 0), "XYZ", "rx ry rz"),
    ("lowerneck", "thorax", (0, 1, 0.1), 3.4, (0, 0, 0), "YZX", "rx ry rz"),
    ("head", "lowerneck", (0, 1, 0), 3.6, (0, 0, 0), "XYZ", "rx ry rz"),
    ("lclavicle", "thorax", (0.94, 0.34, 0), 3.5, (0, 0, 0), "XYZ", "ry rz"),
    ("lhumerus", "lclavicle", (1, 0, 0), 8.6, (180, -30, -90), "XYZ", "rx ry rz"),
    ("lradius", "lhumerus", (1, 0, 0), 4.9, (180, -30, -90), "XYZ", "rx"),
    ("lhand", "lradius", (1, 0, 0), 2.1, (0, 90, 90), "XYZ", "rx rz"),
    ("lthumb", "lradius", (0.7, 0, 0.7), 0.8, (-90, 45, 0), "XYZ", "rx rz"),
    ("rclavicle", "thorax", (-0.94, 0.34, 0), 3.5, (0, 0, 0), "XYZ", "ry rz"),
    ("rhumerus", "rclavicle", (-1, 0, 0), 8.6, (180, 30, 90), "XYZ", "rx ry rz"),
    ("rradius", "rhumerus", (-1, 0, 0), 4.9, (180, 30, 90), "XYZ", "rx"),
    ("rhand", "rradius", (-1, 0, 0), 2.1, (0, -90, -90), "XYZ", "rx rz"),
    ("rthumb", "rradius", (-0.7, 0, 0.7), 0.8, (-90, -45, 0), "XYZ", "rx rz"),
)  # fmt: skip
INCH = 0.0254


def asf_text(
    person: Sequence[tuple] = PERSON,
    *,
    length: float | None = 0.45,
    angle: str = "deg",
    order: str = "TX TY TZ RX RY RZ",
    axis: str = "XYZ",
    position: str = "0 0 0",
    orientation: str = "0 0 0",
) -> str:
    """A skeleton, as Vicon's programs write it."""
    unit = np.pi / 180 if angle == "rad" else 1.0
    lines = ["# AST/ASF file", ":version 1.10", ":name TEST", ":units", "  mass 1.0"]
    lines += [f"  length {length}"] if length is not None else []
    lines += [f"  angle {angle}", ":documentation", "   made for a test", ":root"]
    lines += [f"   order {order}", f"   axis {axis}", f"   position {position}"]
    lines += [f"   orientation {orientation}", ":bonedata"]
    for number, (name, _, direction, long, own, letters, dof) in enumerate(person, start=1):
        lines += ["  begin", f"     id {number}", f"     name {name}"]
        lines += [f"     direction {' '.join(map(str, direction))}", f"     length {long}"]
        lines += [f"     axis {' '.join(f'{one * unit:.12g}' for one in own)}  {letters}"]
        if dof:
            limits = [
                f"{'limits' if not k else ''} (-180.0 180.0)" for k in range(len(dof.split()))
            ]
            lines += [f"    dof {dof}", *limits]
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for parent in dict.fromkeys(parent for _, parent, *_ in person):
        lines += ["    " + " ".join([parent, *(one[0] for one in person if one[1] == parent)])]
    return "\n".join([*lines, "  end"]) + "\n"


def values_of(
    frames: int = 8, seed: int = 0, person: Sequence[tuple] = PERSON, root: int = 6
) -> list[dict[str, list[float]]]:
    """Values of each bone in each frame: a person who walks off and moves all joints."""
    rng = np.random.default_rng(seed)
    bones = {name: len(dof.split()) for name, *_, dof in person if dof}
    base = {name: rng.uniform(-15, 15, count) for name, count in bones.items()}
    swing = {name: rng.uniform(2, 12, count) for name, count in bones.items()}
    out = []
    for t in range(frames):
        place = [3 + t * 0.4, 17.5 + 0.1 * np.sin(t), -40 + t * 0.2, 5 * np.sin(t / 3), 30.0, 4.0]
        own = {"root": [round(float(value), 5) for value in place[:root]]}
        for name in bones:
            moved = base[name] + swing[name] * np.sin(t / 3 + len(name))
            own[name] = [round(float(value), 5) for value in moved]
        out.append(own)
    return out


def amc_text(values: Sequence[Mapping[str, Sequence[float]]], *, angle: str = "deg") -> str:
    """Motion, as Vicon's programs write it."""
    unit = np.pi / 180 if angle == "rad" else 1.0
    lines = ["#!OML:ASF C:\\USERDATA\\test.ASF", ":FULLY-SPECIFIED"]
    lines += [":DEGREES" if angle == "deg" else ":RADIANS"]
    for number, frame in enumerate(values, start=1):
        lines.append(str(number))
        for name, own in frame.items():
            turned = [one * (1 if name == "root" and k < 3 else unit) for k, one in enumerate(own)]
            lines.append(" ".join([name, *(f"{one:.12g}" for one in turned)]))
    return "\n".join(lines) + "\n"


def _turn(letter: str, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    one, other = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[letter]
    made = np.eye(3)
    made[one, one] = made[other, other] = cos
    made[other, one], made[one, other] = sin, -sin
    return made


def ends(
    values: Sequence[Mapping[str, Sequence[float]]], person: Sequence[tuple] = PERSON
) -> dict[str, np.ndarray]:
    """Where each bone ends, ``[T, 3]``, of motion with the usual root."""
    found: dict[str, list[np.ndarray]] = {}
    for frame in values:
        place, turned = {"root": np.array(frame["root"][:3])}, {"root": np.eye(3)}
        for letter, degrees in zip("xyz", frame["root"][3:], strict=True):
            turned["root"] = _turn(letter, degrees) @ turned["root"]
        for name, parent, direction, long, own, letters, dof in person:
            frame_of_bone = np.eye(3)
            for letter, degrees in zip(letters.lower(), own, strict=True):
                frame_of_bone = _turn(letter, degrees) @ frame_of_bone
            angles = dict(zip(dof.split(), frame.get(name, ()), strict=True))
            moved = np.eye(3)
            for letter in letters.lower():
                moved = _turn(letter, angles.get(f"r{letter}", 0.0)) @ moved
            turned[name] = turned[parent] @ frame_of_bone @ moved @ np.linalg.inv(frame_of_bone)
            unit = np.array(direction) / np.linalg.norm(direction)
            place[name] = place[parent] + turned[name] @ unit * long
        for name, where in place.items():
            found.setdefault(name, []).append(where)
    return {name: np.array(each) for name, each in found.items()}

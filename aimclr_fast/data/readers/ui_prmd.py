"""UI-PRMD (Vakanski et al., Data 2018): Kinect positions and angles, text or gzipped text.

Each line of ``m01_s01_e01_positions.txt`` has 22 x 3 numbers: where a joint is, in its parent's
frame of reference; ``..._angles.txt`` has its three Euler angles in degrees. Names that end in
``_inc`` are movements done incorrectly. Absolute positions follow by forward kinematics.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._base import (
    UNITS,
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_label,
    check_positions,
)
from aimclr_fast.data.readers._files import Entry, list_entries
from aimclr_fast.data.readers._names import UI_PRMD
from aimclr_fast.data.readers._text import read_table
from aimclr_fast.layouts import get_layout

SUMMARY = "UI-PRMD: the Kinect folders of positions and angles (.txt or .txt.gz)"
OPTIONS = ("max_bodies",)
CITATION = (
    "A. Vakanski, H.-p. Jun, D. Paul, R. Baker. A Data Set of Human Body Movements for Physical "
    "Rehabilitation Exercises. Data 2018, 3(1), 2. https://doi.org/10.3390/data3010002"
)
SPLITS = {"xsub": {"column": "subject", "train": [1, 3, 5, 7, 9]}}
#: The chain of joints: parent of each, -1 for the waist.
PARENTS = (-1, 0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20)
_NAME = re.compile(
    r"m(?P<movement>\d\d)_s(?P<subject>\d\d)_e(?P<episode>\d\d)_(?P<what>positions|angles)"
    r"(?P<incorrect>_inc)?\.txt"
)
_LAYOUT = "ui-prmd"
# All bones of a person together, in meters: a decade wide, so that one unit fits at most.
_BONES = (1.5, 15.0)


@dataclass(frozen=True)
class Pair:
    """The two files of a recording, and the numbers in their name."""

    positions: Entry
    angles: Entry
    movement: int
    subject: int
    episode: int
    incorrect: int


def plan(source: Path, options: Options) -> Plan:
    """One sample per pair of files; 20 classes, each movement done correctly and incorrectly."""
    listing = list_entries(
        source, lambda path: path.endswith((".txt", ".txt.gz")) and "vicon" not in path
    )
    found: dict[tuple[int, int, int, int], dict[str, Entry]] = {}
    left_out = listing.left_out
    for entry in listing.entries:
        match = _NAME.fullmatch(entry.name)
        if match is None:
            reason = "is not named like m01_s01_e01_positions.txt"
            left_out.append(Problem(entry.shown, reason, expected=True))
            continue
        incorrect = int(match["incorrect"] is not None)
        key = (int(match["movement"]), int(match["subject"]), int(match["episode"]), incorrect)
        if match["what"] in found.setdefault(key, {}):
            left_out.append(Problem(entry.shown, "appears twice"))
        found[key].setdefault(match["what"], entry)
    units = []
    for key, files in sorted(found.items()):
        if len(files) == 2:
            units.append(Pair(files["positions"], files["angles"], *key))
        else:
            (what, entry), other = files.popitem(), {"positions": "angles", "angles": "positions"}
            left_out.append(Problem(entry.shown, f"has no file of {other[what]}"))
    if not found:
        raise ReadError(str(source), "holds no files named like m01_s01_e01_positions.txt")
    how = ("correct", "incorrect")
    return Plan(
        layout=get_layout(_LAYOUT),
        bodies=options.max_bodies or 1,
        units=units,
        read=functools.partial(read, bodies=options.max_bodies or 1),
        classes=tuple(f"{name}, {done}" for name in UI_PRMD for done in how),
        splits=SPLITS,
        source="UI-PRMD, Kinect v2 recordings, positions by forward kinematics",
        citation=CITATION,
        left_out=left_out,
        notes=listing.notes,
        exact=True,
        normalize="frame",  # as the embedded store
    )


def read(pair: Pair, *, bodies: int) -> Readings:
    """Read one pair of files."""
    where = pair.positions.shown
    columns = len(PARENTS) * 3
    offsets = read_table(pair.positions.read(), columns, where)
    angles = read_table(pair.angles.read(), columns, pair.angles.shown)
    if offsets.shape != angles.shape or not len(offsets):
        raise ReadError(
            where, f"{len(offsets)} frames of positions, {len(angles)} of angles: must be equal"
        )
    movement = check_label(pair.movement - 1, len(UI_PRMD), where)
    shape = (-1, len(PARENTS), 3)
    absolute = forward_kinematics(offsets.reshape(shape), np.radians(angles.reshape(shape)))
    absolute *= _unit(offsets.reshape(shape), where)
    positions = fit_bodies(absolute.transpose(2, 0, 1)[..., None], bodies)
    name = (
        f"m{pair.movement:02}_s{pair.subject:02}_e{pair.episode:02}_"
        f"{'incorrect' if pair.incorrect else 'correct'}"
    )
    yield Recording(
        name,
        check_positions(positions, where),
        {
            "label": movement * 2 + int(pair.incorrect),
            "movement": pair.movement,
            "incorrect": int(pair.incorrect),
            "subject": pair.subject,
            "episode": pair.episode,
        },
        where,
    )


def rotations(angles: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Rz Ry Rx of angles ``[..., 3]`` about x, y, z in radians: ``[..., 3, 3]``."""
    (cx, cy, cz), (sx, sy, sz) = (
        np.moveaxis(np.cos(angles), -1, 0),
        np.moveaxis(np.sin(angles), -1, 0),
    )
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def forward_kinematics(
    offsets: npt.NDArray[np.float64], angles: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Absolute positions from each joint's place in its parent's frame of reference.

    Args:
        offsets: ``[T, 22, 3]``; the waist's is absolute.
        angles: ``[T, 22, 3]`` about x, y and z, in radians.

    Returns:
        ``[T, 22, 3]``, in the unit of ``offsets``.
    """
    turn = rotations(angles)
    out = offsets.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            out[:, joint] = out[:, parent] + np.einsum(
                "tij,tj->ti", turn[:, parent], offsets[:, joint]
            )
            turn[:, joint] = turn[:, parent] @ turn[:, joint]
    return out


def _unit(offsets: npt.NDArray[np.float64], where: str) -> float:
    """Meters per unit, told from the length of all bones together."""
    bones = float(np.median(np.linalg.norm(offsets[:, 1:], axis=-1).sum(axis=-1)))
    for meters in UNITS.values():
        if _BONES[0] <= bones * meters < _BONES[1]:
            return meters
    raise ReadError(where, f"bones add up to {bones:.4g}, which is no person in m, cm or mm")

"""SBU Kinect Interaction (Yun et al., CVPRW 2012): two bodies of 15 joints, clean version.

``s01s02/03/001/skeleton_pos.txt``: the two subjects, the class, the take. Each line has the frame's
number and 2 x 15 x 3 normalized coordinates.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._base import (
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
from aimclr_fast.data.readers._names import SBU
from aimclr_fast.data.readers._text import read_table
from aimclr_fast.layouts import get_layout

SUMMARY = "SBU Kinect Interaction: the folder or zips of s01s02/01/001/skeleton_pos.txt"
OPTIONS = ("max_bodies",)
CITATION = (
    "K. Yun, J. Honorio, D. Chattopadhyay, T. L. Berg, D. Samaras. Two-person Interaction "
    "Detection Using Body-Pose Features and Multiple Instance Learning. CVPR Workshops 2012."
)
LAYOUT = get_layout("openni")
#: The five folds of the data set's authors; each tests in turn.
FOLDS = (
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)
BODIES, JOINTS = 2, LAYOUT.num_joints
_PATH = re.compile(r"(?:.*/)?(?P<pair>s\d\ds\d\d)/(?P<action>\d\d)/(?P<take>\d+)/skeleton_pos\.txt")


def plan(source: Path, options: Options) -> Plan:
    """One sample per skeleton file, with the five published folds."""
    listing = list_entries(source, lambda path: path.endswith("skeleton_pos.txt"))
    if not listing.entries:
        raise ReadError(str(source), "holds no skeleton_pos.txt")
    left_out, units = listing.left_out, []
    for entry in listing.entries:
        if _PATH.fullmatch(entry.path):
            units.append(entry)
        else:
            left_out.append(Problem(entry.shown, "is not at s01s02/01/001/skeleton_pos.txt"))
    folds = range(1, len(FOLDS) + 1)
    return Plan(
        layout=LAYOUT,
        bodies=options.max_bodies or BODIES,
        units=units,
        read=functools.partial(read, bodies=options.max_bodies or BODIES),
        classes=SBU,
        splits={
            f"fold{k}": {"column": "fold", "train": [j for j in folds if j != k], "test": [k]}
            for k in folds
        },
        source="SBU Kinect Interaction, skeletons of Kinect v1",
        citation=CITATION,
        left_out=left_out,
        notes=listing.notes,
        exact=True,
    )


def read(entry: Entry, *, bodies: int) -> Readings:
    """Read one skeleton file."""
    match = _PATH.fullmatch(entry.path)
    assert match is not None  # plan lets no other path through
    pair = match["pair"]
    label = check_label(int(match["action"]) - 1, len(SBU), entry.shown)
    fold = next((k for k, pairs in enumerate(FOLDS, start=1) if pair in pairs), 0)
    if not fold:
        raise ReadError(entry.shown, f"{pair} is none of the data set's 21 pairs of subjects")
    table = read_table(entry.read(), 1 + BODIES * JOINTS * 3, entry.shown)
    raw = table[:, 1:].reshape(-1, BODIES, JOINTS, 3)
    seen = raw.any(axis=(2, 3), keepdims=True)
    # Back from the normalized coordinates to millimeters, y up, as the data set's notes say.
    x, y, z = np.moveaxis(raw, -1, 0)
    mm = np.stack([1280 - 2560 * x, 960 - 1920 * y, z * (10000 / 7.8125)], axis=-1)
    positions = fit_bodies(np.where(seen, mm / 1000, 0.0).transpose(3, 0, 2, 1), bodies)
    columns: dict[str, int | str] = {
        "label": label,
        "pair": pair,
        "subject": int(pair[1:3]),
        "partner": int(pair[4:6]),
        "take": int(match["take"][:9]),
        "fold": fold,
    }
    name = f"{pair}_{match['action']}_{match['take']}"
    yield Recording(name, check_positions(positions, entry.shown), columns, entry.shown)

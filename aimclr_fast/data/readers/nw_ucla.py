"""NW-UCLA (Wang et al., CVPR 2014): the json files known as ``all_sqe``, one per recording."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_label,
    check_positions,
)
from aimclr_fast.data.readers._files import Entry, list_entries
from aimclr_fast.data.readers._names import NW_UCLA
from aimclr_fast.layouts import get_layout

SUMMARY = "NW-UCLA: the folder or zip of all_sqe json files"
OPTIONS = ("max_bodies",)
CITATION = (
    "J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu. Cross-view Action Modeling, Learning and "
    "Recognition. CVPR 2014."
)
SPLITS = {"xview": {"column": "camera", "train": [1, 2], "test": [3]}}
_NAME = re.compile(r"a(?P<action>\d+)_s(?P<subject>\d+)_e(?P<episode>\d+)_v(?P<camera>\d+)")
_LAYOUT = "nw-ucla"
_LIMIT = 64 << 20


def plan(source: Path, options: Options) -> Plan:
    """One sample per json file; views 1 and 2 train, view 3 tests."""
    listing = list_entries(source, lambda path: path.endswith(".json"))
    if not listing.entries:
        raise ReadError(str(source), "holds no .json files")
    return Plan(
        layout=get_layout(_LAYOUT),
        bodies=options.max_bodies or 1,
        units=listing.entries,
        read=functools.partial(read, bodies=options.max_bodies or 1),
        classes=NW_UCLA,
        splits=SPLITS,
        source="NW-UCLA, skeletons of Kinect v1",
        citation=CITATION,
        left_out=listing.left_out,
        notes=listing.notes,
        exact=True,
    )


def read(entry: Entry, *, bodies: int) -> Readings:
    """Read one json file: ``file_name``, ``skeletons [T][20][3]``, ``label`` from 1."""
    try:
        data = json.loads(entry.read(_LIMIT))
    except json.JSONDecodeError as error:
        raise ReadError(entry.shown, f"not JSON: {error.msg}", error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(entry.shown, f"not JSON: {error}") from error
    if not isinstance(data, dict) or not {"file_name", "skeletons", "label"} <= data.keys():
        raise ReadError(entry.shown, "expected an object with file_name, skeletons and label")
    name = data["file_name"]
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ReadError(entry.shown, f"file_name: {name!r:.60} is not like a01_s01_e00_v01")
    if type(data["label"]) is not int:
        raise ReadError(entry.shown, f"label: {data['label']!r:.60} is not an integer")
    label = check_label(data["label"] - 1, len(NW_UCLA), entry.shown)
    try:
        skeletons = np.array(data["skeletons"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError(entry.shown, "skeletons: not a [T][20][3] list of numbers") from error
    joints = get_layout(_LAYOUT).num_joints
    if skeletons.ndim != 3 or skeletons.shape[1:] != (joints, 3) or not len(skeletons):
        raise ReadError(
            entry.shown, f"skeletons: expected [T][{joints}][3], got {list(skeletons.shape)}"
        )
    positions = fit_bodies(skeletons.transpose(2, 0, 1)[..., None], bodies)
    columns: dict[str, int | str] = {"label": label}
    columns |= {key: int(value[:9]) for key, value in match.groupdict().items()}
    yield Recording(name, check_positions(positions, entry.shown), columns, entry.shown)

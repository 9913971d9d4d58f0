"""UTD-MHAD (Chen et al., ICIP 2015): ``a1_s1_t1_skeleton.mat`` with ``d_skel [20, 3, T]``."""

from __future__ import annotations

import functools
import io
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
from aimclr_fast.data.readers._names import UTD_MHAD
from aimclr_fast.layouts import get_layout

SUMMARY = "UTD-MHAD: the folder or zip of skeleton .mat files"
OPTIONS = ("max_bodies",)
CITATION = (
    "C. Chen, R. Jafari, N. Kehtarnavaz. UTD-MHAD: A Multimodal Dataset for Human Action "
    "Recognition Utilizing a Depth Camera and a Wearable Inertial Sensor. ICIP 2015."
)
SPLITS = {"xsub": {"column": "subject", "train": "odd"}}
_NAME = re.compile(r"a(?P<action>\d{1,2})_s(?P<subject>\d{1,2})_t(?P<trial>\d{1,2})_skeleton")
_LAYOUT = "kinect-v1"
_LIMIT = 16 << 20


def plan(source: Path, options: Options) -> Plan:
    """One sample per .mat file; odd subjects train, even ones test."""
    listing = list_entries(source, lambda path: path.endswith(".mat"))
    named = [entry for entry in listing.entries if _NAME.fullmatch(entry.stem)]
    if not named:
        raise ReadError(str(source), "holds no files named like a1_s1_t1_skeleton.mat")
    return Plan(
        layout=get_layout(_LAYOUT),
        bodies=options.max_bodies or 1,
        units=named,
        read=functools.partial(read, bodies=options.max_bodies or 1),
        classes=UTD_MHAD,
        splits=SPLITS,
        source="UTD-MHAD, skeletons of Kinect v1",
        citation=CITATION,
        left_out=listing.left_out
        + [
            Problem(entry.shown, "is not named like a1_s1_t1_skeleton.mat", expected=True)
            for entry in listing.entries
            if entry not in set(named)
        ],
        notes=listing.notes,
        exact=True,  # people face the camera
    )


def read(entry: Entry, *, bodies: int) -> Readings:
    """Read one .mat file."""
    match = _NAME.fullmatch(entry.stem)
    assert match is not None  # plan lets no other name through
    numbers = {key: int(value) for key, value in match.groupdict().items()}
    label = check_label(numbers.pop("action") - 1, len(UTD_MHAD), entry.shown)
    import scipy.io  # slow to load, and only this data set needs it

    data = entry.read(_LIMIT)
    try:
        skeleton = scipy.io.loadmat(io.BytesIO(data), variable_names=["d_skel"])["d_skel"]
    except KeyError:
        raise ReadError(entry.shown, "has no variable d_skel") from None
    except Exception as error:
        # SciPy raises a dozen kinds of exception on damaged files, some of them its own.
        raise ReadError(entry.shown, f"not a readable .mat file: {error}") from error
    joints = get_layout(_LAYOUT).num_joints
    if (
        not isinstance(skeleton, np.ndarray)
        or skeleton.dtype.kind not in "fiu"
        or skeleton.ndim not in (2, 3)
        or skeleton.shape[:2] != (joints, 3)
    ):
        got = list(getattr(skeleton, "shape", []))
        raise ReadError(entry.shown, f"d_skel: expected numbers [{joints}, 3, T], got {got}")
    positions = skeleton.reshape(joints, 3, -1, 1).transpose(1, 2, 0, 3).astype(np.float64)
    positions = fit_bodies(positions, bodies)
    name = entry.stem.removesuffix("_skeleton")
    columns: dict[str, int | str] = {"label": label, **numbers}
    yield Recording(name, check_positions(positions, entry.shown), columns, entry.shown)

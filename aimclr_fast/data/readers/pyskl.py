"""Annotation pickles of pyskl and MMAction2, such as ``ntu60_3danno.pkl`` or ``ntu60_hrnet.pkl``.

``{"split": {"xsub_train": [names], ...}, "annotations": [{frame_dir, label, keypoint, ...}]}``,
keypoint ``[M, T, V, C]``: three coordinates, or two with ``keypoint_score [M, T, V]``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aimclr_fast.data import safe_pickle
from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Positions,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
)
from aimclr_fast.data.readers._layouts import layout_for
from aimclr_fast.data.readers._names import NTU
from aimclr_fast.data.readers._ntu import columns_of
from aimclr_fast.data.readers._pose2d import NOTE, lift

SUMMARY = "pyskl or MMAction2 annotations: one .pkl file, 3D or 2D"
_SIDE = re.compile(r"(?:(?P<protocol>\w+)_)?(?P<side>train|val|test)")


@dataclass
class Annotations:
    """A pickle in memory: a pickle can only be read whole."""

    where: str
    entries: list[Any]
    sides: dict[str, dict[str, str]]
    joints: int


def plan(source: Path, options: Options) -> Plan:
    """One sample per annotation; protocols from the splits."""
    where = str(source)
    if not source.is_file():
        raise ReadError(where, "expected one .pkl file")
    try:
        data = safe_pickle.load(source)
    except safe_pickle.PickleError as error:
        raise ReadError(where, str(error)) from error
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise ReadError(where, "expected a dict with split and annotations")
    entries = data["annotations"]
    sides = _sides(data.get("split"), where)
    shapes = [e["keypoint"].shape for e in entries if _has_keypoints(e)]
    if not shapes:
        raise ReadError(where, "no annotation has a keypoint array [M, T, V, C]")
    joints = shapes[0][2]
    layout = layout_for(joints, options.layout, where)
    flat = shapes[0][3] == 2 or options.pose == "2d"
    bodies = options.max_bodies or min(max(shape[0] for shape in shapes), 2)
    names = [e.get("frame_dir") for e in entries if isinstance(e, dict)]
    ntu = all(isinstance(n, str) and columns_of(n) for n in names)
    labels = [e.get("label") for e in entries if isinstance(e, dict)]
    highest = max((n for n in labels if isinstance(n, int)), default=0)
    return Plan(
        layout=layout,
        bodies=bodies,
        units=range(len(entries)),
        read=functools.partial(
            read,
            annotations=Annotations(where, entries, sides, joints),
            bodies=bodies,
            options=options,
            ntu=ntu,
        ),
        classes=(NTU if highest >= 60 else NTU[:60]) if ntu and highest < len(NTU) else None,
        protocols={
            name: {"column": f"split_{name}", "train": ["train"], "test": ["test"]}
            for name in sides
        },
        source="annotations in the format of pyskl and MMAction2",
        notes=[NOTE.format(confidence=options.min_confidence)] if flat else [],
        rotate=not flat,
        one_process=True,
    )


def _has_keypoints(entry: Any) -> bool:
    keypoint = entry.get("keypoint") if isinstance(entry, dict) else None
    return isinstance(keypoint, np.ndarray) and keypoint.ndim == 4 and keypoint.dtype.kind in "fiu"


def _sides(split: Any, where: str) -> dict[str, dict[str, str]]:
    """``{protocol: {sample: side}}`` from ``{"xsub_train": [samples], "xsub_val": ...}``."""
    if split is None:
        return {}
    if not isinstance(split, dict):
        raise ReadError(where, "split: expected a dict of lists of names")
    sides: dict[str, dict[str, str]] = {}
    for key, names in split.items():
        match = _SIDE.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            continue  # not a side of a protocol, for instance a list of all samples
        if not isinstance(names, list | tuple | set | np.ndarray):
            raise ReadError(where, f"split {key}: expected a list of names")
        side = "train" if match["side"] == "train" else "test"
        into = sides.setdefault(match["protocol"] or "split", {})
        into |= {str(name): side for name in names}
    # A protocol with one side only cannot be one.
    return {name: into for name, into in sides.items() if len(set(into.values())) == 2}


def read(
    index: int, *, annotations: Annotations, bodies: int, options: Options, ntu: bool
) -> Readings:
    """Make a recording of one annotation."""
    entry = annotations.entries[index]
    where = f"{annotations.where} annotation {index}"
    try:
        yield _recording(entry, where, annotations, bodies, options, ntu)
    except ReadError as error:
        yield Problem.of(error)


def _recording(
    entry: Any, where: str, annotations: Annotations, bodies: int, options: Options, ntu: bool
) -> Recording:
    if not _has_keypoints(entry):
        raise ReadError(where, "has no keypoint array [M, T, V, C]")
    name, label, keypoint = entry.get("frame_dir"), entry.get("label"), entry["keypoint"]
    if not isinstance(name, str) or not name:
        raise ReadError(where, f"frame_dir: {name!r:.60} is not a name")
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < 10**6:
        raise ReadError(where, f"label: {label!r:.60} is not 0 or more")
    if keypoint.shape[2] != annotations.joints or keypoint.shape[3] not in (2, 3):
        shape = list(keypoint.shape)
        raise ReadError(
            where, f"keypoint: expected [M, T, {annotations.joints}, 3 or 2], got {shape}"
        )
    if not min(keypoint.shape):
        raise ReadError(where, f"keypoint: empty, {list(keypoint.shape)}")
    keypoint = keypoint[:bodies]
    positions: Positions
    if keypoint.shape[3] == 2 or options.pose == "2d":
        score = entry.get("keypoint_score")
        if keypoint.shape[3] == 3:
            score, keypoint = keypoint[..., 2], keypoint[..., :2]
        if score is not None:
            score = score[:bodies] if isinstance(score, np.ndarray) else None
            if score is None or score.shape != keypoint.shape[:3]:
                raise ReadError(where, "keypoint_score: does not fit keypoint")
        if not np.isfinite(keypoint).all():
            raise ReadError(where, "keypoint: a value is not finite")
        positions = lift(keypoint, score, options.min_confidence, where)
    else:
        positions = keypoint.transpose(3, 1, 2, 0).astype(np.float32)
    positions = fit_bodies(positions, bodies)
    columns: dict[str, int | str] = dict(columns_of(name) or {}) if ntu else {}
    columns["label"] = int(label)
    columns |= {f"split_{p}": of.get(name, "none") for p, of in annotations.sides.items()}
    return Recording(name, check_positions(positions, where), columns, where)

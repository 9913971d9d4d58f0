"""CTR-GCN's ``NTU60_CS.npz`` and the like: ``x_train [N, T, 150]``, one-hot ``y_train``, and test.

The file is unpacked as it is read, a few hundred samples at a time: it is larger than memory on
many machines.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.readers._arrays import members, read_header, stream_rows
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
)
from aimclr_fast.data.readers._names import NTU
from aimclr_fast.layouts import get_layout

SUMMARY = "CTR-GCN's processed .npz (NTU60_CS.npz, NTU120_CSub.npz, ...): one file"
OPTIONS = ("max_bodies",)
LAYOUT = "ntu-rgb+d"
BODIES, JOINTS = 2, 25
SIDES = ("train", "test")
_ROWS = 128
_SPLITS = {"cs": "xsub", "csub": "xsub", "cv": "xview", "cset": "xset"}


def plan(source: Path, options: Options) -> Plan:
    """Both sides of the one split that such a file holds; labels become integers."""
    where = str(source)
    if not source.is_file():
        raise ReadError(where, "expected one .npz file")
    with members(source, where) as archive:
        have = set(archive.namelist())
        labels = {}
        for side in SIDES:
            if not {f"x_{side}.npy", f"y_{side}.npy"} <= have:
                raise ReadError(where, f"has no x_{side} and y_{side}")
            rows = stream_rows(archive, f"y_{side}.npy", f"{where} y_{side}", 4096)
            labels[side] = _labels(rows, f"{where} y_{side}")
            with archive.open(f"x_{side}.npy") as stream:
                count = (read_header(stream, f"{where} x_{side}")[0] or (0,))[0]
            if count != len(labels[side][0]):
                reason = f"x_{side} has {count} rows, and y_{side} {len(labels[side][0])}"
                raise ReadError(where, reason)
    width = labels["train"][1]
    match = re.search(r"_(cs|csub|cv|cset)\b", source.stem.lower())
    split = _SPLITS[match[1]] if match else "split"
    bodies = options.max_bodies or BODIES
    return Plan(
        layout=get_layout(LAYOUT),
        bodies=bodies,
        units=SIDES,
        read=functools.partial(read, source=source, labels=labels, bodies=bodies),
        classes=NTU[:width] if width in (60, 120) else None,
        splits={split: {"column": "split", "train": ["train"], "test": ["test"]}},
        source="CTR-GCN's processed arrays",
        citation="Y. Chen et al. Channel-wise Topology Refinement Graph Convolution. ICCV 2021.",
        one_process=True,
    )


def _labels(rows: Iterator[npt.NDArray[Any]], where: str) -> tuple[npt.NDArray[np.int64], int]:
    """Class of each sample (-1 where a row is not one-hot), and the number of classes."""
    parts, width = [], 0
    for row in rows:
        if row.ndim != 2 or row.shape[1] < 2:
            raise ReadError(where, f"expected one-hot rows, got shape {list(row.shape)}")
        width = row.shape[1]
        good = ((row == 0) | (row == 1)).all(axis=1) & (row.sum(axis=1) == 1)
        parts.append(np.where(good, row.argmax(axis=1), -1))
    return (np.concatenate(parts) if parts else np.empty(0, np.int64)), width


def read(
    side: str,
    *,
    source: Path,
    labels: dict[str, tuple[npt.NDArray[np.int64], int]],
    bodies: int,
) -> Readings:
    """Stream one side."""
    where = f"{source} x_{side}"
    known, _ = labels[side]
    index = 0
    with members(source, where) as archive:
        for rows in stream_rows(archive, f"x_{side}.npy", where, _ROWS):
            if rows.ndim != 3 or rows.shape[2] != BODIES * JOINTS * 3:
                raise ReadError(where, f"expected [N, T, 150], got rows of {list(rows.shape[1:])}")
            for row in rows:
                try:
                    yield _recording(
                        row, side, index, int(known[index]), f"{where} row {index}", bodies
                    )
                except ReadError as error:
                    yield Problem.of(error)
                index += 1


def _recording(
    row: npt.NDArray[Any], side: str, index: int, label: int, where: str, bodies: int
) -> Recording:
    if label < 0:
        raise ReadError(where, "label: the row is not one-hot")
    x = row.reshape(-1, BODIES, JOINTS, 3).transpose(3, 0, 2, 1)
    x = fit_bodies(x, bodies)
    columns: dict[str, int | str] = {"label": label, "split": side}
    return Recording(f"{side}_{index:06}", check_positions(x, where), columns, where)

"""What AimCLR's authors hand out: ``train_position.npy`` and ``train_label.pkl``, ``val_...``.

A folder per benchmark (xsub, xview, ...), or one of them. A sample that two benchmarks share is
kept once, with its side in each. Positions ``[N, 3, T, V, M]`` are preprocessed already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aimclr_fast.data import safe_pickle
from aimclr_fast.data.protocols import NTU60_PROTOCOLS, NTU120_PROTOCOLS
from aimclr_fast.data.readers._arrays import open_mapped
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
)
from aimclr_fast.data.readers._layouts import layout_for
from aimclr_fast.data.readers._names import NTU, PKU
from aimclr_fast.data.readers._ntu import columns_of

SUMMARY = "processed by the authors' scripts: *_position.npy with *_label.pkl, per benchmark"
_FILE = re.compile(r"(?P<side>train|val|test)_(position|data|data_joint)\.npy")
_PKU = re.compile(r"F\d{3}V\d{3}C\d{3}L\d{3}")
_ROWS = 256


@dataclass(frozen=True)
class Rows:
    """Some samples of one file: their rows, names and columns."""

    file: Path
    rows: tuple[int, ...]
    names: tuple[str, ...]
    columns: tuple[dict[str, int | str], ...]


@dataclass
class _Found:
    file: Path
    row: int
    label: int
    sides: dict[str, str]


def plan(source: Path, options: Options) -> Plan:
    """Join the benchmarks of a folder into one list of samples."""
    root = source if source.is_dir() else source.parent
    files = sorted(path for path in root.rglob("*.npy") if _FILE.fullmatch(path.name))
    if not files:
        raise ReadError(str(source), "holds no train_position.npy or the like")
    samples: dict[str, _Found] = {}
    left_out: list[Problem] = []
    shape: tuple[int, ...] | None = None
    benchmarks: list[str] = []
    for file in files:
        match = _FILE.fullmatch(file.name)
        assert match is not None
        benchmark = file.parent.name if file.parent != root or len(files) > 2 else "split"
        benchmark = re.sub(r"\W", "_", benchmark)
        if benchmark in ("name", "label"):
            benchmark += "_"
        if benchmark not in benchmarks:
            benchmarks.append(benchmark)
        array = open_mapped(file)
        if array.ndim != 5 or array.shape[1] != 3 or not array.size:
            raise ReadError(str(file), f"expected [N, 3, T, V, M], got shape {list(array.shape)}")
        if shape is not None and shape != array.shape[2:]:
            raise ReadError(
                str(file), f"[T, V, M] is {list(array.shape[2:])}, before {list(shape)}"
            )
        shape = array.shape[2:]
        names, labels = _labels(file.with_name(f"{match['side']}_label.pkl"), len(array))
        side = "train" if match["side"] == "train" else "test"
        for row, (name, label) in enumerate(zip(names, labels, strict=True)):
            found = samples.setdefault(name, _Found(file, row, label, {}))
            if benchmark in found.sides:
                left_out.append(Problem(f"{file} row {row}", f"{name} is there twice"))
            else:
                found.sides[benchmark] = side
    assert shape is not None
    return _plan(samples, benchmarks, shape, left_out, options)


def _plan(
    samples: dict[str, _Found],
    benchmarks: list[str],
    shape: tuple[int, ...],
    left_out: list[Problem],
    options: Options,
) -> Plan:
    layout = layout_for(shape[1], options.layout, "these arrays")
    ntu = all(columns_of(name) for name in samples)
    classes: tuple[str, ...] | None = None
    protocols: dict[str, Any] = {
        b: {"column": b, "train": ["train"], "test": ["test"]} for b in benchmarks
    }
    if ntu:
        large = max(found.label for found in samples.values()) >= 60
        classes = NTU if large else NTU[:60]
        protocols |= NTU120_PROTOCOLS if large else NTU60_PROTOCOLS
    elif all(_PKU.fullmatch(name) for name in samples):
        classes = PKU
    return Plan(
        layout=layout,
        bodies=shape[2],
        units=list(_units(samples, benchmarks)),
        read=read,
        classes=classes,
        protocols=protocols,
        source="the AimCLR authors' processed arrays",
        left_out=left_out,
        notes=[f"positions are taken as they are ({shape[0]} frames): already preprocessed"],
        ready=True,
    )


def _units(samples: dict[str, _Found], benchmarks: list[str]) -> Iterator[Rows]:
    by_file: dict[Path, list[str]] = {}
    for name, found in samples.items():
        by_file.setdefault(found.file, []).append(name)
    for file, names in by_file.items():
        for start in range(0, len(names), _ROWS):
            part = tuple(names[start : start + _ROWS])
            columns = []
            for name in part:
                found = samples[name]
                cells: dict[str, int | str] = dict(columns_of(name) or {})
                cells["label"] = found.label
                # A benchmark may be called as a column of the names is: then the name's stays.
                cells |= {b: found.sides.get(b, "none") for b in benchmarks if b not in cells}
                columns.append(cells)
            yield Rows(file, tuple(samples[name].row for name in part), part, tuple(columns))


def _labels(file: Path, count: int) -> tuple[list[str], list[int]]:
    try:
        data = safe_pickle.load(file)
    except safe_pickle.PickleError as error:
        raise ReadError(str(file), str(error)) from error
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ReadError(str(file), "expected (names, labels)")
    names, labels = (
        list(part) if isinstance(part, list | tuple | np.ndarray) else [] for part in data
    )
    if len(names) != count or len(labels) != count:
        raise ReadError(
            str(file), f"{len(names)} names and {len(labels)} labels for {count} positions"
        )
    for row, (name, label) in enumerate(zip(names, labels, strict=True)):
        if not isinstance(name, str) or not name:
            raise ReadError(str(file), f"row {row}: name {name!r:.60} is not text")
        if isinstance(label, bool) or not isinstance(label, int | np.integer) or label < 0:
            raise ReadError(str(file), f"row {row}: label {label!r:.60} is not 0 or more")
    return [str(name).removesuffix(".skeleton") for name in names], [int(n) for n in labels]


def read(rows: Rows) -> Readings:
    """Read some rows of a mapped file."""
    array = open_mapped(rows.file)
    for row, name, columns in zip(rows.rows, rows.names, rows.columns, strict=True):
        where = f"{rows.file} row {row}"
        try:
            yield Recording(name, check_positions(np.array(array[row]), where), columns, where)
        except ReadError as error:
            yield Problem.of(error)

"""What AimCLR's scripts write: ``train_position.npy`` and ``train_label.pkl``, ``val_...``.

A folder per benchmark (xsub, xview, ...), or one of them. A sample that two benchmarks share is
kept once, with its side in each. Positions ``[N, 3, T, V, M]`` are preprocessed already. Arrays of
2D poses, x and y and perhaps a score (ST-GCN's of Kinetics), are read as 2D poses are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data import safe_pickle
from aimclr_fast.data.bodies import real_first
from aimclr_fast.data.gaps import last_frame
from aimclr_fast.data.readers._arrays import open_mapped
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Positions,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    composed,
)
from aimclr_fast.data.readers._classes import as_label, name_ntu_classes, number_classes
from aimclr_fast.data.readers._layouts import SEQUENCES, recognize
from aimclr_fast.data.readers._names import PKU
from aimclr_fast.data.readers._ntu import LAYOUT, columns_of
from aimclr_fast.data.readers._pose2d import lift
from aimclr_fast.data.readers._splits import say_validation, sides_rule
from aimclr_fast.data.splits import NTU60_SPLITS, NTU120_SPLITS

SUMMARY = "processed by the authors' scripts: *_position.npy with *_label.pkl, per benchmark"
OPTIONS = ()
_FILE = re.compile(r"(?P<side>train|val|test)_(position|data|data_joint)\.npy")
_PKU = re.compile(r"F\d{3}V\d{3}C\d{3}L\d{3}")
_ROWS = 256
_EXPECTED = "expected [N, C, T, V, M] with C = 3 or 2 coordinates and M bodies"
#: More bodies than this are another axis, such as the joints.
_MOST_BODIES = 6


@dataclass(frozen=True)
class Rows:
    """Some samples of one file: their rows, names and columns."""

    file: Path
    rows: tuple[int, ...]
    names: tuple[str, ...]
    columns: tuple[dict[str, int | str], ...]


@dataclass(frozen=True)
class _File:
    """One array with its labels; ``side`` is "train", "val" or "test" of ``benchmark``."""

    path: Path
    benchmark: str
    side: str
    array: npt.NDArray[Any]
    names: list[str]
    labels: list[int]


@dataclass
class _Found:
    file: _File
    row: int
    sides: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> int:
        return self.file.labels[self.row]


def plan(source: Path, options: Options) -> Plan:
    """Join the benchmarks of a folder into one list of samples."""
    files = _open(source)
    _check_axes(files, options)
    samples, left_out, notes = _join(files)
    coordinates, frames, joints, bodies = files[0].array.shape[1:]
    ntu, pku = (all(map(test, samples)) for test in (columns_of, _PKU.fullmatch))
    skeleton = recognize(
        _some_poses(files),
        options,
        "these arrays",
        known=LAYOUT if (ntu or pku) and (joints, coordinates) == (25, 3) else None,
        usual=LAYOUT if joints == 25 else None,
    )
    benchmarks = list(dict.fromkeys(file.benchmark for file in files))
    splits: dict[str, Any] = {}
    for name in benchmarks:
        sides = {file.side for file in files if file.benchmark == name}
        if {"train", "test"} <= sides:
            splits[name] = sides_rule(name, sides)
        else:
            held = ", ".join(sorted(sides))
            notes.append(f"column {name} names no split: it holds nothing but {held}")
    numbering = number_classes([found.label for found in samples.values()])
    if ntu:
        columns = {name: columns_of(name) or {} for name in samples}
        actions = [(found.label, int(columns[n]["label"]) + 1) for n, found in samples.items()]
        numbering = name_ntu_classes(numbering, actions)
        large = any(int(row["setup"]) > 17 or int(row["label"]) >= 60 for row in columns.values())
        splits = {**(NTU120_SPLITS if large else NTU60_SPLITS), **splits}
    classes = numbering.names
    if pku and classes is None and max(numbering.classes) < len(PKU):
        classes = PKU
    if not skeleton.flat:
        notes.append(
            f"positions are taken as they are ({frames} frames): already preprocessed; frames of "
            "zeros at the end are cut"
        )
    return Plan(
        layout=skeleton.layout,
        bodies=bodies,
        units=list(_units(samples, benchmarks, numbering.classes)),
        read=functools.partial(read, flat=skeleton.flat, options=options),
        classes=classes,
        splits=splits,
        source="arrays of 2D poses" if skeleton.flat else "the AimCLR authors' processed arrays",
        left_out=left_out,
        notes=[*skeleton.notes, *numbering.notes, *notes, *say_validation(splits)],
        rotate=not skeleton.flat,
        scores=skeleton.flat and coordinates == 3,
        ready=not skeleton.flat,
    )


def _open(source: Path) -> list[_File]:
    """The arrays of a folder with their labels, checked against each other."""
    if source.is_file() and not _FILE.fullmatch(source.name):
        raise ReadError(str(source), "expected a folder of train_position.npy and the like")
    root = source if source.is_dir() else source.parent
    paths = sorted(path for path in root.rglob("*.npy") if _FILE.fullmatch(path.name))
    if not paths:
        raise ReadError(str(source), "holds no train_position.npy or the like")
    files: list[_File] = []
    for path in paths:
        match = _FILE.fullmatch(path.name)
        assert match is not None
        benchmark = path.parent.name if path.parent != root or len(paths) > 3 else "split"
        benchmark = re.sub(r"\W", "_", benchmark)
        if benchmark in ("name", "label", "frames", "bodies"):
            benchmark += "_"
        array = open_mapped(path)
        if array.ndim != 5 or array.shape[1] not in (2, 3) or not array.size:
            raise ReadError(str(path), f"{_EXPECTED}, got shape {list(array.shape)}")
        if files and files[0].array.shape[1:] != array.shape[1:]:
            shapes = [list(one.shape[1:]) for one in (array, files[0].array)]
            raise ReadError(str(path), f"[C, T, V, M] is {shapes[0]}, before {shapes[1]}")
        twin = [
            f.path.name for f in files if (f.path.parent, f.side) == (path.parent, match["side"])
        ]
        if twin:
            raise ReadError(
                str(path), f"holds the {match['side']} side as {twin[0]} does: keep one"
            )
        names, labels = _labels(path.with_name(f"{match['side']}_label.pkl"), len(array))
        files.append(_File(path, benchmark, match["side"], array, names, labels))
    # Where there is no test side, the validation side is what the benchmark tests on.
    tested = {file.benchmark for file in files if file.side == "test"}
    return [
        replace(file, side="test") if file.side == "val" and file.benchmark not in tested else file
        for file in files
    ]


def _check_axes(files: Sequence[_File], options: Options) -> None:
    """Refuse arrays whose coordinates or joints seem to be the last axis, not the bodies."""
    for file in files:
        shape = file.array.shape
        coordinates, bodies = shape[1], shape[4]
        seen = f"{_EXPECTED}, got shape {list(shape)}"
        if bodies > _MOST_BODIES:
            raise ReadError(str(file.path), f"{seen}: {bodies} bodies? Transpose the array")
        if bodies != 3:
            continue
        if coordinates == 2 and options.pose != "2d":
            raise ReadError(
                str(file.path),
                f"{seen}: 2D poses of 3 bodies, or [N, M, T, V, C]? Say --pose 2d, or transpose "
                "the array",
            )
        # A body that is absent is zero in all coordinates; nobody has y = 0 throughout.
        rows = range(0, len(file.array), -(-len(file.array) // SEQUENCES))
        if any(x[0].any() and not x[1].any() for x in (np.asarray(file.array[r]) for r in rows)):
            raise ReadError(
                str(file.path), f"{seen}: y is 0 throughout, so this axis holds no coordinates"
            )


def _join(files: Sequence[_File]) -> tuple[dict[str, _Found], list[Problem], list[str]]:
    """Each sample once, by name; what appears twice; what to say about the names."""
    files, notes = _tell_apart(files)
    samples: dict[str, _Found] = {}
    left_out: list[Problem] = []
    for file in files:
        for row, name in enumerate(file.names):
            found = samples.setdefault(name, _Found(file, row))
            where = f"{file.path} row {row}"
            before = found.sides.get(file.benchmark)
            if found.label != file.labels[row]:
                raise ReadError(
                    where,
                    f"{name} has label {file.labels[row]}, in {found.file.path} {found.label}",
                )
            if before is None:
                found.sides[file.benchmark] = file.side
            elif before == file.side:
                left_out.append(Problem(where, f"{name} appears twice"))
            else:
                raise ReadError(where, f"{name} is in {before} as well as in {file.side}")
    return samples, left_out, notes


def _tell_apart(files: Sequence[_File]) -> tuple[Sequence[_File], list[str]]:
    """Names that are only numbers, restarting in each file, get the file's side as a prefix."""
    names = [name for file in files for name in file.names]
    if len(set(names)) == len(names) or not all(map(str.isdecimal, names)):
        return files, []
    several = len({file.benchmark for file in files}) > 1
    apart = []
    for file in files:
        prefix = f"{file.benchmark}_{file.side}" if several else file.side
        apart.append(replace(file, names=[f"{prefix}_{name}" for name in file.names]))
    note = f"names are numbered anew in each file: samples are called {apart[0].names[0]} and so on"
    return apart, [note]


def _some_poses(files: Sequence[_File]) -> list[npt.NDArray[Any]]:
    """First bodies ``[T, V, C]`` of some samples."""
    share = max(1, SEQUENCES // len(files))
    rows = (
        np.asarray(file.array[row])
        for file in files
        for row in range(0, len(file.array), -(-len(file.array) // share))
    )
    return [real_first(x)[:, : last_frame(x), :, 0].transpose(1, 2, 0) for x in rows]


def _units(
    samples: dict[str, _Found], benchmarks: Sequence[str], classes: Mapping[int, int]
) -> Iterator[Rows]:
    by_file: dict[Path, list[str]] = {}
    for name, found in samples.items():
        by_file.setdefault(found.file.path, []).append(name)
    for file, names in by_file.items():
        for start in range(0, len(names), _ROWS):
            part = tuple(names[start : start + _ROWS])
            columns = []
            for name in part:
                found = samples[name]
                cells: dict[str, int | str] = dict(columns_of(name) or {})
                cells["label"] = classes[found.label]
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
    numbers = []
    for row, (name, label) in enumerate(zip(names, labels, strict=True)):
        if not isinstance(name, str) or not name:
            raise ReadError(str(file), f"row {row}: name {name!r:.60} is not text")
        number = as_label(label)
        if number is None:
            raise ReadError(str(file), f"row {row}: label {label!r:.60} is not 0 or more")
        numbers.append(number)
    return [composed(str(name)).removesuffix(".skeleton") for name in names], numbers


def read(rows: Rows, *, flat: bool, options: Options) -> Readings:
    """Read some rows of a mapped file."""
    array = open_mapped(rows.file)
    for row, name, columns in zip(rows.rows, rows.names, rows.columns, strict=True):
        where = f"{rows.file} row {row}"
        try:
            x = np.array(array[row])
            positions = _in_plane(x, options, where) if flat else real_first(x)
            yield Recording(name, check_positions(positions, where), columns, where)
        except ReadError as error:
            yield Problem.of(error)


def _in_plane(x: npt.NDArray[Any], options: Options, where: str) -> Positions:
    """2D poses ``[2 or 3, T, V, M]`` as positions; a third coordinate is a score."""
    pose = x.transpose(3, 1, 2, 0)
    score = pose[..., 2] if len(x) == 3 else None
    return lift(pose[..., :2], score, len(pose), options, where)

"""The store: a folder with every sequence of a data set, ready to train on.

============== ====================================================================================
positions.npy  ``[S, 3, T, V, M]``: float32 or float16 in meters, or int16 in millimeters.
               ``positions.npz``, compressed, with the one array ``positions``, does as well.
samples.csv    one row per sample, in the same order; a header; unique ``name``; optionally
               ``label`` (0, 1, ...) and any other columns (subject, camera, setup, ...).
meta.json      version, layout (a built-in name, or the whole layout), frames, unit, classes,
               splits, source, licence, citation, preprocessing (null where it is not known),
               duration (where it is known; :mod:`aimclr_fast.data.duration`),
               checksums (sha256 of the other two files).
============== ====================================================================================

One store serves every split of a data set: a split turns the columns of samples.csv into
training and test indices (:mod:`aimclr_fast.data.splits`). A folder with meta.json alone can be
a store as well: another one, turned (:mod:`aimclr_fast.data.turned`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from aimclr_fast._errors import Error
from aimclr_fast._renamed import with_new_keys
from aimclr_fast.data.classes import dense_classes
from aimclr_fast.data.duration import Duration
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.turned import (
    FIELDS,
    POSITIONS_OF,
    TURNED,
    Turn,
    turned_positions,
    turned_preprocessing,
    turned_samples,
)
from aimclr_fast.layouts import Layout, get_layout, layout_from_dict

VERSION = 1
POSITIONS, COMPRESSED, SAMPLES, META = "positions.npy", "positions.npz", "samples.csv", "meta.json"
#: Unit of length by dtype of the positions.
UNITS = {"float32": "m", "float16": "m", "int16": "mm"}
#: Keys of meta.json that 0.1.0 wrote, and what they are called today.
_RENAMED = {"protocols": "splits"}
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class StoreError(Error, ValueError):
    """A store that cannot be read or written; the message names the file and the field."""


@dataclass(frozen=True, eq=False)
class Store:
    """An open store. Made by :func:`open_store`, which has checked that its parts agree.

    Attributes:
        path: the folder.
        positions: ``[S, 3, T, V, M]``, read-only, memory-mapped where possible; times ``scale`` it
            is in meters.
        samples: the columns of samples.csv, each an array of S: int64 where every cell is an
            integer, strings otherwise (always for ``name``).
        meta: the content of meta.json, under today's keys.
        layout: the skeleton, with V joints.
        parts: the stores that it joins (:mod:`aimclr_fast.data.joined`), which alone are folders;
            empty for a store that is a folder itself.
    """

    path: Path
    positions: npt.NDArray[Any]
    samples: dict[str, npt.NDArray[Any]]
    meta: dict[str, Any]
    layout: Layout
    parts: tuple[Store, ...] = ()

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @property
    def num_samples(self) -> int:
        """Number of sequences, S."""
        return len(self)

    @property
    def scale(self) -> float:
        """Meters per unit of ``positions``: 0.001 for int16 millimeters, otherwise 1."""
        return 0.001 if self.meta["unit"] == "mm" else 1.0

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class of each sample ``[S]``, or None where samples.csv has no ``label``.

        Ids in the ten thousands and beyond, where meta.json names no classes, are numbered anew
        (:func:`aimclr_fast.data.classes.dense_classes`); ``samples["label"]`` still has them.
        """
        return self._classes[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label; empty where there are none."""
        return self._classes[1]

    def label_of(self, row: int) -> str:
        """Name of a sample's class, its number where classes have no names; empty without one."""
        if self.labels is None:
            return ""
        label = int(self.labels[row])
        return self.class_names[label] if self.class_names else str(label)

    def title_of(self, row: int) -> str:
        """Name of a sample, and its class where it has one."""
        name, label = str(self.samples["name"][row]), self.label_of(row)
        if label and not self.class_names:
            label = f"class {label}"
        return f"{name}: {label}" if label else name

    @cached_property
    def _classes(self) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
        labels, names = self.samples.get("label"), tuple(self.meta.get("classes") or ())
        if labels is None or names:
            return labels, names
        labels, ids = dense_classes(labels)
        return labels, ids or ()

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """What was done to each recorded sequence, or None where meta.json does not say."""
        fields = self.meta.get("preprocessing")
        return None if fields is None else Preprocessing.from_dict(fields)

    @cached_property
    def duration(self) -> Duration | None:
        """How long the recorded sequences last, or None where meta.json does not say."""
        fields = self.meta.get("duration")
        return None if fields is None else Duration.from_dict(fields)

    def checksums(self) -> dict[str, str]:
        """sha256 of its files by name: as meta.json declares it, or else read from the file. Those
        of a turned store cover its angles as well.
        """
        declared: dict[str, str] = self.meta["checksums"]
        if POSITIONS_OF in self.meta or self.parts:
            return dict(declared)
        files = [n for n in (POSITIONS, COMPRESSED, SAMPLES) if (self.path / n).is_file()]
        return {name: declared.get(name) or sha256(self.path / name) for name in files}

    @property
    def spec(self) -> str:
        """What opens it again from anywhere: full paths, with commas between those it joins."""
        return ",".join(str(store.path.resolve()) for store in self.parts or (self,))

    def traits(self) -> dict[str, Any]:
        """What an encoder must know of its data to be used on other sequences; for checkpoints."""
        steps = self.preprocessing
        return {
            "frames": int(self.positions.shape[2]),
            "bodies": int(self.positions.shape[4]),
            "classes": list(self.class_names),
            "preprocessing": None if steps is None else steps.to_dict(),
            **({} if self.duration is None else {"duration": self.duration.to_dict()}),
        }

    def as_tensor(self, index: Any = None, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Copy sequences into memory, in meters.

        Args:
            index: which samples: anything that indexes a NumPy axis, or None for all.
            dtype: a floating-point type.

        Returns:
            ``[N, 3, T, V, M]`` on the CPU (``[3, T, V, M]`` for a single integer).
        """
        if isinstance(index, torch.Tensor):
            index = index.numpy()
        rows = self.positions if index is None else self.positions[index]
        if not rows.flags.writeable:  # still the file's own memory
            rows = rows.copy()
        # Scale in float32 or better, so that float16 rounds once.
        tensor = torch.from_numpy(rows).to(torch.promote_types(dtype, torch.float32))
        return (tensor if self.scale == 1.0 else tensor.mul_(self.scale)).to(dtype)

    def summary(self) -> str:
        """One line on what is in the store."""
        _, _, frames, joints, bodies = self.positions.shape
        parts = [
            f"{len(self):,} sequences",
            f"{frames} frames",
            f"{joints} joints ({self.layout.name})",
            f"{bodies} {'body' if bodies == 1 else 'bodies'}",
        ]
        if self.labels is not None:
            parts.append(f"{len(self.class_names) or int(self.labels.max()) + 1} classes")
        if "subject" in self.samples:
            parts.append(f"{len(np.unique(self.samples['subject']))} subjects")
        if self.meta.get("splits"):
            parts.append(f"splits {', '.join(self.meta['splits'])}")
        return f"{self.path.name}: {', '.join(parts)}"


def open_store(path: str | os.PathLike[str], *, mmap: bool = True, verify: bool = False) -> Store:
    """Open a store and check that its files agree with each other.

    Args:
        path: the folder.
        mmap: map ``positions.npy`` instead of reading it (``positions.npz`` is always read).
        verify: compare the files with the checksums of meta.json, which reads all of them.

    Raises:
        StoreError: a file is missing, unreadable, leads outside the folder or fails its checksum,
            or a field is invalid; the message names the file and the field.
    """
    return read_folder(Path(path), Path(path), mmap=mmap, verify=verify)


def read_folder(folder: Path, shown: Path, *, mmap: bool, verify: bool) -> Store:
    """Open ``folder``; errors speak of ``shown`` (the writer checks a temporary folder)."""
    if not folder.is_dir():
        raise StoreError(f"{shown}: no such folder")
    fields = _meta_fields(_inside(folder, META, shown), shown / META)
    if POSITIONS_OF in fields or TURNED in fields:
        return _read_turned(folder, shown, fields, mmap=mmap, verify=verify)
    samples_path = _inside(folder, SAMPLES, shown)
    present = [name for name in (POSITIONS, COMPRESSED) if os.path.lexists(folder / name)]
    if len(present) != 1:
        found = "both are there" if present else "no such file"
        raise StoreError(f"{shown}: needs {POSITIONS} or {COMPRESSED}: {found}")
    positions_path = _inside(folder, present[0], shown)

    meta, layout = _checked_meta(fields, shown / META)
    if verify:
        for file in (positions_path, samples_path):
            if meta["checksums"].get(file.name) != sha256(file):
                raise StoreError(f"{shown / file.name}: sha256 differs from checksums in {META}")
    positions = _read_positions(positions_path, shown / present[0], mmap)
    check_positions(positions, shown / present[0], meta, layout)
    samples = _read_samples(samples_path, shown / SAMPLES)
    _check_samples(samples, shown / SAMPLES, len(positions), meta.get("classes"))
    return Store(shown, positions, samples, meta, layout)


def _read_turned(
    folder: Path, shown: Path, own: dict[str, Any], *, mmap: bool, verify: bool
) -> Store:
    """A store whose meta.json, `own`, names another one beside it and how that is turned."""

    def fail(problem: str) -> NoReturn:
        raise StoreError(f"{shown / META}: {problem}")

    if unknown := [name for name in own if name not in FIELDS]:
        fail(f"{unknown[0]}: not a field of a turned store, which has {', '.join(FIELDS)}")
    if own.get("version") != VERSION:
        fail(f"version: expected {VERSION}, got {own.get('version')!r}")
    if not isinstance(own.get("source", ""), str):
        fail("source: expected text")
    if inside := [n for n in (POSITIONS, COMPRESSED, SAMPLES) if os.path.lexists(folder / n)]:
        fail(f"{POSITIONS_OF}: the store has its own {inside[0]}")
    base = _open_beside(folder, own.get(POSITIONS_OF), fail, mmap=mmap, verify=verify)
    try:
        turn = Turn.from_dict(own.get(TURNED))
        degrees = turn.of_samples(base.samples)
        samples = turned_samples(base.samples, degrees)
        positions = turned_positions(base.positions, np.array(degrees, np.float64))
    except ValueError as error:
        fail(f"{TURNED}: {error}")
    meta = {
        **base.meta,
        **own,
        "preprocessing": turned_preprocessing(base.meta.get("preprocessing")),
        "checksums": turn.checksums(base.checksums()),
    }
    return Store(shown, positions, samples, meta, base.layout)


def _open_beside(
    folder: Path, name: Any, fail: Callable[[str], NoReturn], *, mmap: bool, verify: bool
) -> Store:
    """The store in the folder of this name beside another; neither elsewhere nor turned itself."""
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".."):
        fail(f"{POSITIONS_OF}: expected the name of a folder beside the store, got {name!r}")
    parent = folder.resolve().parent
    beside = parent / name
    if not beside.is_dir():
        fail(f"{POSITIONS_OF}: {parent} has no folder {name!r}")
    if beside.resolve().parent != parent:
        fail(f"{POSITIONS_OF}: {name!r} is a link that leads elsewhere")
    if POSITIONS_OF in _meta_fields(_inside(beside, META, beside), beside / META):
        fail(f"{POSITIONS_OF}: {name!r} has no positions of its own: name the store that has")
    return read_folder(beside, beside, mmap=mmap, verify=verify)


def _inside(folder: Path, name: str, shown: Path) -> Path:
    file = folder / name
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):
        raise StoreError(f"{shown / name}: no such file") from None
    if not real.is_relative_to(folder.resolve()):
        raise StoreError(f"{shown / name}: a link that leads outside the store")
    if not real.is_file():
        raise StoreError(f"{shown / name}: not a file")
    return file


def _meta_fields(file: Path, shown: Path) -> dict[str, Any]:
    """The content of meta.json under today's keys."""
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{shown}: not valid JSON: {error}") from error
    if not isinstance(meta, dict):
        raise StoreError(f"{shown}: top level: must be an object")
    try:
        return with_new_keys(meta, _RENAMED)
    except ValueError as error:
        raise StoreError(f"{shown}: {error}") from None


def _checked_meta(meta: dict[str, Any], shown: Path) -> tuple[dict[str, Any], Layout]:
    def fail(field: str, problem: str) -> NoReturn:
        raise StoreError(f"{shown}: {field}: {problem}")

    if meta.get("version") != VERSION:
        fail("version", f"expected {VERSION}, got {meta.get('version')!r}")
    if type(meta.get("frames")) is not int or meta["frames"] < 1:
        fail("frames", f"expected a count, got {meta.get('frames')!r}")
    if meta.get("unit") not in UNITS.values():
        fail("unit", f'expected "m" or "mm", got {meta.get("unit")!r}')
    classes = meta.get("classes")
    if classes is not None and (
        not isinstance(classes, list)
        or not all(isinstance(name, str) for name in classes)
        or len(set(classes)) != len(classes)
    ):
        fail("classes", "expected a list of different names")
    for field in ("splits", "checksums"):
        meta.setdefault(field, {})
        if not isinstance(meta[field], dict):
            fail(field, "expected an object")
    for field in ("source", "licence", "citation"):
        if not isinstance(meta.get(field, ""), str):
            fail(field, "expected text")
    for field, kind in (("preprocessing", Preprocessing), ("duration", Duration)):
        if meta.get(field) is not None:
            try:
                kind.from_dict(meta[field])
            except ValueError as error:
                fail(field, str(error))
    layout = meta.get("layout")
    try:
        if isinstance(layout, str) and not layout.endswith((".yaml", ".yml")):
            return meta, get_layout(layout)
        # A store carries its layout: a path would not travel with it.
        return meta, layout_from_dict(layout, source="must be a built-in name or a whole layout")
    except ValueError as error:
        fail("layout", str(error))


def _read_positions(file: Path, shown: Path, mmap: bool) -> npt.NDArray[Any]:
    positions: npt.NDArray[Any]
    try:
        loaded = np.load(file, mmap_mode="r" if mmap else None, allow_pickle=False)
        if file.name == POSITIONS:
            positions = loaded
        else:
            with loaded:
                positions = loaded["positions"]
        positions.flags.writeable = False
    except KeyError:
        raise StoreError(f"{shown}: has no array named positions") from None
    except Exception as error:  # np.load and its archives raise exceptions of many kinds
        reason = str(error) or type(error).__name__
        if "pickle" in reason:  # NumPy's advice to unpickle what it cannot read
            reason = "damaged, or not an array of numbers"
        raise StoreError(f"{shown}: not a readable NumPy file: {reason}") from error
    return positions


def check_positions(
    positions: npt.NDArray[Any], shown: Path, meta: Mapping[str, Any], layout: Layout
) -> None:
    def fail(problem: str) -> NoReturn:
        raise StoreError(f"{shown}: {problem}")

    shape = list(positions.shape)
    if len(shape) != 5 or shape[1] != 3 or min(shape) < 1:
        fail(f"shape must be [S, 3, T, V, M], got {shape}")
    if UNITS.get(str(positions.dtype)) != meta["unit"]:
        known = ", ".join(f"{dtype} in {unit}" for dtype, unit in UNITS.items())
        fail(f"dtype {positions.dtype} in {meta['unit']}: must be one of {known}")
    if shape[2] != meta["frames"]:
        fail(f"shape has {shape[2]} frames, but frames in {META} is {meta['frames']}")
    if shape[3] != layout.num_joints:
        fail(f"shape has {shape[3]} joints, but layout {layout.name!r} has {layout.num_joints}")


def _read_samples(file: Path, shown: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{shown}: not a readable CSV file: {error}") from error
    header, cells = (rows[0], rows[1:]) if rows else ([], [])
    if "name" not in header or len(set(header)) != len(header) or "" in header:
        raise StoreError(f"{shown}: header: columns must be named, differ, and include name")
    for number, row in enumerate(cells, start=2):
        if len(row) != len(header):
            raise StoreError(f"{shown}: row {number}: {len(row)} cells, expected {len(header)}")
    columns: dict[str, npt.NDArray[Any]] = {}
    for index, column in enumerate(header):
        values = [row[index] for row in cells]
        integers = column != "name" and all(_INTEGER.fullmatch(value) for value in values)
        columns[column] = np.array(values, dtype=np.int64 if integers else np.str_)
    return columns


def _check_samples(
    samples: Mapping[str, npt.NDArray[Any]], shown: Path, count: int, classes: list[str] | None
) -> None:
    names = samples["name"]
    if len(names) != count:
        raise StoreError(f"{shown}: {len(names)} rows, but there are {count} samples")
    seen = {""}
    for row, name in enumerate(names.tolist(), start=2):
        if name in seen:
            raise StoreError(f"{shown}: name: row {row}: {name!r} is empty or repeated")
        seen.add(name)
    labels = samples.get("label")
    if labels is None:
        return
    if labels.dtype != np.int64:
        row = next(i for i, label in enumerate(labels) if not _INTEGER.fullmatch(label))
        raise StoreError(f"{shown}: label: row {row + 2}: {str(labels[row])!r} is not an integer")
    largest = np.iinfo(np.int64).max if classes is None else len(classes) - 1
    wrong = np.flatnonzero((labels < 0) | (labels > largest))
    if len(wrong):
        row = int(wrong[0])
        allowed = "0 or more" if classes is None else f"0 to {largest}, the classes of {META}"
        raise StoreError(f"{shown}: label: row {row + 2}: {labels[row]} is not {allowed}")


def sha256(file: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

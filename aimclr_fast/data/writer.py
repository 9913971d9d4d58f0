"""Write a store: to a temporary folder beside the final one, checked, then renamed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.duration import Duration
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.store import (
    COMPRESSED,
    META,
    POSITIONS,
    SAMPLES,
    UNITS,
    VERSION,
    Store,
    StoreError,
    check_positions,
    open_store,
    read_folder,
    sha256,
)
from aimclr_fast.layouts import LAYOUTS, Layout, get_layout


def write_store(
    path: str | os.PathLike[str],
    positions: npt.NDArray[Any],
    samples: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
    *,
    layout: str | Layout,
    classes: Sequence[str] | None = None,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    source: str = "",
    licence: str = "",
    citation: str = "",
    preprocessing: Preprocessing | None = None,
    compress: bool = False,
    overwrite: bool = False,
) -> Store:
    """Write a store and open it.

    Args:
        path: the folder to make; folders above it that are not there are made, too.
        positions: ``[S, 3, T, V, M]``: float16, float32 or float64 (kept as float32) in meters, or
            int16 in millimeters. May be memory-mapped.
        samples: the columns of samples.csv, S cells each: ``name``, and any of ``label``,
            ``subject``, ``camera``, ``setup``, ...
        layout: the skeleton; one that is not built in is kept whole in meta.json.
        classes: name of each label.
        splits: rules of the data set's splits by name (:mod:`aimclr_fast.data.splits`).
        source: where the data come from and what was done to them.
        licence: terms of use.
        citation: what to cite.
        preprocessing: what was done to every sequence, if it was this package's.
        compress: write ``positions.npz``, for small sets that are passed around.
        overwrite: replace a store that is there already. Anything else is never replaced.

    Raises:
        StoreError: ``path`` exists and may not be replaced, or the arguments do not make a valid
            store; nothing is left behind.
    """
    target = check_target(path, overwrite=overwrite)
    positions = np.asanyarray(positions)
    if positions.dtype == np.float64:
        positions = positions.astype(np.float32)
    layout = get_layout(layout)
    meta = make_meta(
        layout,
        frames=positions.shape[2] if positions.ndim == 5 else 0,
        unit=UNITS.get(str(positions.dtype), "m"),
        classes=classes,
        splits=splits,
        source=source,
        licence=licence,
        citation=citation,
        preprocessing=preprocessing,
    )
    check_positions(positions, Path(path) / "positions", meta, layout)
    _check_finite(positions, path)

    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        if compress:
            np.savez_compressed(temporary / COMPRESSED, positions=positions)
        else:
            np.save(temporary / POSITIONS, positions)
        _write_samples(temporary / SAMPLES, samples, path)
        seal(temporary, target, Path(path), meta)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return open_store(path)


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The absolute path of a store to be made; makes the folder that it will be in.

    Raises:
        StoreError: it exists and may not be replaced, or there cannot be a folder to make it in.
    """
    target = Path(path).absolute()
    if os.path.lexists(target):
        if not overwrite:
            raise StoreError(f"{path}: exists already (overwrite=True replaces a store)")
        if target.is_symlink() or not (target / META).is_file():
            raise StoreError(f"{path}: is not a store, and is not replaced")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot make {target.parent}: {error.strerror}") from error
    return target


def make_meta(
    layout: Layout,
    *,
    frames: int,
    unit: str = "m",
    classes: Sequence[str] | None = None,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    source: str = "",
    licence: str = "",
    citation: str = "",
    preprocessing: Preprocessing | None = None,
    duration: Duration | None = None,
) -> dict[str, Any]:
    """The fields of meta.json, but for the checksums."""
    return {
        "version": VERSION,
        "layout": layout.name if LAYOUTS.get(layout.name) == layout else layout.to_dict(),
        "frames": frames,
        "unit": unit,
        "classes": None if classes is None else list(classes),
        "splits": dict(splits or {}),
        "source": source,
        "licence": licence,
        "citation": citation,
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
        **({} if duration is None else {"duration": duration.to_dict()}),
    }


def seal(temporary: Path, target: Path, shown: Path, meta: dict[str, Any]) -> None:
    """Write meta.json with checksums, check the folder as a reader would, rename it to ``target``.

    Args:
        temporary: holds all other files of the store, on the same file system; hidden ones, such
            as locks, are not part of it.
        target: the final folder; a store that is there is replaced.
        shown: what errors call the target.
        meta: see :func:`make_meta`.

    Raises:
        StoreError: the files do not make a valid store.
    """
    meta["checksums"] = {
        file.name: sha256(file)
        for file in sorted(temporary.iterdir())
        if file.name != META and not file.name.startswith(".")
    }
    text = json.dumps(meta, indent=1, ensure_ascii=False)
    (temporary / META).write_text(text + "\n", encoding="utf-8")
    read_folder(temporary, shown, mmap=True, verify=False)
    _replace(temporary, target)


def _check_finite(positions: npt.NDArray[Any], path: str | os.PathLike[str]) -> None:
    if positions.dtype.kind != "f":
        return
    for start in range(0, len(positions), 1024):
        finite = np.isfinite(positions[start : start + 1024])
        if not finite.all():
            sample = start + int(np.argwhere(~finite)[0, 0])
            raise StoreError(f"{path}: positions: sample {sample} has a value that is not finite")


def _write_samples(
    file: Path,
    samples: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
    path: str | os.PathLike[str],
) -> None:
    lengths = {column: len(cells) for column, cells in samples.items()}
    if len(set(lengths.values())) > 1:
        raise StoreError(f"{path}: samples: columns differ in length: {lengths}")
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(samples)
        writer.writerows(zip(*samples.values(), strict=True))


def _replace(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``; an old store is moved aside first, then removed."""
    if not target.exists():
        temporary.rename(target)
        return
    old = target.parent / f"{temporary.name}.old"
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)

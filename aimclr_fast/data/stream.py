"""Write a store piece by piece, in memory bounded by one piece."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from aimclr_fast._locks import HELD, FileLock, LockedError
from aimclr_fast.data.duration import Duration
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.store import POSITIONS, SAMPLES, Store, StoreError, open_store
from aimclr_fast.data.writer import check_target, make_meta, seal
from aimclr_fast.layouts import Layout

_SPOOL, _LOCK = "positions.spool", ".lock"
_LOCK_FILES = (_LOCK, _LOCK + HELD)
_COPY = 256  # samples padded at a time


class StoreWriter:
    """Writes a store of float32 meters that appears under its name only when it is whole.

    Everything goes to a hidden folder beside the target, which a later run finds and clears if
    this one is killed. Use it as a context manager::

        with StoreWriter("stores/mine", layout, bodies=2, frames=50) as writer:
            writer.append(positions, rows)
            store = writer.finish(classes=classes)

    Args:
        path: the folder to make.
        layout: the skeleton.
        bodies: bodies per sample, M.
        frames: frames per sample, T; None keeps each sample's own number: the store then has the
            longest one's, and shorter samples are zero from there on.
        overwrite: replace a store that is there.

    Raises:
        StoreError: the target may not be replaced, or another run is writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: Layout,
        *,
        bodies: int,
        frames: int | None,
        overwrite: bool = False,
    ) -> None:
        self.shown = Path(path)
        self._target = check_target(path, overwrite=overwrite)
        self.layout, self.bodies, self.frames = layout, bodies, frames
        self._columns: tuple[str, ...] | None = None
        self._lengths: list[int] = []
        self._finished = False
        self._folder = self._target.parent / f".{self._target.name}.preparing"
        self._lock = _claim(self._folder, self.shown)
        self._data: IO[bytes] = (self._folder / (_SPOOL if frames is None else POSITIONS)).open(
            "wb"
        )
        self._samples = (self._folder / SAMPLES).open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._samples, lineterminator="\n")
        self._header = 0
        if frames is not None:
            self._header = self._write_header(self._data, 0, frames)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._data.close()
        self._samples.close()
        if not self._finished:  # else it is the store now, and the folder may be another run's
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, positions: npt.NDArray[Any], rows: Sequence[Mapping[str, int | str]]) -> None:
        """Add samples.

        Args:
            positions: ``[n, 3, T, V, M]`` in meters, finite; T is free where ``frames`` is None.
            rows: their cells of samples.csv, ``name`` among them, the same columns each time.
        """
        wanted = (
            len(rows),
            3,
            self.frames or positions.shape[2],
            self.layout.num_joints,
            self.bodies,
        )
        if positions.shape != wanted:
            raise StoreError(f"{self.shown}: positions {list(positions.shape)}, not {list(wanted)}")
        for row in rows:
            if self._columns is None:
                self._columns = tuple(row)
                self._csv.writerow(self._columns)
            if tuple(row) != self._columns:
                raise StoreError(
                    f"{self.shown}: {row.get('name')}: columns {', '.join(row)}, "
                    f"before {', '.join(self._columns)}"
                )
            self._csv.writerow(row.values())
        self._data.write(np.ascontiguousarray(positions, dtype=np.float32).data)
        self._lengths += [positions.shape[2]] * len(rows)

    def attach(self, name: str, rows: Iterable[Sequence[str]]) -> None:
        """Add a CSV file to the store."""
        with (self._folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)

    def attach_text(self, name: str, text: str) -> None:
        """Add a text file to the store."""
        (self._folder / name).write_text(text, encoding="utf-8", newline="\n")

    def finish(
        self,
        *,
        classes: Sequence[str] | None = None,
        splits: Mapping[str, Mapping[str, Any]] | None = None,
        source: str = "",
        licence: str = "",
        citation: str = "",
        preprocessing: Preprocessing | None = None,
        duration: Duration | None = None,
        renumbered: Mapping[int, int] | None = None,
    ) -> Store:
        """Check the store, give it its name and open it.

        Args:
            classes: name of each label.
            splits: rules of the splits by name.
            source: as of :func:`aimclr_fast.data.writer.write_store`, as are those below.
            licence: terms of use.
            citation: what to cite.
            preprocessing: what was done to every sequence.
            duration: how long the recorded sequences last.
            renumbered: the final label of each label that rows were written with.

        Raises:
            StoreError: it has no samples, or is not valid; nothing appears then.
        """
        if not self._lengths:
            raise StoreError(f"{self.shown}: no samples were written")
        self._samples.close()
        if renumbered is not None:
            self._renumber(renumbered)
        frames = self.frames
        if frames is None:
            self._data.close()
            frames = self._pad()
        else:
            self._data.seek(0)
            if self._write_header(self._data, len(self), frames) != self._header:
                raise StoreError(f"{self.shown}: NumPy changed the length of the header")
            self._data.close()
        meta = make_meta(
            self.layout,
            frames=frames,
            classes=classes,
            splits=splits,
            source=source,
            licence=licence,
            citation=citation,
            preprocessing=preprocessing,
            duration=duration,
        )
        seal(self._folder, self._target, self.shown, meta)
        self._finished = True
        for name in _LOCK_FILES:  # held to the last: checksums of large stores take a while
            (self._target / name).unlink(missing_ok=True)
        return open_store(self.shown)

    def _renumber(self, labels: Mapping[int, int]) -> None:
        """Write samples.csv anew with other labels."""
        file = self._folder / SAMPLES
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "label": labels[int(row["label"])]} for row in rows)

    def _write_header(self, stream: IO[bytes], count: int, frames: int) -> int:
        # NumPy pads headers so that the first axis can grow to any length in place.
        shape = (count, 3, frames, self.layout.num_joints, self.bodies)
        npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return stream.tell()

    def _pad(self) -> int:
        """Make positions.npy of the spool; returns the longest sample's frames."""
        longest = max(self._lengths)
        each = self.layout.num_joints * self.bodies
        with (
            (self._folder / _SPOOL).open("rb") as spool,
            (self._folder / POSITIONS).open("wb") as out,
        ):
            self._write_header(out, len(self), longest)
            for start in range(0, len(self), _COPY):
                lengths = self._lengths[start : start + _COPY]
                block = np.zeros((len(lengths), 3, longest, each), dtype=np.float32)
                for sample, length in enumerate(lengths):
                    data = spool.read(3 * length * each * 4)
                    block[sample, :, :length] = np.frombuffer(data, np.float32).reshape(
                        3, length, each
                    )
                out.write(block.data)
        (self._folder / _SPOOL).unlink()
        return longest


def _claim(folder: Path, shown: Path) -> FileLock:
    """Make the hidden folder, or take over that of a run that has ended; returns its lock."""
    folder.mkdir(exist_ok=True)
    try:
        lock = FileLock(folder / _LOCK)
    except LockedError as error:
        raise StoreError(f"{shown}: another run is writing it ({error})") from None
    for file in folder.iterdir():
        if file.name not in _LOCK_FILES:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    return lock

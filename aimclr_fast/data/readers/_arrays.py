"""Untrusted NumPy files, checked before anything is allocated."""

from __future__ import annotations

import functools
import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from aimclr_fast.data.readers._base import Options, ReadError
from aimclr_fast.data.readers._files import MAX_BYTES

UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError,
              zipfile.BadZipFile, zlib.error, SyntaxError, TypeError)  # fmt: skip


#: NumPy takes no header of more bytes than this.
_HEADER = 10_000
#: More bodies than this in one recording are probably frames or recordings.
MOST_BODIES = 6


def check_order(shape: tuple[int, ...], options: Options, where: str) -> None:
    """Refuse an array whose axes seem not to be in the order ``[M, T, V, C]``.

    Raises:
        ReadError: more bodies than frames, more than MOST_BODIES, or possibly channels first.
    """
    if len(shape) != 4:
        return
    bodies, frames, _, coordinates = shape
    most = options.max_bodies
    seen = f"expected [M, T, V, C] (bodies, frames, joints, coordinates), got {list(shape)}"
    if bodies > frames and (most is None or bodies > most):
        raise ReadError(
            where,
            f"{seen}, which has more bodies than frames and looks like [T, M, V, C] (frames first) "
            "or [N, T, V, C] (several recordings): transpose it, or save a file for each recording",
        )
    if bodies > MOST_BODIES and most is None:
        raise ReadError(
            where,
            f"{seen}, {bodies} bodies, which looks like [N, T, V, C] (several recordings) or "
            "[T, M, V, C] (frames first): save a file for each recording, transpose it, or say "
            "with --max-bodies how many bodies to keep",
        )
    if bodies == 3 and coordinates == 2 and most is None and options.pose != "2d":
        raise ReadError(
            where,
            f"{seen}, which looks like channels first, [C, T, V, M]: transpose it; for three "
            "bodies in 2D say --pose 2d",
        )


@functools.lru_cache(maxsize=256)  # of a folder's files, most are alike
def _parse_header(
    version: tuple[int, int], header: bytes
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = io.BytesIO(header)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)


def read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and Fortran order of a .npy stream, which is left at the data.

    Raises:
        ReadError: no .npy header, or its values are not numbers.
    """
    try:
        version = npy.read_magic(stream)
    except UNREADABLE:
        raise ReadError(
            where, "does not begin as a .npy file does: damaged, or of another format"
        ) from None
    try:
        size = stream.read(2 if version == (1, 0) else 4)
        header = size + stream.read(min(int.from_bytes(size, "little"), _HEADER))
        shape, fortran, dtype = _parse_header(version, header)
    except UNREADABLE as error:
        raise ReadError(where, f"not a .npy array: {error}") from error
    if dtype.kind not in "biuf" or any(n < 0 for n in shape):
        raise ReadError(where, f"holds {dtype}, not numbers")
    return shape, dtype, fortran


def parse_npy(data: bytes, where: str) -> npt.NDArray[Any]:
    """The array of a .npy file's bytes, without a copy."""
    stream = io.BytesIO(data)
    shape, dtype, fortran = read_header(stream, where)
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ReadError(where, f"shape {list(shape)} of {dtype} does not fit the file's size")
    flat = np.frombuffer(data, dtype, offset=start) if len(data) > start else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def open_mapped(file: Path) -> npt.NDArray[Any]:
    """Map a .npy file; fails before reading if the header declares more than the file holds."""
    where = str(file)
    try:
        with file.open("rb") as stream:
            shape, dtype, _ = read_header(stream, where)
            needs, has = stream.tell() + math.prod(shape) * dtype.itemsize, file.stat().st_size
        if has < needs:
            raise ReadError(
                where,
                f"not a readable .npy file: cut short, shape {list(shape)} of {dtype} takes "
                f"{needs:,} bytes and the file has {has:,}",
            )
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(where, f"not a readable .npy file: {error}") from error
    return array


def members(data: bytes | Path, where: str) -> zipfile.ZipFile:
    """Open an .npz file."""
    try:
        return zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data)
    except UNREADABLE as error:
        raise ReadError(where, f"not a readable .npz file: {error}") from error


def parse_npz(data: bytes, where: str) -> npt.NDArray[Any]:
    """The only array of an .npz file's bytes, or the one named positions."""
    with members(data, where) as archive:
        names = archive.namelist()
        chosen = names[0] if len(names) == 1 else "positions.npy"
        if chosen not in names:
            raise ReadError(where, f"holds {len(names)} arrays, and none is named positions")
        try:
            with archive.open(chosen) as stream:
                raw = stream.read(MAX_BYTES + 1)
        except UNREADABLE as error:
            raise ReadError(where, f"cannot be read: {error}") from error
    if len(raw) > MAX_BYTES:
        raise ReadError(where, f"more than {MAX_BYTES >> 20} MiB, which no recording has")
    return parse_npy(raw, where)


def parse_members(
    data: bytes | Path, where: str, names: Sequence[str], limit: int
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file that have one of these names; the others are not read.

    Raises:
        ReadError: it cannot be read, they have more than ``limit`` bytes, or one is not of numbers.
    """
    found = {}
    with members(data, where) as archive:
        known = set(archive.namelist())
        for name in names:
            if f"{name}.npy" not in known:
                continue
            try:
                with archive.open(f"{name}.npy") as stream:
                    raw = stream.read(limit + 1)
            except UNREADABLE as error:
                raise ReadError(where, f"{name}: cannot be read: {error}") from error
            limit -= len(raw)
            if limit < 0:
                raise ReadError(where, f"{name}: too large, more than any recording has")
            found[name] = parse_npy(raw, f"{where}: {name}")
    return found


def stream_rows(
    archive: zipfile.ZipFile, member: str, where: str, rows: int
) -> Iterator[npt.NDArray[Any]]:
    """Yield an array of an .npz file, ``rows`` at a time along its first axis.

    The member may be far larger than memory; it is unpacked as it goes.
    """
    try:
        with archive.open(member) as stream:
            shape, dtype, fortran = read_header(stream, where)
            if fortran or not shape or not all(shape[1:]):
                raise ReadError(where, f"shape {list(shape)}: must have rows, in C order")
            size = math.prod(shape[1:]) * dtype.itemsize
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                data = stream.read(count * size)
                if len(data) != count * size:
                    raise ReadError(where, f"ends at row {start + len(data) // size}")
                yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
    except UNREADABLE as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(where, f"cannot be read: {error}") from error

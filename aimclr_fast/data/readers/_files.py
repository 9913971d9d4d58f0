"""Files of a source: a folder, one file, or zip archives; nothing is ever unpacked to disk."""

from __future__ import annotations

import functools
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from aimclr_fast.data.readers._base import ReadError

#: Most bytes of text read of one file, unpacked: no recording comes near it, a zip bomb does.
MAX_BYTES = 256 << 20
_BAD_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError,
    NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Entry:
    """A file, or a member of a zip file. Small, so that it can be sent to a worker.

    Attributes:
        file: on disk; the archive, for a member.
        path: within the source, with forward slashes; for a member, its name in the archive.
        member: whether it lies in an archive.
    """

    file: Path
    path: str
    member: bool = False

    @property
    def name(self) -> str:
        """The last part of the path, without ``.gz``."""
        return PurePosixPath(self.path).name.removesuffix(".gz")

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders above it within the source, outermost first."""
        return PurePosixPath(self.path).parts[:-1]

    @property
    def shown(self) -> str:
        """How messages name it."""
        return f"{self.file}:{self.path}" if self.member else str(self.file)

    def read_head(self, size: int = 1 << 16) -> bytes:
        """The first bytes, as they are stored."""
        try:
            with self._open() as stream:
                return stream.read(size)
        except KeyError:
            raise ReadError(self.shown, "no such member") from None
        except _BAD_ARCHIVE as error:
            raise ReadError(self.shown, f"cannot be read: {error}") from error

    def _open(self) -> IO[bytes]:
        return _archive(self.file).open(self.path) if self.member else self.file.open("rb")

    def read(self, limit: int = MAX_BYTES) -> bytes:
        """All bytes, unpacked where the name ends in ``.gz``.

        Raises:
            ReadError: it cannot be read, is damaged, or has more than ``limit`` bytes.
        """
        try:
            with self._open() as stream:
                data = stream.read(limit + 1)
            if self.path.endswith(".gz"):
                data = _gunzip(data, limit + 1)
        except KeyError:
            raise ReadError(self.shown, "no such member") from None
        except _BAD_ARCHIVE as error:
            raise ReadError(self.shown, f"cannot be read: {error}") from error
        if len(data) > limit:
            raise ReadError(self.shown, f"more than {limit >> 20} MiB, which no recording has")
        return data


def _gunzip(data: bytes, limit: int) -> bytes:
    out = io.BytesIO()
    while data and out.tell() < limit:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        out.write(member.decompress(data, limit - out.tell()))
        if not member.eof and out.tell() < limit:
            raise EOFError("the compressed data end too early")
        data = member.unused_data
    return out.getvalue()


@functools.lru_cache(maxsize=8)
def _archive(file: Path) -> zipfile.ZipFile:
    # Kept open for a worker's lifetime: reading the list of 56,880 members takes a second.
    return zipfile.ZipFile(file)


def list_entries(source: Path, wanted: Callable[[str], bool]) -> list[Entry]:
    """Entries under ``source`` whose lower-case path satisfies ``wanted``, sorted by path.

    Args:
        source: a folder (searched to the bottom, zip files in it included), a zip file, or a file.
        wanted: says whether to take a path.

    Raises:
        ReadError: the source does not exist, or an archive cannot be read.
    """
    found = [e for e in _all_entries(source) if wanted(e.path.lower())]
    return sorted(found, key=lambda e: (e.path, e.file))


def _all_entries(source: Path) -> Iterator[Entry]:
    if not source.exists():
        raise ReadError(str(source), "no such file or folder")
    if source.is_file():
        yield from _of_file(source, source.name)
        return
    for folder, _, names in os.walk(source):
        for name in names:
            file = Path(folder, name)
            yield from _of_file(file, file.relative_to(source).as_posix())


def _of_file(file: Path, path: str) -> Iterator[Entry]:
    if not path.lower().endswith(".zip"):
        yield Entry(file, path)
        return
    try:
        members = _archive(file).infolist()
    except _BAD_ARCHIVE as error:
        raise ReadError(str(file), f"not a readable zip file: {error}") from error
    for member in members:
        if not member.is_dir():
            yield Entry(file, member.filename, member=True)


def read_text(entry: Entry, limit: int = 16 << 20) -> str:
    """A small text file, decoded as UTF-8."""
    try:
        return entry.read(limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(entry.shown, f"not text: {error.reason}") from error

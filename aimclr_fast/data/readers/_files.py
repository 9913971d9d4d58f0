"""Files of a source: a folder, one file, or zip archives; nothing is ever unpacked to disk."""

from __future__ import annotations

import functools
import io
import lzma
import os
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import Problem, ReadError

#: Most bytes read of one file, unpacked: far more than any recording has, which a zip bomb exceeds.
MAX_BYTES = 256 << 20
_BAD_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError,
    NotImplementedError,
)  # fmt: skip
#: Archives that are not read.
_OTHER_ARCHIVES = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar",
)  # fmt: skip
_UNPACK = "archives of this kind are not read: unpack it, or make it a .zip"
_STORE, _IGNORED = "is a store, which is prepared already", "is a store, ignored"
#: What operating systems and editors leave in folders, besides names that begin with a dot.
_NOISE = ("__macosx", "thumbs.db", "desktop.ini")


@dataclass(frozen=True, order=True)
class Entry:
    """A file, or a member of a zip file. Small, so that it can be sent to a worker.

    Attributes:
        file: on disk; the archive, for a member.
        path: within the source, with forward slashes; for a member, within the archive.
        member: whether it lies in an archive.
        inner: for a member of an archive in ``file``, the name of that archive.
        stored: for a member, its name as the archive has it, where ``path`` differs.
    """

    file: Path
    path: str
    member: bool = False
    inner: str = ""
    stored: str = ""

    @property
    def name(self) -> str:
        """The last part of the path, without ``.gz``."""
        return without_gz(self.path.rpartition("/")[2])

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending in lower case, not counting ``.gz``."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders above it within the source, outermost first."""
        return PurePosixPath(self.path).parts[:-1]

    @property
    def shown(self) -> str:
        """How messages name it."""
        inside = [self.inner, self.path] if self.inner else [self.path] if self.member else []
        return printable(":".join([str(self.file), *inside]))

    def read_head(self, size: int = 1 << 16) -> bytes:
        """The first bytes, unpacked where the name ends in ``.gz``."""
        return self._read(size)

    def read(self, limit: int = MAX_BYTES) -> bytes:
        """All bytes, unpacked where the name ends in ``.gz``.

        Raises:
            ReadError: it cannot be read, is damaged, or has more than ``limit`` bytes.
        """
        data = self._read(limit + 1)
        if len(data) > limit:
            raise ReadError(self.shown, f"more than {limit >> 20} MiB, which no recording has")
        return data

    def member_names(self) -> set[str]:
        """Names of the arrays of an .npz file; of one on disk, only the list of them is read.

        Raises:
            ReadError: it is no zip file.
        """
        whole = self.member or self.path.lower().endswith(".gz")
        try:
            with zipfile.ZipFile(io.BytesIO(self.read()) if whole else self.file) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        except _BAD_ARCHIVE as error:
            raise ReadError(self.shown, f"not a readable .npz file: {error}") from error

    def _read(self, limit: int) -> bytes:
        try:
            with self._open() as stream:
                data = _read_at_most(stream, limit)
            return _gunzip(data, limit) if self.path.lower().endswith(".gz") else data
        except KeyError:
            raise ReadError(self.shown, "no such member") from None
        except ReadError:
            raise
        except _BAD_ARCHIVE as error:
            raise ReadError(self.shown, f"cannot be read: {error}") from error

    def _open(self) -> IO[bytes]:
        if self.member:
            return _archive(self.file, self.inner).open(self.stored or self.path)
        return self.file.open("rb")


def _read_at_most(stream: IO[bytes], limit: int) -> bytes:
    """The first ``limit`` bytes, in growing parts: Python allocates what is requested."""
    parts, size = [], 1 << 16
    while limit:
        part = stream.read(min(size, limit))
        parts.append(part)
        if len(part) < min(size, limit):
            break
        limit -= len(part)
        size *= 4
    return b"".join(parts)


def without_gz(path: str) -> str:
    """The path without ``.gz`` at its end."""
    return path[:-3] if path.lower().endswith(".gz") else path


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
def _archive(file: Path, inner: str = "") -> zipfile.ZipFile:
    # Kept open for a worker's lifetime: reading the list of 56,880 members takes a second.
    if not inner:
        return zipfile.ZipFile(file)
    if _archive(file).getinfo(inner).file_size > MAX_BYTES:
        raise ReadError(
            printable(f"{file}:{inner}"),
            f"archives within archives are read up to {MAX_BYTES >> 20} MiB: unpack the outer one",
        )
    return zipfile.ZipFile(io.BytesIO(_archive(file).read(inner)))


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        entries: the files that were asked for, sorted by path.
        left_out: what could not be read.
        notes: how many files were ignored, and of which kinds.
        base: the one folder that everything lies in, or an empty text.
    """

    entries: list[Entry] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base: str = ""


def list_entries(source: Path, wanted: Callable[[str], bool]) -> Listing:
    """The files under ``source`` whose path satisfies ``wanted``, and what was ignored.

    Links are followed; a folder that several paths lead to is read once. Zip files are looked
    into, those within a zip file too. Names that begin with a dot, ``__MACOSX`` and their like,
    and folders that are stores, are ignored.

    Args:
        source: a folder (searched to the bottom), a zip file, or a file.
        wanted: says whether to take a path, given in lower case.

    Raises:
        ReadError: the source does not exist, is a store, is an archive that cannot be read, or
            holds nothing but such archives.
    """
    listing = Listing()
    others: Counter[str] = Counter()
    noise = 0
    folders: set[str] = set()
    for entry in _all_entries(source, listing.left_out):
        if _is_noise(entry.path):
            noise += 1
            continue
        folders.add("/".join(entry.folders).lstrip("/"))
        if wanted(entry.path.lower()):
            listing.entries.append(entry)
        elif entry.path.lower().endswith(_OTHER_ARCHIVES):
            listing.left_out.append(Problem(entry.shown, _UNPACK))
        else:
            others[entry.suffix or "without an ending"] += 1
    listing.entries.sort(key=lambda e: (e.path, e.file, e.inner))
    if folders:
        listing.base = os.path.commonpath(folders)
    if others:
        most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:5]
        kinds = ", ".join(f"{n:,} {printable(kind)}" for kind, n in most)
        more = ", ..." if len(others) > 5 else ""
        listing.notes.append(f"ignored: {sum(others.values()):,} files ({kinds}{more})")
    if noise:
        listing.notes.append(
            f"ignored: {noise:,} hidden files, or files of the operating system "
            "(.DS_Store, __MACOSX and the like)"
        )
    return listing


def _is_noise(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return any((p.startswith(".") and p != "..") or p.lower() in _NOISE for p in parts)


def _all_entries(source: Path, left_out: list[Problem]) -> Iterator[Entry]:
    if not source.exists():
        raise ReadError(str(source), "no such file or folder")
    if source.is_file():
        if source.name.lower().endswith(_OTHER_ARCHIVES):
            raise ReadError(str(source), _UNPACK)
        entries = list(_of_file(source, source.name, left_out))
        if all(_is_noise(e.path) for e in entries) and any(
            problem.reason == _IGNORED for problem in left_out
        ):
            raise ReadError(str(source), _STORE)
        yield from entries
        return
    damaged: ReadError | None = None
    sound = False
    for file in _files_below(source, left_out):
        try:
            yield from _of_file(file, file.relative_to(source).as_posix(), left_out)
            sound = True
        except ReadError as error:
            damaged = damaged or error
            left_out.append(Problem.of(error))
    if damaged and not sound:
        raise damaged


def _files_below(source: Path, left_out: list[Problem]) -> Iterator[Path]:
    """All files, those behind linked folders last, so that a folder's own path comes first."""
    first: dict[tuple[int, int], Path] = {}
    own, linked = deque([source]), deque[Path]()
    while own or linked:
        folder = own.popleft() if own else linked.popleft()
        try:
            status = folder.stat()
            place = (status.st_dev, status.st_ino)
            before = first.setdefault(place, folder)
            if before != folder:
                reason = f"is {printable(str(before))} again, by a link"
                left_out.append(Problem(printable(str(folder)), reason, expected=True))
                continue
            children = sorted(os.scandir(folder), key=lambda child: child.name)
            if _is_store({child.name for child in children}):
                if folder == source:
                    raise ReadError(str(source), _STORE)
                left_out.append(Problem(printable(str(folder)), _IGNORED, expected=True))
                continue
        except OSError as error:
            reason = f"cannot be opened: {error.strerror}"
            left_out.append(Problem(printable(str(folder)), reason))
            continue
        for child in children:
            path = folder / child.name
            if child.is_file(follow_symlinks=False):  # needs no look at the file itself
                yield path
            elif path.is_dir():
                (linked if child.is_symlink() else own).append(path)
            elif path.is_file():
                yield path
            elif child.is_symlink():
                left_out.append(Problem(printable(str(path)), "is a broken link"))
            else:
                left_out.append(Problem(printable(str(path)), "is not a file", expected=True))


def _is_store(names: set[str]) -> bool:
    """Whether a folder with these names is a store written by ``prepare``."""
    return {"meta.json", "samples.csv"} <= names and any(n.startswith("positions.") for n in names)


def _of_file(file: Path, path: str, left_out: list[Problem]) -> Iterator[Entry]:
    if not path.lower().endswith(".zip") or _is_noise(path):
        yield Entry(file, path)
        return
    try:
        members = _archive(file).infolist()
    except _BAD_ARCHIVE as error:
        raise ReadError(str(file), f"not a readable zip file: {error}") from error
    for stored, path in _without_stores(members, str(file), left_out):
        if path.lower().endswith(".zip") and not _is_noise(path):
            yield from _of_inner(file, stored, left_out)
        else:
            yield Entry(file, path, member=True, stored=stored if stored != path else "")


def _without_stores(
    members: list[zipfile.ZipInfo], where: str, left_out: list[Problem]
) -> list[tuple[str, str]]:
    """:func:`_paths` without those of stores."""
    paths = list(_paths(members))
    folders: dict[str, set[str]] = {}
    for _, path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, set()).add(name)
    for folder in [folder for folder, names in folders.items() if _is_store(names)]:
        shown = printable(f"{where}:{folder}" if folder else where)
        left_out.append(Problem(shown, _IGNORED, expected=True))
        inside = f"{folder}/" if folder else ""
        paths = [pair for pair in paths if not pair[1].startswith(inside)]
    return paths


def _paths(members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, str]]:
    r"""Names of an archive's files as stored, and as paths: not ``a\b``, ``/a`` or ``./a``."""
    for member in members:
        path = member.filename.replace("\\", "/")
        if not path.endswith("/"):
            yield member.filename, PurePosixPath(path.lstrip("/")).as_posix()


def _of_inner(file: Path, inner: str, left_out: list[Problem]) -> Iterator[Entry]:
    shown = printable(f"{file}:{inner}")
    try:
        members = _archive(file, inner).infolist()
    except ReadError as error:
        left_out.append(Problem.of(error))
        return
    except _BAD_ARCHIVE as error:
        left_out.append(Problem(shown, f"not a readable zip file: {error}"))
        return
    for stored, path in _without_stores(members, shown, left_out):
        if path.lower().endswith(".zip"):
            reason = "lies in an archive within an archive: unpack the outer one"
            left_out.append(Problem(f"{shown}:{printable(path)}", reason))
        else:
            stored = stored if stored != path else ""
            yield Entry(file, path, member=True, inner=inner, stored=stored)


def read_text(entry: Entry, limit: int = 16 << 20) -> str:
    """A small text file, decoded as UTF-8, or as UTF-16 where its first bytes say so.

    Raises:
        ReadError: it cannot be read, or is not such text.
    """
    data = entry.read(limit)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        reason = f"not UTF-8 text ({error.reason}): save it as UTF-8"
        raise ReadError(entry.shown, reason, None if wide else line) from error

"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary neighbor of `path` to write to; it takes the name only when all went well.

    Folders above it that are not there are made. When it takes the name its content is on the disk:
    a crash of the machine leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; outputs get the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # not every file system knows this for folders
            _to_disk(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Find out, before long work, whether files can be written to a folder, which may have to be
    made first. Nothing is left behind.

    Raises:
        OSError: they cannot; `filename` is what stands in the way.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def _to_disk(path: Path, flags: int) -> None:
    handle = os.open(path, flags)  # Windows flushes only what is open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with control characters, and bytes that are not UTF-8, written as ``\xe9``."""

    def escape(found: re.Match[str]) -> str:
        code = ord(found[0])
        # Python keeps a byte of a file name that is not UTF-8 as U+DC00 plus the byte.
        byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
        return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{byte:04x}"

    return _UNSHOWABLE.sub(escape, text)

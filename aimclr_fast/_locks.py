"""One process at a time at a file or folder, also where the file system has no locks."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ._errors import Error

try:
    import fcntl

    _FLOCK = True
except ImportError:  # Windows
    _FLOCK = False

HELD = ".held"
_POLL = 0.05  # seconds


class LockedError(Error):
    """Another process holds the lock; the message says which one, where that is known."""


class FileLock:
    """Holds a lock on `path`, a file that is made where there is none, until `close`.

    The lock is the kernel's (flock), which ends with its process. Windows has none, nor have some
    mounts of Lustre, NFS and FUSE. There a file beside `path`, its name with .held, says who holds
    it. One left behind by a process of this machine that is gone is taken over, where /proc tells;
    one of another machine is respected, since its process cannot be asked.

    Args:
        path: what to lock.
        wait: seconds to wait for another process.

    Raises:
        LockedError: another process holds it.
        OSError: `path` cannot be made or opened for writing.
    """

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        self._held: Path | None = None
        self._mark = json.dumps({**_process(os.getpid()), "lock": uuid.uuid4().hex}).encode()
        self._handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        until = time.monotonic() + wait
        try:
            while True:
                try:
                    self._take(path)
                    return
                except LockedError:
                    if time.monotonic() >= until:
                        raise
                time.sleep(_POLL)
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; later calls do nothing."""
        if self._held is not None:
            # The folder of the lock may have been renamed, and another's stands in its place.
            with suppress(FileNotFoundError):
                if self._held.read_bytes() == self._mark:
                    self._held.unlink()
            self._held = None
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self, path: Path) -> None:
        if not _FLOCK:
            self._hold(path.with_name(path.name + HELD))
            os.close(self._handle)  # Windows renames no folder with an open file in it
            self._handle = -1
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # what flock and its emulation by NFS say
            raise LockedError("another process holds it") from None
        except OSError:  # ENOSYS, ENOLCK, EOPNOTSUPP, ...: no locks here
            self._hold(path.with_name(path.name + HELD))

    def _hold(self, file: Path) -> None:
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            _clear(file)
            self._hold(file)
            return
        try:
            os.write(handle, self._mark)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        self._held = file


def _clear(file: Path) -> None:
    """Remove what a process that is gone has left behind.

    Raises:
        LockedError: the process may be alive.
    """
    try:
        content = file.read_bytes()
        holder = json.loads(content)
        host, pid = str(holder["host"]), int(holder["pid"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError):
        raise LockedError(f"{file} is there; if nobody is at it, delete that file") from None
    here = _process(pid)
    if host != here["host"] or here.items() <= holder.items():
        raise LockedError(f"process {pid} on {host} holds it; if it is gone, delete {file}")
    # Aside first: another process may have cleared it and hold it by now.
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        os.rename(file, aside)
        if aside.read_bytes() != content:
            os.rename(aside, file)
            raise LockedError("another process has just taken it")
        aside.unlink()


def _process(pid: int) -> dict[str, str | int]:
    """What tells a process of this machine from all others, also from later ones of its number."""
    started = boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The fields after the name, which may hold blanks and brackets; the 20th is the start.
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return {"host": socket.gethostname(), "boot": boot, "pid": pid, "started": started}

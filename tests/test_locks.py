"""Locks: one process at a time, with the kernel's locks and where the file system has none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import textwrap

import pytest

from aimclr_fast._locks import FileLock, LockedError

NONE_HERE = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL]


@pytest.fixture(params=[None, *NONE_HERE], ids=lambda number: errno.errorcode.get(number, "flock"))
def number(request, monkeypatch):
    """What flock answers on this file system; None for one that has it."""
    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", refusing(request.param))
    return request.param


def refusing(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    return flock


def other(path, number, end):
    """A process that takes the lock, says so, and ends as told."""
    code = f"""
        import fcntl, os, signal, sys
        from pathlib import Path
        from aimclr_fast._locks import FileLock
        def flock(*_): raise OSError({number}, "none here")
        if {number} is not None: fcntl.flock = flock
        lock = FileLock(Path({str(path)!r}))
        print("taken", flush=True)
        sys.stdin.readline()
        {end}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "taken\n"
    return process


def finish(process):
    process.communicate("\n", timeout=60)


def test_two_processes_never_hold_it_at_once(tmp_path, number):
    path = tmp_path / ".lock"
    process = other(path, number, "lock.close()")
    try:
        says = "another process" if number is None else rf"process {process.pid} on .*delete .*held"
        with pytest.raises(LockedError, match=says):
            FileLock(path)
    finally:
        finish(process)
    with FileLock(path), pytest.raises(LockedError):
        FileLock(path)
    FileLock(path).close()
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_a_killed_process_holds_nothing(tmp_path, number):
    process = other(tmp_path / "x", number, "os.kill(os.getpid(), signal.SIGKILL)")
    finish(process)
    with FileLock(tmp_path / "x"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_waiting_for_another(tmp_path, number):
    process = other(tmp_path / "x", number, "import time; time.sleep(0.3); lock.close()")
    process.stdin.write("\n")
    process.stdin.flush()
    with FileLock(tmp_path / "x", wait=60):
        pass
    finish(process)


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, False),  # this very process
        ({"started": "1"}, True),  # a later process of the same number
        ({"boot": "before the crash"}, True),
        ({"host": "another"}, False),  # nobody can ask it
        ({"host": "another", "boot": "x", "started": "1"}, False),
        ({"pid": "four"}, False),
    ],
)
def test_whose_lock_is_taken_over(tmp_path, monkeypatch, change, free):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOSYS))
    held = tmp_path / "x.held"
    with FileLock(tmp_path / "x"):
        content = json.loads(held.read_text())
    held.write_text(json.dumps(content | change))
    if free:
        FileLock(tmp_path / "x").close()
        assert not held.exists()
    else:
        with pytest.raises(LockedError, match=r"delete"):
            FileLock(tmp_path / "x")
        assert json.loads(held.read_text()) == content | change


def test_a_file_that_says_nothing_is_respected_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    (tmp_path / "x.held").write_text("")
    with pytest.raises(LockedError, match=r"x\.held"):
        FileLock(tmp_path / "x")


def test_what_cannot_be_made_is_no_lock(tmp_path, number):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        FileLock(tmp_path / "file" / "x")
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "none" / "x")


def test_only_the_own_lock_is_given_back(tmp_path, monkeypatch):
    """A store is renamed when it is whole, its lock with it; the next may have begun by then."""
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOSYS))
    (tmp_path / "a").mkdir()
    first = FileLock(tmp_path / "a" / "lock")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    with FileLock(tmp_path / "a" / "lock"):
        first.close()
        with pytest.raises(LockedError):
            FileLock(tmp_path / "a" / "lock")

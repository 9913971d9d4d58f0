"""Importing this takes from aimclr_fast, and from it alone, what only Linux or POSIX has.

Modules, files below /proc, calls of `os`, forked workers. The libraries below it keep them: they
know other ways on other systems. Triton is absent for all, and what is open or mapped, or a folder
with such a file in it, can be neither renamed nor replaced: Windows does not do that.
"""

import builtins
import importlib
import io
import multiprocessing
import os
import pkgutil
import sys
from types import ModuleType
from typing import Any

ABSENT = ("fcntl", "grp", "pwd", "resource", "termios")
CALLS = (
    "O_CLOEXEC", "O_DIRECTORY", "fork", "getloadavg", "getpgid", "getuid", "killpg",
    "posix_fadvise", "pread", "sched_getaffinity", "statvfs", "sysconf", "uname",
)  # fmt: skip
FILES = ("/dev", "/proc", "/sys")

_import, _open = builtins.__import__, builtins.open
_rename, _replace = os.rename, os.replace


def _asked_by_the_package() -> bool:
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__") in ("pathlib", "pathlib._local"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).startswith("aimclr_fast")


def _imported(name: str, *rest: Any, **more: Any) -> ModuleType:
    if name.partition(".")[0] in ABSENT and _asked_by_the_package():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _import(name, *rest, **more)


def _opened(file: Any, *rest: Any, **more: Any) -> Any:
    below = isinstance(file, str | os.PathLike) and os.fspath(file).startswith(FILES)
    if below and _asked_by_the_package():
        raise FileNotFoundError(2, "No such file or directory", file)
    return _open(file, *rest, **more)


def _refuse_if_open(*paths: Any) -> None:
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    files = {os.readlink(link) for link in links if os.path.lexists(link)}
    with _open("/proc/self/maps", encoding="utf-8") as maps:
        files |= {line.split(maxsplit=5)[-1].rstrip() for line in maps}
    for path in paths:
        real = os.path.realpath(path)
        if inside := [file for file in files if file == real or file.startswith(real + os.sep)]:
            raise PermissionError(13, f"{inside[0]} is open", os.fspath(path))


def _renamed(source: Any, target: Any, **more: Any) -> None:
    _refuse_if_open(source)
    _rename(source, target, **more)


def _replaced(source: Any, target: Any, **more: Any) -> None:
    _refuse_if_open(source, target)
    _replace(source, target, **more)


class _System(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in CALLS:
            raise AttributeError(name)
        return getattr(os, name)


def modules() -> list[ModuleType]:
    """Every module of the package, imported, but the compiled library and Triton's kernels."""
    package = importlib.import_module("aimclr_fast")
    found = pkgutil.walk_packages(package.__path__, "aimclr_fast.", lambda name: None)
    names = [module.name for module in found]
    apart = ("aimclr_fast._native", "aimclr_fast.triton_kernels")
    return [importlib.import_module(name) for name in names if not name.startswith(apart)]


assert not any(name.startswith("aimclr_fast") for name in sys.modules), "imported too early"
builtins.__import__, builtins.open = _imported, _opened
io.open = _opened  # pathlib's
os.rename, os.replace = _renamed, _replaced  # type: ignore[assignment]
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["triton"] = None  # type: ignore[assignment]
sys.modules["aimclr_fast.triton_kernels"] = None  # type: ignore[assignment]
MODULES = modules()
for _module in MODULES:
    if getattr(_module, "os", None) is os:
        _module.os = _System("os")  # type: ignore[attr-defined]

"""Importing this takes from aimclr_fast, and from it alone, what only Linux or POSIX has.

Modules, files below /proc, calls of `os`, forked workers. The libraries below it keep them: they
know other ways on other systems. Triton is absent for all.
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
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["triton"] = None  # type: ignore[assignment]
sys.modules["aimclr_fast.triton_kernels"] = None  # type: ignore[assignment]
MODULES = modules()
for _module in MODULES:
    if getattr(_module, "os", None) is os:
        _module.os = _System("os")  # type: ignore[attr-defined]

"""AMX on processors without it: the library's own machine code, each tile instruction emulated."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
from collections.abc import Generator
from pathlib import Path

from missing import compiler

from aimclr_fast import native

SOURCE = Path(__file__).parent / "native" / "amx_traps.cpp"
AMX = 4  # of Level in csrc/cpu/levels.h


def why_not() -> str | None:
    """Why the code of level amx cannot be run at all, or None."""
    if "v4_bf16" not in native.load().cpu_levels():
        return "level amx without tiles is v4_bf16, which this processor or build lacks"
    return None if compiler() else "no C++ compiler was found"


def build(folder: Path) -> ctypes.CDLL:
    binary = folder / "amx_traps.so"
    builder = compiler()
    assert builder is not None
    command = [builder, "-std=c++17", "-O2", "-march=x86-64-v3", "-shared", "-fPIC", "-Wall"]
    subprocess.run([*command, "-Wextra", "-Werror", str(SOURCE), "-o", str(binary)], check=True)
    traps = ctypes.CDLL(str(binary))
    traps.amx_native_or_emulated.restype = ctypes.c_bool
    traps.amx_products.restype = ctypes.c_long
    traps.amx_fault.restype = ctypes.c_char_p
    return traps


def _highest_level() -> ctypes.c_int:
    """What the library keeps as the highest level of the processor."""
    file = str(native.load().__file__)
    symbols = subprocess.run(["nm", file], capture_output=True, text=True, check=True).stdout
    places = {line.split()[2]: int(line.split()[0], 16) for line in symbols.splitlines()
              if len(line.split()) == 3}  # fmt: skip
    known = ctypes.cast(ctypes.CDLL(file).PyInit__native, ctypes.c_void_p).value
    assert known is not None
    base = known - places["PyInit__native"]
    return ctypes.c_int.from_address(base + places["_ZZN6aimclr3cpu13highest_levelEvE5found"])


@contextlib.contextmanager
def emulated(traps: ctypes.CDLL) -> Generator[None]:
    """Level amx is there, in use, and emulated."""
    library, highest = native.load(), _highest_level()
    before, level = highest.value, library.cpu_level()
    assert library.cpu_levels()[before] == "v4_bf16"
    assert not traps.amx_native_or_emulated()
    highest.value = AMX
    try:
        library.set_cpu_level("amx")
        yield
    finally:
        library.set_cpu_level(level)
        highest.value = before
    assert traps.amx_fault() is None, traps.amx_fault()

"""What the kernels of a compiled library take of a multiprocessor, as its machine code says."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """One kernel for one architecture.

    `name` is mangled; stack and local memory are bytes of a thread, shared memory of a block.
    `spills` are instructions that store to local memory. The stack alone does not tell: for
    Blackwell nvcc 13.0 gives these kernels 8 bytes, and they never store to them.
    """

    source: str
    arch: str
    name: str
    registers: int
    stack: int
    local: int
    shared: int
    spills: int


def cuobjdump(library: Path, what: str) -> str:
    import triton  # brings the tool

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(tool), what, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def stores_to_local_memory(library: Path) -> dict[tuple[str, str], int]:
    """(architecture, kernel) -> instructions."""
    found: dict[tuple[str, str], int] = {}
    arch = name = ""
    for line in cuobjdump(library, "-sass").splitlines():
        if line.startswith("arch = sm_"):
            arch = line.removeprefix("arch = sm_")
        elif "Function : " in line:
            name = line.split("Function : ")[1]
            found[arch, name] = 0
        elif " STL" in line:
            found[arch, name] += 1
    return found


@functools.cache
def usages(library: Path) -> list[Usage]:
    """Of all kernels of a library, for each architecture that it holds machine code for."""
    listing, stores = cuobjdump(library, "-res-usage"), stores_to_local_memory(library)
    found = []
    for section in listing.split("Fatbin elf code:")[1:]:
        machine_code = section.split("Fatbin ptx code:")[0]
        arch = re.search(r"^arch = sm_(\w+)$", machine_code, re.MULTILINE)
        source = re.search(r"^identifier = (.+)$", machine_code, re.MULTILINE)
        assert arch is not None, section
        assert source is not None, section
        for name, usage in re.findall(r"Function (\S+):\s+(REG.*)", machine_code):
            numbers = dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", usage))
            registers, stack, local, shared = (
                int(numbers[key]) for key in ("REG", "STACK", "LOCAL", "SHARED")
            )
            spills = stores[arch[1], name]
            sizes = registers, stack, local, shared
            found.append(Usage(Path(source[1]).name, arch[1], name, *sizes, spills))
    return found


def named(library: Path) -> list[Usage]:
    """`usages` with names as in the sources, without parameters: the same in every build."""
    found = usages(library)
    mangled = "\n".join(usage.name for usage in found)
    command = ["c++filt", "--no-params"]
    done = subprocess.run(command, input=mangled, capture_output=True, text=True, check=True)
    names = done.stdout.replace("aimclr::cuda::(anonymous namespace)::", "")
    names = names.replace("aimclr::", "")
    rows = [u._replace(name=name) for u, name in zip(found, names.splitlines(), strict=True)]
    return sorted(rows, key=lambda usage: (int(usage.arch), usage.source, usage.name))

"""What the kernels of a compiled library take of a multiprocessor, as its machine code says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """One kernel for one architecture; `name` is mangled, bytes are a thread's or a block's."""

    source: str
    arch: str
    name: str
    registers: int
    stack: int
    local: int
    shared: int


def usages(library: Path) -> list[Usage]:
    """Of all kernels of a library, for each architecture that it holds machine code for."""
    import triton  # brings cuobjdump

    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(cuobjdump), "-res-usage", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    for section in listing.split("Fatbin elf code:")[1:]:
        machine_code = section.split("Fatbin ptx code:")[0]
        arch = re.search(r"^arch = sm_(\w+)$", machine_code, re.MULTILINE)
        source = re.search(r"^identifier = (.+)$", machine_code, re.MULTILINE)
        assert arch is not None, section
        assert source is not None, section
        for name, usage in re.findall(r"Function (\S+):\s+(REG.*)", machine_code):
            numbers = dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", usage))
            values = (int(numbers[key]) for key in ("REG", "STACK", "LOCAL", "SHARED"))
            found.append(Usage(Path(source[1]).name, arch[1], name, *values))
    return found

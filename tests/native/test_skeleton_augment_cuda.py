"""What the compiled augmentation kernels take of a multiprocessor: no spills, few registers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCES = ("skeleton_augment.cu", "apply_augment.cu")
# Instances of each kernel: dtypes written times both placements of the buffers, times directions.
KERNELS = {
    "skeleton_augment_kernel": 6,
    "apply_augment_kernel": 16,
}


class Usage(NamedTuple):
    """What one kernel uses for one architecture."""

    arch: str
    name: str
    registers: int
    stack: int
    local: int


@pytest.fixture(scope="module")
def usages(cuda_library: Path) -> list[Usage]:
    import triton

    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(cuobjdump), "-res-usage", str(cuda_library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    for section in listing.split("Fatbin elf code:")[1:]:
        arch = re.search(r"^arch = sm_(\w+)$", section, re.MULTILINE)
        source = re.search(r"^identifier = (.+)$", section, re.MULTILINE)
        if arch is None or source is None or Path(source[1]).name not in SOURCES:
            continue
        for name, usage in re.findall(r"Function (\S+):\s+(REG.*)", section):
            numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
            found.append(
                Usage(arch[1], name, *(int(numbers[k]) for k in ("REG", "STACK", "LOCAL")))
            )
    return found


@pytest.mark.parametrize("arch", ["80", "90"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_keep_to_their_registers(usages, kernel, arch):
    of_kernel = [u for u in usages if u.arch == arch and f"{len(kernel)}{kernel}" in u.name]
    assert len(of_kernel) == KERNELS[kernel]
    for usage in of_kernel:
        assert (usage.stack, usage.local) == (0, 0), usage
        # Floats in shared memory, as the second template argument says: three blocks of 320
        # threads per multiprocessor, or one of 640; all else runs in blocks of 512.
        in_shared = re.search(r"kernelI(f|N\S+?E)Lb1E", usage.name) is not None
        limit = 128 if not in_shared else 64 if kernel == "skeleton_augment_kernel" else 96
        assert usage.registers <= limit, usage

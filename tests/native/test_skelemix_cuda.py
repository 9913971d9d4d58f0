"""What the compiled kernel of skelemix takes of a multiprocessor: no spills, few registers."""

from __future__ import annotations

from cuda_usage import usages
from native.conftest import ARCHS

TYPES = 4  # of the query


def test_the_kernel_keeps_to_its_registers(cuda_library):
    of_kernel = [u for u in usages(cuda_library) if "15skelemix_kernel" in u.name]
    archs = {usage.arch for usage in of_kernel}
    assert archs >= set(ARCHS)
    assert len(of_kernel) == TYPES * len(archs)
    for usage in of_kernel:
        assert (usage.spills, usage.local, usage.shared) == (0, 0, 0), usage
        assert usage.registers <= 64, usage  # four blocks of 256 threads a multiprocessor

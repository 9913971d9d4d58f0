"""What the compiled augmentation kernels take of a multiprocessor: no spills, few registers."""

from __future__ import annotations

import re

import pytest
from cuda_usage import usages
from native.conftest import ARCHS

# Instances of each kernel: dtypes written times both placements of the buffers, times directions.
KERNELS = {
    "skeleton_augment_kernel": 6,
    "apply_augment_kernel": 16,
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_keep_to_their_registers(cuda_library, kernel):
    of_kernel = [u for u in usages(cuda_library) if f"{len(kernel)}{kernel}" in u.name]
    archs = {usage.arch for usage in of_kernel}
    assert archs >= set(ARCHS)
    assert len(of_kernel) == KERNELS[kernel] * len(archs)
    for usage in of_kernel:
        assert (usage.spills, usage.local) == (0, 0), usage
        # Floats in shared memory, as the second template argument says: three blocks of 320
        # threads per multiprocessor, or one of 640; all else runs in blocks of 512.
        in_shared = re.search(r"kernelI(f|NS_\d+(Half|BFloat16)E)Lb1E", usage.name) is not None
        small = kernel == "skeleton_augment_kernel" and usage.arch != "75"
        limit = 128 if not in_shared else 64 if small else 96
        assert usage.registers <= limit, usage

"""What the package mends in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

OLD_INTERPRETER = """
import triton
from triton.runtime import interpreter

# As in Triton 3.6, whose scalars NumPy 2.4 and newer do not convert.
patch = interpreter._patch_lang_tensor
def patch_as_before(tensor, *scope):
    patch(tensor, *scope)
    tensor.__index__ = lambda self: int(self.handle.data)
interpreter._patch_lang_tensor = patch_as_before
triton.__version__ = "3.6.0"

import torch
from aimclr_fast.triton_kernels.stgcn_block_norm import merge_statistics_kernel

counts, partials, out = torch.ones(5), torch.ones(5, 2, 3), torch.empty(2, 3)
merge_statistics_kernel[3, 1, 1](
    counts, partials, None, None, out, 5, 5, C=3, STEP=6, BLOCK=2
)
print(out.tolist())
"""


def test_scalars_end_loops_in_old_tritons_with_new_numpy():
    done = subprocess.run(
        [sys.executable, "-c", OLD_INTERPRETER],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]\n"

"""Convolutions over time in stgcn_block: tiles of half precision in float32, groups of samples."""

from __future__ import annotations

import pytest
import torch
from ops.test_stgcn_block import Case, assert_equal, check_groups
from ops.test_stgcn_block_kernels import CASES, both

from aimclr_fast.triton_kernels import stgcn_block_shapes as shapes

WINDOWS = [
    *CASES,
    Case(1, 16, 16, 17, 5),  # frames that fill no window
    Case(2, 16, 32, 11, 3, stride=2, residual="convolution"),
    Case(1, 64, 64, 4, 3),
    Case(1, 4, 136, 3, 3, taps=3, residual="none"),  # too wide for windows
]


@pytest.fixture
def tiles_of_bf16(monkeypatch):
    """Shapes of half precision, whatever numbers are multiplied."""
    for name, at in (("temporal", 4), ("temporal_backward", 2), ("temporal_weight", 4)):
        shape = getattr(shapes, name)

        def of_bf16(*sizes, shape=shape, at=at, **options):
            return shape(*sizes[:at], "bf16", *sizes[at + 1 :], **options)

        monkeypatch.setattr(shapes, name, of_bf16)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
@pytest.mark.usefixtures("tiles_of_bf16")
def test_tiles_of_half_precision_equal_the_reference_in_float64(case):
    got, wanted = both(case, torch.float32, "cpu")
    assert_equal(got, wanted, case, torch.float32)


@pytest.mark.parametrize("channels", [16, 40])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("tiles_of_bf16")
def test_each_group_of_samples_has_its_own_statistics(channels, stride):
    residual = "identity" if stride == 1 else "convolution"
    check_groups(Case(2, channels, channels, 3, 3, 3, stride, residual), 2, "triton")

"""Encoders in half precision: under autocast, and with maps of half precision without it."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.nn import STGCN


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_maps_take_float32_parameters(dtype):
    """Outside autocast, too; what PyTorch itself rounds is left to the other tests."""
    encoder = STGCN("coco", channels=4, features=8, dropout=0.0)
    x = torch.randn(2, 4, 6, 17)
    block, adjacency = encoder.blocks[1], encoder.adjacency
    expected = block(x, adjacency)
    actual = block(x.to(dtype), adjacency)
    assert actual.dtype == dtype
    assert_near(actual, expected, dtype=torch.bfloat16, what="y")


def test_a_model_under_autocast():
    encoder = STGCN("coco", channels=4, features=8, dropout=0.0)
    x = torch.randn(2, 3, 6, 17, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoder(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())

"""EADM against the authors' numbers, and at its edges."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.functional import eadm_pool
from aimclr_fast.reference import eadm_pool as reference


@pytest.mark.parametrize("keep_prob", [0.7, 0.9])
def test_values_and_gradient_are_the_authors(golden, keep_prob):
    g = golden("eadm")
    x = g[f"x_{keep_prob}"].requires_grad_()
    assert_near(reference.eadm_drop(x, keep_prob), g[f"y_{keep_prob}"])
    pooled, pooled_drop = eadm_pool(x, keep_prob)
    assert_near(pooled, x.mean((2, 3)))
    assert_near(pooled_drop, g[f"y_{keep_prob}"].mean((2, 3)))
    pooled_drop.backward(g[f"g_{keep_prob}"])
    assert_near(x.grad, g[f"dx_{keep_prob}"], gradient=True)


def away_from_threshold(x: torch.Tensor, keep_prob: float, band: float = 1e-4) -> bool:
    """No attention so near the threshold that a finite difference would cross it."""
    attention = reference.attention(x)
    joints = attention.mean((1, 2))
    return bool(
        ((attention - keep_prob).abs() > band).all() and ((joints - keep_prob).abs() > band).all()
    )


def test_gradcheck():
    # The masks are constants to autograd but not to finite differences, so stay off the edges.
    for seed in range(100):
        torch.manual_seed(seed)
        x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
        if away_from_threshold(x, 0.7):
            break
    assert torch.autograd.gradcheck(lambda x: eadm_pool(x, 0.7), (x.requires_grad_(),))


def test_everything_dropped_gives_zero_not_nan():
    x = torch.randn(4, 3, 6, 5, requires_grad=True)
    _, pooled_drop = eadm_pool(x, 0.5)  # attention is always above sigmoid(0.5)
    assert (pooled_drop == 0).all()
    pooled_drop.sum().backward()
    assert (x.grad == 0).all()


def test_nothing_dropped_is_plain_pooling():
    x = torch.randn(4, 3, 6, 5)
    pooled, pooled_drop = eadm_pool(x, 1.0)
    assert_near(pooled_drop, pooled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_float32(dtype):
    x = torch.randn(4, 8, 13, 22).to(dtype)
    for half, full in zip(eadm_pool(x), eadm_pool(x.float()), strict=True):
        assert half.dtype == torch.float32
        assert torch.equal(half, full)


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (3, 0, 5, 6), (2, 3, 1, 1), (2, 7, 13, 17)])
def test_odd_shapes(shape):
    for out in eadm_pool(torch.randn(shape)):
        assert out.shape == shape[:2]
        assert torch.isfinite(out).all()


def test_not_contiguous():
    x = torch.randn(3, 5, 7, 4)
    for got, wanted in zip(
        eadm_pool(x.to(memory_format=torch.channels_last)), eadm_pool(x), strict=True
    ):
        assert_near(got, wanted)

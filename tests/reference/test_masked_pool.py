"""masked_pool against the mean of what a mask selects."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.functional import masked_pool


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_means_are_those_of_the_selected_elements(dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 5).to(dtype)
    mask = torch.rand(6, 5) < 0.3
    inside, outside = masked_pool(x, mask, backend="reference")
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    assert inside.dtype == outside.dtype == precise
    assert_near(inside, x.to(precise)[:, :, mask].mean(2))
    assert_near(outside, x.to(precise)[:, :, ~mask].mean(2))


def test_the_gradient_is_the_share_of_each_element():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, :2] = True
    inside, outside = masked_pool(x, mask, backend="reference")
    (inside.sum() + 10 * outside.sum()).backward()
    assert_near(x.grad, torch.where(mask, 1 / 4, 10 / 16).expand_as(x), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: masked_pool(x, mask, "reference"), (x,))


def test_what_is_not_finite_stays_on_its_side():
    x = torch.ones(1, 1, 2, 2)
    x[0, 0, 0, 0] = float("inf")
    mask = torch.tensor([[True, False], [False, True]])
    inside, outside = masked_pool(x, mask, backend="reference")
    assert inside.isinf().all()
    assert (outside == 1).all()

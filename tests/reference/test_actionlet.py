"""Actionlets against the authors' numbers, and what they are made of."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near
from torch import Tensor, nn

from aimclr_fast.layouts import get_layout
from aimclr_fast.nn.stgcn import head_like
from aimclr_fast.reference import actionlet as reference
from aimclr_fast.reference.actionlet import (
    actionlet,
    actionlet_pool,
    blend,
    divergence,
    neighbor_similarities,
    shares,
)
from aimclr_fast.reference.skelemix import part_table

PART_OF = part_table(get_layout("ntu-rgb+d").body_parts)


def golden_head(g) -> nn.Module:
    layers = {place: g[f"fc{place}_weight"].flatten(1) for place in (0, 2)}
    weights = {f"{place}.weight": weight for place, weight in layers.items()}
    head = head_like(weights | {f"{place}.bias": g[f"fc{place}_bias"] for place in layers})
    head.load_state_dict(weights | {f"{place}.bias": g[f"fc{place}_bias"] for place in layers})
    return head


def golden_actionlet(g, dtype: torch.dtype, **options: bool) -> Tensor:
    return actionlet(
        g["features"].to(dtype),
        g["mean_feature"].to(dtype),
        golden_head(g).to(dtype),
        PART_OF,
        bodies=2,
        **options,
    )


def test_golden_actclr_actionlet(golden):
    g = golden("actclr/actionlet")
    found = golden_actionlet(g, torch.float64)
    assert_near(found, g["actionlet"], dtype=torch.float64)
    assert ((found > 0) & (found < 1)).double().mean() > 0.1  # the bounds do not hide the rest
    pooled = actionlet_pool(g["features"].double(), found)
    assert_near(pooled, g["pooled"], dtype=torch.float64)


def test_golden_actclr_actionlet_in_float32(golden):
    g = golden("actclr/actionlet")
    found = golden_actionlet(g, torch.float32)
    assert found.dtype == torch.float32
    # The constant that it is divided by leaves it four digits.
    assert (found - g["actionlet"]).abs().max() < 1e-3
    pooled = actionlet_pool(g["features"], g["actionlet"].float())
    assert_near(pooled, g["pooled"])


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-6), (torch.float32, 1e-2)])
def test_golden_actclr_as_released_an_actionlet_is_rounding(golden, dtype, most):
    g = golden("actclr/actionlet")
    assert g["actionlet_released"].max() < 1e-6
    assert golden_actionlet(g, dtype, across_channels=False).max() < most


def test_the_map_is_the_gradient_of_the_whole_feature_map():
    """As the formula has it: the gradient by each entry, averaged over time and joints."""
    torch.manual_seed(0)
    part_of = torch.tensor([0, 1, 1, 2, 3, 4, 0])
    features = torch.randn(4, 6, 3, 7, dtype=torch.float64, requires_grad=True)
    head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    average = torch.randn(1, 3, dtype=torch.float64)
    rows = head(features.mean((2, 3)).view(2, 2, 6).mean(1))
    similarity = nn.functional.cosine_similarity(rows, average).mean()
    (gradient,) = torch.autograd.grad(1 - similarity, features)
    weights = gradient.mean((2, 3), keepdim=True)
    a = (weights * features).mean(1, keepdim=True).relu().detach() / 1e-8
    expected = torch.stack([a[..., part_of == part].mean(-1) for part in part_of], -1).clamp(0, 1)
    with torch.no_grad():
        found = actionlet(features, average, head, part_of, bodies=2)
    assert_near(found, expected, dtype=torch.float64)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in head.parameters())


def test_half_precision_maps_are_weighed_in_float32():
    features = torch.randn(2, 4, 3, 25).bfloat16()
    found = actionlet(features, torch.randn(1, 4), nn.Identity(), PART_OF, bodies=1)
    assert found.dtype == torch.float32
    again = actionlet(features.float(), torch.randn(1, 4), nn.Identity(), PART_OF, bodies=1)
    assert again.shape == found.shape == (2, 1, 3, 25)


def test_a_blend_is_linear_in_time_with_the_ends_aligned():
    found = torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 3, 1).expand(2, 1, 3, 4)
    x, y = torch.ones(1, 3, 5, 4, 2), torch.zeros(1, 3, 5, 4, 2)
    blended = blend(x, y, found)
    assert torch.equal(blended[0, 0, :, 0, 1], torch.tensor([0.0, 0.5, 1.0, 0.75, 0.5]))
    for body in range(2):  # each by its own map
        own = found * torch.tensor([1.0, 0.0])[:, None, None, None]
        assert torch.equal(blend(x, y, own)[..., body], blended[..., body] * (1 - body))


def test_shares_of_nothing_and_of_all():
    found = torch.rand(6, 1, 4, 5, dtype=torch.float64)
    partner = torch.tensor([1, 2, 0])
    none = torch.zeros(4, 5)
    for mask, share in ((none, 0.0), (none + 1, 1.0)):
        taken, left = shares(found, partner, mask, mask, bodies=2)
        assert torch.equal(taken, torch.full_like(taken, share))
        assert torch.equal(left, 1 - taken)


def test_keys_above_the_limit_count_as_opposite():
    queue = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    keys = queue[[3, 5]]
    rows = nn.functional.normalize(torch.randn(2, 4, dtype=torch.float64), dim=1).requires_grad_()
    student, teacher = neighbor_similarities(rows, keys.requires_grad_(), queue, 9)
    assert torch.equal(teacher[:, -1], torch.full((2,), -1.0, dtype=torch.float64))
    assert teacher.max() <= 0.95
    assert not teacher.requires_grad
    assert_near(student[:, -1], (rows * keys).sum(1).square(), dtype=torch.float64)
    divergence(student, teacher).backward()
    assert keys.grad is None
    assert rows.grad is not None


def test_the_divergence_of_equal_distributions_is_zero():
    teacher = torch.rand(3, 7, dtype=torch.float64)
    assert divergence(teacher * (0.1 / 0.04), teacher).abs() < 1e-14
    assert divergence(teacher, teacher) > 0


def test_the_module_holds_no_sizes_of_a_data_set():
    """Any number of joints, bodies and channels: nothing is broadcast by accident."""
    part_of = torch.tensor([4, 3, 2, 1, 0, 0])
    found = reference.actionlet(
        torch.randn(9, 3, 2, 6), torch.randn(1, 2), nn.Linear(3, 2), part_of, bodies=3
    )
    assert found.shape == (9, 1, 2, 6)
    assert torch.equal(found[..., 4], found[..., 5])

"""Steps that are not taken, and features that have collapsed."""

from __future__ import annotations

import torch

from aimclr_fast.training.guard import StepGuard
from aimclr_fast.training.health import CollapseWatch


def test_the_fused_step_skips_as_the_plain_one_does():
    """A GPU tells the optimizer by a flag on the device; torch's CPU kernels know it as well."""
    weight = torch.nn.Parameter(torch.ones(3))
    model = torch.nn.BatchNorm1d(2)
    guard = StepGuard(model, torch.device("cpu"), ("info_nce", "d3m_extreme", "d3m_dropped"))
    optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.1), momentum=0.9, fused=True)
    optimizer.state[weight]["momentum_buffer"] = torch.zeros(3)
    for step, gradient in enumerate((float("nan"), 1.0, float("inf"))):
        statistics = guard.remember()
        model(torch.full((4, 2), gradient))
        weight.grad = torch.full((3,), gradient)
        fine = guard.judge(torch.ones(4), weight.grad.norm(), torch.tensor(step))
        optimizer.found_inf = (~fine).float()
        optimizer.step()
        guard.restore(statistics, fine)
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.9))
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(model.running_mean, torch.full((2,), 0.1))
    assert guard.skipped.tolist() == [2, 1]
    assert guard.last_skipped() == (2, ["gradient"])


def test_collapse_is_warned_of_once():
    watch = CollapseWatch(queue_size=100)
    fine = {"feature_std": 0.5, "info_nce": 3.0}
    flat = {"feature_std": 0.001, "info_nce": 3.0}
    uniform = {"feature_std": 0.5, "info_nce": 4.61}
    said = [watch.add(n) for n in (flat, flat, fine, uniform, uniform, flat, flat, flat)]
    assert [text is not None for text in said] == [False] * 5 + [True] + [False] * 2
    assert said[5] is not None
    assert "feature_std" in said[5]
    assert "optim.lr" in said[5]

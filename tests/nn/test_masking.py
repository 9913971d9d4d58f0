"""What is hidden in the masked view: how much, how evenly, and the same wherever it is drawn."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.config import MaskConfig
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn.masking import draw_hidden
from aimclr_fast.nn.methods import Sampled

NTU = get_layout("ntu-rgb+d")


def drawn(config: MaskConfig, samples: int = 6, step=0, offset: int = 0, seed: int = 5):
    data = torch.zeros(1, 3, 50, 25, 2).expand(samples, -1, -1, -1, -1)
    batch = Sampled(data, torch.arange(samples), NTU, ("joint",), 1, step, offset)
    return draw_hidden(config, batch, seed)


@pytest.mark.parametrize(("share", "joints"), [(0.1, 2), (0.01, 1), (0.5, 12), (0.99, 24)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_as_many_joints_in_each_frame(share, joints, per_sample):
    hidden = drawn(MaskConfig(share, per_sample))
    assert hidden.shape == (6 if per_sample else 1, 1, 50, 25, 1)
    assert hidden.dtype == torch.bool
    assert (hidden.sum(3) == joints).all()


def test_every_joint_is_hidden_as_often():
    counts = sum(drawn(MaskConfig(0.2), step=step).sum((0, 1, 2, 4)) for step in range(200))
    expected = 200 * 50 * 5 / 25
    assert (counts / expected - 1).abs().max() < 0.1


def test_draws_depend_on_step_and_seed_and_not_on_the_batch():
    shared, own = MaskConfig(), MaskConfig(per_sample=True)
    first = drawn(shared)
    assert torch.equal(first, drawn(shared, samples=3, offset=3))
    assert torch.equal(first, drawn(shared, step=torch.tensor(0)))
    assert not torch.equal(first, drawn(shared, step=1))
    assert not torch.equal(first, drawn(shared, seed=6))
    whole = drawn(own)
    assert torch.equal(whole[3:], drawn(own, samples=3, offset=3))
    assert torch.equal(drawn(own, step=torch.tensor(7)), drawn(own, step=7))
    assert len({mask.numpy().tobytes() for mask in whole}) == 6

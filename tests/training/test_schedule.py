"""Learning rate and mining over training."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aimclr_fast._schedule import learning_rate
from aimclr_fast.config import ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.nn import get_method


def test_published_steps():
    optim = OptimConfig()
    per_epoch = 313
    assert learning_rate(optim, 0, per_epoch) == 0.1
    assert learning_rate(optim, 250 * per_epoch - 1, per_epoch) == 0.1
    assert learning_rate(optim, 250 * per_epoch, per_epoch) == pytest.approx(0.01)
    assert learning_rate(optim, 300 * per_epoch - 1, per_epoch) == pytest.approx(0.01)


def test_mining_starts_with_its_epoch():
    method, config = get_method("aimclr"), TrainConfig(model=ModelConfig(topk=3))
    assert [method.phase(config, epoch) for epoch in (150, 151)] == [0, 3]
    never = TrainConfig(optim=OptimConfig(mining_epoch=0))
    assert method.phase(never, 300) == 0


def test_cosine_falls_to_zero_every_step():
    optim = OptimConfig(schedule="cosine", epochs=4, lr=0.2)
    rates = [learning_rate(optim, step, 10) for step in range(41)]
    assert rates[0] == 0.2
    assert rates[20] == pytest.approx(0.1)
    assert rates[40] == pytest.approx(0.0, abs=1e-12)
    assert all(a > b for a, b in pairwise(rates))


def test_cosine_falls_to_zero_with_the_last_step_of_a_budget():
    optim = OptimConfig(schedule="cosine", epochs=3, lr=0.2)
    rates = [learning_rate(optim, step, 10, steps=24) for step in range(25)]
    assert rates[12] == pytest.approx(0.1)
    assert rates[24] == pytest.approx(0.0, abs=1e-12)


def test_warmup_climbs_to_the_rate():
    optim = OptimConfig(warmup_epochs=2, lr=1.0)
    rates = [learning_rate(optim, step, 5) for step in range(11)]
    assert rates == pytest.approx([0.1 * (i + 1) for i in range(10)] + [1.0])

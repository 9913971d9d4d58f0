"""Fusing streams: published weights, and weights that never see a test sample."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.evaluation.ensemble import PUBLISHED, EnsembleConfig, fuse, search_weights
from aimclr_fast.evaluation.fusion import check_ensemble
from aimclr_fast.evaluation.heads import LinearConfig
from aimclr_fast.evaluation.problem import EvaluationError, Features


def test_published_weights():
    logits = {s: torch.randn(4, 3) for s in ("joint", "motion", "bone")}
    wanted = 0.6 * logits["joint"] + 0.4 * logits["motion"] + 0.6 * logits["bone"]
    assert torch.allclose(fuse(logits, PUBLISHED), wanted)


def test_searched_weights_follow_the_better_stream_of_the_training_folds():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 4
    good = torch.eye(4)[labels] + 0.3 * torch.randn(80, 4, generator=generator)
    noise = torch.randn(80, 4, generator=generator)
    # On the test samples it is the other way round: a search that looked there would be misled.
    streams = {
        "joint": Features(good[:60], labels[:60], noise[60:], labels[60:], 4),
        "bone": Features(noise[:60], labels[:60], good[60:], labels[60:], 4),
    }
    rows = torch.arange(60)
    folds = [(rows[rows % 3 != part], rows[rows % 3 == part]) for part in range(3)]
    weights = search_weights(streams, folds, LinearConfig(epochs=5, lr=0.5), seed=0)
    assert weights["joint"] > weights["bone"]
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("config", "streams", "message"),
    [
        (EnsembleConfig(), ["joint"], "two or three different streams.*got joint"),
        (EnsembleConfig(), ["joint", "joint"], "got joint, joint"),
        (EnsembleConfig(weights="guessed"), ["joint", "bone"], "weights is 'guessed'"),
    ],
)
def test_refusals(config, streams, message):
    with pytest.raises(EvaluationError, match=message):
        check_ensemble(config, streams)

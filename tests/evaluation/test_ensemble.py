"""Fusing streams: published weights, and weights that never see a test sample."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.evaluation.heads import LinearConfig
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.protocols.ensemble import (
    PUBLISHED,
    Config,
    check_ensemble,
    fuse,
    fuse_streams,
    search_weights,
)
from aimclr_fast.evaluation.representation import Representation


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
    recipes = dict.fromkeys(streams, LinearConfig(epochs=5, lr=0.5))
    weights = search_weights(streams, folds, recipes, seed=0)
    assert weights["joint"] > weights["bone"]
    assert sum(weights.values()) == pytest.approx(1)


class TwoStreams:
    """Data whose joint stream is good but hardly varies, and whose bone stream is so-so."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(80) % 4
        noise = torch.randn(2, 80, 4, generator=generator)
        clear = 5 + 1e-3 * (torch.eye(4)[labels] + 0.2 * noise[0])
        vague = torch.eye(4)[labels] + noise[1]
        self.streams = {
            name: Features(x[:60], labels[:60], x[60:], labels[60:], 4)
            for name, x in (("joint", clear), ("bone", vague))
        }

    def features(self, encoder, stream, pool, *, align=False):
        return self.streams[stream]

    def folds(self):
        rows = torch.arange(60)
        return [(rows[rows % 5 != part], rows[rows % 5 == part]) for part in range(5)]


def searched(features, own=None):
    config = Config(weights="searched", linear=LinearConfig(epochs=5, lr=0.1))
    streams = [
        Representation(features, None, stream, TwoStreams(), own) for stream in ("joint", "bone")
    ]
    return fuse_streams(streams, config, seed=0)[1].details


def test_weights_are_searched_on_the_classifiers_that_are_fused():
    weights = searched("untrained")["weights"]  # which `linear` standardizes, at its best rate
    assert weights["joint"] > weights["bone"]


def test_encoders_that_saw_all_labels_get_published_weights():
    logits = torch.eye(4)[torch.arange(60, 80) % 4]
    own = Outcome({}, {"best_epoch": 1}, logits=logits, best_logits=logits)
    details = searched("supervised", own)
    assert details["weights"] == {"joint": 0.6, "bone": 0.6}
    assert details["weights_from"].startswith("published: their encoders learned from every")


@pytest.mark.parametrize(
    ("config", "streams", "message"),
    [
        (Config(), ["joint"], "two or three different streams.*got joint"),
        (Config(), ["joint", "joint"], "got joint, joint"),
        (Config(weights="guessed"), ["joint", "bone"], "weights is 'guessed'"),
        (Config(classifiers="some"), ["joint", "bone"], "classifiers is 'some'.*separate, joint"),
        (
            Config(weights="searched", classifiers="joint"),
            ["joint", "bone"],
            "weights is 'searched', but joint classifiers have none",
        ),
    ],
)
def test_refusals(config, streams, message):
    with pytest.raises(EvaluationError, match=message):
        check_ensemble(config, streams)

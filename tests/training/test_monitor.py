"""What is measured in training is what evaluation measures, by the backend that was asked for."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn", reason="not on every GPU machine")

from aimclr_fast.evaluation.knn import knn_accuracies
from aimclr_fast.evaluation.probe import linear_probe
from aimclr_fast.evaluation.scaling import fit_scaling
from aimclr_fast.inference import features
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.training import monitor as monitoring
from aimclr_fast.training.monitor import Monitor

SAMPLES = 40


def monitor(data, labels, **options):
    index = torch.arange(SAMPLES)
    return Monitor(
        data, labels, index[: SAMPLES // 2], index[SAMPLES // 2 :], stream="joint", batch_size=16,
        **options,
    )  # fmt: skip


def test_it_searches_once_and_decides_ties_as_evaluation_does(monkeypatch):
    """Rows that are all alike: which is the nearest depends on how many are asked for."""
    searched = []

    def counted(*arguments, **options):
        searched.append(1)
        return nearest(*arguments, **options)

    nearest = knn_accuracies.__globals__["nearest"]
    monkeypatch.setitem(knn_accuracies.__globals__, "nearest", counted)
    rows, half = torch.ones(SAMPLES, 4), SAMPLES // 2
    for seed in range(8):
        labels = torch.randint(0, 4, (SAMPLES,), generator=torch.Generator().manual_seed(seed))
        scores = monitor(torch.zeros(0), labels)._score_features(
            rows[:half], rows[half:], linear=False
        )
        assert len(searched) == 1
        searched.clear()
        wanted = knn_accuracies(rows[:half], labels[:half], rows[half:], labels[half:], [1, 5, 20])
        searched.clear()
        assert (scores.knn_1, scores.knn_20) == (wanted[1], wanted[20])


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_it_prepares_sequences_by_the_backend_asked_for(backend, monkeypatch):
    asked = []

    def noted(*arguments, **options):
        asked.append(options["backend"])
        return plain(*arguments, **options)

    plain = features.apply_augment
    monkeypatch.setattr(features, "apply_augment", noted)
    torch.manual_seed(0)
    encoder = SkeletonEncoder(STGCN(get_layout("ui-prmd"), channels=2, features=4), embedding=4)
    data = torch.randn(SAMPLES, 3, 8, 22, 1)
    monitor(data, torch.arange(SAMPLES) % 4, backend=backend).score(encoder)
    assert set(asked) == {backend}


def test_a_run_passes_its_backend_on(monkeypatch):
    from types import SimpleNamespace

    from aimclr_fast.config import TrainConfig
    from aimclr_fast.training import pretrain

    given = {}
    monkeypatch.setattr(pretrain, "Monitor", lambda *_, **options: given.update(options))
    training = SimpleNamespace(
        config=TrainConfig(backend="reference"),
        placed=SimpleNamespace(data=torch.zeros(0)),
        ranks=None,
    )
    index = torch.arange(2)
    store = SimpleNamespace(labels=[0, 1], layout=get_layout("ui-prmd"), preprocessing=None)
    samples = pretrain._Samples(store, "xsub", index, index, None)
    pretrain._monitors(samples, training)
    assert given["backend"] == "reference"


@pytest.mark.parametrize("scale", ["none", "center", "standardize"])
@pytest.mark.parametrize("pool", ["joints", "max+mean"])
def test_another_readout_is_measured_as_evaluation_does_from_one_pass(pool, scale, monkeypatch):
    torch.manual_seed(0)
    encoder = SkeletonEncoder(STGCN(get_layout("ui-prmd"), channels=2, features=4), embedding=4)
    data, labels = torch.randn(SAMPLES, 3, 8, 22, 1), torch.arange(SAMPLES) % 4
    half = SAMPLES // 2
    found = features.encode(encoder, data, pool=pool)
    scaling = fit_scaling(found[:half], scale)
    near = scaling(found[:half]), labels[:half], scaling(found[half:]), labels[half:]
    wanted = knn_accuracies(*near, [1, 20])
    linear = linear_probe(*(x.numpy() for x in (found[:half], near[1], found[half:], near[3])))

    measured = monitor(data, labels, pool=pool, scale=scale)
    published = measured.score(encoder, linear=True)
    encoded = []

    def counted(*arguments, **options):
        encoded.append(options["pool"])
        return features.encode(*arguments, **options)

    monkeypatch.setattr(monitoring, "encode", counted)
    scores, other = measured.score_readouts(encoder, linear=True)
    assert len(encoded) == 2  # the training samples and the test samples
    assert scores == published
    assert other.as_dict() == {"knn_1": wanted[1], "knn_20": wanted[20], "linear": linear}
    assert monitor(data, labels).score_readouts(encoder) == (
        monitor(data, labels).score(encoder),
        None,
    )

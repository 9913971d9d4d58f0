"""Choosing on validation samples: which epoch, rate, k and weights; no test sample has a say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimclr_fast.data import open_store, write_store
from aimclr_fast.evaluation.finetuning import FinetuneConfig, finetune
from aimclr_fast.evaluation.heads import LinearConfig, linear_evaluation
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features, open_labeled_data
from aimclr_fast.evaluation.protocols import knn
from aimclr_fast.evaluation.protocols.ensemble import search_weights
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder

CLASSES = 3
# A rate at which accuracy goes up and down, so that epochs differ.
ROUGH = LinearConfig(lr=20.0, epochs=12, batch_size=8, milestones=[100])


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(90) % CLASSES
    x = torch.eye(6)[labels] + 1.5 * torch.randn(90, 6, generator=generator)
    return Features(x[:30], labels[:30], x[30:60], labels[30:60], CLASSES, x[60:], labels[60:])


def shuffled(features):
    """The same problem with test labels that say nothing."""
    return features._replace(test_labels=(features.test_labels + 1) % CLASSES)


def test_the_best_epoch_is_that_of_the_validation_samples(features):
    outcome = linear_evaluation(features, ROUGH, seed=0)
    assert set(outcome.metrics) == {"top1_last", "top1_chosen"}
    by_epoch = outcome.details["validation_by_epoch"]
    assert outcome.details["best_epoch"] == by_epoch.index(max(by_epoch)) + 1
    tested = outcome.details["top1_by_epoch"]
    chosen = tested[outcome.details["best_epoch"] - 1]
    assert outcome.metrics["top1_chosen"] == pytest.approx(chosen, abs=1e-6)
    assert chosen < max(tested)  # choosing on the test samples would have flattered
    # What validates is what would have been tested, had those samples been the test samples.
    swapped = features._replace(
        test=features.val, test_labels=features.val_labels, val=None, val_labels=None
    )
    assert linear_evaluation(swapped, ROUGH, seed=0).details["top1_by_epoch"] == by_epoch
    lies = linear_evaluation(shuffled(features), ROUGH, seed=0)
    assert lies.details["best_epoch"] == outcome.details["best_epoch"]
    assert torch.equal(lies.best_logits, outcome.best_logits)


def test_without_validation_samples_all_is_as_published(features):
    plain = features._replace(val=None, val_labels=None)
    outcome = linear_evaluation(plain, ROUGH, seed=0)
    assert set(outcome.metrics) == {"top1_last", "top1_best"}
    assert outcome.metrics["top1_best"] == pytest.approx(max(outcome.details["top1_by_epoch"]))
    assert "validation_by_epoch" not in outcome.details


def test_a_swept_rate_is_chosen_on_the_validation_samples(features):
    sweep, rates = replace(ROUGH, sweep=True, epochs=4), (0.001, 0.1, 1.0, 20.0)
    outcome = linear_evaluation(features, sweep, seed=0, sweep=rates)
    assert outcome.details["chosen_on"] == "validation samples"
    swapped = features._replace(test=features.val, test_labels=features.val_labels)
    by_rate = [linear_evaluation(swapped, replace(sweep, sweep=False, lr=r), seed=0) for r in rates]
    worth = [one.metrics["top1_last"] for one in by_rate]
    assert [one["held_out"] for one in outcome.details["sweep"]] == pytest.approx(worth, abs=1e-6)
    assert outcome.details["lr"] == rates[worth.index(max(worth))]
    lies = linear_evaluation(shuffled(features), sweep, seed=0, sweep=rates)
    assert lies.details["lr"] == outcome.details["lr"]


def test_validation_features_are_standardized_as_the_training_features_say(features):
    far = features._replace(train=features.train * 3 + 5, val=features.val * 3 + 5)
    unit = far.scaled("standardize")
    moments = far.train.double().mean(0), far.train.double().std(0, correction=0)
    torch.testing.assert_close(unit.val.double(), (far.val - moments[0]) / moments[1])


def test_folds_hold_no_validation_samples(features):
    part = features.rows(torch.arange(20), torch.arange(20, 30))
    assert part.val is None
    assert part.val_labels is None


def test_ensemble_weights_follow_the_validation_samples(features):
    noise = torch.randn(90, 6, generator=torch.Generator().manual_seed(3))
    misled = features._replace(  # bone is good in training and test samples, not in validation
        train=features.train, test=features.test, val=noise[60:]
    )
    streams = {"joint": features, "bone": misled}
    recipes = dict.fromkeys(streams, LinearConfig(epochs=5, lr=0.5))
    weights = search_weights(streams, [], recipes, seed=0)
    assert weights["joint"] > weights["bone"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """36 sequences: 18 train, 9 validate and 9 test."""
    path = tmp_path_factory.mktemp("choose") / "store"
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 2
    positions = rng.normal(size=(36, 3, 8, 17, 1))
    positions[labels == 1, 1] += 0.7
    parts = np.array(["train", "train", "val", "test"] * 9)
    samples = {"name": [f"s{i}" for i in range(36)], "label": labels, "part": parts}
    rule = {"column": "part", "train": ["train"]}
    write_store(
        path, positions, samples, layout="coco",
        splits={"three": {**rule, "test": ["test"], "val": ["val"]}, "two": rule},
    )  # fmt: skip
    return open_store(path)


def encoder():
    torch.manual_seed(0)
    return SkeletonEncoder(STGCN(get_layout("coco"), channels=4, features=8, dropout=0.0), 4)


def test_data_with_validation_samples(store):
    data = open_labeled_data(store, "three", choose="val")
    assert (len(data.train), len(data.val), len(data.test)) == (18, 9, 9)
    assert open_labeled_data(store, "three").val is None
    for subject in (None, encoder()):
        found = data.features(subject, "joint")
        assert (len(found.train), len(found.val), len(found.test)) == (18, 9, 9)
        assert torch.equal(found.val_labels, data.labels[data.val])


def test_a_split_without_validation_samples_is_refused_with_what_there_is(store):
    with pytest.raises(
        EvaluationError,
        match=r"--choose val: split two has no validation samples \(split three has\)",
    ):
        open_labeled_data(store, "two", choose="val")


def test_a_store_without_validation_samples_says_what_its_column_holds(tmp_path):
    samples = {"name": list("abcd"), "label": [0, 1, 0, 1], "part": ["fit", "fit", "try", "try"]}
    rules = {"mine": {"column": "part", "train": ["fit"]}}
    write_store(tmp_path / "x", np.ones((4, 3, 8, 17, 1)), samples, layout="coco", splits=rules)
    with pytest.raises(
        EvaluationError, match="no split of the store has; column part holds fit, try"
    ):
        open_labeled_data(open_store(tmp_path / "x"), "mine", choose="val")


def test_k_is_chosen_on_the_validation_samples(store):
    data = open_labeled_data(store, "three", choose="val")
    config = knn.Config(k=[1, 3, 9])
    outcome = knn.classify(data.features(None, ""), config)
    by_k, chosen = outcome.details["validation_by_k"], outcome.details["chosen_k"]
    assert by_k[chosen] == max(by_k.values())
    assert outcome.metrics["knn_chosen"] == outcome.metrics[f"knn_{chosen}"]
    swapped = replace(data, test=data.val, val=None)
    tested = knn.classify(swapped.features(None, ""), config)
    assert {f"knn_{k}": accuracy for k, accuracy in by_k.items()} == tested.metrics


def test_fine_tuning_takes_the_epoch_that_validates_best(store):
    data = open_labeled_data(store, "three", choose="val")
    recipe = FinetuneConfig(epochs=5, batch_size=6, lr=0.3, lr_encoder=0.1, warmup_epochs=1)
    outcome, _ = finetune(data, encoder(), "joint", recipe, seed=0)
    by_epoch, tested = outcome.details["validation_by_epoch"], outcome.details["top1_by_epoch"]
    assert outcome.details["best_epoch"] == by_epoch.index(max(by_epoch)) + 1
    chosen = tested[outcome.details["best_epoch"] - 1]
    assert outcome.metrics["top1_chosen"] == pytest.approx(chosen, abs=1e-6)
    swapped = replace(data, test=data.val, val=None)
    assert (
        finetune(swapped, encoder(), "joint", recipe, seed=0)[0].details["top1_by_epoch"]
        == by_epoch
    )

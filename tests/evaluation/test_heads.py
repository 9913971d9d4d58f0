"""Published linear evaluation: equal to encoding every epoch, to torch's SGD, and in a sweep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tolerances import assert_near
from torch import nn

from aimclr_fast.evaluation.heads import (
    LinearConfig,
    linear_evaluation,
    train_heads,
)
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.functional import AugmentParams, apply_augment
from aimclr_fast.inference.features import encode
from aimclr_fast.nn import STGCN, SkeletonEncoder

CLASSES = 3
QUICK = LinearConfig(epochs=6, batch_size=8, milestones=[4])


@pytest.fixture(scope="module")
def sequences():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (30,), generator=generator)
    data = torch.randn(30, 3, 12, 17, 1, generator=generator) + labels.view(-1, 1, 1, 1, 1)
    return data, labels


@pytest.fixture(scope="module")
def encoder(sequences):
    torch.manual_seed(0)
    made = SkeletonEncoder(STGCN("coco", channels=4, features=8, dropout=0.5), 4)
    made.train()
    with torch.no_grad():
        made(sequences[0])  # running statistics that are not those a norm starts with
    return made.eval()


@pytest.fixture(scope="module")
def features(sequences, encoder):
    data, labels = sequences
    found = encode(encoder, data, stream="bone")
    return Features(found[:20], labels[:20], found[20:], labels[20:], CLASSES)


def by_the_book(sequences, encoder, config: LinearConfig, seed: int):
    """Frozen encoder and torch's linear layer, SGD and schedule; every batch is encoded anew."""
    data, labels = sequences
    torch.manual_seed(seed)
    head = nn.Linear(8, CLASSES)
    optimizer = torch.optim.SGD(
        head.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, config.gamma)
    shuffle = torch.Generator().manual_seed(seed)

    def encoded(rows):
        with torch.no_grad():
            x = apply_augment(data[rows], AugmentParams(), layout="coco", stream="bone")
            return encoder.features(x)

    accuracy = []
    for _ in range(config.epochs):
        for batch in torch.randperm(20, generator=shuffle).split(config.batch_size):
            loss = nn.functional.cross_entropy(head(encoded(batch)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        test = head(encoded(torch.arange(20, 30))).argmax(1)
        accuracy.append(float((test == labels[20:]).double().mean()))
    return head, accuracy


@pytest.mark.parametrize(
    "config", [QUICK, replace(QUICK, lr=0.5, momentum=0.5, weight_decay=0.01, batch_size=7)]
)
def test_encoding_once_equals_encoding_every_epoch(sequences, encoder, features, config):
    head, accuracy = by_the_book(sequences, encoder, config, seed=3)
    outcome = linear_evaluation(features, config, seed=3)
    assert_near(outcome.save["weight"], head.weight, gradient=True, what="weights")
    assert_near(outcome.save["bias"], head.bias, gradient=True, what="biases")
    assert outcome.details["top1_by_epoch"] == pytest.approx(accuracy, abs=1e-6)
    assert outcome.metrics["top1_last"] == pytest.approx(accuracy[-1])
    assert outcome.metrics["top1_best"] == pytest.approx(max(accuracy))
    assert outcome.details["best_epoch"] == accuracy.index(max(accuracy)) + 1


@pytest.mark.parametrize("streams", [2, 3])
def test_joint_classifiers_learn_as_torch_trains_them_on_their_mean_logits(streams):
    """Each stream's classifier is its own layer; SGD sees the loss of the mean alone."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (30,), generator=generator)
    x = torch.randn(streams, 30, 5, generator=generator) + labels[:, None]
    parts = [Features(own[:20], labels[:20], own[20:], labels[20:], CLASSES) for own in x]
    config = replace(QUICK, lr=0.7, momentum=0.8, weight_decay=0.01)

    torch.manual_seed(3)
    heads = [nn.Linear(5, CLASSES) for _ in range(streams)]
    optimizer = torch.optim.SGD(
        [p for head in heads for p in head.parameters()],
        config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, config.gamma)
    shuffle = torch.Generator().manual_seed(3)

    def mean_logits(rows):
        return torch.stack([h(own[rows]) for h, own in zip(heads, x, strict=True)]).mean(0)

    for _ in range(config.epochs):
        for batch in torch.randperm(20, generator=shuffle).split(config.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(mean_logits(batch), labels[batch]).backward()
            optimizer.step()
        schedule.step()

    found = linear_evaluation(Features.classified_jointly(parts), config, seed=3)
    wanted = torch.cat([head.weight for head in heads], 1) / streams
    assert_near(found.save["weight"], wanted, gradient=True, what="weights")
    bias = torch.stack([head.bias for head in heads]).mean(0)
    assert_near(found.save["bias"], bias, gradient=True, what="biases")
    assert_near(found.logits, mean_logits(torch.arange(20, 30)), gradient=True, what="logits")


def test_joint_classifiers_need_streams_of_one_width(features):
    narrow = features._replace(train=features.train[:, :4], test=features.test[:, :4])
    with pytest.raises(EvaluationError, match=r"features of one width.* have \[8, 4\]"):
        Features.classified_jointly([features, narrow])


def test_the_features_themselves_are_equal_bit_for_bit_in_one_batch(sequences, encoder, features):
    """So only the order of additions in the head can differ."""
    again = encode(encoder, sequences[0], stream="bone")
    assert torch.equal(again[:20], features.train)


def test_a_sweep_is_as_many_single_runs(features):
    rates = (0.01, 0.3, 3.0)
    together = train_heads(features, QUICK, seed=1, rates=rates)
    for place, rate in enumerate(rates):
        alone = train_heads(features, replace(QUICK, lr=rate), seed=1).pick(0)
        part = together.pick(place)
        assert_near(part.last.weight, alone.last.weight, gradient=True)
        assert_near(part.best.weight, alone.best.weight, gradient=True)
        assert torch.equal(part.accuracy, alone.accuracy)
    assert not torch.equal(together.last.weight[0], together.last.weight[1])


def test_the_swept_rate_is_chosen_without_test_samples(features):
    folds = [(torch.arange(10), torch.arange(10, 20)), (torch.arange(10, 20), torch.arange(10))]
    sweep = replace(QUICK, sweep=True)
    outcome = linear_evaluation(features, sweep, seed=0, folds=folds)
    assert len(outcome.details["sweep"]) == 20
    lies = features._replace(test_labels=(features.test_labels + 1) % CLASSES)
    again = linear_evaluation(lies, sweep, seed=0, folds=folds)
    assert again.details["lr"] == outcome.details["lr"]
    best = max(outcome.details["sweep"], key=lambda one: one["held_out"])
    assert outcome.details["lr"] == best["lr"]


def test_standardized_heads_take_plain_features(features):
    far = features._replace(train=features.train * 0.1 + 0.1, test=features.test * 0.1 + 0.1)
    outcome = linear_evaluation(far, replace(QUICK, standardize=True), seed=0)
    logits = far.test @ outcome.save["weight"].T + outcome.save["bias"]
    assert (logits - outcome.logits).abs().max() < 1e-2 * outcome.logits.abs().max()
    unit = far.scaled("standardize").train
    assert unit.mean(0).abs().max() < 1e-3
    deviation = far.train.std(0, correction=0)
    live = deviation > 1e-3 * deviation.max()
    assert 0 < live.sum() < len(live)  # some features are dead, and must not blow up
    assert (unit.std(0, correction=0) - 1)[live].abs().max() < 1e-3


def test_a_diverged_head_gets_nothing_right(features):
    trained = train_heads(features, QUICK, seed=0, rates=[float("inf"), 0.1])
    assert trained.accuracy[-1, 0] == 0
    assert trained.accuracy[-1, 1] > 0

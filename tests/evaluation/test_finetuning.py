"""Fine-tuning: both learning rates count, the given encoder stays, seeds decide."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from aimclr_fast.evaluation.finetuning import FinetuneConfig, finetune
from aimclr_fast.evaluation.labeled_data import LabeledData
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder

QUICK = FinetuneConfig(epochs=4, batch_size=6, lr=0.1, lr_encoder=0.05, warmup_epochs=1)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(36) % 2
    sequences = torch.randn(36, 3, 8, 17, 1, generator=generator)
    sequences[labels == 1, 1] += 2.0
    index = torch.arange(36)
    return LabeledData(
        sequences, labels, index[:24], index[24:], ("down", "up"), get_layout("coco"),
        np.arange(36), torch.device("cpu"),
    )  # fmt: skip


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SkeletonEncoder(STGCN("coco", channels=4, features=8, dropout=0.0), 4)


def weights(model):
    return {name: p.detach().clone() for name, p in model.backbone.named_parameters()}


def test_learns_and_leaves_the_encoder_alone(data, encoder):
    before, losses = copy.deepcopy(encoder.state_dict()), []
    generator = torch.get_rng_state()
    outcome, tuned = finetune(
        data,
        encoder,
        "joint",
        replace(QUICK, epochs=8),  # batch norm's running statistics need some steps
        seed=0,
        progress=lambda epoch, loss: losses.append(loss),
    )
    assert losses[-1] < losses[0]
    assert outcome.metrics["top1_best"] > 0.9
    assert tuned.head.out_features == 2
    assert all(torch.equal(before[n], t) for n, t in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert any(not torch.equal(a, before["backbone." + n]) for n, a in weights(tuned).items())


def test_seeds_and_rates(data, encoder):
    first, again, other = (
        finetune(data, encoder, "bone", QUICK, seed=seed)[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    still, frozen = replace(QUICK, lr_encoder=0.0, weight_decay=0.0), weights(encoder)
    _, tuned = finetune(data, encoder, "bone", still, seed=1)
    assert all(torch.equal(frozen[name], found) for name, found in weights(tuned).items())


def test_only_the_labeled_rows_are_learned_from(data, encoder):
    poisoned = replace(data, sequences=data.sequences.clone())
    poisoned.sequences[12:24] = torch.nan
    outcome, tuned = finetune(poisoned, encoder, "joint", QUICK, seed=0, rows=torch.arange(12))
    assert outcome.details["labeled"] == 12
    assert torch.isfinite(tuned.head.weight).all()
    plain = replace(QUICK, augment=False, test_every=3)
    outcome, _ = finetune(poisoned, encoder, "joint", plain, seed=0, rows=torch.arange(12))
    curve = outcome.details["top1_by_epoch"]
    assert [value is None for value in curve] == [True, True, False, False]

"""Frozen features and the linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import assert_near

from aimclr_fast.evaluation.features import encode, raw_poses
from aimclr_fast.evaluation.linear import linear_probe
from aimclr_fast.nn import STGCN, SkeletonEncoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SkeletonEncoder(STGCN("coco", channels=4, features=8), 4)


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_encode_in_batches_in_eval_mode(encoder, stream):
    data = torch.randn(7, 3, 12, 17, 1)
    encoder.train()
    whole = encode(encoder, data, stream=stream, batch_size=7)
    assert encoder.training
    assert_near(encode(encoder, data, stream=stream, batch_size=3), whole)
    assert_near(encode(encoder, data, stream=stream), whole)  # no dropout, no batch statistics
    assert whole.shape == (7, 8)
    assert not whole.requires_grad


def test_encode_nothing(encoder):
    assert encode(encoder, torch.zeros(0, 3, 12, 17, 1)).shape == (0, 8)


def test_millimetres_are_metres(encoder):
    data = torch.randint(-2000, 2000, (3, 3, 12, 17, 1), dtype=torch.int16)
    assert_near(encode(encoder, data), encode(encoder, data.float() / 1000))
    assert_near(raw_poses(data), raw_poses(data.float() / 1000))


def test_raw_poses_span_the_sequence():
    data = torch.arange(50.0).view(1, 1, 50, 1, 1)
    frames = raw_poses(data)[0]
    assert frames[0] == 0
    assert frames[-1] == 49
    assert len(frames) == 24


def test_linear_probe_learns_a_separable_problem():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    features = np.eye(3)[labels] * 100 + rng.normal(size=(200, 3))
    accuracy = linear_probe(features[:100], labels[:100], features[100:], labels[100:])
    assert accuracy == 1.0
    shuffled = rng.permutation(labels[100:])
    assert linear_probe(features[:100], labels[:100], features[100:], shuffled) < 0.6

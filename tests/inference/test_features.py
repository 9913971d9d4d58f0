"""Frozen features."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.inference.features import encode, raw_poses
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


def test_millimeters_are_meters(encoder):
    data = torch.randint(-2000, 2000, (3, 3, 12, 17, 1), dtype=torch.int16)
    assert_near(encode(encoder, data), encode(encoder, data.float() / 1000))
    assert_near(raw_poses(data), raw_poses(data.float() / 1000))


def test_raw_poses_span_the_sequence():
    data = torch.arange(50.0).view(1, 1, 50, 1, 1)
    frames = raw_poses(data)[0]
    assert frames[0] == 0
    assert frames[-1] == 49
    assert len(frames) == 24

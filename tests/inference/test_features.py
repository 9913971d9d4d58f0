"""Frozen features."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.data import open_embedded
from aimclr_fast.data.preprocessing import Preprocessing, turn_about_y
from aimclr_fast.inference.features import can_be_aligned, encode, raw_poses
from aimclr_fast.layouts import Layout, get_layout
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


def test_aligned_poses_do_not_depend_on_the_camera():
    store = open_embedded()
    x = store.as_tensor(slice(0, 2000, 250))
    x = torch.cat([x, 0.7 * x.flip(0)], 4)  # a second body, which does not count
    angles = torch.arange(8.0).view(-1, 1, 1, 1) * 0.7
    turned = torch.from_numpy(turn_about_y(x.numpy(), angles.numpy())).float()
    aligned = raw_poses(x, align=store.layout)
    assert_near(raw_poses(turned, align=store.layout), aligned)
    assert (raw_poses(turned) - raw_poses(x)).abs().max() > 0.1
    # One angle a sequence: turned back as a whole, from left to right along +x on the mean.
    poses = raw_poses(turned, frames=50, align=store.layout).view(8, 50, 3, 22, 2)[..., 0]
    left, right = zip(*store.layout.sides, strict=True)
    across = (poses[..., list(right)] - poses[..., list(left)]).mean((1, 3))
    assert across[:, 2].abs().max() < 1e-5
    assert across[:, 0].min() > 0.1
    before = turned[..., 0].movedim(2, 1)
    assert_near(*((p[..., 1:] - p[..., :-1]).norm(dim=2) for p in (poses, before)))
    rows = torch.tensor([5, 2])
    assert_near(raw_poses(turned, rows, align=store.layout), aligned[rows])


def test_a_sequence_without_sides_is_not_turned():
    layout = get_layout("ui-prmd")
    x = torch.randn(2, 3, 5, 22, 1)
    x[0, :, :, [joint for pair in layout.sides for joint in pair]] = 0
    aligned = raw_poses(x, align=layout)
    assert torch.equal(aligned[0], raw_poses(x)[0])
    assert aligned.isfinite().all()


def test_what_can_be_aligned():
    none, exact = Preprocessing(rotate="none"), Preprocessing(rotate="exact")
    known = get_layout("ui-prmd")
    assert can_be_aligned(known, none)
    assert not can_be_aligned(known, exact)  # preprocessing did
    assert not can_be_aligned(known, None)  # it may have
    assert not can_be_aligned(get_layout("hand-21"), none)  # no shoulders, no limbs
    assert not can_be_aligned(get_layout("coco"), none)  # images have no angle
    assert can_be_aligned(hips_only(), exact)  # which turned nothing: there are no shoulders


def hips_only() -> Layout:
    joints = ("root", "left_hip", "left_knee", "right_hip", "right_knee")
    return Layout("hips", joints, ((1, 0), (2, 1), (3, 0), (4, 3)), 0, (0, 3, 4, 1, 2))

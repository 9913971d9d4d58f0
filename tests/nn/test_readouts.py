"""Readouts of feature maps, against loops, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near
from torch.nn.functional import adaptive_avg_pool1d

from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder, readouts, stgcn
from aimclr_fast.nn.readouts import (
    READOUTS,
    SEGMENTS,
    parse_readout,
    read_out,
    readout_width,
    split_readouts,
)

LAYOUT = get_layout("coco")
NO_PARTS = Layout("chain", ("a", "b", "c"), ((0, 1), (2, 1)), 1, (0, 1, 2))


def feature_map(frames: int, joints: int = 17) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(3, 5, frames, joints, generator=generator, dtype=torch.float64)


def by_loops(name: str, x: torch.Tensor) -> torch.Tensor:
    """One row after the other, [R, W]."""
    rows = []
    for one in x:  # [H, T, V]
        parts = {
            "mean": lambda one: [one.flatten(1).mean(1)],
            "max": lambda one: [one.flatten(1).max(1).values],
            "joints": lambda one: [joint.mean(1) for joint in one.unbind(2)],
            "parts": lambda one: [
                torch.stack([one[:, :, joint].mean(1) for joint in part]).mean(0)
                for part in LAYOUT.body_parts
            ],
            "segments": lambda one: list(adaptive_avg_pool1d(one.mean(2), SEGMENTS).unbind(1)),
        }
        rows.append(torch.cat(parts[name](one)))
    return torch.stack(rows)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("name", list(READOUTS))
def test_as_loops_compute_them(name, frames):
    x = feature_map(frames)
    assert_near(read_out(x, name, LAYOUT), by_loops(name, x))
    strided = x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    assert_near(read_out(strided, name, LAYOUT), by_loops(name, x))
    assert read_out(x[:0], name, LAYOUT).shape == (0, readout_width(name, 5, LAYOUT))


def test_the_mean_on_a_gpu_has_the_same_gradient():
    """By itself, and of one of several parts of a batch; what no part needs is zero."""
    x = feature_map(4).repeat(2, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    torch.autograd.gradcheck(readouts._Mean.apply, x)
    means = lambda part: part.mean((2, 3))  # noqa: E731
    for first in (means, readouts._Mean.apply):
        a, b = stgcn._Chunks.apply(x, 2)
        wanted_a, wanted_b = x.chunk(2)
        got = torch.autograd.grad(first(a).sin().sum() + b.square().sum(), x)
        wanted = torch.autograd.grad(means(wanted_a).sin().sum() + wanted_b.square().sum(), x)
        assert_near(got[0], wanted[0])
        assert got[0].is_contiguous(memory_format=torch.channels_last)
    (got,) = torch.autograd.grad(stgcn._Chunks.apply(x, 2)[1].sum(), x)
    assert torch.equal(got, torch.autograd.grad(x.chunk(2)[1].sum(), x)[0])


def test_several_are_side_by_side():
    x = feature_map(13)
    both = read_out(x, "parts+max", LAYOUT)
    assert torch.equal(both, torch.cat([read_out(x, n, LAYOUT) for n in ("parts", "max")], 1))
    assert both.shape[1] == readout_width("parts+max", 5, LAYOUT) == 30


def test_several_are_taken_apart():
    x = feature_map(13)
    parts = split_readouts(read_out(x, "joints+mean+parts", LAYOUT), "joints+mean+parts", 5, LAYOUT)
    assert list(parts) == ["joints", "mean", "parts"]
    assert all(torch.equal(part, read_out(x, name, LAYOUT)) for name, part in parts.items())


def test_an_encoder_takes_the_mean_over_bodies():
    torch.manual_seed(0)
    encoder = SkeletonEncoder(STGCN("coco", channels=4, features=8), 4).eval()
    x = torch.randn(2, 3, 12, 17, 2)
    with torch.no_grad():
        maps = encoder.backbone(x).unflatten(0, (2, 2))
        for pool in ("mean", "max", "joints+segments"):
            each = torch.stack([read_out(maps[:, m], pool, LAYOUT) for m in (0, 1)]).mean(0)
            assert_near(encoder.features(x, pool), each)
        assert torch.equal(encoder.features(x), encoder.features(x, "mean"))


@pytest.mark.parametrize("spec", ["", "median", "mean+", "mean+mean", "mean,max", None, 3])
def test_unknown_ones_are_refused(spec):
    with pytest.raises(ValueError, match="must be one of mean, max, joints, parts, segments"):
        parse_readout(spec)


def test_parts_of_a_skeleton_without_any():
    with pytest.raises(ValueError, match="chain"):
        readout_width("mean+parts", 5, NO_PARTS)
    with pytest.raises(ValueError, match="chain"):
        read_out(feature_map(4, 3), "parts", NO_PARTS)
    assert readout_width("mean+joints", 5, NO_PARTS) == 20

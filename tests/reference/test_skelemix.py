"""SkeleMix against the authors' numbers, and the properties of its draws."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from aimclr_fast.functional import MixConfig, skelemix
from aimclr_fast.layouts import get_layout
from aimclr_fast.reference.skelemix import MixDraws, apply_skelemix, block_rows, draw_mixes

LAYOUT = get_layout("ntu-rgb+d")


@pytest.mark.parametrize("file", ["skelemix", "step_single", "step_plus"])
def test_golden_mixes_are_the_authors(golden, file):
    g = golden(f"skelemixclr/{file}")
    single = file == "skelemix"
    x = g["x"] if single else golden("skelemixclr/state")["x_q"]
    draws = MixDraws(*(g[name] for name in MixDraws._fields))
    mixed, mask, partner = apply_skelemix(x, *draws, body_parts=LAYOUT.body_parts)
    assert torch.equal(mixed, g["y" if single else "mixed"])
    assert torch.equal(mask, g["mask"])
    assert torch.equal(partner[:, 0], draws.shift)


def test_golden_ranges_hold_the_authors_draws(golden):
    for file in ("step_single", "step_plus"):
        g = golden(f"skelemixclr/{file}")
        for name, counts in (("blocks", g["blocks"]), ("parts", g["parts"].sum(1))):
            low, high = g[f"{name}_range"].tolist()
            assert low <= counts.min()
            assert counts.max() <= high


def draw(config=None, samples=6, frames=64, seed=1, step=3) -> MixDraws:
    return draw_mixes(
        config or MixConfig(count=4000), samples=samples, frames=frames, seed=seed, step=step,
        like=torch.zeros(1),
    )  # fmt: skip


def shares(values: torch.Tensor) -> dict[int, float]:
    found, counts = values.unique(return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def test_draws_are_uniform_in_their_ranges():
    draws = draw()
    for values, wanted in (
        (draws.shift, range(1, 5)),  # N - 1 never comes
        (draws.parts.sum(1), (2, 3)),
        (draws.blocks, range(7, 12)),
    ):
        found = shares(values)
        assert list(found) == list(wanted)
        assert all(abs(share * len(found) - 1) < 0.15 for share in found.values())
    # Each subset of the parts of one size is as likely as any other.
    for size, count in ((2, 10), (3, 10)):
        chosen = draws.parts[draws.parts.sum(1) == size]
        found = shares((chosen * 2 ** torch.arange(5)).sum(1))
        assert len(found) == count
        assert all(abs(share * count - 1) < 0.3 for share in found.values())
    # So is each place of a stretch of one length: 0..16 - blocks.
    for blocks in range(7, 12):
        found = shares(draws.first_block[draws.blocks == blocks])
        assert list(found) == list(range(17 - blocks))
        assert all(abs(share * len(found) - 1) < 0.4 for share in found.values())


@pytest.mark.parametrize(
    ("config", "frames", "samples"),
    [
        (MixConfig(count=500, parts_min=1, parts_max=4, blocks_min=1, blocks_max=16), 64, 3),
        (MixConfig(count=500, parts_min=4, parts_max=4, blocks_min=5, blocks_max=5), 50, 128),
        (MixConfig(count=200, parts_min=1, parts_max=1, blocks_min=13, blocks_max=13), 50, 4),
        (MixConfig(count=200, blocks_min=1, blocks_max=3, block_frames=7), 20, 5),
        (MixConfig(count=50, blocks_min=1, blocks_max=1, block_frames=9), 2, 5),
    ],
)
def test_every_bound_is_reached_and_none_is_crossed(config, frames, samples):
    draws = draw(config, samples, frames)
    rows = block_rows(frames, config.block_frames)
    assert (draws.shift.min(), draws.shift.max()) == (1, samples - 2)
    assert (draws.blocks.min(), draws.blocks.max()) == (config.blocks_min, config.blocks_max)
    count = draws.parts.sum(1)
    assert (count.min(), count.max()) == (config.parts_min, config.parts_max)
    assert draws.first_block.min() == 0
    assert (draws.first_block + draws.blocks).max() == rows


def test_draws_differ_between_mixes_steps_and_seeds():
    def key(draws):
        return torch.cat([one.reshape(len(draws.shift), -1) for one in draws], dim=1)

    base = draw(MixConfig(count=50), samples=10**6)
    assert len(base.shift.unique()) == 50
    for other in (
        draw(MixConfig(count=50), samples=10**6, step=4),
        draw(MixConfig(count=50), samples=10**6, seed=2),
    ):
        assert (base.shift != other.shift).all()
    # A mix does not depend on how many there are.
    assert torch.equal(key(draw(MixConfig(count=3), samples=10**6)), key(base)[:3])


def test_a_short_last_block_is_mixed_like_any_other():
    x = torch.randn(4, 3, 50, 25, 2)
    parts = torch.tensor([[False, True, False, False, True]])
    one = torch.tensor([1])
    mixed, mask, partner = apply_skelemix(
        x, one, parts, 12 * one, one, body_parts=LAYOUT.body_parts
    )
    assert mask.shape == (1, 13, 25)
    assert mask.sum() == 6 + 4
    assert mask[0, 12, [8, 9, 10, 11, 23, 24, 12, 13, 14, 15]].all()
    changed = (mixed[0] != x).any((0, 1)).any(2)
    assert torch.equal(changed[48:], mask[0, 12].expand(2, -1))
    assert not changed[:48].any()
    for row in range(4):
        assert torch.equal(mixed[0, row, :, 48:, 8], x[partner[0, row], :, 48:, 8])


def test_streams_are_made_of_the_mixed_joints():
    x = torch.randn(5, 3, 40, 25, 2)
    config = MixConfig(count=2, blocks_max=8)
    streams = ("bone", "joint", "motion")
    mixed = skelemix(
        x, layout="ntu-rgb+d", config=config, seed=5, step=9, streams=streams, backend="reference"
    )
    bone, joint, motion = mixed.views
    assert torch.equal(motion[:, :, :, :-1], joint[:, :, :, 1:] - joint[:, :, :, :-1])
    assert (motion[:, :, :, -1] == 0).all()
    for child, parent in enumerate(LAYOUT.parents):
        assert torch.equal(bone[..., child, :], joint[..., child, :] - joint[..., parent, :])
    draws = draw(config, 5, 40, seed=5, step=9)
    assert torch.equal(mixed.partner, (torch.arange(5) + draws.shift[:, None]) % 5)
    assert torch.equal(mixed.mask.any(2).sum(1), draws.blocks)


def test_the_gradient_goes_to_where_joints_came_from():
    x = torch.randn(3, 3, 44, 25, 1, requires_grad=True)
    mixed = skelemix(x, layout="ntu-rgb+d", config=MixConfig(), seed=0, step=0)
    weight = torch.zeros(3)
    weight[0] = 1
    (mixed.views[0][0] * weight[:, None, None, None, None]).sum().backward()
    replaced = mixed.mask[0].repeat_interleave(4, 0)[None, :, :, None].expand(3, -1, -1, -1)
    assert torch.equal(x.grad[0].bool(), ~replaced)
    assert torch.equal(x.grad[mixed.partner[0, 0]].bool(), replaced)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts_max": 5}, "parts_max must be at most 4"),
        ({"parts_min": 4}, "parts_min must be at most parts_max, got 4 and 3"),
        ({"blocks_min": 12}, "blocks_min must be at most blocks_max, got 12 and 11"),
        *(
            ({field.name: 0}, f"{field.name} must be an integer of 1")
            for field in fields(MixConfig)
        ),
        ({"count": 1.0}, "count must be an integer"),
        ({"count": True}, "count must be an integer"),
        ({"block_frames": 2**40}, "block_frames must be an integer of"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        MixConfig(**changes)

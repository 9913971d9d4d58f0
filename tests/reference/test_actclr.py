"""What ActCLR does to sequences, against the authors' numbers, and its properties."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.layouts import LAYOUTS, get_layout
from aimclr_fast.reference.actclr import (
    ActMix,
    Kind,
    mix,
    partner_of,
    resample,
    scale_bones,
    shear_around,
    swap_bones,
)
from aimclr_fast.reference.skelemix import part_table
from aimclr_fast.reference.skeleton_augment import STREAMS, to_stream

NTU = get_layout("ntu-rgb+d")
PARENTS = torch.tensor(NTU.parents)
PART_OF = part_table(NTU.body_parts)
# The authors' order of the draws of bone scale.
BONES = [
    20, 1, 2, 8, 4, 0, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 21, 24, 23,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_golden_actclr_augmentations(golden, dtype):
    g = golden("actclr/augment")
    x = g["x"].to(dtype)[None]
    sheared = shear_around(x, g["shear_matrix"][None], NTU.center)
    assert_near(sheared[0], g["shear"], dtype=dtype, what="shear")
    assert torch.equal(sheared[:, :, :, NTU.center], x[:, :, :, NTU.center])
    draws = torch.empty(1, len(BONES), dtype=torch.float64)
    draws[0, BONES] = g["bone_scale_draws"]
    assert_near(scale_bones(x, draws, PARENTS)[0], g["bone_scale"], dtype=dtype, what="scale")
    speeds = g["resampled_draws"]
    resampled = resample(x.expand(len(speeds), *x.shape[1:]), speeds)
    assert_near(resampled, g["resampled"], dtype=dtype, what="resampled")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stream", STREAMS)
def test_golden_actclr_bone_swap(golden, stream, dtype):
    g = golden("actclr/transform")
    x = to_stream(g["x"].to(dtype), stream, PARENTS)
    partner = partner_of(len(x), g[f"shift_{stream}"])
    assert_near(swap_bones(x, partner, PARENTS, stream), g[stream], dtype=dtype)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_swapped_bones_have_the_partners_lengths(layout):
    # So long that the constant in the root is lost.
    x = 1e3 * torch.randn(3, 3, 4, layout.num_joints, 2, dtype=torch.float64)
    parents, partner = torch.tensor(layout.parents), torch.tensor([2, 0, 1])
    y = swap_bones(x, partner, parents, "joint")
    assert torch.equal(y[:, :, :, layout.center], x[:, :, :, layout.center])
    lengths = [to_stream(z, "bone", parents).norm(dim=1) for z in (y, x[partner])]
    assert_near(*lengths, dtype=torch.float32)
    bones = [to_stream(z, "bone", parents) for z in (x, y)]
    along = (bones[0] * bones[1]).sum(1)
    assert_near(along, bones[0].norm(dim=1) * bones[1].norm(dim=1), dtype=torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_bones_scaled_by_one_stay(layout):
    """Joints are rebuilt along every path, whatever the tree."""
    x = torch.randn(2, 3, 4, layout.num_joints, 1, dtype=torch.float64)
    parents = torch.tensor(layout.parents)
    draws = torch.full((2, layout.num_joints), 2.0)
    assert_near(scale_bones(x, draws, parents), x, dtype=torch.float64)
    bones = [to_stream(z, "bone", parents) for z in (x, scale_bones(x, draws / 4, parents))]
    assert_near(bones[1], bones[0] / 4, dtype=torch.float64)


def test_a_resampled_sequence_is_slow_or_ends_in_zeros():
    x = torch.arange(1.0, 9.0).view(1, 1, 8, 1, 1).expand(3, 3, 8, 2, 1)
    slow, same, fast = resample(x, torch.tensor([0.999, 0.5, 0.0]))[:, 0, :, 0, 0]
    assert torch.equal(same, x[0, 0, :, 0, 0])
    assert slow[-1] < 7
    assert torch.equal(fast, torch.tensor([1.5, 3.5, 5.5, 7.5, 0, 0, 0, 0]))
    assert resample(x[:, :, :1], torch.zeros(3)).abs().min() > 0  # one frame at least


def draws(kind: Kind, **more: int) -> ActMix:
    numbers = {"shift": 1, "first_block": 1, "blocks": 2} | more
    return ActMix(
        kind=torch.tensor(int(kind)),
        parts=torch.tensor([False, True, False, True, False]),
        weight=torch.tensor(0.25),
        **{name: torch.tensor(value) for name, value in numbers.items()},
    )


@pytest.mark.parametrize("frames", [16, 18])
def test_mixes_hold_what_their_masks_say(frames):
    x = torch.randn(3, 3, frames, 25, 2)
    rows = -(-frames // 4)
    joints = draws(Kind.SWAP).parts[PART_OF]
    box = torch.zeros(rows, 25)
    box[1:3, joints] = 1
    other = x[[1, 2, 0]]

    swapped = mix(x, draws(Kind.SWAP), PART_OF)
    assert torch.equal(swapped.partner, torch.tensor([1, 2, 0]))
    assert torch.equal(swapped.pasted, box)
    assert torch.equal(swapped.replaced, box)
    inside = box.bool().repeat_interleave(4, 0)[:frames, :, None]
    assert torch.equal(swapped.x, torch.where(inside, other, x))

    fast = mix(x, draws(Kind.RESAMPLED), PART_OF)
    assert torch.equal(fast.replaced, box)
    assert torch.equal(fast.pasted, joints.float().expand(rows, 25))
    pasted = other[:, :, 0:16:2]  # the first 16 frames, in 8
    assert torch.equal(fast.x[:, :, 4:12, joints], pasted[:, :, :, joints])
    assert torch.equal(torch.where(inside, 0, fast.x), torch.where(inside, 0, x))

    mixture = mix(x, draws(Kind.MIXTURE), PART_OF)
    assert_near(mixture.x, 0.75 * x + 0.25 * other)
    assert (mixture.pasted == 0.25).all()
    assert (mixture.replaced == 0.25).all()


def test_a_long_stretch_takes_the_partners_frames_that_there_are():
    x = torch.randn(3, 3, 16, 25, 2)
    joints = draws(Kind.SWAP).parts[PART_OF]
    mixed = mix(x, draws(Kind.RESAMPLED, first_block=0, blocks=3), PART_OF)
    source = [at * 16 // 12 for at in range(12)]
    assert torch.equal(mixed.x[:, :, :12, joints], x[[1, 2, 0]][:, :, source][:, :, :, joints])

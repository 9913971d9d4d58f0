"""What ActCLR's second phase does to sequences: augmentations of its own, bone swap and mixing.

Lin, Zhang and Liu, "Actionlet-Dependent Contrastive Learning for Unsupervised Skeleton-Based Action
Recognition", CVPR 2023. Sequences are [N, C, T, V, M]; `parents` [V] is each joint's neighbor
towards the center, whose parent is itself.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from .skelemix import BLOCK_FRAMES, block_rows, region_mask
from .skeleton_augment import multiply

_EPS = 1e-5


# --- Augmentations --------------------------------------------------------------------------------


def shear_around(x: Tensor, matrices: Tensor, center: int) -> Tensor:
    """Joints times their sequence's matrix [N, 3, 3], except for the center joint, which stays."""
    y = multiply(matrices.to(x.dtype), x)
    y[:, :, :, center] = x[:, :, :, center]
    return y


def resample(x: Tensor, draws: Tensor) -> Tensor:
    """Sequences played slower or faster: T (u + 1/2) frames by linear interpolation, the first T of
    them, zeros after the last.

    Args:
        x: [N, C, T, V, M].
        draws: u [N] from 0 to 1.
    """
    frames = x.shape[2]
    count = (frames * (draws.double() + 0.5)).floor().clamp(min=1)[:, None]
    row = torch.arange(frames, device=x.device)
    source = (row + 0.5) * (frames / count) - 0.5  # the centers of frames are aligned
    before = source.floor()
    after = (source - before).to(x.dtype)[:, None, :, None, None]

    def frames_at(place: Tensor) -> Tensor:
        place = place.long().clamp(0, frames - 1)[:, None, :, None, None]
        return x.gather(2, place.expand_as(x))

    y = frames_at(before) * (1 - after) + frames_at(before + 1) * after
    return torch.where((row < count)[:, None, :, None, None], y, 0.0)


def scale_bones(x: Tensor, draws: Tensor, parents: Tensor) -> Tensor:
    """Joints rebuilt from the center, each bone shortened to u / 2 of its length.

    `draws` u [N, V] are from 0 to 1, one for the bone that ends in each joint; the center's counts
    for nothing.
    """
    factor = (0.5 * draws).to(x.dtype)[:, None, None, :, None]
    return _rebuilt(x, factor * (x - x[:, :, :, parents]), parents)


def _rebuilt(x: Tensor, bones: Tensor, parents: Tensor) -> Tensor:
    """Joints at the ends of given bones, from the center of x on, whose own bone is zero.

    Sums along the paths to the center, of lengths that double: a joint first has its own bone, then
    two, then four.
    """
    at = parents
    for _ in range(len(parents).bit_length()):
        bones = bones + bones[:, :, :, at]
        at = at[at]
    return x.index_select(3, at[:1]) + bones  # `at` has arrived at the center everywhere


# --- Bone swap ------------------------------------------------------------------------------------


def swap_bones(x: Tensor, partner: Tensor, parents: Tensor, stream: str) -> Tensor:
    """Sequences with the proportions of another person, that of row `partner` [N].

    joint: bones keep their directions and take the partner's lengths. bone: likewise, x being the
    bones. motion: each joint's motion, less the mean over joints, is scaled to the partner's
    deviation over time and moved to the partner's mean.
    """
    if stream == "joint":
        bones = x - x[:, :, :, parents]
        return _rebuilt(x, _with_lengths(bones, partner), parents)
    if stream == "bone":
        return _with_lengths(x, partner)
    mean, deviation = x.mean(3, keepdim=True), x.std(2, keepdim=True)
    return (x - mean) / (deviation + 1e-3) * deviation[partner] + mean[partner]


def _with_lengths(bones: Tensor, partner: Tensor) -> Tensor:
    length = (bones.square().sum(1, keepdim=True) + _EPS).sqrt()
    return bones * (length[partner] / length)


# --- Mixing ---------------------------------------------------------------------------------------


class Kind(IntEnum):
    """How a sequence is mixed with its partner."""

    SWAP = 0  # parts of it are the partner's, in a stretch of time
    RESAMPLED = 1  # likewise, from the partner's beginning, at twice the speed
    MIXTURE = 2  # a weighted mean of both


class ActMix(NamedTuple):
    """What one mix of a batch does; all without dimensions but `parts`.

    Attributes:
        kind: of `Kind`.
        shift: row i is mixed with row (i + shift) mod N.
        parts: [5] bool, the body parts that are replaced.
        first_block: first of the blocks of four frames that are replaced.
        blocks: how many.
        weight: of the partner in a mixture.
    """

    kind: Tensor
    shift: Tensor
    parts: Tensor
    first_block: Tensor
    blocks: Tensor
    weight: Tensor


class ActMixed(NamedTuple):
    """Mixed sequences.

    Attributes:
        x: [N, C, T, V, M].
        pasted: [T', V] float32, T' = ceil(T / 4): what of the partner is in them, from 0 to 1.
        replaced: [T', V] float32, what of the sequence itself is gone.
        partner: [N] the row that each is mixed with.
    """

    x: Tensor
    pasted: Tensor
    replaced: Tensor
    partner: Tensor


def partner_of(samples: int, shift: Tensor) -> Tensor:
    """Rows [N] that are `shift` rows further in the batch."""
    return (torch.arange(samples, device=shift.device) + shift) % samples


def mix(x: Tensor, draws: ActMix, part_of: Tensor) -> ActMixed:
    """Mix each sequence with another of the batch, by given draws; `part_of` [V] are the joints'
    body parts. Draws are not read back from the device, so that a GPU can capture it.
    """
    samples, _, frames, _, _ = x.shape
    partner = partner_of(samples, draws.shift)
    other = x[partner]
    rows = block_rows(frames)
    box = region_mask(draws.parts, draws.first_block, draws.blocks, part_of, rows)
    first, length = BLOCK_FRAMES * draws.first_block, BLOCK_FRAMES * draws.blocks
    row = torch.arange(frames, device=x.device)
    resampled = draws.kind == Kind.RESAMPLED
    fast = (row - first) * (2 * length).clamp(max=frames) // length
    source = torch.where(resampled, fast, row).clamp(0, frames - 1)
    inside = box.repeat_interleave(BLOCK_FRAMES, 0)[:frames, :, None]
    pasted = torch.where(inside, other.index_select(2, source), x)
    mixture = (1 - draws.weight) * x + draws.weight * other

    whole = draws.kind == Kind.MIXTURE
    weight = draws.weight.float()
    replaced = torch.where(whole, weight, box.float())
    taken = torch.where(resampled, draws.parts[part_of].float(), replaced)
    return ActMixed(torch.where(whole, mixture.to(x.dtype), pasted), taken, replaced, partner)

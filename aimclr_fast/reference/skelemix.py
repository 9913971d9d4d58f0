"""SkeleMix (SkeleMixCLR): body parts of a stretch of time, replaced by another sequence's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from . import philox
from .skeleton_augment import to_stream

BODY_PARTS = 5
BLOCK_FRAMES = 4  # what a frame of the encoder's feature map stands for
MOST = 2**20  # of a setting; any more is a mistake


class Draw(IntEnum):
    """What a random number is for; part of the random counter, apart from those of the views."""

    REGION = 0x10000  # shift, number of parts, number of blocks, first block
    PARTS = 0x10001  # which parts


@dataclass(frozen=True)
class MixConfig:
    """How many mixes are made, and how large what they replace; the defaults are SkeleMixCLR's.

    A block is as many frames as one frame of the encoder's feature map stands for.

    Attributes:
        count: mixes of a batch, each with draws of its own: 1 for SkeleMixCLR, 3 for SkeleMixCLR+.
        parts_min: fewest body parts of five that are replaced.
        parts_max: most body parts; at most 4, so that something of each frame is left.
        blocks_min: fewest blocks of frames.
        blocks_max: most blocks of frames.
        block_frames: frames of a block.
    """

    count: int = 1
    parts_min: int = 2
    parts_max: int = 3
    blocks_min: int = 7
    blocks_max: int = 11
    block_frames: int = BLOCK_FRAMES

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 1 <= value <= MOST:
                raise ValueError(f"{field.name} must be an integer of 1..{MOST}, got {value!r}")
        for what in ("parts", "blocks"):
            low, high = getattr(self, f"{what}_min"), getattr(self, f"{what}_max")
            if low > high:
                raise ValueError(f"{what}_min must be at most {what}_max, got {low} and {high}")
        if self.parts_max >= BODY_PARTS:
            raise ValueError(f"parts_max must be at most {BODY_PARTS - 1}, got {self.parts_max}")


class MixDraws(NamedTuple):
    """What R mixes of a batch replace.

    Attributes:
        shift: [R] integers in 1..N-2; row i gets parts of row (i + shift) mod N.
        parts: [R, 5] bool, the body parts that are replaced.
        first_block: [R] integers, the first block of frames.
        blocks: [R] integers, how many blocks.
    """

    shift: Tensor
    parts: Tensor
    first_block: Tensor
    blocks: Tensor


def block_rows(frames: int, block_frames: int = BLOCK_FRAMES) -> int:
    """Blocks of a sequence, the last one short if need be: rows of the encoder's feature map."""
    return -(-frames // block_frames)


def _words(config: MixConfig, draw: Draw, seed: int, step: int | Tensor, like: Tensor) -> Tensor:
    """Four words for each mix [R, 4], counted by (0, step, mix, draw)."""
    counter = like.new_zeros((config.count, 4), dtype=torch.int64)
    counter[:, 1] = step
    counter[:, 2] = torch.arange(config.count, device=like.device)
    counter[:, 3] = int(draw)
    return philox.philox4x32(counter, philox.split_seed(seed))


def draw_mixes(
    config: MixConfig, *, samples: int, frames: int, seed: int, step: int | Tensor, like: Tensor
) -> MixDraws:
    """Draw each mix of a batch of `samples`: all its sequences share a mix's draws.

    All are uniform: the shift in 1..N-2, the number of parts and of blocks in their ranges, the
    first block in 0..rows-blocks, the parts without replacement.
    """
    region = _words(config, Draw.REGION, seed, step, like)
    count = config.parts_min + philox.bounded(region[:, 1], config.parts_max - config.parts_min + 1)
    blocks = config.blocks_min + philox.bounded(
        region[:, 2], config.blocks_max - config.blocks_min + 1
    )
    # As `bounded`, for a bound of each mix's own.
    starts = block_rows(frames, config.block_frames) - blocks + 1
    first_block = (region[:, 3] * starts) >> 32

    # The start of a shuffle: place i gets one of the parts not yet placed.
    words = _words(config, Draw.PARTS, seed, step, like)
    order = torch.arange(BODY_PARTS, device=like.device).repeat(config.count, 1)
    for place in range(BODY_PARTS - 1):
        other = place + philox.bounded(words[:, place : place + 1], BODY_PARTS - place)
        here = order[:, place : place + 1].clone()
        order[:, place : place + 1] = order.gather(1, other)
        order.scatter_(1, other, here)
    chosen = torch.arange(BODY_PARTS, device=like.device) < count[:, None]
    parts = torch.zeros_like(chosen).scatter_(1, order, chosen)
    return MixDraws(1 + philox.bounded(region[:, 0], samples - 2), parts, first_block, blocks)


def part_table(body_parts: Sequence[Sequence[int]]) -> Tensor:
    """The part [V] of each joint, from the joints of each part, every joint in one."""
    part_of = torch.empty(sum(map(len, body_parts)), dtype=torch.int64)
    for part, joints in enumerate(body_parts):
        part_of[list(joints)] = part
    return part_of


def region_mask(
    parts: Tensor, first_block: Tensor, blocks: Tensor, part_of: Tensor, rows: int
) -> Tensor:
    """Mask [..., rows, V], true in the blocks and in the joints of the parts that were drawn.

    Args:
        parts: [..., 5] bool.
        first_block: [...] integers.
        blocks: [...] integers.
        part_of: [V] each joint's part.
        rows: of the mask, one a block.
    """
    row = torch.arange(rows, device=parts.device)
    first_block, blocks = first_block[..., None], blocks[..., None]
    in_time = (row >= first_block) & (row < first_block + blocks)
    return in_time[..., None] & parts[..., None, part_of]


def apply_skelemix(
    x: Tensor,
    shift: Tensor,
    parts: Tensor,
    first_block: Tensor,
    blocks: Tensor,
    *,
    body_parts: Sequence[Sequence[int]],
    block_frames: int = BLOCK_FRAMES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix the sequences x [N, 3, T, V, M] with each other, by given draws (see MixDraws).

    `body_parts` are the joints of each of the five parts.

    Returns:
        The mixed sequences [R, N, 3, T, V, M]; the mask [R, T', V] of what was replaced, true in
        the blocks and joints drawn, with T' = ceil(T / block_frames); the partner [R, N] of each
        row, whose joints they are.
    """
    samples, _, frames, _, _ = x.shape
    part_of = part_table(body_parts).to(x.device)
    mask = region_mask(parts, first_block, blocks, part_of, block_rows(frames, block_frames))
    partner = (torch.arange(samples, device=x.device) + shift[:, None]) % samples
    replaced = mask.repeat_interleave(block_frames, 1)[:, None, None, :frames, :, None]
    return torch.where(replaced, x[partner], x), mask, partner


def skelemix(
    x: Tensor,
    *,
    body_parts: Sequence[Sequence[int]],
    parents: Tensor,
    config: MixConfig,
    seed: int,
    step: int | Tensor,
    streams: Sequence[str] = ("joint",),
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Draw mixes of the sequences x [N, 3, T, V, M] and make them.

    Returns:
        For each stream, the mixed sequences [R, N, 3, T, V, M], turned into the stream; mask and
        partner as in `apply_skelemix`.
    """
    draws = draw_mixes(config, samples=x.shape[0], frames=x.shape[2], seed=seed, step=step, like=x)
    mixed, mask, partner = apply_skelemix(
        x, *draws, body_parts=body_parts, block_frames=config.block_frames
    )
    views = [
        to_stream(mixed.flatten(0, 1), stream, parents).unflatten(0, mixed.shape[:2])
        for stream in streams
    ]
    return views, mask, partner

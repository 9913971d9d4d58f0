"""Means of a feature map over a region and over the rest in Triton: one read, one write of dx.

A program of the forward pass goes through all positions of some channels of one sample and sums
both sides at once. Sums have a fixed order, so results do not vary from run to run.

Maps are [B, C, N], or [B, N, C] in channels-last format, with the N = T * V positions that the mask
[N] selects from. Tiles are [channel, position] for both; the strides say how a tile lies in memory.
"""

# Triton's decorator has no types, and kernel arguments are its own.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_PER_TILE = 4096  # values: 32 registers of each of four warps' threads


class Tile(NamedTuple):
    """How a map is cut: channels and positions of a tile."""

    block_c: int
    block_n: int


def tile_of(channels: int, positions: int, channels_last: bool) -> Tile:
    """A warp reads neighboring positions of a channel or, channels-last, neighboring channels."""
    most_c, most_n = (64, 64) if channels_last else (MAX_PER_TILE, 512)
    block_n = min(most_n, triton.next_power_of_2(positions))
    block_c = min(most_c, MAX_PER_TILE // block_n, triton.next_power_of_2(channels))
    return Tile(block_c, block_n)


@triton.jit
def _tile(
    block,
    first,
    C: tl.constexpr, N: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Offsets in a sample's map of a tile from position `first` on, and which of them exist."""
    index_c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    index_n = first + tl.arange(0, BLOCK_N)
    if LAST:
        offsets = index_n[None, :] * C + index_c[:, None]
    else:
        offsets = index_c[:, None] * N + index_n[None, :]
    return offsets, (index_c < C)[:, None] & (index_n < N)[None, :]


@triton.jit
def _side(mask, first, N: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether each position of a tile is inside; false where there is none."""
    index_n = first + tl.arange(0, BLOCK_N)
    return tl.load(mask + index_n, mask=index_n < N, other=0) != 0


@triton.jit
def forward_kernel(
    x,
    mask,  # uint8 [N]
    inside,  # out [B, C]
    outside,  # out [B, C]
    C: tl.constexpr, N: tl.constexpr,
    LAST: tl.constexpr,  # channels-last format
    BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    program = tl.program_id(0)
    block, sample = program % BLOCKS, (program // BLOCKS).to(tl.int64)
    x += sample * (C * N)
    sum_in = tl.zeros([BLOCK_C], tl.float32)
    sum_out = tl.zeros([BLOCK_C], tl.float32)
    count = tl.zeros([BLOCK_N], tl.int32)
    for first in range(0, N, BLOCK_N):
        offsets, exists = _tile(block, first, C, N, LAST, BLOCK_C, BLOCK_N)
        values = tl.load(x + offsets, mask=exists, other=0.0).to(tl.float32)
        side = _side(mask, first, N, BLOCK_N)
        # By a choice and not by a product, which would spread what is not finite.
        sum_in += tl.sum(tl.where(side[None, :], values, 0.0), axis=1)
        sum_out += tl.sum(tl.where(side[None, :], 0.0, values), axis=1)
        count += side.to(tl.int32)
    within = tl.sum(count, axis=0).to(tl.float32)
    index_c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    at = sample * C + index_c
    tl.store(inside + at, sum_in / within, mask=index_c < C)
    tl.store(outside + at, sum_out / (N - within), mask=index_c < C)


@triton.jit
def backward_kernel(
    grad_inside,  # [B, C]
    grad_outside,  # [B, C]
    mask,  # uint8 [N]
    dx,  # out, as x in forward_kernel
    C: tl.constexpr, N: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Writes one of two values per channel."""
    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    program = tl.program_id(0)
    block, sample = program % BLOCKS, (program // BLOCKS).to(tl.int64)
    dx += sample * (C * N)
    count = tl.zeros([BLOCK_N], tl.int32)
    for first in range(0, N, BLOCK_N):
        count += _side(mask, first, N, BLOCK_N).to(tl.int32)
    within = tl.sum(count, axis=0).to(tl.float32)
    index_c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    at = sample * C + index_c
    share_in = tl.load(grad_inside + at, mask=index_c < C, other=0.0) / within
    share_out = tl.load(grad_outside + at, mask=index_c < C, other=0.0) / (N - within)
    share_in = share_in.to(dx.dtype.element_ty)
    share_out = share_out.to(dx.dtype.element_ty)
    for first in range(0, N, BLOCK_N):
        offsets, exists = _tile(block, first, C, N, LAST, BLOCK_C, BLOCK_N)
        side = _side(mask, first, N, BLOCK_N)
        values = tl.where(side[None, :], share_in[:, None], share_out[:, None])
        tl.store(dx + offsets, values, mask=exists)


# --- Launchers -----------------------------------------------------------------------------------


def forward(x: Tensor, mask: Tensor, channels_last: bool, inside: Tensor, outside: Tensor) -> None:
    """Fill the means [B, C] from x [B, C, T, V] and the mask, bool [T, V]."""
    batch, channels, frames, joints = x.shape
    tile = tile_of(channels, frames * joints, channels_last)
    forward_kernel[(batch * triton.cdiv(channels, tile.block_c),)](
        x, mask.view(torch.uint8), inside, outside,
        channels, frames * joints, channels_last, *tile,
    )  # fmt: skip


def backward(
    grad_inside: Tensor, grad_outside: Tensor, mask: Tensor, channels_last: bool, dx: Tensor
) -> None:
    """Fill dx [B, C, T, V] from the gradients [B, C]."""
    batch, channels, frames, joints = dx.shape
    tile = tile_of(channels, frames * joints, channels_last)
    backward_kernel[(batch * triton.cdiv(channels, tile.block_c),)](
        grad_inside, grad_outside, mask.view(torch.uint8), dx,
        channels, frames * joints, channels_last, *tile,
    )  # fmt: skip

"""Energy-based attention-guided drop and pooling in Triton: one read of the map, one write of dx.

The forward pass takes three launches. `forward_kernel` reads the map once: each program holds some
channels of one sample in registers for mean, variance and attention, and leaves one bit per
element, and per joint the sums over time of the attention and of the kept values. The joint mask
couples a sample's channels (`joint_kernel`) and the rescaling the whole batch (`drop_kernel`);
both read those sums, never the map. `backward_kernel` reads the bits and writes dx.

Sums have a fixed order and counts are integers, so results do not vary from run to run.

Maps are [B, C, R, V], or [B, R, V, C] in channels-last format, where the R rows of a map are T
frames or, for the bits, octets of frames: frame t is bit t % 8 of octet t // 8. A tile is [octet,
8, plane]; its plane of channels and joints has the axis last that is contiguous in memory. A
thread then owns all frames of its part of the plane, so that sums and bits over time need no
exchange, and with the sizes known to the compiler, frames that only pad a tile cost nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# --- The plane: [BLOCK_C, BLOCK_V], or [BLOCK_V, BLOCK_C] in channels-last format ----------------


@triton.jit
def _channels(block, BLOCK_C: tl.constexpr, VECTOR: tl.constexpr):
    """Channels of a block, of which a thread takes at most VECTOR neighbours at once.

    All frames of each are held in registers, so the widest access is not the best one.
    """
    index_c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    return tl.max_contiguous(index_c, VECTOR if BLOCK_C > VECTOR else 1)


@triton.jit
def _plane(index_c, index_v, C: tl.constexpr, V: tl.constexpr, R: tl.constexpr, LAST: tl.constexpr):
    """Offsets of a plane of a map with R rows; `_row_stride` leads to the next row's."""
    if LAST:
        return index_v[:, None] * C + index_c[None, :]
    else:
        return index_c[:, None] * (R * V) + index_v[None, :]


@triton.jit
def _plane_valid(index_c, index_v, C: tl.constexpr, V: tl.constexpr, LAST: tl.constexpr):
    if LAST:
        return (index_v < V)[:, None] & (index_c < C)[None, :]
    else:
        return (index_c < C)[:, None] & (index_v < V)[None, :]


@triton.jit
def _per_channel(values, LAST: tl.constexpr):
    """[BLOCK_C] spread over a tile."""
    return tl.expand_dims(values, 0 if LAST else 1)[None, None]


@triton.jit
def _over_joints(plane, LAST: tl.constexpr):
    return tl.sum(plane, axis=0 if LAST else 1)


@triton.jit
def _over_channels(plane, LAST: tl.constexpr):
    return tl.sum(plane, axis=1 if LAST else 0)


@triton.jit
def _over_time(tile):
    return tl.sum(tl.sum(tile, axis=0), axis=0)


# --- Forward -------------------------------------------------------------------------------------


@triton.jit
def _load(x, first, plane_valid, STRIDE: tl.constexpr, T: tl.constexpr, BLOCK_O: tl.constexpr):
    """The tile of a plane of x from frame `first` on, and where it lies inside the map."""
    octet = tl.arange(0, BLOCK_O)[:, None, None, None]
    time = first + octet * 8 + tl.arange(0, 8)[None, :, None, None]
    valid = (time < T) & plane_valid[None, None]
    values = tl.load(x[None, None] + time * STRIDE, mask=valid, other=0.0)
    return values.to(tl.float32), valid


@triton.jit
def _squares(values, valid, mean, LAST: tl.constexpr):
    deviation = tl.where(valid, values - _per_channel(mean, LAST), 0.0)
    return _over_time(deviation * deviation)


@triton.jit
def _attend(values, valid, mean, slope, limit, bits, bits_valid, LAST: tl.constexpr):
    """Writes the bits of a tile; returns planes of sums: attention, kept values, their count."""
    deviation = values - _per_channel(mean, LAST)
    distance = deviation * deviation
    kept = valid & (distance < _per_channel(limit, LAST))
    octets = tl.sum(kept.to(tl.int32) << tl.arange(0, 8)[None, :, None, None], axis=1)
    tl.store(bits, octets.to(tl.uint8), mask=bits_valid)
    # sigmoid(slope * distance + 1/2), with the exponential in base 2.
    exponent = -1.4426950408889634 * (distance * _per_channel(slope, LAST) + 0.5)
    attention = tl.where(valid, 1.0 / (1.0 + tl.exp2(exponent)), 0.0)
    kept_values = tl.where(kept, values, 0.0)
    return _over_time(attention), _over_time(kept_values), _over_time(kept.to(tl.int32))


@triton.jit
def forward_kernel(
    x,
    pooled,  # out [B, C]
    bits,  # out uint8
    joint_sums,  # out, a map of one row: sums over time of the kept values
    attention_sums,  # out [B, blocks, V]: sums over time and the block's channels
    kept_counts,  # out int32 [B, blocks]
    e_lambda,
    logit_limit,  # attention < keep_prob is slope * distance < logit_limit
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    LAST: tl.constexpr,  # channels-last format
    ONE_TILE: tl.constexpr,  # all frames in one tile: the map is read once, else three times
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    OCTETS: tl.constexpr = (T + 7) // 8
    STRIDE: tl.constexpr = V * C if LAST else V  # from row to row
    program = tl.program_id(0)
    sample = (program // BLOCKS).to(tl.int64)
    index_c = _channels(program % BLOCKS, BLOCK_C, 2)
    index_v = tl.arange(0, BLOCK_V)
    plane_valid = _plane_valid(index_c, index_v, C, V, LAST)
    x += sample * (C * T * V) + _plane(index_c, index_v, C, V, T, LAST)
    bits += sample * (C * OCTETS * V) + _plane(index_c, index_v, C, V, OCTETS, LAST)
    octet = tl.arange(0, BLOCK_O)[:, None, None]

    if ONE_TILE:
        values, valid = _load(x, 0, plane_valid, STRIDE, T, BLOCK_O)
        mean = _over_joints(_over_time(values), LAST) / (T * V)
        squares = _squares(values, valid, mean, LAST)
    else:
        sums = tl.zeros(plane_valid.shape, tl.float32)
        for first in range(0, T, BLOCK_O * 8):
            values, valid = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            sums += _over_time(values)
        mean = _over_joints(sums, LAST) / (T * V)
        squares = tl.zeros(plane_valid.shape, tl.float32)
        for first in range(0, T, BLOCK_O * 8):
            values, valid = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            squares += _squares(values, valid, mean, LAST)
    # A single position has no variance; dividing by one keeps its attention at sigmoid(1/2).
    FREEDOM: tl.constexpr = T * V - 1 if T * V > 1 else 1
    width = 4.0 * (_over_joints(squares, LAST) / FREEDOM + e_lambda)
    slope = 1.0 / width
    limit = logit_limit * width
    tl.store(pooled + sample * C + index_c, mean, mask=index_c < C)

    if ONE_TILE:
        attention, kept_values, kept = _attend(
            values, valid, mean, slope, limit,
            bits[None] + octet * STRIDE, (octet < OCTETS) & plane_valid[None], LAST,
        )  # fmt: skip
    else:
        attention = tl.zeros(plane_valid.shape, tl.float32)
        kept_values = tl.zeros(plane_valid.shape, tl.float32)
        kept = tl.zeros(plane_valid.shape, tl.int32)
        for first in range(0, T, BLOCK_O * 8):
            values, valid = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            at = first // 8 + octet
            tile_attention, tile_values, tile_kept = _attend(
                values, valid, mean, slope, limit,
                bits[None] + at * STRIDE, (at < OCTETS) & plane_valid[None], LAST,
            )  # fmt: skip
            attention += tile_attention
            kept_values += tile_values
            kept += tile_kept

    joint_sums += sample * (C * V) + _plane(index_c, index_v, C, V, 1, LAST)
    tl.store(joint_sums, kept_values, mask=plane_valid)
    attention_sums += program.to(tl.int64) * V + index_v
    tl.store(attention_sums, _over_channels(attention, LAST), mask=index_v < V)
    tl.store(kept_counts + program, tl.sum(_over_channels(kept, LAST), axis=0))


@triton.jit(do_not_specialize=["batch"])
def joint_kernel(
    attention_sums,  # [B, blocks, V]
    kept_counts,  # [B, blocks]
    kept_joints,  # out uint8 [B, V]
    totals,  # out int64 [2, B]: kept joints, kept elements
    batch,
    keep_prob,
    BLOCKS: tl.constexpr,
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """The joint mask of one sample."""
    sample = tl.program_id(0).to(tl.int64)
    index_v = tl.arange(0, BLOCK_V)
    sums = tl.zeros([BLOCK_V], tl.float32)
    count = tl.zeros([BLOCK], tl.int64)
    for first in range(0, BLOCKS, BLOCK):
        block = first + tl.arange(0, BLOCK)
        row = sample * BLOCKS + block
        valid = (block < BLOCKS)[:, None] & (index_v < V)[None, :]
        part = tl.load(attention_sums + row[:, None] * V + index_v[None, :], mask=valid, other=0.0)
        sums += tl.sum(part, axis=0)
        count += tl.load(kept_counts + row, mask=block < BLOCKS, other=0)
    kept = (sums / (C * T) < keep_prob) & (index_v < V)
    tl.store(kept_joints + sample * V + index_v, kept.to(tl.uint8), mask=index_v < V)
    tl.store(totals + sample, tl.sum(kept.to(tl.int64), axis=0))
    tl.store(totals + batch + sample, tl.sum(count, axis=0))


@triton.jit(do_not_specialize=["batch"])
def drop_kernel(
    joint_sums,
    kept_joints,  # [B, V]
    totals,  # [2, B]
    pooled,  # [B, C]
    pooled_drop,  # out [B, C]
    scale,  # out [1]
    batch,
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Sums over the kept joints of one sample, times both rescalings of the batch."""
    joint_count = tl.zeros([BLOCK_B], tl.int64)
    element_count = tl.zeros([BLOCK_B], tl.int64)
    for first in range(0, batch, BLOCK_B):
        index_b = first + tl.arange(0, BLOCK_B)
        joint_count += tl.load(totals + index_b, mask=index_b < batch, other=0)
        element_count += tl.load(totals + batch + index_b, mask=index_b < batch, other=0)
    # All over kept, each as counts per sample, so that no product exceeds what float32 holds well.
    samples = batch.to(tl.float32)
    kept_joint_count = tl.maximum(tl.sum(joint_count, axis=0), 1).to(tl.float32)
    kept_element_count = tl.maximum(tl.sum(element_count, axis=0), 1).to(tl.float32)
    factor = (samples * V / kept_joint_count) * (samples * (C * T * V) / kept_element_count)

    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    program = tl.program_id(0)
    sample = (program // BLOCKS).to(tl.int64)
    if program == 0:
        tl.store(scale, factor)
    index_c = (program % BLOCKS) * BLOCK_C + tl.arange(0, BLOCK_C)
    index_v = tl.arange(0, BLOCK_V)
    plane_valid = _plane_valid(index_c, index_v, C, V, LAST)
    plane = sample * (C * V) + _plane(index_c, index_v, C, V, 1, LAST)
    sums = tl.load(joint_sums + plane, mask=plane_valid, other=0.0)
    kept = tl.load(kept_joints + sample * V + index_v, mask=index_v < V, other=0)
    kept_sums = tl.where(tl.expand_dims(kept, 1 if LAST else 0) != 0, sums, 0.0)
    at = sample * C + index_c
    plain = tl.load(pooled + at, mask=index_c < C)
    # The difference is 0, or NaN where the map holds one: dropping must not hide it.
    dropped = _over_joints(kept_sums, LAST) / (T * V) * factor + (plain - plain)
    tl.store(pooled_drop + at, dropped, mask=index_c < C)


# --- Backward ------------------------------------------------------------------------------------


@triton.jit
def backward_kernel(
    grad_pooled,  # [B, C]
    grad_drop,  # [B, C]
    bits,
    kept_joints,  # [B, V]
    scale,  # [1]
    dx,  # out, as x in forward_kernel
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """dx = (grad_pooled + grad_drop * mask * scale) / (T * V): two values per channel."""
    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    OCTETS: tl.constexpr = (T + 7) // 8
    TILES: tl.constexpr = (OCTETS + BLOCK_O - 1) // BLOCK_O
    STRIDE: tl.constexpr = V * C if LAST else V
    program = tl.program_id(0)
    first = (program % TILES) * BLOCK_O
    sample = (program // (TILES * BLOCKS)).to(tl.int64)
    index_c = _channels(program // TILES % BLOCKS, BLOCK_C, 4)
    index_v = tl.arange(0, BLOCK_V)
    plane_valid = _plane_valid(index_c, index_v, C, V, LAST)
    dx += sample * (C * T * V) + _plane(index_c, index_v, C, V, T, LAST)
    bits += sample * (C * OCTETS * V) + _plane(index_c, index_v, C, V, OCTETS, LAST)

    at = sample * C + index_c
    plain = tl.load(grad_pooled + at, mask=index_c < C, other=0.0)
    extra = tl.load(grad_drop + at, mask=index_c < C, other=0.0) * tl.load(scale)
    where_dropped = _per_channel((plain / (T * V)).to(dx.dtype.element_ty), LAST)
    where_kept = _per_channel(((plain + extra) / (T * V)).to(dx.dtype.element_ty), LAST)

    kept_joint = tl.load(kept_joints + sample * V + index_v, mask=index_v < V, other=0)
    octet = first + tl.arange(0, BLOCK_O)[:, None, None]
    octet_valid = (octet < OCTETS) & plane_valid[None]
    byte = tl.load(bits[None] + octet * STRIDE, mask=octet_valid, other=0).to(tl.int32)
    byte = tl.where(tl.expand_dims(kept_joint, 1 if LAST else 0)[None] != 0, byte, 0)
    place = tl.arange(0, 8)[None, :, None, None]
    kept = byte[:, None] & (1 << place)
    time = octet[:, None] * 8 + place
    valid = (time < T) & plane_valid[None, None]
    values = tl.where(kept != 0, where_kept, where_dropped)
    tl.store(dx[None, None] + time * STRIDE, values, mask=valid)


# --- Launchers -----------------------------------------------------------------------------------

INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)
"""Whether the kernels run in Triton's interpreter: TRITON_INTERPRET=1 was set at import."""

MAX_PER_THREAD = 32  # values of a tile: a third of the registers, so that none is spilled


class Tile(NamedTuple):
    """How a map is cut; see the kernels' parameters of the same names."""

    one_tile: bool
    block_c: int
    block_o: int
    block_v: int
    warps: int


def _tile(sizes: tuple[int, int, int], block_c: int, warps: int, octets: int) -> Tile:
    """A tile of a map of C, T, V near the wanted one, but within MAX_PER_THREAD."""
    channels, frames, joints = sizes
    block_c = min(block_c, triton.next_power_of_2(channels))
    block_o = min(octets, triton.next_power_of_2(triton.cdiv(frames, 8)))
    block_v = triton.next_power_of_2(joints)

    def too_large() -> bool:
        return block_c * block_o * 8 * block_v > MAX_PER_THREAD * 32 * warps

    while too_large() and block_c > 8:
        block_c //= 2
    while too_large() and warps < 8:
        warps *= 2
    while too_large() and block_c > 1:
        block_c //= 2
    while too_large() and warps < 16:
        warps *= 2
    while too_large() and block_o > 1:
        block_o //= 2
    one_tile = block_o * 8 >= frames
    if not one_tile:  # what is summed from tile to tile needs registers, too
        block_o = max(1, block_o // 2)
    return Tile(one_tile, block_c, block_o, block_v, warps)


def forward_tile(sizes: tuple[int, int, int], channels_last: bool) -> Tile:
    """The forward pass's tile of a map of C, T, V: all frames, if they fit in registers.

    A warp reads the joints of one channel or, channels-last, 64 bytes or more of four joints.
    """
    block_c, warps = (16, 8) if channels_last else (4, 4)
    return _tile(sizes, block_c, warps, sizes[1])


def backward_tile(sizes: tuple[int, int, int], channels_last: bool) -> Tile:
    """The backward pass's tile: a few octets of frames, since it writes each value on its own."""
    block_c, warps, octets = (32, 8, 1) if channels_last else (4, 4, 2)
    return _tile(sizes, block_c, warps, octets)


def check_size(x: Tensor) -> None:
    """Offsets inside a sample are 32-bit."""
    if x[0].numel() >= 2**31:
        raise ValueError(f"x must have fewer than 2^31 values per sample, got {list(x.shape)}")


def forward(
    x: Tensor,
    channels_last: bool,
    keep_prob: float,
    e_lambda: float,
    pooled: Tensor,
    pooled_drop: Tensor,
    bits: Tensor,
    kept_joints: Tensor,
    scale: Tensor,
) -> None:
    """Fill the outputs (shapes at `forward_kernel` and `drop_kernel`) from x [B, C, T, V]."""
    batch, channels, frames, joints = x.shape
    check_size(x)
    tile = forward_tile((channels, frames, joints), channels_last)
    blocks = triton.cdiv(channels, tile.block_c)
    # sigmoid(y) < keep_prob is y < logit; with keep_prob 1 the limit is infinite: all is kept.
    logit = math.log(keep_prob / (1.0 - keep_prob)) if keep_prob < 1.0 else math.inf
    joint_sums = pooled.new_empty(batch, channels, joints)
    attention_sums = pooled.new_empty(batch, blocks, joints)
    kept_counts = pooled.new_empty(batch, blocks, dtype=torch.int32)
    totals = pooled.new_empty(2, batch, dtype=torch.int64)
    forward_kernel[(batch * blocks,)](
        x, pooled, bits, joint_sums, attention_sums, kept_counts, e_lambda, logit - 0.5,
        channels, frames, joints, channels_last, tile.one_tile,
        tile.block_c, tile.block_o, tile.block_v, num_warps=tile.warps,
    )  # fmt: skip
    joint_kernel[(batch,)](
        attention_sums, kept_counts, kept_joints, totals, batch, keep_prob,
        blocks, channels, frames, joints, BLOCK=32, BLOCK_V=tile.block_v,
    )  # fmt: skip
    block_c = min(32, triton.next_power_of_2(channels))
    drop_kernel[(batch * triton.cdiv(channels, block_c),)](
        joint_sums, kept_joints, totals, pooled, pooled_drop, scale, batch,
        channels, frames, joints, channels_last,
        BLOCK_B=256, BLOCK_C=block_c, BLOCK_V=tile.block_v,
    )  # fmt: skip


def backward(
    grad_pooled: Tensor,
    grad_drop: Tensor,
    bits: Tensor,
    kept_joints: Tensor,
    scale: Tensor,
    channels_last: bool,
    dx: Tensor,
) -> None:
    """Fill dx [B, C, T, V] from the gradients [B, C] and what `forward` left."""
    batch, channels, frames, joints = dx.shape
    tile = backward_tile((channels, frames, joints), channels_last)
    programs = (
        batch * triton.cdiv(channels, tile.block_c) * triton.cdiv(frames, 8 * tile.block_o)
    )
    backward_kernel[(programs,)](
        grad_pooled, grad_drop, bits, kept_joints, scale, dx,
        channels, frames, joints, channels_last,
        tile.block_c, tile.block_o, tile.block_v, num_warps=tile.warps,
    )  # fmt: skip

"""Energy-based attention-guided drop and pooling in Triton: one read of the map, one write of dx.

The forward pass takes two launches. `forward_kernel` reads the map once: each program goes through
a part of a sample's channels, a block at a time, which it holds in registers for mean, variance and
attention. It leaves one bit per element, and per joint the sums over time of the attention and of
the kept values. The joint mask couples a sample's channels and the rescaling the whole batch:
`drop_kernel` reads those sums, never the map. `backward_kernel` reads the bits and writes dx.

Sums have a fixed order and counts are integers, so results do not vary from run to run.

Maps are [B, C, R, V], or [B, R, V, C] in channels-last format, where the R rows of a map are T
frames or, for the bits, octets of frames: frame t is bit t % 8 of octet t // 8. A tile is [octet,
8, plane]: the plane is the block's channels and joints, flat and in the order of memory. There are
as many threads as the plane has items (or a fraction), so that each owns all frames of its items:
sums and bits over time need no exchange, and with the sizes known to the compiler, frames that only
pad a tile cost nothing.
"""

# Triton's decorator has no types, and kernel arguments are its own.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import eadm_pool_tiles as tiles

# --- The plane -----------------------------------------------------------------------------------


@triton.jit
def _indices(block, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr, LAST: tl.constexpr):
    """Channel and joint of each item of a plane."""
    item = tl.arange(0, BLOCK_C * BLOCK_V)
    if LAST:
        index_c, index_v = item % BLOCK_C, item // BLOCK_C
    else:
        index_c, index_v = item // BLOCK_V, item % BLOCK_V
    return block * BLOCK_C + index_c, index_v


@triton.jit
def _offsets(
    index_c, index_v, C: tl.constexpr, V: tl.constexpr, R: tl.constexpr,
    LAST: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Offsets of the first row's plane in a map of R rows.

    A thread takes at most VECTOR items side by side. It holds all frames of each in registers, so
    the widest access is not the best one.
    """
    if LAST:
        offsets = tl.max_contiguous(index_v * C + index_c, VECTOR)
    else:
        offsets = index_c * (R * V) + index_v
    return offsets


@triton.jit
def _over_joints(plane, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr, LAST: tl.constexpr):
    """Sum per channel, spread over the plane."""
    if LAST:
        sums = tl.sum(tl.reshape(plane, (BLOCK_V, BLOCK_C)), axis=0)[None, :]
        spread = tl.broadcast_to(sums, (BLOCK_V, BLOCK_C))
    else:
        sums = tl.sum(tl.reshape(plane, (BLOCK_C, BLOCK_V)), axis=1)[:, None]
        spread = tl.broadcast_to(sums, (BLOCK_C, BLOCK_V))
    return tl.reshape(spread, (BLOCK_C * BLOCK_V,))


@triton.jit
def _over_channels(plane, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr, LAST: tl.constexpr):
    """Sum per joint: [BLOCK_V]."""
    if LAST:
        sums = tl.sum(tl.reshape(plane, (BLOCK_V, BLOCK_C)), axis=1)
    else:
        sums = tl.sum(tl.reshape(plane, (BLOCK_C, BLOCK_V)), axis=0)
    return sums


@triton.jit
def _over_time(tile):
    return tl.sum(tl.sum(tile, axis=0), axis=0)


# --- Forward -------------------------------------------------------------------------------------


@triton.jit
def _load(x, first, plane_valid, STRIDE: tl.constexpr, T: tl.constexpr, BLOCK_O: tl.constexpr):
    """The tile of a plane of x from frame `first` on, 0 outside the map, and which frames exist.

    What is computed from it is summed over existing frames; joints and channels that only pad the
    plane are left out after that, at a lower cost.
    """
    octet = tl.arange(0, BLOCK_O)[:, None, None]
    time = first + octet * 8 + tl.arange(0, 8)[None, :, None]
    exists = time < T
    values = tl.load(
        x[None, None] + time * STRIDE, mask=exists & plane_valid[None, None], other=0.0
    )
    return values.to(tl.float32), exists


@triton.jit
def _squares(values, exists, mean):
    deviation = values - mean[None, None]
    return _over_time(tl.where(exists, deviation * deviation, 0.0))


@triton.jit
def _attend(values, exists, mean, slope, limit, bits, bits_valid):
    """Writes the bits of a tile; returns sums over time: attention, kept values, their count.

    What is kept is 1 or 0 as a float: sums of products need fewer instructions than choices.
    """
    deviation = values - mean[None, None]
    distance = deviation * deviation
    kept = tl.where(exists & (distance < limit[None, None]), 1.0, 0.0)
    # A bit for each frame and, above these, how many are set: past 2^23, a float's last bits.
    weights = (256 + (1 << tl.arange(0, 8))).to(tl.float32)[None, :, None]
    octets = (tl.sum(kept * weights, axis=1) + 8388608.0).to(tl.int32, bitcast=True)
    tl.store(bits, octets.to(tl.uint8), mask=bits_valid)
    # sigmoid(slope * distance + 1/2) = 1 / (1 + 2^exponent); the square of the reciprocal root is
    # a single instruction and a product, the reciprocal four more.
    log2_e: tl.constexpr = 1.4426950408889634
    exponent = distance * (slope * -log2_e)[None, None] - 0.5 * log2_e
    root = tl.rsqrt(1.0 + tl.exp2(exponent))
    attention = _over_time(tl.where(exists, root * root, 0.0))
    kept_values = _over_time(kept * values)
    return attention, kept_values, tl.sum(octets >> 8 & 0xF, axis=0)


@triton.jit
def _channels(
    x, pooled, bits, joint_sums, index_c, index_v, e_lambda, logit_limit,
    C: tl.constexpr, T: tl.constexpr, V: tl.constexpr, LAST: tl.constexpr, ONE_TILE: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Some channels of a sample, which the pointers are at; arguments as of `forward_kernel`.

    Returns sums over time of each item of the plane: the attention, and how many values are kept.
    """
    OCTETS: tl.constexpr = (T + 7) // 8
    STRIDE: tl.constexpr = V * C if LAST else V  # from row to row
    octet = tl.arange(0, BLOCK_O)[:, None]
    plane_valid = (index_c < C) & (index_v < V)
    x += _offsets(index_c, index_v, C, V, T, LAST, 2)
    bits += _offsets(index_c, index_v, C, V, OCTETS, LAST, 2)
    joint_sums += _offsets(index_c, index_v, C, V, 1, LAST, 2)

    if ONE_TILE:
        values, exists = _load(x, 0, plane_valid, STRIDE, T, BLOCK_O)
        mean = _over_joints(_over_time(values), BLOCK_C, BLOCK_V, LAST) / (T * V)
        squares = _squares(values, exists, mean)
    else:
        sums = tl.zeros([BLOCK_C * BLOCK_V], tl.float32)
        for first in range(0, T, BLOCK_O * 8):
            values, exists = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            sums += _over_time(values)
        mean = _over_joints(sums, BLOCK_C, BLOCK_V, LAST) / (T * V)
        squares = tl.zeros([BLOCK_C * BLOCK_V], tl.float32)
        for first in range(0, T, BLOCK_O * 8):
            values, exists = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            squares += _squares(values, exists, mean)
    squares = tl.where(plane_valid, squares, 0.0)
    # A single position has no variance; dividing by one keeps its attention at sigmoid(1/2).
    FREEDOM: tl.constexpr = T * V - 1 if T * V > 1 else 1
    tl.store(pooled + index_c, mean, mask=plane_valid & (index_v == 0))
    variance = _over_joints(squares, BLOCK_C, BLOCK_V, LAST) / FREEDOM
    width = 4.0 * (variance + e_lambda)
    root = tl.rsqrt(width)
    slope = root * root
    limit = logit_limit * width

    if ONE_TILE:
        attention, kept_values, kept = _attend(
            values, exists, mean, slope, limit,
            bits[None] + octet * STRIDE, (octet < OCTETS) & plane_valid[None],
        )  # fmt: skip
    else:
        attention = tl.zeros([BLOCK_C * BLOCK_V], tl.float32)
        kept_values = tl.zeros([BLOCK_C * BLOCK_V], tl.float32)
        kept = tl.zeros([BLOCK_C * BLOCK_V], tl.int32)
        for first in range(0, T, BLOCK_O * 8):
            values, exists = _load(x, first, plane_valid, STRIDE, T, BLOCK_O)
            at = first // 8 + octet
            tile_attention, tile_values, tile_kept = _attend(
                values, exists, mean, slope, limit,
                bits[None] + at * STRIDE, (at < OCTETS) & plane_valid[None],
            )  # fmt: skip
            attention += tile_attention
            kept_values += tile_values
            kept += tile_kept
    tl.store(joint_sums, kept_values, mask=plane_valid)
    return tl.where(plane_valid, attention, 0.0), tl.where(plane_valid, kept, 0)


@triton.jit
def forward_kernel(
    x,
    pooled,  # out [B, C]
    bits,  # out uint8
    joint_sums,  # out, a map of one row: sums over time of the kept values
    attention_sums,  # out [PROGRAMS, B, V]: sums over time and the program's channels
    kept_counts,  # out int32 [B, PROGRAMS]
    e_lambda,
    logit_limit,  # attention < keep_prob is slope * distance < logit_limit
    C: tl.constexpr, T: tl.constexpr, V: tl.constexpr,
    LAST: tl.constexpr,  # channels-last format
    ONE_TILE: tl.constexpr,  # all frames in one tile: the map is read once, else three times
    PROGRAMS: tl.constexpr,  # of a sample
    BLOCKS: tl.constexpr,  # of channels, of each program
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    OCTETS: tl.constexpr = (T + 7) // 8
    program = tl.program_id(0)
    sample, part = (program // PROGRAMS).to(tl.int64), program % PROGRAMS
    x += sample * (C * T * V)
    pooled += sample * C
    bits += sample * (C * OCTETS * V)
    joint_sums += sample * (C * V)
    attention = tl.zeros([BLOCK_C * BLOCK_V], tl.float32)
    kept = tl.zeros([BLOCK_C * BLOCK_V], tl.int32)
    for block in range(BLOCKS):
        index_c, index_v = _indices(part * BLOCKS + block, BLOCK_C, BLOCK_V, LAST)
        block_attention, block_kept = _channels(
            x, pooled, bits, joint_sums, index_c, index_v, e_lambda, logit_limit,
            C, T, V, LAST, ONE_TILE, BLOCK_C, BLOCK_O, BLOCK_V,
        )  # fmt: skip
        attention += block_attention
        kept += block_kept
    joint = tl.arange(0, BLOCK_V)
    samples = tl.num_programs(0) // PROGRAMS
    attention_sums += (part * samples + sample) * V + joint
    by_joint = _over_channels(attention, BLOCK_C, BLOCK_V, LAST)
    tl.store(attention_sums, by_joint, mask=joint < V)
    tl.store(kept_counts + program, tl.sum(kept, axis=0))


@triton.jit
def _is_kept(
    attention_sums, at, valid, joints, keep_prob,
    PROGRAMS: tl.constexpr, C: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """Whether joints of the batch, `joints` in all, are kept: the same for whoever asks."""
    sums = tl.load(attention_sums + at, mask=valid, other=0.0)
    for _ in tl.static_range(1, PROGRAMS):
        attention_sums += joints
        sums += tl.load(attention_sums + at, mask=valid, other=0.0)
    return (sums / (C * T) < keep_prob) & valid


@triton.jit(do_not_specialize=["batch"])
def drop_kernel(
    joint_sums,
    attention_sums,  # [PROGRAMS, B, V]
    kept_counts,  # [B, PROGRAMS]
    pooled,  # [B, C]
    pooled_drop,  # out [B, C]
    kept_joints,  # out uint8 [B, V]
    scale,  # out [1]
    batch,
    keep_prob,
    C: tl.constexpr, T: tl.constexpr, V: tl.constexpr, LAST: tl.constexpr,
    PROGRAMS: tl.constexpr,  # of a sample in forward_kernel; at most V
    BLOCK: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The joint mask of one sample and its sums over kept joints, times both rescalings.

    These depend on the whole batch, which each program counts anew: less work than one more launch.
    """
    joints = batch * V
    joint_count = tl.zeros([BLOCK], tl.int32)
    element_count = tl.zeros([BLOCK], tl.int64)
    for first in range(0, joints, BLOCK):
        at = first + tl.arange(0, BLOCK)
        kept = _is_kept(attention_sums, at, at < joints, joints, keep_prob, PROGRAMS, C, T)
        joint_count += kept.to(tl.int32)
        element_count += tl.load(kept_counts + at, mask=at < batch * PROGRAMS, other=0)
    # All over kept, each as counts per sample, so that no product exceeds what float32 holds well.
    samples = batch.to(tl.float32)
    kept_joint_count = tl.maximum(tl.sum(joint_count, axis=0), 1).to(tl.float32)
    kept_element_count = tl.maximum(tl.sum(element_count, axis=0), 1).to(tl.float32)
    factor = (samples * V / kept_joint_count) * (samples * (C * T * V) / kept_element_count)
    sample = tl.program_id(0).to(tl.int64)
    if sample == 0:
        tl.store(scale, factor)

    joint = tl.arange(0, BLOCK_V)
    of_sample = sample * V + joint
    kept = _is_kept(attention_sums, of_sample, joint < V, joints, keep_prob, PROGRAMS, C, T)
    tl.store(kept_joints + of_sample, kept.to(tl.uint8), mask=joint < V)
    joint_sums += sample * (C * V)
    for block in range((C + BLOCK_C - 1) // BLOCK_C):
        index_c, index_v = _indices(block, BLOCK_C, BLOCK_V, LAST)
        valid = (index_c < C) & (index_v < V)
        offsets = _offsets(index_c, index_v, C, V, 1, LAST, 1)
        sums = tl.load(joint_sums + offsets, mask=valid, other=0.0)
        if LAST:
            sums = tl.reshape(sums, (BLOCK_V, BLOCK_C))
            kept_sums = tl.sum(tl.where(kept[:, None], sums, 0.0), axis=0)
        else:
            sums = tl.reshape(sums, (BLOCK_C, BLOCK_V))
            kept_sums = tl.sum(tl.where(kept[None, :], sums, 0.0), axis=1)
        channel = block * BLOCK_C + tl.arange(0, BLOCK_C)
        of_channel = sample * C + channel
        plain = tl.load(pooled + of_channel, mask=channel < C, other=0.0)
        # The difference is 0, or NaN where the map holds one: dropping must not hide it.
        dropped = kept_sums / (T * V) * factor + (plain - plain)
        tl.store(pooled_drop + of_channel, dropped, mask=channel < C)


# --- Backward ------------------------------------------------------------------------------------


@triton.jit
def backward_kernel(
    grad_pooled,  # [B, C]
    grad_drop,  # [B, C]
    bits,
    kept_joints,  # [B, V]
    scale,  # [1]
    dx,  # out, as x in forward_kernel
    C: tl.constexpr, T: tl.constexpr, V: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Writes (grad_pooled + grad_drop * mask * scale) / (T * V): two values per channel."""
    BLOCKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    OCTETS: tl.constexpr = (T + 7) // 8
    TILES: tl.constexpr = (OCTETS + BLOCK_O - 1) // BLOCK_O
    STRIDE: tl.constexpr = V * C if LAST else V
    program = tl.program_id(0)
    first = (program % TILES) * BLOCK_O
    sample = (program // (TILES * BLOCKS)).to(tl.int64)
    index_c, index_v = _indices(program // TILES % BLOCKS, BLOCK_C, BLOCK_V, LAST)
    plane_valid = (index_c < C) & (index_v < V)
    dx += sample * (C * T * V) + _offsets(index_c, index_v, C, V, T, LAST, 4)
    bits += sample * (C * OCTETS * V) + _offsets(index_c, index_v, C, V, OCTETS, LAST, 4)

    at = sample * C + index_c
    plain = tl.load(grad_pooled + at, mask=plane_valid, other=0.0)
    extra = tl.load(grad_drop + at, mask=plane_valid, other=0.0) * tl.load(scale)
    where_dropped = (plain / (T * V)).to(dx.dtype.element_ty)[None, None]
    where_kept = ((plain + extra) / (T * V)).to(dx.dtype.element_ty)[None, None]

    octet = first + tl.arange(0, BLOCK_O)[:, None]
    byte = tl.load(bits[None] + octet * STRIDE, mask=(octet < OCTETS) & plane_valid[None], other=0)
    kept_joint = tl.load(kept_joints + sample * V + index_v, mask=plane_valid, other=0)
    byte = tl.where(kept_joint[None] != 0, byte.to(tl.int32), 0)
    bit = tl.arange(0, 8)[None, :, None]
    values = tl.where((byte[:, None] >> bit) & 1 != 0, where_kept, where_dropped)
    time = octet[:, None] * 8 + bit
    tl.store(dx[None, None] + time * STRIDE, values, mask=(time < T) & plane_valid[None, None])


# --- Launchers -----------------------------------------------------------------------------------


def check_size(x: Tensor) -> None:
    """Offsets inside a sample are 32-bit, and so are those of the joints of a batch."""
    if x[0].numel() >= 2**31:
        raise ValueError(f"x must have fewer than 2^31 values per sample, got {list(x.shape)}")
    if x.shape[0] * x.shape[3] >= 2**30:
        raise ValueError(f"x must have fewer than 2^30 joints in all, got {list(x.shape)}")


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
    tile = tiles.forward_tile((channels, frames, joints), channels_last)
    most = tiles.programs_of(batch, joints)
    blocks = triton.cdiv(triton.cdiv(channels, tile.block_c), most)
    programs = triton.cdiv(channels, blocks * tile.block_c)
    # sigmoid(y) < keep_prob is y < logit; with keep_prob 1 the limit is infinite: all is kept.
    logit = math.log(keep_prob / (1.0 - keep_prob)) if keep_prob < 1.0 else math.inf
    # The reciprocal root takes what is smaller for 0.
    e_lambda = max(e_lambda, torch.finfo(torch.float32).tiny)
    joint_sums = pooled.new_empty(batch, channels, joints)
    attention_sums = pooled.new_empty(programs, batch, joints)
    kept_counts = pooled.new_empty(batch, programs, dtype=torch.int32)
    forward_kernel[(batch * programs,)](
        x, pooled, bits, joint_sums, attention_sums, kept_counts, e_lambda, logit - 0.5,
        channels, frames, joints, channels_last, tile.one_tile, programs, blocks,
        tile.block_c, tile.block_o, tile.block_v, num_warps=tile.warps,
        # With more than one tile the assembler would spill some to fit one more program.
        maxnreg=None if tile.one_tile else tiles.MAX_REGISTERS,
    )  # fmt: skip
    drop_kernel[(batch,)](
        joint_sums, attention_sums, kept_counts, pooled, pooled_drop, kept_joints, scale,
        batch, keep_prob, channels, frames, joints, channels_last, programs,
        tiles.COUNTED, tiles.drop_channels(channels, tile.block_v, channels_last), tile.block_v,
        num_warps=tiles.DROP_WARPS,
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
    """Fill dx [B, C, T, V] from the gradients [B, C] and what `forward` saved."""
    batch, channels, frames, joints = dx.shape
    tile = tiles.backward_tile((channels, frames, joints), channels_last)
    programs = batch * triton.cdiv(channels, tile.block_c) * triton.cdiv(frames, 8 * tile.block_o)
    backward_kernel[(programs,)](
        grad_pooled, grad_drop, bits, kept_joints, scale, dx,
        channels, frames, joints, channels_last,
        tile.block_c, tile.block_o, tile.block_v, num_warps=tile.warps,
    )  # fmt: skip

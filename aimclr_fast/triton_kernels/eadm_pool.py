"""Energy-based attention-guided drop and pooling in Triton: one read of the map, one write of dx.

The forward pass takes three launches. `forward_kernel` reads the map once: each program holds some
channels of one sample in registers for mean, variance and attention, and leaves one bit per
element, and per joint the sums over time of the attention and of the kept values. The joint mask
couples a sample's channels (`joint_kernel`) and the rescaling the whole batch (`drop_kernel`);
both read those sums, never the map. `backward_kernel` reads the bits and writes dx.

Sums have a fixed order and counts are integers, so results do not vary from run to run.

Tiles are [octet, 8, ...]: frames in octets, one bit each of a byte, then the plane of channels and
joints with the axis that lies contiguous in memory last. A thread then owns all frames of what it
holds of the plane, so that sums and bits over time need no exchange between threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

@triton.jit
def _plane(index_c, index_v, stride_c, stride_v, CHANNELS_LAST: tl.constexpr):
    """Offsets of the plane: [C, V], or [V, C] in channels-last format."""
    if CHANNELS_LAST:
        return index_v[:, None] * stride_v + index_c[None, :] * stride_c
    else:
        return index_c[:, None] * stride_c + index_v[None, :] * stride_v


@triton.jit
def _valid_plane(index_c, index_v, channels, joints, CHANNELS_LAST: tl.constexpr):
    if CHANNELS_LAST:
        return (index_v < joints)[:, None] & (index_c < channels)[None, :]
    else:
        return (index_c < channels)[:, None] & (index_v < joints)[None, :]


@triton.jit
def _frames(first, frames, BLOCK_O: tl.constexpr):
    """Times of a tile [octet, 8, 1, 1], and whether they exist."""
    octet = tl.arange(0, BLOCK_O)[:, None, None, None] * 8
    time = first + octet + tl.arange(0, 8)[None, :, None, None]
    return time, time < frames


@triton.jit
def _over_time(tile):
    return tl.sum(tl.sum(tile, axis=0), axis=0)


@triton.jit
def _deviations(values, valid, mean, V_AXIS: tl.constexpr):
    """Distance from the mean, 0 outside the map."""
    return tl.where(valid, values - tl.expand_dims(mean, V_AXIS)[None, None], 0.0)


@triton.jit
def _attend(values, valid, mean, slope, limit, bits, bits_valid, V_AXIS: tl.constexpr):
    """Writes the bits of a tile; returns sums over its time: attention, kept values, their count."""
    deviation = _deviations(values, valid, mean, V_AXIS)
    distance = deviation * deviation
    kept = valid & (distance < tl.expand_dims(limit, V_AXIS)[None, None])
    # sigmoid(slope * distance + 1/2), with the exponential in base 2.
    power = tl.exp2(-1.4426950408889634 * (distance * tl.expand_dims(slope, V_AXIS)[None, None] + 0.5))
    attention = tl.where(valid, 1.0 / (1.0 + power), 0.0)
    places = tl.arange(0, 8)[None, :, None, None]
    octets = tl.sum(kept.to(tl.int32) << places, axis=1)
    tl.store(bits, octets.to(tl.uint8), mask=bits_valid)
    kept_values = tl.where(kept, values, 0.0)
    return _over_time(attention), _over_time(kept_values), _over_time(kept.to(tl.int32))


@triton.jit(do_not_specialize=["frames", "joints"])
def forward_kernel(
    x,  # [B, C, T, V] or, channels-last, [B, T, V, C]
    pooled,  # out [B, C]
    bits,  # out uint8, [B, C, octets, V] or [B, octets, V, C]
    joint_sums,  # out [B, C, V] or [B, V, C]: sums over time of the kept values
    attention_sums,  # out [B, blocks, V]: sums over time and the block's channels
    kept_counts,  # out int32 [B, blocks]
    channels,
    frames,
    joints,
    e_lambda,
    logit_limit,
    CHANNELS_LAST: tl.constexpr,
    ONE_TILE: tl.constexpr,  # all frames in one tile: the map is read once
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    V_AXIS: tl.constexpr = 0 if CHANNELS_LAST else 1
    blocks = tl.cdiv(channels, BLOCK_C)
    program = tl.program_id(0)
    sample = (program // blocks).to(tl.int64)
    octets = tl.cdiv(frames, 8)
    elements = frames * joints
    index_c = (program % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    index_v = tl.arange(0, BLOCK_V)
    plane_valid = _valid_plane(index_c, index_v, channels, joints, CHANNELS_LAST)
    x += sample * channels * elements
    bits += sample * channels * octets * joints
    if CHANNELS_LAST:
        frame_stride = joints * channels
        x_plane = x + _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
        bits_plane = bits + _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
    else:
        frame_stride = joints
        x_plane = x + _plane(index_c, index_v, elements, 1, CHANNELS_LAST)
        bits_plane = bits + _plane(index_c, index_v, octets * joints, 1, CHANNELS_LAST)
    octet = tl.arange(0, BLOCK_O)[:, None, None]

    # Statistics. A single position has no variance; dividing by one keeps its attention at 0.62.
    if ONE_TILE:
        time, exists = _frames(0, frames, BLOCK_O)
        valid = exists & plane_valid[None, None]
        values = tl.load(x_plane[None, None] + time * frame_stride, mask=valid, other=0.0)
        values = values.to(tl.float32)
        mean = tl.sum(_over_time(values), axis=V_AXIS) / elements
        deviation = _deviations(values, valid, mean, V_AXIS)
        squares = tl.sum(_over_time(deviation * deviation), axis=V_AXIS)
    else:
        sums = tl.zeros(plane_valid.shape, tl.float32)
        for first in range(0, frames, BLOCK_O * 8):
            time, exists = _frames(first, frames, BLOCK_O)
            valid = exists & plane_valid[None, None]
            values = tl.load(x_plane[None, None] + time * frame_stride, mask=valid, other=0.0)
            sums += _over_time(values.to(tl.float32))
        mean = tl.sum(sums, axis=V_AXIS) / elements
        sums = tl.zeros(plane_valid.shape, tl.float32)
        for first in range(0, frames, BLOCK_O * 8):
            time, exists = _frames(first, frames, BLOCK_O)
            valid = exists & plane_valid[None, None]
            values = tl.load(x_plane[None, None] + time * frame_stride, mask=valid, other=0.0)
            deviation = _deviations(values.to(tl.float32), valid, mean, V_AXIS)
            sums += _over_time(deviation * deviation)
        squares = tl.sum(sums, axis=V_AXIS)
    width = 4.0 * (squares / tl.maximum(elements - 1, 1) + e_lambda)
    slope = 1.0 / width
    limit = logit_limit * width
    tl.store(pooled + sample * channels + index_c, mean, mask=index_c < channels)

    # Attention and masks.
    if ONE_TILE:
        octets_valid = (octet < octets) & plane_valid[None]
        attention, kept_values, kept = _attend(
            values, valid, mean, slope, limit,
            bits_plane[None] + octet * frame_stride, octets_valid, V_AXIS,
        )  # fmt: skip
    else:
        attention = tl.zeros(plane_valid.shape, tl.float32)
        kept_values = tl.zeros(plane_valid.shape, tl.float32)
        kept = tl.zeros(plane_valid.shape, tl.int32)
        for first in range(0, frames, BLOCK_O * 8):
            time, exists = _frames(first, frames, BLOCK_O)
            valid = exists & plane_valid[None, None]
            values = tl.load(x_plane[None, None] + time * frame_stride, mask=valid, other=0.0)
            tile_octet = first // 8 + octet
            tile_attention, tile_values, tile_kept = _attend(
                values.to(tl.float32), valid, mean, slope, limit,
                bits_plane[None] + tile_octet * frame_stride,
                (tile_octet < octets) & plane_valid[None], V_AXIS,
            )  # fmt: skip
            attention += tile_attention
            kept_values += tile_values
            kept += tile_kept

    if CHANNELS_LAST:
        sums_plane = _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
    else:
        sums_plane = _plane(index_c, index_v, joints, 1, CHANNELS_LAST)
    tl.store(joint_sums + sample * channels * joints + sums_plane, kept_values, mask=plane_valid)
    tl.store(
        attention_sums + program.to(tl.int64) * joints + index_v,
        tl.sum(attention, axis=1 - V_AXIS),
        mask=index_v < joints,
    )
    tl.store(kept_counts + program, tl.sum(tl.sum(kept, axis=1 - V_AXIS), axis=0))


@triton.jit(do_not_specialize=["batch", "blocks", "joints", "positions"])
def joint_kernel(
    attention_sums,  # [B, blocks, V]
    kept_counts,  # [B, blocks]
    kept_joints,  # out uint8 [B, V]
    totals,  # out int64 [2, B]: kept joints, kept elements
    batch,
    blocks,
    joints,
    positions,  # C * T: what a joint's attention is averaged over
    keep_prob,
    BLOCK: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """The joint mask of one sample."""
    sample = tl.program_id(0).to(tl.int64)
    index_v = tl.arange(0, BLOCK_V)
    sums = tl.zeros([BLOCK_V], tl.float32)
    count = tl.zeros([BLOCK], tl.int64)
    for first in range(0, blocks, BLOCK):
        block = first + tl.arange(0, BLOCK)
        row = sample * blocks + block
        part = tl.load(
            attention_sums + row[:, None] * joints + index_v[None, :],
            mask=(block < blocks)[:, None] & (index_v < joints)[None, :],
            other=0.0,
        )
        sums += tl.sum(part, axis=0)
        count += tl.load(kept_counts + row, mask=block < blocks, other=0)
    kept = (sums / positions < keep_prob) & (index_v < joints)
    tl.store(kept_joints + sample * joints + index_v, kept.to(tl.uint8), mask=index_v < joints)
    tl.store(totals + sample, tl.sum(kept.to(tl.int64), axis=0))
    tl.store(totals + batch + sample, tl.sum(count, axis=0))


@triton.jit(do_not_specialize=["batch", "elements", "joints"])
def drop_kernel(
    joint_sums,  # [B, C, V] or [B, V, C]
    kept_joints,  # [B, V]
    totals,  # [2, B]
    pooled,  # [B, C]
    pooled_drop,  # out [B, C]
    scale,  # out [1]
    batch,
    channels,
    elements,
    joints,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Sums over the kept joints of one sample, times both rescalings of the batch."""
    V_AXIS: tl.constexpr = 0 if CHANNELS_LAST else 1
    joint_count = tl.zeros([BLOCK_B], tl.int64)
    element_count = tl.zeros([BLOCK_B], tl.int64)
    for first in range(0, batch, BLOCK_B):
        index_b = first + tl.arange(0, BLOCK_B)
        joint_count += tl.load(totals + index_b, mask=index_b < batch, other=0)
        element_count += tl.load(totals + batch + index_b, mask=index_b < batch, other=0)
    kept_joint_count = tl.maximum(tl.sum(joint_count, axis=0), 1).to(tl.float32)
    kept_element_count = tl.maximum(tl.sum(element_count, axis=0), 1).to(tl.float32)
    all_joints = batch.to(tl.float32) * joints
    all_elements = batch.to(tl.float32) * channels * elements
    factor = (all_joints / kept_joint_count) * (all_elements / kept_element_count)

    blocks = tl.cdiv(channels, BLOCK_C)
    program = tl.program_id(0)
    sample = (program // blocks).to(tl.int64)
    if program == 0:
        tl.store(scale, factor)
    index_c = (program % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    index_v = tl.arange(0, BLOCK_V)
    valid = _valid_plane(index_c, index_v, channels, joints, CHANNELS_LAST)
    if CHANNELS_LAST:
        plane = _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
    else:
        plane = _plane(index_c, index_v, joints, 1, CHANNELS_LAST)
    sums = tl.load(joint_sums + sample * channels * joints + plane, mask=valid, other=0.0)
    kept = tl.load(kept_joints + sample * joints + index_v, mask=index_v < joints, other=0)
    kept_sums = tl.where(tl.expand_dims(kept, 1 - V_AXIS) != 0, sums, 0.0)
    at = sample * channels + index_c
    plain = tl.load(pooled + at, mask=index_c < channels)
    # The difference is 0, or NaN where the map holds one: dropping must not hide it.
    dropped = tl.sum(kept_sums, axis=V_AXIS) / elements * factor + (plain - plain)
    tl.store(pooled_drop + at, dropped, mask=index_c < channels)


@triton.jit(do_not_specialize=["frames", "joints"])
def backward_kernel(
    grad_pooled,  # [B, C]
    grad_drop,  # [B, C]
    bits,  # uint8, as in forward_kernel
    kept_joints,  # uint8 [B, V]
    scale,  # [1]
    dx,  # out, as x in forward_kernel
    channels,
    frames,
    joints,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    V_AXIS: tl.constexpr = 0 if CHANNELS_LAST else 1
    blocks = tl.cdiv(channels, BLOCK_C)
    octets = tl.cdiv(frames, 8)
    time_blocks = tl.cdiv(octets, BLOCK_O)
    program = tl.program_id(0)
    first_octet = (program % time_blocks) * BLOCK_O
    sample = (program // time_blocks // blocks).to(tl.int64)
    index_c = (program // time_blocks % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    index_v = tl.arange(0, BLOCK_V)
    plane_valid = _valid_plane(index_c, index_v, channels, joints, CHANNELS_LAST)
    elements = frames * joints
    dx += sample * channels * elements
    bits += sample * channels * octets * joints
    if CHANNELS_LAST:
        frame_stride = joints * channels
        dx_plane = dx + _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
        bits_plane = bits + _plane(index_c, index_v, 1, channels, CHANNELS_LAST)
    else:
        frame_stride = joints
        dx_plane = dx + _plane(index_c, index_v, elements, 1, CHANNELS_LAST)
        bits_plane = bits + _plane(index_c, index_v, octets * joints, 1, CHANNELS_LAST)

    at = sample * channels + index_c
    plain = tl.load(grad_pooled + at, mask=index_c < channels, other=0.0)
    extra = tl.load(grad_drop + at, mask=index_c < channels, other=0.0) * tl.load(scale)
    where_dropped = tl.expand_dims(plain / elements, V_AXIS)[None, None]
    where_kept = tl.expand_dims((plain + extra) / elements, V_AXIS)[None, None]

    kept_joint = tl.load(kept_joints + sample * joints + index_v, mask=index_v < joints, other=0)
    octet = first_octet + tl.arange(0, BLOCK_O)[:, None, None]
    octet_valid = (octet < octets) & plane_valid[None]
    byte = tl.load(bits_plane[None] + octet * frame_stride, mask=octet_valid, other=0)
    byte = tl.where(tl.expand_dims(kept_joint, 1 - V_AXIS)[None] != 0, byte, 0)
    places = tl.arange(0, 8)[None, :, None, None]
    kept = (byte.to(tl.int32)[:, None] >> places) & 1
    values = tl.where(kept != 0, where_kept, where_dropped)
    time, exists = _frames(first_octet * 8, frames, BLOCK_O)
    tl.store(
        dx_plane[None, None] + time * frame_stride,
        values.to(dx.dtype.element_ty),
        mask=exists & plane_valid[None, None],
    )


INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)
"""Whether the kernels run in Triton's interpreter: TRITON_INTERPRET=1 was set at import."""

MAX_PER_THREAD = 64  # values of a tile, so that they stay in registers


class Tile(NamedTuple):
    """How a map is cut; see the kernels' parameters of the same names."""

    channels_last: bool
    one_tile: bool
    block_c: int
    block_o: int
    block_v: int
    warps: int


def choose_tile(
    channels: int, frames: int, joints: int, channels_last: bool, max_octets: int | None = None
) -> Tile:
    """The tile of a map of C, T, V; all frames in one if they fit in registers.

    `max_octets` bounds the tile's frames where it need not hold all of them.
    """
    block_o = triton.next_power_of_2(triton.cdiv(frames, 8))
    block_v = triton.next_power_of_2(joints)
    # A warp reads 32 joints of one channel, or 32 channels of one joint.
    block_c, warps, fewest_c = (32, 8, 16) if channels_last else (8, 4, 1)
    block_c = min(block_c, triton.next_power_of_2(channels))
    if max_octets is not None:
        block_o = min(block_o, max_octets)

    def too_large() -> bool:
        return block_o * 8 * block_v * block_c > MAX_PER_THREAD * 32 * warps

    while too_large() and block_c > fewest_c:
        block_c //= 2
    while too_large() and warps < 16:
        warps *= 2
    while too_large() and block_o > 1:
        block_o //= 2
    while too_large() and block_c > 1:
        block_c //= 2
    return Tile(channels_last, block_o * 8 >= frames, block_c, block_o, block_v, warps)


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
    tile = choose_tile(channels, frames, joints, channels_last)
    blocks = triton.cdiv(channels, tile.block_c)
    # sigmoid(y) < keep_prob is y < logit; with keep_prob 1 the limit is infinite: all is kept.
    logit = math.log(keep_prob / (1.0 - keep_prob)) if keep_prob < 1.0 else math.inf
    joint_sums = pooled.new_empty(batch, channels, joints)
    attention_sums = pooled.new_empty(batch, blocks, joints)
    kept_counts = pooled.new_empty(batch, blocks, dtype=torch.int32)
    totals = pooled.new_empty(2, batch, dtype=torch.int64)
    forward_kernel[(batch * blocks,)](
        x, pooled, bits, joint_sums, attention_sums, kept_counts,
        channels, frames, joints, e_lambda, logit - 0.5,
        CHANNELS_LAST=channels_last, ONE_TILE=tile.one_tile,
        BLOCK_C=tile.block_c, BLOCK_O=tile.block_o, BLOCK_V=tile.block_v,
        num_warps=tile.warps,
    )  # fmt: skip
    joint_kernel[(batch,)](
        attention_sums, kept_counts, kept_joints, totals,
        batch, blocks, joints, channels * frames, keep_prob,
        BLOCK=32, BLOCK_V=tile.block_v,
    )  # fmt: skip
    block_c = min(32, triton.next_power_of_2(channels))
    drop_kernel[(batch * triton.cdiv(channels, block_c),)](
        joint_sums, kept_joints, totals, pooled, pooled_drop, scale,
        batch, channels, frames * joints, joints,
        CHANNELS_LAST=channels_last, BLOCK_B=256, BLOCK_C=block_c, BLOCK_V=tile.block_v,
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
    tile = choose_tile(channels, frames, joints, channels_last, max_octets=2)
    programs = (
        batch * triton.cdiv(channels, tile.block_c) * triton.cdiv(frames, 8 * tile.block_o)
    )
    backward_kernel[(programs,)](
        grad_pooled, grad_drop, bits, kept_joints, scale, dx,
        channels, frames, joints,
        CHANNELS_LAST=channels_last,
        BLOCK_C=tile.block_c, BLOCK_O=tile.block_o, BLOCK_V=tile.block_v,
        num_warps=tile.warps,
    )  # fmt: skip

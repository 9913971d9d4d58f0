"""The graph convolution of stgcn_block: neighbors first, then one product over parts and channels.

A tile is whole frames, [joints, (frame, channel)], joints padded to a power of two. One product
with the part's adjacency [joints, joints] mixes neighbors; its result, read as rows (joint, frame)
of channels, is the operand of the product with the part's weights: memory of the tile's shape only,
and nothing the size of parts x channels is ever written. The bias is one per joint then. The
gradient of the input is the same with adjacency and weights transposed.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

from .stgcn_block_norm import norm_gradient, store_statistics


@triton.jit
def _mix(
    acc, tile, adjacency, part, weight, to_channel, channel,
    V: tl.constexpr, C_TO: tl.constexpr, C_FROM: tl.constexpr, TRANSPOSED: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds one part's share [(joint, frame), to_channel] of a tile [joint, (frame, channel)].

    weight: [P, C_TO, C_FROM].
    """
    edges = _edges(adjacency, part, V, TRANSPOSED, BLOCK_V)
    mixed = tl.dot(edges.to(OPERAND).to(DOT), tile, input_precision=PRECISION)
    mixed = tl.reshape(mixed.to(OPERAND).to(DOT), (BLOCK_V * BLOCK_F, BLOCK_C))
    weights = tl.load(
        weight + (part * C_TO + to_channel)[:, None] * C_FROM + channel[None, :],
        mask=(to_channel < C_TO)[:, None] & (channel < C_FROM)[None, :],
        other=0.0,
    )
    return tl.dot(mixed, tl.trans(weights.to(OPERAND).to(DOT)), acc, input_precision=PRECISION)


@triton.jit
def _edges(adjacency, part, V: tl.constexpr, TRANSPOSED: tl.constexpr, BLOCK_V: tl.constexpr):
    """Adjacency [to joint, from joint] of a part; from the end of its edges if TRANSPOSED."""
    to_joint = tl.arange(0, BLOCK_V)[:, None]
    from_joint = tl.arange(0, BLOCK_V)[None, :]
    at = to_joint * V + from_joint if TRANSPOSED else from_joint * V + to_joint
    valid = (to_joint < V) & (from_joint < V)
    return tl.load(adjacency + part * (V * V) + at, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def _tiles(frames, split, splits, BLOCK_F: tl.constexpr):
    """First and last tile of one part of the frames."""
    tiles = tl.cdiv(frames, BLOCK_F).to(tl.int64)
    return (tiles * split // splits).to(tl.int32), (tiles * (split + 1) // splits).to(tl.int32)


@triton.jit
def _load_tile(
    x, first, first_channel, frames, V: tl.constexpr, C: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Frames of x as [joint, (frame, channel)], zero beyond its ends."""
    column = tl.arange(0, BLOCK_F * BLOCK_C)
    joint = tl.arange(0, BLOCK_V)[:, None]
    frame, channel = first + column // BLOCK_C, first_channel + column % BLOCK_C
    valid = (joint < V) & ((frame < frames) & (channel < C))[None, :]
    at = joint * C + (frame * (V * C) + channel)[None, :]
    return tl.load(x + at, mask=valid, other=0.0)


@triton.jit
def _load_gradient(
    gradient, before, statistics, affine, coefficients, first, channel, frames, eps,
    V: tl.constexpr, C: tl.constexpr, TRAINING: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Gradient of the spatial norm's input as rows (joint, frame) of channels, zero beyond."""
    row = tl.arange(0, BLOCK_V * BLOCK_F)
    joint, frame = row // BLOCK_F, first + row % BLOCK_F
    valid = ((joint < V) & (frame < frames))[:, None] & (channel < C)[None, :]
    at = (frame * V + joint)[:, None] * C + channel[None, :]
    grad = tl.load(gradient + at, mask=valid, other=0.0).to(tl.float32)
    grad = norm_gradient(
        grad, before, at, valid, statistics, affine, coefficients, eps, channel, C, TRAINING
    )
    return tl.where(valid, grad, 0.0)


@triton.jit(do_not_specialize=["frames"])
def spatial_kernel(
    x,  # [frames, V, C_IN]
    adjacency,  # [P, V, V]
    weight,  # [P, C_OUT, C_IN]
    bias,  # [P, C_OUT]
    out,  # out [frames, V, C_OUT]
    counts, partials,  # out [programs], [programs, 2, C_OUT], where STATISTICS
    frames,
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    STATISTICS: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_F
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_channels = to_channel < C_OUT

    acc = tl.zeros([BLOCK_V * BLOCK_F, BLOCK_N], tl.float32)
    for first_channel in range(0, C_IN, BLOCK_C):
        channel = first_channel + tl.arange(0, BLOCK_C)
        tile = _load_tile(
            x, first, first_channel, frames, V, C_IN, BLOCK_V, BLOCK_F, BLOCK_C
        ).to(OPERAND).to(DOT)  # fmt: skip
        for part in range(P):
            acc = _mix(
                acc, tile, adjacency, part, weight, to_channel, channel,
                V, C_OUT, C_IN, False, BLOCK_V, BLOCK_F, BLOCK_C, OPERAND, DOT, PRECISION,
            )  # fmt: skip

    per_joint = tl.zeros([BLOCK_V, BLOCK_N], tl.float32)
    for part in range(P):
        biases = tl.load(bias + part * C_OUT + to_channel, mask=in_channels, other=0.0)
        weights = tl.sum(_edges(adjacency, part, V, False, BLOCK_V), axis=1)
        per_joint += weights[:, None] * biases.to(tl.float32)[None, :]
    spread = tl.broadcast_to(per_joint[:, None, :], (BLOCK_V, BLOCK_F, BLOCK_N))
    acc += tl.reshape(spread, (BLOCK_V * BLOCK_F, BLOCK_N))

    row = tl.arange(0, BLOCK_V * BLOCK_F)
    in_rows = (row // BLOCK_F < V) & (first + row % BLOCK_F < frames)
    at = ((first + row % BLOCK_F) * V + row // BLOCK_F)[:, None] * C_OUT + to_channel[None, :]
    rounded = acc.to(out.dtype.element_ty)
    tl.store(out + at, rounded, mask=in_rows[:, None] & in_channels[None, :])
    if STATISTICS:
        count = (tl.minimum(frames - first, BLOCK_F) * V).to(tl.float32)
        store_statistics(
            rounded.to(tl.float32), in_rows, count, counts, partials, tl.program_id(0),
            to_channel, C_OUT,
        )  # fmt: skip


@triton.jit(do_not_specialize=["frames"])
def spatial_gradient_kernel(
    gradient,  # [frames, V, C_OUT], after the norm
    before, statistics, affine, coefficients,  # of the norm: its input [frames, V, C_OUT], ...
    adjacency,  # [P, V, V]
    weight,  # [P, C_IN, C_OUT]
    grad_y, y,  # [frames, V, C_IN], with RESIDUAL 1 (identity)
    grad_residual, residual_weight,  # [B, T_OUT, V, C_OUT], [C_IN, C_OUT], with 2 (convolution)
    out,  # out [frames, V, C_IN]
    frames, eps,
    TRAINING: tl.constexpr, RESIDUAL: tl.constexpr, STRIDE: tl.constexpr,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the block's input, by both its ways."""
    first = tl.program_id(0) * BLOCK_F
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_channels = to_channel < C_IN
    column = tl.arange(0, BLOCK_F * BLOCK_C)
    joint = tl.arange(0, BLOCK_V)[:, None]
    frame = first + column // BLOCK_C
    row = tl.arange(0, BLOCK_V * BLOCK_F)
    row_joint, row_frame = row // BLOCK_F, first + row % BLOCK_F
    in_rows = (row_joint < V) & (row_frame < frames)
    sample, time = row_frame // T, row_frame % T

    acc = tl.zeros([BLOCK_V * BLOCK_F, BLOCK_N], tl.float32)
    for first_channel in range(0, C_OUT, BLOCK_C):
        channel = first_channel + tl.arange(0, BLOCK_C)
        of_column = first_channel + column % BLOCK_C
        valid = (joint < V) & ((frame < frames) & (of_column < C_OUT))[None, :]
        at = joint * C_OUT + (frame * (V * C_OUT) + of_column)[None, :]
        grad = tl.load(gradient + at, mask=valid, other=0.0).to(tl.float32)
        # What pads the tile meets zeros of the adjacency or of the weights, or is not stored.
        grad = norm_gradient(
            grad, before, at, valid, statistics, affine, coefficients, eps, of_column,
            C_OUT, TRAINING,
        )  # fmt: skip
        tile = grad.to(OPERAND).to(DOT)
        for part in range(P):
            acc = _mix(
                acc, tile, adjacency, part, weight, to_channel, channel,
                V, C_IN, C_OUT, True, BLOCK_V, BLOCK_F, BLOCK_C, OPERAND, DOT, PRECISION,
            )  # fmt: skip
        if RESIDUAL == 2:
            of_row = ((sample * T_OUT + time // STRIDE) * V + row_joint) * C_OUT
            values = tl.load(
                grad_residual + of_row[:, None] + channel[None, :],
                mask=(in_rows & (time % STRIDE == 0))[:, None] & (channel < C_OUT)[None, :],
                other=0.0,
            )
            weights = tl.load(
                residual_weight + to_channel[:, None] * C_OUT + channel[None, :],
                mask=in_channels[:, None] & (channel < C_OUT)[None, :],
                other=0.0,
            )
            acc = tl.dot(
                values.to(OPERAND).to(DOT), tl.trans(weights.to(OPERAND).to(DOT)), acc,
                input_precision=PRECISION,
            )  # fmt: skip

    at = (row_frame * V + row_joint)[:, None] * C_IN + to_channel[None, :]
    valid = in_rows[:, None] & in_channels[None, :]
    if RESIDUAL == 1:
        beside = tl.load(grad_y + at, mask=valid, other=0.0).to(tl.float32)
        acc += tl.where(tl.load(y + at, mask=valid, other=0.0) > 0.0, beside, 0.0)
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["frames"])
def spatial_weight_kernel(
    x,  # [frames, V, C_IN]
    gradient,  # [frames, V, C_OUT], after the norm
    before, statistics, affine, coefficients,  # of the norm
    adjacency,  # [P, V, V]
    weight_partials,  # out [splits, P, C_OUT, C_IN]
    joint_partials,  # out [splits, V, C_OUT]: sums of the gradient over frames
    frames, eps,
    TRAINING: tl.constexpr,
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of one part's weights from one part of the frames.

    Programs of the same frames are neighbors, so that all but one of them find these in the cache.
    """
    BLOCKS_IN: tl.constexpr = (C_IN + BLOCK_C - 1) // BLOCK_C
    BLOCKS: tl.constexpr = P * BLOCKS_IN * ((C_OUT + BLOCK_N - 1) // BLOCK_N)
    program = tl.program_id(0)
    split, part, block_in = program // BLOCKS, program % P, program // P % BLOCKS_IN
    block_out = program // (P * BLOCKS_IN) % (BLOCKS // (P * BLOCKS_IN))
    first_tile, last_tile = _tiles(frames, split, tl.num_programs(0) // BLOCKS, BLOCK_F)
    to_channel = block_out * BLOCK_N + tl.arange(0, BLOCK_N)
    edges = _edges(adjacency, part, V, False, BLOCK_V).to(OPERAND).to(DOT)

    grad_weight = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    joint_sums = tl.zeros([BLOCK_V, BLOCK_N], tl.float32)
    for index in range(first_tile, last_tile):
        tile = _load_tile(
            x, index * BLOCK_F, block_in * BLOCK_C, frames, V, C_IN, BLOCK_V, BLOCK_F, BLOCK_C
        ).to(OPERAND).to(DOT)  # fmt: skip
        grad = _load_gradient(
            gradient, before, statistics, affine, coefficients, index * BLOCK_F, to_channel,
            frames, eps, V, C_OUT, TRAINING, BLOCK_V, BLOCK_F,
        )  # fmt: skip
        joint_sums += tl.sum(tl.reshape(grad, (BLOCK_V, BLOCK_F, BLOCK_N)), axis=1)
        mixed = tl.dot(edges, tile, input_precision=PRECISION).to(OPERAND).to(DOT)
        mixed = tl.reshape(mixed, (BLOCK_V * BLOCK_F, BLOCK_C))
        operand = tl.trans(grad.to(OPERAND).to(DOT))
        grad_weight = tl.dot(operand, mixed, grad_weight, input_precision=PRECISION)

    channel = block_in * BLOCK_C + tl.arange(0, BLOCK_C)
    weight_partials += (split * P + part).to(tl.int64) * (C_OUT * C_IN)
    valid = (to_channel < C_OUT)[:, None] & (channel < C_IN)[None, :]
    at = to_channel[:, None] * C_IN + channel[None, :]
    tl.store(weight_partials + at, grad_weight, mask=valid)
    joint = tl.arange(0, BLOCK_V)
    joints = tl.where(part + block_in == 0, V, 0)  # one of the programs that have these sums
    in_sums = (joint < joints)[:, None] & (to_channel < C_OUT)[None, :]
    joint_partials += split * (V * C_OUT)
    of_sums = joint[:, None] * C_OUT + to_channel[None, :]
    tl.store(joint_partials + of_sums, joint_sums, mask=in_sums)


@triton.jit(do_not_specialize=["frames"])
def edge_kernel(
    x,  # [frames, V, C_IN]
    gradient,  # [frames, V, C_OUT], after the norm
    before, statistics, affine, coefficients,  # of the norm
    weight,  # [P, C_IN, C_OUT]
    edge_partials,  # out [splits, blocks of C_IN, P, V, V]
    frames, eps,
    TRAINING: tl.constexpr,
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of one part's edges, but for the bias, from one part of the frames.

    In a kernel with that of the weights it would not fit in registers.
    """
    BLOCKS: tl.constexpr = P * ((C_IN + BLOCK_C - 1) // BLOCK_C)
    program = tl.program_id(0)
    part, first_channel = program % P, program % BLOCKS // P * BLOCK_C
    splits = tl.num_programs(0) // BLOCKS
    first_tile, last_tile = _tiles(frames, program // BLOCKS, splits, BLOCK_F)
    channel = first_channel + tl.arange(0, BLOCK_C)
    grad_edges = tl.zeros([BLOCK_V, BLOCK_V], tl.float32)
    for index in range(first_tile, last_tile):
        back = tl.zeros([BLOCK_V * BLOCK_F, BLOCK_C], tl.float32)
        for first in range(0, C_OUT, BLOCK_N):
            to_channel = first + tl.arange(0, BLOCK_N)
            grad = _load_gradient(
                gradient, before, statistics, affine, coefficients, index * BLOCK_F, to_channel,
                frames, eps, V, C_OUT, TRAINING, BLOCK_V, BLOCK_F,
            )  # fmt: skip
            weights = tl.load(
                weight + (part * C_IN + channel)[:, None] * C_OUT + to_channel[None, :],
                mask=(channel < C_IN)[:, None] & (to_channel < C_OUT)[None, :],
                other=0.0,
            ).to(OPERAND).to(DOT)  # fmt: skip
            operand = grad.to(OPERAND).to(DOT)
            back = tl.dot(operand, tl.trans(weights), back, input_precision=PRECISION)
        tile = _load_tile(
            x, index * BLOCK_F, first_channel, frames, V, C_IN, BLOCK_V, BLOCK_F, BLOCK_C
        ).to(OPERAND).to(DOT)  # fmt: skip
        rows = tl.reshape(back.to(OPERAND).to(DOT), (BLOCK_V, BLOCK_F * BLOCK_C))
        grad_edges = tl.dot(tile, tl.trans(rows), grad_edges, input_precision=PRECISION)

    joint = tl.arange(0, BLOCK_V)
    edge_partials += program.to(tl.int64) * (V * V)  # parts change fastest
    valid = (joint < V)[:, None] & (joint < V)[None, :]
    tl.store(edge_partials + joint[:, None] * V + joint[None, :], grad_edges, mask=valid)


@triton.jit
def edge_gradient_kernel(
    edge_sums,  # [P, V, V]
    joint_sums,  # [V, C_OUT]
    adjacency,  # [P, V, V]
    bias,  # [P, C_OUT]
    grad_adjacency,  # out [P, V, V]
    grad_bias,  # out [P, C_OUT]
    V: tl.constexpr, C_OUT: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """What the bias adds to the gradient of one part's edges, and the gradient of its bias.

    Entries that are 0 are no edges, and get no gradient.
    """
    part = tl.program_id(0)
    to_joint = tl.arange(0, BLOCK_V)
    weights = tl.sum(_edges(adjacency, part, V, False, BLOCK_V), axis=1)
    by_bias = tl.zeros([BLOCK_V], tl.float32)
    for first in range(0, C_OUT, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        inside = channel < C_OUT
        sums = tl.load(
            joint_sums + to_joint[:, None] * C_OUT + channel[None, :],
            mask=(to_joint < V)[:, None] & inside[None, :],
            other=0.0,
        )
        biases = tl.load(bias + part * C_OUT + channel, mask=inside, other=0.0).to(tl.float32)
        by_bias += tl.sum(sums * biases[None, :], axis=1)
        grad = tl.sum(sums * weights[:, None], axis=0).to(grad_bias.dtype.element_ty)
        tl.store(grad_bias + part * C_OUT + channel, grad, mask=inside)
    from_joint = tl.arange(0, BLOCK_V)[:, None]
    at = part * (V * V) + from_joint * V + to_joint[None, :]
    valid = (from_joint < V) & (to_joint < V)[None, :]
    sums = tl.load(edge_sums + at, mask=valid, other=0.0) + by_bias[None, :]
    is_edge = tl.load(adjacency + at, mask=valid, other=0.0) != 0.0
    grad = tl.where(is_edge, sums, 0.0).to(grad_adjacency.dtype.element_ty)
    tl.store(grad_adjacency + at, grad, mask=valid)

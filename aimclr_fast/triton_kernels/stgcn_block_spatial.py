"""The graph convolution of stgcn_block: neighbors first, then one product over channels.

Forward, a tile is rows (frame, joint) of channels, joints padded to a power of two. For each part
of the graph a product with the adjacency, [(frame, joint), (frame, joint)] and 0 from frame to
frame, mixes neighbors. It multiplies zeros as well, but its sums lie in registers as the product
with the part's weights takes them: nothing passes through shared memory. The bias is one per joint.

Backward, a tile is [joints, (frame, channel)]. The output's gradient times the weights, read as
[(part, joint), (frame, channel)], gives with the adjacency the input's gradient and with the input
the edges'; the input's neighbors, mixed by one product with the adjacency of all parts [(part,
joint), joint] and read as rows (joint, frame) of (part, channel), give the weights' gradient.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

from .stgcn_block_norm import load_norm


@triton.jit
def _rows(first, frames, V: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr):
    """Rows (frame, joint) of a tile: which of a map they are, and whether there is such a row."""
    row = tl.arange(0, BLOCK_F * BLOCK_V)
    frame, joint = first + row // BLOCK_V, row % BLOCK_V
    return frame * V + joint, (joint < V) & (frame < frames)


@triton.jit
def _load_rows(x, rows, first_channel, C: tl.constexpr, BLOCK_C: tl.constexpr):
    """Rows of x [., C] by channels, zero beyond its ends."""
    row, in_rows = rows
    channel = first_channel + tl.arange(0, BLOCK_C)
    valid = in_rows[:, None] & (channel < C)[None, :]
    return tl.load(x + row[:, None] * C + channel[None, :], mask=valid, other=0.0)


@triton.jit
def _row_edges(adjacency, part, V: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr):
    """Adjacency of a part between rows (frame, joint) of a tile, [to, from]: frames do not meet."""
    row = tl.arange(0, BLOCK_F * BLOCK_V)
    frame, joint = row // BLOCK_V, row % BLOCK_V
    valid = (frame[:, None] == frame[None, :]) & (joint < V)[:, None] & (joint < V)[None, :]
    at = part * (V * V) + joint[:, None] + joint[None, :] * V
    return tl.load(adjacency + at, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def _edges_of_parts(
    adjacency, P: tl.constexpr, V: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The adjacency of each part between rows."""
    found = ()
    for part in tl.static_range(P):
        edges = _row_edges(adjacency, part, V, BLOCK_V, BLOCK_F)
        found = found + (edges.to(OPERAND).to(DOT),)  # type: ignore[assignment]  # noqa: RUF005
    return found


@triton.jit
def _load_weights(
    weight, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """[column, row] of weight [ROWS, COLUMNS]."""
    valid = (row < ROWS)[:, None] & (column < COLUMNS)[None, :]
    at = row[:, None] * COLUMNS + column[None, :]
    return tl.trans(tl.load(weight + at, mask=valid, other=0.0).to(OPERAND).to(DOT))


@triton.jit
def _weights_of_parts(
    weight, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, P: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The weights [column, row] of each part, of weight [P, ROWS, COLUMNS]."""
    found = ()
    for part in tl.static_range(P):
        weights = _load_weights(
            weight + part * (ROWS * COLUMNS), row, column, ROWS, COLUMNS, OPERAND, DOT
        )
        found = found + (weights,)  # type: ignore[assignment]  # noqa: RUF005
    return found


@triton.jit
def _tiles(frames, program, programs, BLOCK_F: tl.constexpr):
    """First and last tile of one of the programs that share the frames."""
    tiles = tl.cdiv(frames, BLOCK_F).to(tl.int64)
    first, last = tiles * program // programs, tiles * (program + 1) // programs
    return first.to(tl.int32), last.to(tl.int32)


# --- Forward -------------------------------------------------------------------------------------


@triton.jit
def _convolve(
    x, rows, adjacency, weight, to_channel, edges, weights, acc,
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    KEPT: tl.constexpr, HOISTED: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Adds the convolution of a tile, [(frame, joint), to_channel]."""
    UNROLLED: tl.constexpr = C_IN if KEPT else BLOCK_C
    for start in tl.range(0, C_IN, UNROLLED, num_stages=STAGES):
        for further in tl.static_range(0, UNROLLED, BLOCK_C):
            channel = start + further + tl.arange(0, BLOCK_C)
            tile = _load_rows(x, rows, start + further, C_IN, BLOCK_C).to(OPERAND).to(DOT)
            for part in tl.static_range(P):
                if KEPT:
                    part_edges = edges[part]
                else:
                    part_edges = _row_edges(adjacency, part, V, BLOCK_V, BLOCK_F)
                    part_edges = part_edges.to(OPERAND).to(DOT)
                if HOISTED:
                    part_weights = weights[part]
                else:
                    part_weights = _load_weights(
                        weight + part * (C_OUT * C_IN), to_channel, channel, C_OUT, C_IN,
                        OPERAND, DOT,
                    )  # fmt: skip
                mixed = tl.dot(part_edges, tile, input_precision=PRECISION)
                mixed = mixed.to(OPERAND).to(DOT)
                acc = tl.dot(mixed, part_weights, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _fold(values, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WARPS: tl.constexpr):
    """Sums over rows of [ROWS, COLUMNS], as far as one thread has them where products leave them.

    There a warp has 16 rows at a time, and a thread every eighth of them.
    """
    KEPT: tl.constexpr = WARPS if ROWS >= 16 * WARPS else ROWS // 16
    values = tl.reshape(values, (ROWS // (16 * KEPT), KEPT, 2, 8, COLUMNS))
    return tl.reshape(tl.sum(tl.sum(values, axis=2), axis=0), (KEPT * 8, COLUMNS))


@triton.jit(do_not_specialize=["frames", "programs"])
def spatial_kernel(
    x,  # [groups, frames, V, C_IN]
    adjacency,  # [P, V, V]
    weight,  # [P, C_OUT, C_IN]
    bias,  # [P, C_OUT]
    out,  # out [groups, frames, V, C_OUT]
    counts, partials,  # out [groups * programs], [groups * programs, 2, C_OUT], where STATISTICS
    frames, programs,  # of a group
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    STATISTICS: tl.constexpr, HOISTED: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    WARPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A program takes several tiles, of one group.

    It keeps the edges if BLOCK_P has all parts, and the weights if HOISTED.

    Sums of deviations are taken from the mean of its first tile: squares of values would cancel
    where the mean is large. With n tiles, (mean - shift)^2 is at most n times the variance.
    """
    KEPT: tl.constexpr = BLOCK_P >= P
    ROWS: tl.constexpr = BLOCK_V * BLOCK_F
    group, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    x += group * (frames * (V * C_IN))
    out += group * (frames * (V * C_OUT))
    first_tile, last_tile = _tiles(frames, program, programs, BLOCK_F)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_channels = to_channel < C_OUT

    # How often each part's bias comes to a joint.
    spread = tl.zeros([ROWS, BLOCK_N], tl.float32)
    for part in tl.static_range(P):
        biases = tl.load(bias + part * C_OUT + to_channel, mask=in_channels, other=0.0)
        shares = tl.sum(_row_edges(adjacency, part, V, BLOCK_V, BLOCK_F), axis=1)
        spread += shares[:, None] * biases.to(tl.float32)[None, :]
    edges, weights = (), ()
    if KEPT:
        edges = _edges_of_parts(adjacency, P, V, BLOCK_V, BLOCK_F, OPERAND, DOT)
    if HOISTED:
        weights = _weights_of_parts(
            weight, to_channel, tl.arange(0, BLOCK_C), C_OUT, C_IN, P, OPERAND, DOT
        )

    if STATISTICS:
        first = first_tile * BLOCK_F
        rows = _rows(first, frames, V, BLOCK_V, BLOCK_F)
        acc = _convolve(
            x, rows, adjacency, weight, to_channel, edges, weights, spread,
            V, C_IN, C_OUT, P, KEPT, HOISTED, BLOCK_V, BLOCK_F, BLOCK_C, OPERAND, DOT,
            PRECISION, STAGES,
        )  # fmt: skip
        count = tl.minimum(frames - first, BLOCK_F) * V
        shift = tl.sum(tl.where(rows[1][:, None], acc, 0.0), axis=0) / count.to(tl.float32)
        FOLDED: tl.constexpr = 8 * (WARPS if ROWS >= 16 * WARPS else ROWS // 16)
        plain = tl.zeros([FOLDED, BLOCK_N], tl.float32)
        squared = tl.zeros([FOLDED, BLOCK_N], tl.float32)
    for tile in tl.range(first_tile, last_tile, num_stages=STAGES):
        rows = _rows(tile * BLOCK_F, frames, V, BLOCK_V, BLOCK_F)
        acc = _convolve(
            x, rows, adjacency, weight, to_channel, edges, weights, spread,
            V, C_IN, C_OUT, P, KEPT, HOISTED, BLOCK_V, BLOCK_F, BLOCK_C, OPERAND, DOT,
            PRECISION, STAGES,
        )  # fmt: skip
        row, in_rows = rows
        at = row[:, None] * C_OUT + to_channel[None, :]
        rounded = acc.to(out.dtype.element_ty)
        tl.store(out + at, rounded, mask=in_rows[:, None] & in_channels[None, :])
        if STATISTICS:
            deviation = tl.where(in_rows[:, None], rounded.to(tl.float32) - shift[None, :], 0.0)
            plain += _fold(deviation, ROWS, BLOCK_N, WARPS)
            squared += _fold(deviation * deviation, ROWS, BLOCK_N, WARPS)
    if STATISTICS:
        count = (tl.minimum(last_tile * BLOCK_F, frames) - first_tile * BLOCK_F) * V
        total = tl.sum(plain, axis=0)
        mean = total / count.to(tl.float32)
        tl.store(counts + tl.program_id(0), count.to(tl.float32))
        partials += tl.program_id(0) * (2 * C_OUT) + to_channel
        tl.store(partials, shift + mean, mask=in_channels)
        squares = tl.maximum(tl.sum(squared, axis=0) - total * mean, 0.0)
        tl.store(partials + C_OUT, squares, mask=in_channels)


# --- Backward ------------------------------------------------------------------------------------


@triton.jit
def _edges(adjacency, first_part, V: tl.constexpr, P: tl.constexpr, BLOCK_P: tl.constexpr,
           BLOCK_V: tl.constexpr):  # fmt: skip
    """Adjacency [(part, to joint), from joint] of parts, zero beyond the last."""
    row = tl.arange(0, BLOCK_P * BLOCK_V)[:, None]
    part, to_joint = first_part + row // BLOCK_V, row % BLOCK_V
    from_joint = tl.arange(0, BLOCK_V)[None, :]
    valid = (part < P) & (to_joint < V) & (from_joint < V)
    at = part * (V * V) + from_joint * V + to_joint
    return tl.load(adjacency + at, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def _mix(
    edges, tile, BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_C: tl.constexpr, OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums over neighbors of a tile, as rows (joint, frame) of columns (part, channel)."""
    mixed = tl.dot(edges, tile, input_precision=PRECISION).to(OPERAND).to(DOT)
    mixed = tl.reshape(mixed, (BLOCK_P, BLOCK_V, BLOCK_F, BLOCK_C))
    return tl.reshape(tl.permute(mixed, (1, 2, 0, 3)), (BLOCK_V * BLOCK_F, BLOCK_P * BLOCK_C))


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
def _weight_rows(
    first_part, first_channel, C: tl.constexpr, P: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Rows (part, channel) of weights [P * C, .]; where there is none, that after the last."""
    row = tl.arange(0, BLOCK_P * BLOCK_C)
    part, channel = first_part + row // BLOCK_C, first_channel + row % BLOCK_C
    return tl.where(channel < C, part * C + channel, P * C)


@triton.jit
def _norm(statistics, affine, coefficients, eps, channel, C: tl.constexpr, TRAINING: tl.constexpr):
    """Scale, slope and offset of channels: the gradient of a norm's input is linear."""
    mean, _, scale, _ = load_norm(statistics, affine, eps, channel, C)
    slope, offset = scale, scale
    if TRAINING:
        inside = channel < C
        slope = tl.load(coefficients + channel, mask=inside, other=0.0)
        offset = tl.load(coefficients + C + channel, mask=inside, other=0.0) - mean * slope
    return scale, slope, offset


@triton.jit
def _load_gradient(
    gradient, before, norm, first, channel, frames,
    V: tl.constexpr, C: tl.constexpr, TRAINING: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Gradient of the spatial norm's input as rows (joint, frame) of channels.

    What pads it meets zeros of the adjacency, of x or of the weights, or is not stored.
    """
    row = tl.arange(0, BLOCK_V * BLOCK_F)
    joint, frame = row // BLOCK_F, first + row % BLOCK_F
    valid = ((joint < V) & (frame < frames))[:, None] & (channel < C)[None, :]
    at = (frame * V + joint)[:, None] * C + channel[None, :]
    scale, slope, offset = norm
    grad = tl.load(gradient + at, mask=valid, other=0.0).to(tl.float32) * scale[None, :]
    if TRAINING:
        values = tl.load(before + at, mask=valid, other=0.0).to(tl.float32)
        grad += values * slope[None, :] + offset[None, :]
    return grad


@triton.jit
def _residual_gradient(
    grad_residual, residual_weight, first, to_channel, frames,
    STRIDE: tl.constexpr, T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What a residual convolution adds to the input's gradient, [(joint, frame), to_channel]."""
    row = tl.arange(0, BLOCK_V * BLOCK_F)
    joint, frame = row // BLOCK_F, first + row % BLOCK_F
    in_rows = (joint < V) & (frame < frames) & (frame % T % STRIDE == 0)
    at = ((frame // T * T_OUT + frame % T // STRIDE) * V + joint) * C_OUT
    acc = tl.zeros([BLOCK_V * BLOCK_F, BLOCK_C], tl.float32)
    for first_out in tl.range(0, C_OUT, BLOCK_N):
        channel = first_out + tl.arange(0, BLOCK_N)
        values = tl.load(
            grad_residual + at[:, None] + channel[None, :],
            mask=in_rows[:, None] & (channel < C_OUT)[None, :],
            other=0.0,
        )
        weights = _load_weights(residual_weight, to_channel, channel, C_IN, C_OUT, OPERAND, DOT)
        acc = tl.dot(values.to(OPERAND).to(DOT), weights, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _store_input(
    acc, grad_y, y, grad_residual, residual_weight, out, group, first, first_channel, frames,
    RESIDUAL: tl.constexpr, STRIDE: tl.constexpr, T: tl.constexpr, T_OUT: tl.constexpr,
    V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Stores a tile [joint, (frame, channel)] with what the residual adds to it."""
    column = tl.arange(0, BLOCK_F * BLOCK_C)
    joint = tl.arange(0, BLOCK_V)[:, None]
    frame, channel = first + column // BLOCK_C, first_channel + column % BLOCK_C
    valid = (joint < V) & ((frame < frames) & (channel < C_IN))[None, :]
    at = joint * C_IN + ((group * frames + frame) * (V * C_IN) + channel)[None, :]
    if RESIDUAL == 1:
        beside = tl.load(grad_y + at, mask=valid, other=0.0).to(tl.float32)
        acc += tl.where(tl.load(y + at, mask=valid, other=0.0) > 0.0, beside, 0.0)
    if RESIDUAL == 2:
        beside = _residual_gradient(
            grad_residual + group * (frames // T * (T_OUT * V * C_OUT)), residual_weight,
            first, first_channel + tl.arange(0, BLOCK_C), frames,
            STRIDE, T, T_OUT, V, C_IN, C_OUT, BLOCK_V, BLOCK_F, BLOCK_C, BLOCK_N,
            OPERAND, DOT, PRECISION,
        )  # fmt: skip
        acc += tl.reshape(beside, (BLOCK_V, BLOCK_F * BLOCK_C))
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=valid)


@triton.jit
def _store_edges(
    partials, grad_edges, first_part,
    V: tl.constexpr, P: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Stores [(part, to joint), from joint] as [P, V, V] from joint to joint."""
    row = tl.arange(0, BLOCK_P * BLOCK_V)
    joint = tl.arange(0, BLOCK_V)
    part, to_joint = first_part + row // BLOCK_V, row % BLOCK_V
    valid = ((part < P) & (to_joint < V))[:, None] & (joint < V)[None, :]
    at = (part * (V * V) + to_joint)[:, None] + joint[None, :] * V
    tl.store(partials + at, grad_edges, mask=valid)


@triton.jit
def _store_weights(
    partials, grad_weights, first_part, first_channel, to_channel,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Stores [(part, channel), to_channel] as [P, C_OUT, C_IN]."""
    row = tl.arange(0, BLOCK_P * BLOCK_C)
    part, channel = first_part + row // BLOCK_C, first_channel + row % BLOCK_C
    valid = ((part < P) & (channel < C_IN))[:, None] & (to_channel < C_OUT)[None, :]
    at = (part * (C_OUT * C_IN) + channel)[:, None] + to_channel[None, :] * C_IN
    tl.store(partials + at, grad_weights, mask=valid)


@triton.jit
def _back_to_joints(
    back, BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_C: tl.constexpr, OPERAND: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """[(joint, frame), (part, channel)] as [(part, joint), (frame, channel)]."""
    back = tl.reshape(back.to(OPERAND).to(DOT), (BLOCK_V, BLOCK_F, BLOCK_P, BLOCK_C))
    return tl.reshape(tl.permute(back, (2, 0, 1, 3)), (BLOCK_P * BLOCK_V, BLOCK_F * BLOCK_C))


@triton.jit
def _store_joints(partials, sums, joints, to_channel, C_OUT: tl.constexpr, BLOCK_V: tl.constexpr):
    """Stores the sums of the first joints, [joint, to_channel]."""
    joint = tl.arange(0, BLOCK_V)[:, None]
    valid = (joint < joints) & (to_channel < C_OUT)[None, :]
    tl.store(partials + joint * C_OUT + to_channel[None, :], sums, mask=valid)


@triton.jit
def _in_frames(values, first, frames, BLOCK_F: tl.constexpr):
    """Rows (joint, frame) of frames that there are; 0 elsewhere."""
    row = tl.arange(0, values.shape[0])
    return tl.where((first + row % BLOCK_F < frames)[:, None], values, 0.0)


@triton.jit
def _share(
    BLOCKS_P: tl.constexpr, BLOCKS_IN: tl.constexpr, BLOCKS: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Part of the frames, first part of the graph, block of C_IN and first of C_OUT."""
    split, block = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS
    first_out = block // (BLOCKS_P * BLOCKS_IN) * BLOCK_N
    return split, block % BLOCKS_P * BLOCK_P, block // BLOCKS_P % BLOCKS_IN, first_out


@triton.jit(do_not_specialize=["frames", "programs"])
def spatial_gradients_kernel(  # noqa: C901, PLR0912, PLR0915  # one read of the maps for all
    x,  # [groups, frames, V, C_IN]
    gradient,  # [groups, frames, V, C_OUT], after the norm
    before, statistics, affine, coefficients,  # of the norm; each group has its own, GROUP_STEP on
    adjacency,  # [P, V, V]
    weight,  # [P, C_IN, C_OUT]
    grad_y, y,  # [groups, frames, V, C_IN], with RESIDUAL 1 (identity)
    grad_residual, residual_weight,  # [groups, B, T_OUT, V, C_OUT], [C_IN, C_OUT], with 2
    out,  # out [groups, frames, V, C_IN], or None
    edge_partials,  # out [splits, blocks of C_IN, P, V, V], or None
    weight_partials,  # out [splits, P, C_OUT, C_IN], or None
    joint_partials,  # out [splits, V, C_OUT], sums of the gradient over frames; with the weights
    frames, programs, eps,  # frames and programs of a group
    TRAINING: tl.constexpr, RESIDUAL: tl.constexpr, STRIDE: tl.constexpr,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, P: tl.constexpr,
    GROUP_STEP: tl.constexpr, HOISTED: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of the block's input, by both its ways, of edges (but for the bias) and of weights.

    Those that are not None: all in one read of the maps, or as many as fit in registers. A program
    takes several tiles of one group, and BLOCK_P of the graph's parts, or one after the other for
    the input's gradient. Programs of the same frames are neighbors, so that all but one of them
    find these in the cache.
    """
    TO_INPUT: tl.constexpr = out is not None or edge_partials is not None
    BLOCKS_P: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P if out is None else 1
    PARTS: tl.constexpr = BLOCK_P if out is None else P
    BLOCKS_IN: tl.constexpr = (C_IN + BLOCK_C - 1) // BLOCK_C
    # The input's gradient needs all channels of the output's.
    BLOCKS_OUT: tl.constexpr = 1 if TO_INPUT else (C_OUT + BLOCK_N - 1) // BLOCK_N
    COLUMNS: tl.constexpr = C_OUT if TO_INPUT else BLOCK_N
    ROWS: tl.constexpr = BLOCK_V * BLOCK_F
    split, first_part, block_in, first_out = _share(
        BLOCKS_P, BLOCKS_IN, BLOCKS_P * BLOCKS_IN * BLOCKS_OUT, BLOCK_P, BLOCK_N
    )
    group = split // programs
    first_tile, last_tile = _tiles(frames, split % programs, programs, BLOCK_F)
    x += group * (frames * (V * C_IN))
    gradient += group * (frames * (V * C_OUT))
    before += group * (frames * (V * C_OUT))
    statistics += group * GROUP_STEP
    coefficients += group * (2 * C_OUT)

    norm = _norm(
        statistics, affine, coefficients, eps, first_out + tl.arange(0, BLOCK_N), C_OUT, TRAINING
    )
    edges = _edges(adjacency, first_part, V, P, BLOCK_P, BLOCK_V).to(OPERAND).to(DOT)
    weights = edges
    if HOISTED:
        weights = _load_weights(
            weight, _weight_rows(first_part, block_in * BLOCK_C, C_IN, P, BLOCK_P, BLOCK_C),
            tl.arange(0, BLOCK_N), P * C_IN, C_OUT, OPERAND, DOT,
        )  # fmt: skip
    grad_edges = tl.zeros([BLOCK_P * BLOCK_V, BLOCK_V], tl.float32)
    grad_weights = tl.zeros([BLOCK_P * BLOCK_C, BLOCK_N], tl.float32)
    joint_sums = tl.zeros([ROWS, BLOCK_N], tl.float32)

    for tile in tl.range(first_tile, last_tile, num_stages=STAGES):
        first = tile * BLOCK_F
        if edge_partials is not None or weight_partials is not None:
            values = _load_tile(
                x, first, block_in * BLOCK_C, frames, V, C_IN, BLOCK_V, BLOCK_F, BLOCK_C
            ).to(OPERAND).to(DOT)  # fmt: skip
        if out is not None:
            acc = tl.zeros([BLOCK_F * BLOCK_C, BLOCK_V], tl.float32)
        for part in tl.range(0, PARTS, BLOCK_P, num_stages=STAGES):
            part_edges = edges
            if BLOCK_P < PARTS:
                part_edges = _edges(adjacency, part, V, P, BLOCK_P, BLOCK_V).to(OPERAND).to(DOT)
            back = tl.zeros([ROWS, BLOCK_P * BLOCK_C], tl.float32)
            for first_column in tl.range(0, COLUMNS, BLOCK_N, num_stages=STAGES):
                to_channel = first_out + first_column + tl.arange(0, BLOCK_N)
                if COLUMNS > BLOCK_N:
                    norm = _norm(statistics, affine, coefficients, eps, to_channel, C_OUT, TRAINING)
                grad = _load_gradient(
                    gradient, before, norm, first, to_channel, frames, V, C_OUT, TRAINING,
                    BLOCK_V, BLOCK_F,
                )  # fmt: skip
                operand = grad.to(OPERAND).to(DOT)
                if TO_INPUT:
                    part_weights = weights
                    if not HOISTED:
                        row = _weight_rows(
                            first_part + part, block_in * BLOCK_C, C_IN, P, BLOCK_P, BLOCK_C
                        )
                        part_weights = _load_weights(
                            weight, row, to_channel, P * C_IN, C_OUT, OPERAND, DOT
                        )
                    back = tl.dot(operand, part_weights, back, input_precision=PRECISION)
                if weight_partials is not None:
                    joint_sums += _in_frames(grad, first, frames, BLOCK_F)
                    rows = _mix(
                        part_edges, values, BLOCK_P, BLOCK_V, BLOCK_F, BLOCK_C,
                        OPERAND, DOT, PRECISION,
                    )  # fmt: skip
                    grad_weights = tl.dot(
                        tl.trans(rows), operand, grad_weights, input_precision=PRECISION
                    )
            if TO_INPUT:
                back = _back_to_joints(back, BLOCK_P, BLOCK_V, BLOCK_F, BLOCK_C, OPERAND, DOT)
            if edge_partials is not None:
                grad_edges = tl.dot(back, tl.trans(values), grad_edges, input_precision=PRECISION)
            if out is not None:
                acc = tl.dot(tl.trans(back), part_edges, acc, input_precision=PRECISION)
        if out is not None:
            _store_input(
                tl.trans(acc), grad_y, y, grad_residual, residual_weight, out, group, first,
                block_in * BLOCK_C, frames, RESIDUAL, STRIDE, T, T_OUT, V, C_IN, C_OUT,
                BLOCK_V, BLOCK_F, BLOCK_C, BLOCK_N, OPERAND, DOT, PRECISION,
            )  # fmt: skip

    if edge_partials is not None:
        edge_partials += (split * BLOCKS_IN + block_in).to(tl.int64) * (P * V * V)
        _store_edges(edge_partials, grad_edges, first_part, V, P, BLOCK_P, BLOCK_V)
    if weight_partials is not None:
        to_channel = first_out + tl.arange(0, BLOCK_N)
        weight_partials += split.to(tl.int64) * (P * C_OUT * C_IN)
        _store_weights(
            weight_partials, grad_weights, first_part, block_in * BLOCK_C, to_channel,
            C_IN, C_OUT, P, BLOCK_P, BLOCK_C,
        )  # fmt: skip
        joints = tl.where(first_part + block_in == 0, V, 0)  # one of the programs with these sums
        total = tl.sum(tl.reshape(joint_sums, (BLOCK_V, BLOCK_F, BLOCK_N)), axis=1)
        joint_partials += split * (V * C_OUT)
        _store_joints(joint_partials, total, joints, to_channel, C_OUT, BLOCK_V)


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
    weights = tl.sum(_row_edges(adjacency, part, V, BLOCK_V, 1), axis=1)
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

"""Convolutions over time in stgcn_block, as products that gather their operands (implicit GEMM).

Maps are [B, T, V, C] in memory, so that one frame further is V rows further: a tap is a shift of
rows. Rows of a product are (sample, frame, joint), columns of its inner axis are (tap, channel),
several taps at a time where channels are few. With one tap and a stride the same kernels are the
residual's 1x1 convolution. Norm and ReLU are applied to what is read: neither their result nor the
gathered operand is ever written.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

from .stgcn_block_norm import load_norm, store_statistics


@triton.jit
def _positions(row, rows, FRAMES: tl.constexpr, V: tl.constexpr):
    """Sample, frame and joint of each row."""
    row = tl.minimum(row, rows - 1)
    frame = row // V
    return frame // FRAMES, frame % FRAMES, row % V


@triton.jit
def _reads(
    in_rows, frame, tap, channel,
    T: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Which of [rows, (tap, channel)] are read: a condition per row, if there is one tap."""
    if TAPS == 1:
        valid = (in_rows & (frame >= 0) & (frame < T))[:, None]
        if C % BLOCK_C != 0:
            valid = valid & (channel < C)[None, :]
    else:
        valid = in_rows[:, None] & (frame >= 0) & (frame < T) & ((tap < K) & (channel < C))[None, :]
    return valid


@triton.jit
def _load_weights(
    weight, tap, to_channel, channel,
    C_TO: tl.constexpr, C_FROM: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """[to_channel, (tap, channel)] of weight [K, C_TO, C_FROM]."""
    inside = channel < C_FROM
    if TAPS > 1:
        inside = inside & (tap < K)
    at = to_channel[:, None] * C_FROM + (channel + tap * (C_TO * C_FROM))[None, :]
    return tl.load(weight + at, mask=(to_channel < C_TO)[:, None] & inside[None, :], other=0.0)


@triton.jit(do_not_specialize=["batch"])
def convolution_kernel(
    source,  # [B, T, V, C_IN]
    statistics, affine,  # of the norm that, with a ReLU, comes before; else not read
    weight,  # [K, C_OUT, C_IN]
    bias,  # [C_OUT]
    out,  # out [B, T_OUT, V, C_OUT]
    counts, partials,  # out [programs], [programs, 2, C_OUT], where STATISTICS
    batch, eps,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    NORMALIZE: tl.constexpr, STATISTICS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows = batch * (T_OUT * V)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    in_rows = row < rows
    sample, to_frame, joint = _positions(row, rows, T_OUT, V)
    first_frame = to_frame * STRIDE - K // 2
    if STRIDE == 1:  # T is T_OUT
        offset = (row - K // 2 * V) * C_IN
    else:
        offset = ((sample * T + first_frame) * V + joint) * C_IN
    column = tl.arange(0, TAPS * BLOCK_C)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)

    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for first_channel in range(0, C_IN, BLOCK_C):
        channel = first_channel + column % BLOCK_C
        if NORMALIZE:
            mean, _, scale, shift = load_norm(statistics, affine, eps, channel, C_IN)
        for first_tap in range(0, K, TAPS):
            if TAPS == 1:
                tap = first_tap
                frame = first_frame + tap
            else:
                tap = first_tap + column // BLOCK_C
                frame = first_frame[:, None] + tap[None, :]
            valid = _reads(in_rows, frame, tap, channel, T, C_IN, K, TAPS, BLOCK_C)
            gathered = channel + tap * (V * C_IN)
            values = tl.load(source + offset[:, None] + gathered[None, :], mask=valid, other=0.0)
            if NORMALIZE:
                values = (values.to(tl.float32) - mean[None, :]) * scale[None, :] + shift[None, :]
                # Beyond the ends of time there are zeros, not normalized ones. NaN stays NaN.
                values = tl.where(valid & ~(values < 0.0), values, 0.0)
            weights = _load_weights(weight, tap, to_channel, channel, C_OUT, C_IN, K, TAPS)
            acc = tl.dot(
                values.to(OPERAND).to(DOT), tl.trans(weights.to(OPERAND).to(DOT)), acc,
                input_precision=PRECISION,
            )  # fmt: skip

    acc += tl.load(bias + to_channel, mask=to_channel < C_OUT, other=0.0).to(tl.float32)[None, :]
    rounded = acc.to(out.dtype.element_ty)
    valid = in_rows[:, None] & (to_channel < C_OUT)[None, :]
    tl.store(out + row[:, None] * C_OUT + to_channel[None, :], rounded, mask=valid)
    if STATISTICS:
        count = tl.minimum(rows - tl.program_id(0) * BLOCK_M, BLOCK_M).to(tl.float32)
        store_statistics(
            rounded.to(tl.float32), in_rows, count, counts, partials, tl.program_id(0),
            to_channel, C_OUT,
        )  # fmt: skip


@triton.jit(do_not_specialize=["batch"])
def convolution_gradient_kernel(
    gradient,  # [B, T_OUT, V, C_OUT]
    weight,  # [K, C_IN, C_OUT]
    before,  # [B, T, V, C_IN]: what goes into the norm before the convolution
    statistics, affine,  # of that norm
    out,  # out [B, T, V, C_IN]: the gradient after that norm, before its ReLU
    partials,  # out [programs, 2, C_IN]: sums of it, and of it times the normalized values
    batch, eps,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of a convolution's input, and ReLU's mask, and the sums of the norm before it.

    A program's frames leave the same remainder (`phase`) by the stride, so that all of them meet
    the same taps: the rest would be products with zeros.
    """
    HALF: tl.constexpr = (T + STRIDE - 1) // STRIDE
    phase = tl.program_id(2)
    nearest = (phase + K // 2) % STRIDE  # first tap that these frames meet
    rows = batch * (HALF * V)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    sample, lattice, joint = _positions(row, rows, HALF, V)
    frame_in = lattice * STRIDE + phase
    in_rows = (row < rows) & (frame_in < T)
    last_frame = lattice + (phase + K // 2 - nearest) // STRIDE
    if STRIDE == 1:  # T is T_OUT; fewer numbers to keep until the end
        to_row = row
        offset = (row + K // 2 * V) * C_OUT
    else:
        to_row = (sample * T + frame_in) * V + joint
        offset = ((sample * T_OUT + last_frame) * V + joint) * C_OUT
    column = tl.arange(0, TAPS * BLOCK_C)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)

    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for first_channel in range(0, C_OUT, BLOCK_C):
        channel = first_channel + column % BLOCK_C
        for back in range(0, (K - nearest + STRIDE - 1) // STRIDE, TAPS):
            if TAPS == 1:
                frames_back = back
                frame = last_frame - frames_back
            else:
                frames_back = back + column // BLOCK_C
                frame = last_frame[:, None] - frames_back[None, :]
            tap = nearest + frames_back * STRIDE
            valid = _reads(in_rows, frame, tap, channel, T_OUT, C_OUT, K, TAPS, BLOCK_C)
            gathered = channel - frames_back * (V * C_OUT)
            values = tl.load(gradient + offset[:, None] + gathered[None, :], mask=valid, other=0.0)
            weights = _load_weights(weight, tap, to_channel, channel, C_IN, C_OUT, K, TAPS)
            acc = tl.dot(
                values.to(OPERAND).to(DOT), tl.trans(weights.to(OPERAND).to(DOT)), acc,
                input_precision=PRECISION,
            )  # fmt: skip

    at = to_row[:, None] * C_IN + to_channel[None, :]
    valid = in_rows[:, None] & (to_channel < C_IN)[None, :]
    mean, reciprocal, scale, shift = load_norm(statistics, affine, eps, to_channel, C_IN)
    centered = tl.load(before + at, mask=valid, other=0.0).to(tl.float32) - mean[None, :]
    positive = valid & (centered * scale[None, :] + shift[None, :] > 0.0)
    rounded = tl.where(positive, acc, 0.0).to(out.dtype.element_ty)
    tl.store(out + at, rounded, mask=valid)
    masked = rounded.to(tl.float32)
    part = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
    partials += part * (2 * C_IN) + to_channel
    inside = to_channel < C_IN
    tl.store(partials, tl.sum(masked, axis=0), mask=inside)
    tl.store(partials + C_IN, tl.sum(masked * centered, axis=0) * reciprocal, mask=inside)


@triton.jit(do_not_specialize=["batch"])
def convolution_weight_kernel(
    source,  # [B, T, V, C_IN]
    statistics, affine,  # of the norm before the convolution
    gradient,  # [B, T_OUT, V, C_OUT]
    partials,  # out [splits, K, C_IN, C_OUT]
    batch, eps,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    NORMALIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the weights from one part of the rows."""
    rows = batch * (T_OUT * V)
    blocks = tl.cdiv(rows, BLOCK_R)
    split = tl.program_id(2)
    first = (blocks.to(tl.int64) * split // tl.num_programs(2)).to(tl.int32)
    last = (blocks.to(tl.int64) * (split + 1) // tl.num_programs(2)).to(tl.int32)
    item = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    in_items = item < K * C_IN
    tap, channel = item // C_IN, item % C_IN
    gathered = channel + tap * (V * C_IN)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if NORMALIZE:
        mean, _, scale, shift = load_norm(statistics, affine, eps, channel, C_IN)

    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(first, last):
        row = block * BLOCK_R + tl.arange(0, BLOCK_R)
        in_rows = row < rows
        sample, to_frame, joint = _positions(row, rows, T_OUT, V)
        first_frame = to_frame * STRIDE - K // 2
        offset = ((sample * T + first_frame) * V + joint) * C_IN
        frame = first_frame[None, :] + tap[:, None]
        valid = in_items[:, None] & in_rows[None, :] & (frame >= 0) & (frame < T)
        values = tl.load(source + gathered[:, None] + offset[None, :], mask=valid, other=0.0)
        if NORMALIZE:
            values = (values.to(tl.float32) - mean[:, None]) * scale[:, None] + shift[:, None]
            values = tl.where(valid & ~(values < 0.0), values, 0.0)
        gradients = tl.load(
            gradient + row[:, None] * C_OUT + to_channel[None, :],
            mask=in_rows[:, None] & (to_channel < C_OUT)[None, :],
            other=0.0,
        )
        acc = tl.dot(
            values.to(OPERAND).to(DOT), gradients.to(OPERAND).to(DOT), acc,
            input_precision=PRECISION,
        )  # fmt: skip
    partials += split.to(tl.int64) * (K * C_IN * C_OUT)
    valid = in_items[:, None] & (to_channel < C_OUT)[None, :]
    tl.store(partials + item[:, None] * C_OUT + to_channel[None, :], acc, mask=valid)

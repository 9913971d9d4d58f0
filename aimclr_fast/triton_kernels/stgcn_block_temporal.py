"""Convolutions over time in stgcn_block, as products that gather their operands (implicit GEMM).

Maps are [B, T, V, C] in memory, so that one frame further is V rows further: a tap is a shift of
rows. Rows of a product are (sample, frame, joint), columns of its inner axis are (tap, channel),
several taps at a time where channels are few. With one tap and a stride the same kernels are the
residual's 1x1 convolution. The gathered operand is never written.

Norm and ReLU come before a convolution over time, and each element meets K taps. Where channels are
few, what is read is normalized, and a tile is made to share it between taps: forward in windows of
frames, backward by turning the product around. Where they are many, the normalized map is written
first, and copied to the products as it is.

Samples lie in groups, one after the other, each with statistics of its own; a program takes rows of
one group.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

from .stgcn_block_norm import load_norm


@triton.jit
def _positions(row, rows, FRAMES: tl.constexpr, V: tl.constexpr):
    """Sample, frame and joint of each row."""
    row = tl.minimum(row, rows - 1)
    frame = row // V
    return frame // FRAMES, frame % FRAMES, row % V


@triton.jit
def _phase_rows(
    row, rows, phase, nearest,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr, C_OUT: tl.constexpr,
    K: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    """Of rows whose frames leave the remainder `phase` by the stride: which there are, their place
    in the input, and the last frame of the output that they meet with its offset.

    `nearest` is the first tap that they meet.
    """
    sample, lattice, joint = _positions(row, rows, (T + STRIDE - 1) // STRIDE, V)
    frame = lattice * STRIDE + phase
    last_frame = lattice + (phase + K // 2 - nearest) // STRIDE
    if STRIDE == 1:  # T is T_OUT; fewer numbers to keep
        to_row = row
        offset = (row + K // 2 * V) * C_OUT
    else:
        to_row = (sample * T + frame) * V + joint
        offset = ((sample * T_OUT + last_frame) * V + joint) * C_OUT
    return (row < rows) & (frame < T), to_row, last_frame, offset


@triton.jit
def _inside(in_rows, channel, C: tl.constexpr, BLOCK: tl.constexpr):
    """Which of [rows, channels] there are: a condition per row, if blocks end where channels do."""
    valid = in_rows[:, None]
    if C % BLOCK != 0:
        valid = valid & (channel < C)[None, :]
    return valid


@triton.jit
def _reads(
    in_rows, frame, tap, channel,
    T: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Which of [rows, (tap, channel)] are read: a condition per row, if there is one tap."""
    if TAPS == 1:
        valid = _inside(in_rows & (frame >= 0) & (frame < T), channel, C, BLOCK_C)
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


@triton.jit
def _load_band(
    weight, frame, to_column, channel, BLOCK_TO: tl.constexpr,
    C_TO: tl.constexpr, C_FROM: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    """[(to_frame, to_channel), (frame, channel)] of weight [K, C_TO, C_FROM].

    Frames count from the first that the first of `to_frame` meets: what one meets is its taps.
    """
    to_frame = to_column // BLOCK_TO
    to_channel = tl.program_id(1) * BLOCK_TO + to_column % BLOCK_TO
    tap = frame[None, :] - (to_frame * STRIDE)[:, None]
    inside = (to_channel < C_TO)[:, None] & (channel < C_FROM)[None, :]
    row = (to_channel - to_frame * (STRIDE * C_TO)) * C_FROM
    at = row[:, None] + (channel + frame * (C_TO * C_FROM))[None, :]
    return tl.load(weight + at, mask=inside & (tap >= 0) & (tap < K), other=0.0)


@triton.jit
def _product(
    acc, values, weights, OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr
):
    """Sums [rows, to] plus values [rows, from] times weights [to, from]."""
    return tl.dot(
        values.to(OPERAND).to(DOT), tl.trans(weights.to(OPERAND).to(DOT)), acc,
        input_precision=PRECISION,
    )  # fmt: skip


@triton.jit
def _normalized(values, valid, norm):
    """Norm and ReLU of values [rows, channels]; NaN stays NaN.

    Beyond the ends of time there are zeros, not normalized ones. One multiply-add: what it rounds
    is no more than what the values have been rounded.
    """
    mean, _, scale, shift = norm
    values = values.to(tl.float32) * scale[None, :] + (shift - mean * scale)[None, :]
    return tl.where(valid, tl.maximum(values, 0.0, propagate_nan=tl.PropagateNan.ALL), 0.0)


@triton.jit
def _add_window(
    acc, source, weight, norm, offset, first_frame, in_rows, channel, to_column,
    T: tl.constexpr, V: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr,
    STRIDE: tl.constexpr, FRAMES: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    TAPS: tl.constexpr, OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums [rows, (frame, channel)] plus what a block of channels adds, TAPS frames at a time."""
    ahead = tl.arange(0, TAPS * BLOCK_C) // BLOCK_C
    for first in range(0, (FRAMES - 1) * STRIDE + K, TAPS):
        along = first + ahead
        frame = first_frame[:, None] + along[None, :]
        valid = _inside(in_rows, channel, C_IN, BLOCK_C) & (frame >= 0) & (frame < T)
        at = offset[:, None] + (channel + along * (V * C_IN))[None, :]
        values = _normalized(tl.load(source + at, mask=valid, other=0.0), valid, norm)
        weights = _load_band(weight, along, to_column, channel, BLOCK_N, C_OUT, C_IN, K, STRIDE)
        acc = _product(acc, values, weights, OPERAND, DOT, PRECISION)
    return acc


@triton.jit
def _over_frames(values, FRAMES: tl.constexpr, BLOCK_N: tl.constexpr):
    """Sums [BLOCK_N] of values [rows, (frame, channel)]."""
    return tl.sum(tl.reshape(tl.sum(values, axis=0), [FRAMES, BLOCK_N]), axis=0)


@triton.jit
def _store_statistics(
    values, valid, count, counts, partials,
    C: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Leaves count, mean and squared deviations of values [rows, (frame, channel)]."""
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mean = _over_frames(values, FRAMES, BLOCK) / count
    means = tl.reshape(tl.broadcast_to(mean[None, :], [FRAMES, BLOCK]), [1, FRAMES * BLOCK])
    deviation = tl.where(valid, values - means, 0.0)
    squares = _over_frames(deviation * deviation, FRAMES, BLOCK)
    tl.store(counts, count)
    tl.store(partials + channel, mean, mask=channel < C)
    tl.store(partials + C + channel, squares, mask=channel < C)


@triton.jit(do_not_specialize=["rows", "tiles", "norm_step"])
def activation_kernel(
    source,  # [groups, rows, C]
    statistics, affine,  # of the norm; `norm_step` between the groups' statistics
    out,  # out, as source: ReLU of the norm
    rows, tiles, norm_step, eps,
    C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """What a temporal convolution takes, where it is cheaper to write it than to find it again."""
    group = tl.program_id(0) // tiles
    row = (tl.program_id(0) % tiles) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    at = (group * rows + row) * C + channel[None, :]
    valid = (row < rows) & (channel < C)[None, :]
    norm = load_norm(statistics + group * norm_step, affine, eps, channel, C)
    values = _normalized(tl.load(source + at, mask=valid, other=0.0), valid, norm)
    tl.store(out + at, values.to(out.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["batch", "programs", "norm_step"])
def convolution_kernel(
    source,  # [groups, B, T, V, C_IN]
    statistics, affine,  # of the norm that, with a ReLU, comes before; else not read
    weight,  # [K, C_OUT, C_IN]
    bias,  # [C_OUT]
    out,  # out [groups, B, T_OUT, V, C_OUT]
    counts, partials,  # out [groups, programs], [groups, programs, 2, C_OUT], where STATISTICS
    batch, programs, norm_step, eps,  # `norm_step` between the groups' statistics
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    NORMALIZE: tl.constexpr, STATISTICS: tl.constexpr, FRAMES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Convolution over time. A row of its product is FRAMES frames of one joint, side by side.

    With few channels that saves loads and norms at the price of products with zeros: each frame is
    read (FRAMES + K - 1) / FRAMES times instead of K. Such windows are always normalized.
    """
    BLOCKS: tl.constexpr = (T_OUT + FRAMES - 1) // FRAMES
    group, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    rows = batch * (BLOCKS * V)
    row = program * BLOCK_M + tl.arange(0, BLOCK_M)
    in_rows = row < rows
    sample, block, joint = _positions(row, rows, BLOCKS, V)
    sample += group * batch
    first_frame = block * (FRAMES * STRIDE) - K // 2
    offset = ((sample * T + first_frame) * V + joint) * C_IN
    column = tl.arange(0, TAPS * BLOCK_C)
    to_column = tl.arange(0, FRAMES * BLOCK_N)
    to_channel = tl.program_id(1) * BLOCK_N + to_column % BLOCK_N
    to_frame = to_column // BLOCK_N

    acc = tl.zeros([BLOCK_M, FRAMES * BLOCK_N], tl.float32)
    # Of one frame in one loop for both axes of the sum: its loads run ahead of the products.
    STEPS: tl.constexpr = 1 if FRAMES > 1 else (K + TAPS - 1) // TAPS
    for step in range(STEPS * ((C_IN + BLOCK_C - 1) // BLOCK_C)):
        channel = step // STEPS * BLOCK_C + column % BLOCK_C
        if NORMALIZE:
            norm = load_norm(statistics + group * norm_step, affine, eps, channel, C_IN)
        if FRAMES == 1:
            if TAPS == 1:
                tap = step % STEPS
                frame = first_frame + tap
            else:
                tap = step % STEPS * TAPS + column // BLOCK_C
                frame = first_frame[:, None] + tap[None, :]
            valid = _reads(in_rows, frame, tap, channel, T, C_IN, K, TAPS, BLOCK_C)
            at = offset[:, None] + (channel + tap * (V * C_IN))[None, :]
            values = tl.load(source + at, mask=valid, other=0.0, cache_modifier=".ca")
            if NORMALIZE:
                values = _normalized(values, valid, norm)
            weights = _load_weights(weight, tap, to_channel, channel, C_OUT, C_IN, K, TAPS)
            acc = _product(acc, values, weights, OPERAND, DOT, PRECISION)
        else:
            acc = _add_window(
                acc, source, weight, norm, offset, first_frame, in_rows, channel, to_column,
                T, V, C_IN, C_OUT, K, STRIDE, FRAMES, BLOCK_N, BLOCK_C, TAPS,
                OPERAND, DOT, PRECISION,
            )  # fmt: skip

    acc += tl.load(bias + to_channel, mask=to_channel < C_OUT, other=0.0).to(tl.float32)[None, :]
    valid = _inside(in_rows, to_channel, C_OUT, BLOCK_N)
    frame = block * FRAMES
    if T_OUT % FRAMES != 0:
        valid = valid & (frame[:, None] + to_frame[None, :] < T_OUT)
    at = ((sample * T_OUT + frame) * V + joint) * C_OUT
    at = at[:, None] + (to_frame * (V * C_OUT) + to_channel)[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=valid)
    if STATISTICS:
        # Read again as it was written: a thread then holds many rows of few channels, and sums
        # over rows need few exchanges between threads.
        tl.debug_barrier()
        values = tl.load(out + at, mask=valid, other=0.0).to(tl.float32)
        in_frames = tl.where(in_rows, tl.minimum(T_OUT - frame, FRAMES), 0)
        _store_statistics(
            values, valid, tl.sum(in_frames, axis=0).to(tl.float32), counts + tl.program_id(0),
            partials + tl.program_id(0) * (2 * C_OUT), C_OUT, FRAMES, BLOCK_N,
        )  # fmt: skip


@triton.jit
def _share(tiles, part, parts):
    """First and last of the tiles that one of several programs takes."""
    tiles = tiles.to(tl.int64)
    return (tiles * part // parts).to(tl.int32), (tiles * (part + 1) // parts).to(tl.int32)


@triton.jit
def _store_sums(partials, masked, weighted, reciprocal, channel, C: tl.constexpr):
    """Sums over rows of the gradient after a norm, and of it times the normalized values."""
    tl.store(partials + channel, tl.sum(masked, axis=0), mask=channel < C)
    tl.store(partials + C + channel, tl.sum(weighted, axis=0) * reciprocal, mask=channel < C)


@triton.jit
def _load_met(
    gradient, in_rows, offset, last_frame, back, inside, channel,
    T_OUT: tl.constexpr, V: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """[rows, (tap, channel)] of the gradient, `back` frames before the last that a row meets."""
    frame = last_frame[:, None] - back[None, :]
    met = in_rows[:, None] & (frame >= 0) & (frame < T_OUT) & inside[None, :]
    at = offset[:, None] + (channel - back * (V * C))[None, :]
    return tl.load(gradient + at, mask=met, other=0.0, cache_modifier=".ca")


@triton.jit
def _store_taps(
    of_weight, values, tap, to_channel, channel,
    C_TO: tl.constexpr, C_FROM: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Values [(tap, channel), to_channel] of weight [K, C_TO, C_FROM]: what _load_weights reads."""
    at = to_channel[:, None] * C_FROM + (channel + tap * (C_TO * C_FROM))[None, :]
    inside = (to_channel < C_TO)[:, None] & ((tap < K) & (channel < C_FROM))[None, :]
    tl.store(of_weight + at, tl.trans(values), mask=inside)


@triton.jit
def _halves(values):
    """The left and the right half of columns."""
    both = tl.reshape(values, [values.shape[0], 2, values.shape[1] // 2])
    return tl.split(tl.permute(both, [0, 2, 1]))


@triton.jit
def _finish_gradient(
    acc, before, statistics, affine, out, activated, partials, row, in_rows, first, eps,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the norm's output and its sums, for columns from `first` on."""
    channel = first + tl.arange(0, BLOCK)
    at = row[:, None] * C + channel[None, :]
    valid = _inside(in_rows, channel, C, BLOCK)
    norm = load_norm(statistics, affine, eps, channel, C)
    values = tl.load(before + at, mask=valid, other=0.0)
    active = _normalized(values, valid, norm)
    tl.store(activated + at, active.to(activated.dtype.element_ty), mask=valid)
    rounded = tl.where(active > 0.0, acc, 0.0).to(out.dtype.element_ty)
    tl.store(out + at, rounded, mask=valid)
    masked = rounded.to(tl.float32)
    weighted = masked * (values.to(tl.float32) - norm[0][None, :])
    _store_sums(partials, masked, weighted, norm[1], channel, C)


@triton.jit(do_not_specialize=["batch", "programs", "norm_step"])
def convolution_gradient_kernel(
    gradient,  # [groups, B, T_OUT, V, C_OUT]
    weight,  # [K, C_IN, C_OUT]
    before,  # [groups, B, T, V, C_IN]: what goes into the norm before the convolution
    statistics, affine,  # of that norm
    out,  # out [groups, B, T, V, C_IN]: the gradient after that norm, before its ReLU
    activated,  # out [groups, B, T, V, C_IN]: what the convolution took
    partials,  # out [groups, programs, 2, C_IN]: sums of `out`, and of it times the normalized
    batch, programs, norm_step, eps,  # `norm_step` between the groups' statistics
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
    group, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    gradient += group * (batch * (T_OUT * V * C_OUT))
    phase = tl.program_id(2)
    nearest = (phase + K // 2) % STRIDE  # first tap that these frames meet
    rows = batch * (HALF * V)
    row = program * BLOCK_M + tl.arange(0, BLOCK_M)
    in_rows, to_row, last_frame, offset = _phase_rows(
        row, rows, phase, nearest, T, T_OUT, V, C_OUT, K, STRIDE
    )
    column = tl.arange(0, TAPS * BLOCK_C)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)

    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    taps = ((K - nearest + STRIDE - 1) // STRIDE + TAPS - 1) // TAPS
    for step in range(taps * ((C_OUT + BLOCK_C - 1) // BLOCK_C)):
        channel = step // taps * BLOCK_C + column % BLOCK_C
        back = step % taps * TAPS
        if TAPS == 1:
            frames_back = back
            frame = last_frame - frames_back
        else:
            frames_back = back + column // BLOCK_C
            frame = last_frame[:, None] - frames_back[None, :]
        tap = nearest + frames_back * STRIDE
        valid = _reads(in_rows, frame, tap, channel, T_OUT, C_OUT, K, TAPS, BLOCK_C)
        at = offset[:, None] + (channel - frames_back * (V * C_OUT))[None, :]
        values = tl.load(gradient + at, mask=valid, other=0.0, cache_modifier=".ca")
        weights = _load_weights(weight, tap, to_channel, channel, C_IN, C_OUT, K, TAPS)
        acc = _product(acc, values, weights, OPERAND, DOT, PRECISION)

    to_row += group * (batch * (T * V))
    part = (group * tl.num_programs(2) + phase) * programs + program
    partials += part * (2 * C_IN)
    statistics += group * norm_step
    first = tl.program_id(1) * BLOCK_N
    if BLOCK_N == 128:  # half of the columns at a time: all of them need too many registers
        low, high = _halves(acc)
        _finish_gradient(
            low, before, statistics, affine, out, activated, partials, to_row, in_rows,
            first, eps, C_IN, BLOCK_N // 2,
        )  # fmt: skip
        _finish_gradient(
            high, before, statistics, affine, out, activated, partials, to_row, in_rows,
            first + BLOCK_N // 2, eps, C_IN, BLOCK_N // 2,
        )  # fmt: skip
    else:
        _finish_gradient(
            acc, before, statistics, affine, out, activated, partials, to_row, in_rows,
            first, eps, C_IN, BLOCK_N,
        )  # fmt: skip


@triton.jit(do_not_specialize=["batch", "programs", "norm_step"])
def convolution_backward_kernel(
    gradient,  # [groups, B, T_OUT, V, C_OUT]
    weight,  # [K, C_IN, C_OUT]
    before,  # [groups, B, T, V, C_IN]: what goes into the norm before the convolution
    statistics, affine,  # of that norm
    out,  # out [groups, B, T, V, C_IN]: the gradient after that norm, before its ReLU
    partials,  # out [groups, phases, programs, 2, C_IN]: as of convolution_gradient_kernel
    of_weight,  # out [groups, programs, K, C_IN, C_OUT]: shares of the weights' gradient
    batch, programs, norm_step, eps,  # `norm_step` between the groups' statistics
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a narrow convolution's input and weights, with the norm and ReLU before it.

    The gradients that a tile of the input meets, [rows, (tap, channel)], are what both products
    take; a program adds up the weights' over all of its tiles. Phases are those of
    convolution_gradient_kernel.
    """
    HALF: tl.constexpr = (T + STRIDE - 1) // STRIDE
    GATHERS: tl.constexpr = ((K + STRIDE - 1) // STRIDE + TAPS - 1) // TAPS
    group, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    phase = tl.program_id(2)
    nearest = (phase + K // 2) % STRIDE  # first tap that these frames meet
    rows = batch * (HALF * V)
    gradient += group * (batch * (T_OUT * V * C_OUT))
    before += group * (batch * (T * V * C_IN))
    out += group * (batch * (T * V * C_IN))
    first_tile, last_tile = _share(tl.cdiv(rows, BLOCK_M), program, programs)
    column = tl.arange(0, TAPS * BLOCK_C)
    channel, ahead = column % BLOCK_C, column // BLOCK_C
    to_channel = tl.arange(0, BLOCK_N)
    norm = load_norm(statistics + group * norm_step, affine, eps, to_channel, C_IN)

    of_taps, weights = (), ()
    for gather in tl.static_range(GATHERS):
        of_taps += (tl.zeros([TAPS * BLOCK_C, BLOCK_N], tl.float32),)  # type: ignore[assignment]
        tap = nearest + (gather * TAPS + ahead) * STRIDE
        more = _load_weights(weight, tap, to_channel, channel, C_IN, C_OUT, K, 2)
        weights += (more,)  # type: ignore[assignment]
    plain = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    weighted = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for tile in range(first_tile, last_tile):
        row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        in_rows, to_row, last_frame, offset = _phase_rows(
            row, rows, phase, nearest, T, T_OUT, V, C_OUT, K, STRIDE
        )
        at = to_row[:, None] * C_IN + to_channel[None, :]
        valid = _inside(in_rows, to_channel, C_IN, BLOCK_N)
        values = tl.load(before + at, mask=valid, other=0.0)
        active = _normalized(values, valid, norm)
        turned = tl.trans(active.to(before.dtype.element_ty))
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        sums = ()
        for gather in tl.static_range(GATHERS):
            back = gather * TAPS + ahead
            inside = (nearest + back * STRIDE < K) & (channel < C_OUT)
            gradients = _load_met(
                gradient, in_rows, offset, last_frame, back, inside, channel, T_OUT, V, C_OUT
            )
            acc = _product(acc, gradients, weights[gather], OPERAND, DOT, PRECISION)
            # Taps as rows: enough of them for the products of a whole warpgroup.
            of_tap = _product(of_taps[gather], tl.trans(gradients), turned, OPERAND, DOT, PRECISION)
            sums += (of_tap,)  # type: ignore[assignment]
        of_taps = sums
        rounded = tl.where(active > 0.0, acc, 0.0).to(out.dtype.element_ty)
        tl.store(out + at, rounded, mask=valid)
        plain += rounded.to(tl.float32)
        weighted += rounded.to(tl.float32) * values.to(tl.float32)

    part = (group * tl.num_programs(2) + phase) * programs + program
    # The norm is read again, not to be kept in registers until here.
    norm = load_norm(statistics + group * norm_step, affine, eps, to_channel, C_IN)
    _store_sums(
        partials + part * (2 * C_IN), plain, weighted - plain * norm[0][None, :], norm[1],
        to_channel, C_IN,
    )  # fmt: skip
    of_weight += tl.program_id(0).to(tl.int64) * (K * C_IN * C_OUT)
    for gather in tl.static_range(GATHERS):
        tap = nearest + (gather * TAPS + ahead) * STRIDE
        _store_taps(of_weight, of_taps[gather], tap, to_channel, channel, C_IN, C_OUT, K)


@triton.jit
def _store_items(partials, acc, item, first, items, C: tl.constexpr, BLOCK: tl.constexpr):
    """Columns from `first` on of [items, C]."""
    channel = first + tl.arange(0, BLOCK)
    valid = (item < items)[:, None] & (channel < C)[None, :]
    tl.store(partials + item[:, None] * C + channel[None, :], acc, mask=valid)


@triton.jit(do_not_specialize=["batch", "splits"])
def convolution_weight_kernel(
    source,  # [B, T, V, C_IN]: what the convolution took
    gradient,  # [B, T_OUT, V, C_OUT]
    partials,  # out [splits, K, C_IN, C_OUT]
    batch, splits,
    T: tl.constexpr, T_OUT: tl.constexpr, V: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the weights from one part of the rows, of all groups alike."""
    rows = batch * (T_OUT * V)
    first, last = _share(tl.cdiv(rows, BLOCK_R), tl.program_id(2), splits)
    item = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    to_channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)

    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for block in range(first, last):
        row = block * BLOCK_R + tl.arange(0, BLOCK_R)
        in_rows = row < rows
        sample, to_frame, joint = _positions(row, rows, T_OUT, V)
        first_frame = to_frame * STRIDE - K // 2
        offset = ((sample * T + first_frame) * V + joint) * C_IN
        if C_IN % BLOCK_M == 0:  # one tap for all of a program's items
            tap = tl.program_id(0) * BLOCK_M // C_IN
            frame = first_frame + tap
            valid = (in_rows & (frame >= 0) & (frame < T))[:, None]
            gathered = item + tap * (V * C_IN - C_IN)
        else:
            taps = item // C_IN
            frame = first_frame[:, None] + taps[None, :]
            valid = in_rows[:, None] & (frame >= 0) & (frame < T) & (item < K * C_IN)[None, :]
            gathered = item + taps * (V * C_IN - C_IN)
        # Taps of one tile meet the same rows: in the first-level cache.
        CACHE: tl.constexpr = "" if C_IN % BLOCK_M == 0 else ".ca"
        at = offset[:, None] + gathered[None, :]
        values = tl.load(source + at, mask=valid, other=0.0, cache_modifier=CACHE)
        gradients = tl.load(
            gradient + row[:, None] * C_OUT + to_channel[None, :],
            mask=_inside(in_rows, to_channel, C_OUT, BLOCK_N),
            other=0.0,
        )
        acc = tl.dot(
            tl.trans(values.to(OPERAND).to(DOT)), gradients.to(OPERAND).to(DOT), acc,
            input_precision=PRECISION,
        )  # fmt: skip
    partials += tl.program_id(2).to(tl.int64) * (K * C_IN * C_OUT)
    first = tl.program_id(1) * BLOCK_N
    if BLOCK_N == 256:  # what goes through shared memory at a time
        low, high = _halves(acc)
        _store_items(partials, low, item, first, K * C_IN, C_OUT, BLOCK_N // 2)
        _store_items(partials, high, item, first + BLOCK_N // 2, K * C_IN, C_OUT, BLOCK_N // 2)
    else:
        _store_items(partials, acc, item, first, K * C_IN, C_OUT, BLOCK_N)

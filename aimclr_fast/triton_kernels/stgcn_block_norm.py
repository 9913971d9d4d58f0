"""Batch norm in stgcn_block: merging of statistics and sums, and the passes without a product.

A norm is its `statistics` [2, C] (mean, biased variance) and its `affine` [2, C] (weight, bias);
its gradient is linear in the incoming gradient and in its input, with `coefficients` [2, C] that
the sums give. A kernel that produces values leaves each program's share of a sum in a row of its
own, and one program per channel merges the rows in their order: no atomics, the same bits on every
run.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

# What is added before the last ReLU.
NO_RESIDUAL, IDENTITY, CONVOLUTION = 0, 1, 2


@triton.jit
def load_norm(statistics, affine, eps, channel, C: tl.constexpr):
    """Mean, reciprocal deviation, scale and bias of channels; beyond C the scale is 0."""
    inside = channel < C
    mean = tl.load(statistics + channel, mask=inside, other=0.0)
    reciprocal = tl.rsqrt(tl.load(statistics + C + channel, mask=inside, other=1.0) + eps)
    scale = tl.load(affine + channel, mask=inside, other=0.0).to(tl.float32) * reciprocal
    shift = tl.load(affine + C + channel, mask=inside, other=0.0).to(tl.float32)
    return mean, reciprocal, scale, shift


@triton.jit
def store_statistics(values, valid, count, counts, partials, part, channel, C: tl.constexpr):
    """Leaves count, mean and squared deviations of a tile [rows, channels] in row `part`.

    Deviations from the tile's own mean: sums of squares would cancel where the mean is large.
    """
    mean = tl.sum(tl.where(valid[:, None], values, 0.0), axis=0) / count
    deviation = tl.where(valid[:, None], values - mean[None, :], 0.0)
    tl.store(counts + part, count)
    partials += part * (2 * C) + channel
    tl.store(partials, mean, mask=channel < C)
    tl.store(partials + C, tl.sum(deviation * deviation, axis=0), mask=channel < C)


@triton.jit(do_not_specialize=["parts"])
def merge_statistics_kernel(
    counts,  # [parts]
    partials,  # [parts, 2, C]: mean, squared deviations
    statistics,  # out [2, C]
    parts,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance of one channel, by Chan's rule for merging."""
    channel = tl.program_id(0)
    count = tl.zeros([BLOCK], tl.float32)
    mean = tl.zeros([BLOCK], tl.float32)
    squares = tl.zeros([BLOCK], tl.float32)
    for first in range(0, parts, BLOCK):
        part = first + tl.arange(0, BLOCK)
        valid = part < parts
        at = partials + part * (2 * C) + channel
        more = tl.load(counts + part, mask=valid, other=0.0)
        delta = tl.load(at, mask=valid, other=0.0) - mean
        total = count + more
        share = more / tl.maximum(total, 1.0)
        mean += delta * share
        squares += tl.load(at + C, mask=valid, other=0.0) + delta * delta * (count * share)
        count = total
    rows = tl.sum(count, axis=0)
    center = tl.sum(mean * (count / rows), axis=0)
    delta = mean - center
    variance = (tl.sum(squares, axis=0) + tl.sum(delta * delta * count, axis=0)) / rows
    tl.store(statistics + channel, center)
    tl.store(statistics + C + channel, variance)


@triton.jit(do_not_specialize=["parts", "rows"])
def merge_gradient_kernel(
    partials,  # [parts, STEP]: sums of g and of g * normalized value, from column 0 and C
    statistics, affine,
    grad_affine,  # out [2, C]
    grad_bias,  # out [C], of the convolution before the norm; or None
    coefficients,  # out [2, C]
    parts, rows, eps,
    TRAINING: tl.constexpr, C: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of one channel's parameters, and the coefficients of the gradient of its values.

    With them that is scale * g + coefficients[0] * (value - mean) + coefficients[1].
    """
    channel = tl.program_id(0)
    plain = tl.zeros([BLOCK], tl.float32)
    weighted = tl.zeros([BLOCK], tl.float32)
    for first in range(0, parts, BLOCK):
        part = first + tl.arange(0, BLOCK)
        at = partials + part * STEP + channel
        plain += tl.load(at, mask=part < parts, other=0.0)
        weighted += tl.load(at + C, mask=part < parts, other=0.0)
    sum_plain = tl.sum(plain, axis=0)
    sum_weighted = tl.sum(weighted, axis=0)
    tl.store(grad_affine + channel, sum_weighted.to(grad_affine.dtype.element_ty))
    tl.store(grad_affine + C + channel, sum_plain.to(grad_affine.dtype.element_ty))
    reciprocal = tl.rsqrt(tl.load(statistics + C + channel) + eps)
    scale = tl.load(affine + channel).to(tl.float32) * reciprocal
    if TRAINING:
        per_row = scale / rows.to(tl.float32)
        tl.store(coefficients + channel, -per_row * reciprocal * sum_weighted)
        tl.store(coefficients + C + channel, -per_row * sum_plain)
    if grad_bias is not None:
        # The batch's norm subtracts a bias again.
        total = sum_plain * (0.0 if TRAINING else scale)
        tl.store(grad_bias + channel, total.to(grad_bias.dtype.element_ty))


@triton.jit
def norm_gradient(
    grad, before, at, valid, statistics, affine, coefficients, eps, channel,
    C: tl.constexpr, TRAINING: tl.constexpr,
):  # fmt: skip
    """Gradient of a norm's input `before` from that of its output, channels along the last axis.

    In evaluation the statistics are constants, and the input is not read.
    """
    mean, _, scale, _ = load_norm(statistics, affine, eps, channel, C)
    result = grad * scale[None, :]
    if TRAINING:
        inside = channel < C
        slope = tl.load(coefficients + channel, mask=inside, other=0.0)
        offset = tl.load(coefficients + C + channel, mask=inside, other=0.0)
        values = tl.load(before + at, mask=valid, other=0.0).to(tl.float32)
        result += (values - mean[None, :]) * slope[None, :] + offset[None, :]
    return result


@triton.jit(do_not_specialize=["parts"])
def sum_kernel(
    partials,  # [parts, size]
    out,  # out [size]
    parts,
    size: tl.constexpr, BLOCK: tl.constexpr, BLOCK_PARTS: tl.constexpr,
):  # fmt: skip
    """Sums of float32 columns, top to bottom."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, parts, BLOCK_PARTS):
        part = first + tl.arange(0, BLOCK_PARTS)
        valid = (part < parts)[:, None] & (column < size)[None, :]
        at = part.to(tl.int64)[:, None] * size + column[None, :]
        total += tl.sum(tl.load(partials + at, mask=valid, other=0.0), axis=0)
    tl.store(out + column, total, mask=column < size)


# --- Passes over rows [rows, C] without a product -------------------------------------------------


@triton.jit(do_not_specialize=["rows"])
def output_kernel(
    temporal, temporal_statistics, temporal_affine,
    residual,  # the block's input, or the residual convolution's output with its norm
    residual_statistics, residual_affine,
    keep,  # uint8 [rows, C] or None
    y,  # out
    rows, keep_scale, eps,
    RESIDUAL: tl.constexpr, C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Norm, dropout, residual and ReLU."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    at = row * C + channel[None, :]
    valid = (row < rows) & (channel < C)[None, :]
    mean, _, scale, shift = load_norm(temporal_statistics, temporal_affine, eps, channel, C)
    values = tl.load(temporal + at, mask=valid, other=0.0).to(tl.float32)
    values = (values - mean[None, :]) * scale[None, :] + shift[None, :]
    if keep is not None:
        kept = tl.load(keep + at, mask=valid, other=0)
        values = tl.where(kept != 0, values * keep_scale, 0.0)
    if RESIDUAL != 0:
        beside = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
        if RESIDUAL == 2:
            mean, _, scale, shift = load_norm(residual_statistics, residual_affine, eps, channel, C)
            beside = (beside - mean[None, :]) * scale[None, :] + shift[None, :]
        values += beside
    # NaN must not become 0, as max would make it.
    values = tl.where(values < 0.0, 0.0, values)
    tl.store(y + at, values.to(y.dtype.element_ty), mask=valid)


@triton.jit
def _load_gradients(grad_y, y, keep, keep_scale, at, valid):
    """The gradient after the last ReLU's mask, and after the dropout's."""
    grad = tl.load(grad_y + at, mask=valid, other=0.0).to(tl.float32)
    grad = tl.where(tl.load(y + at, mask=valid, other=0.0) > 0.0, grad, 0.0)
    dropped = grad
    if keep is not None:
        kept = tl.load(keep + at, mask=valid, other=0)
        dropped = tl.where(kept != 0, grad * keep_scale, 0.0)
    return grad, dropped


@triton.jit(do_not_specialize=["rows"])
def output_sums_kernel(
    grad_y, y, keep,
    temporal, temporal_statistics,
    residual, residual_statistics,  # of a residual convolution, or None
    partials,  # out [programs, 2 or 4, C]: sums of g, g * normalized; the same of the residual
    rows, steps, keep_scale, eps,
    C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums that the gradients of the norms before the last ReLU need."""
    SUMS: tl.constexpr = 2 if residual is None else 4
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < C
    mean = tl.load(temporal_statistics + channel, mask=inside, other=0.0)[None, :]
    variance = tl.load(temporal_statistics + C + channel, mask=inside, other=1.0)
    reciprocal = tl.rsqrt(variance + eps)
    plain = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    weighted = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    if residual is not None:
        mean_2 = tl.load(residual_statistics + channel, mask=inside, other=0.0)[None, :]
        variance_2 = tl.load(residual_statistics + C + channel, mask=inside, other=1.0)
        reciprocal_2 = tl.rsqrt(variance_2 + eps)
        plain_2 = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
        weighted_2 = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
    for step in range(steps):
        row = (tl.program_id(0) * steps + step) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
        at = row * C + channel[None, :]
        valid = (row < rows) & inside[None, :]
        grad, dropped = _load_gradients(grad_y, y, keep, keep_scale, at, valid)
        values = tl.load(temporal + at, mask=valid, other=0.0).to(tl.float32)
        plain += dropped
        weighted += dropped * (values - mean)
        if residual is not None:
            values = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
            plain_2 += grad
            weighted_2 += grad * (values - mean_2)
    out = partials + tl.program_id(0) * (SUMS * C) + channel
    tl.store(out, tl.sum(plain, axis=0), mask=inside)
    tl.store(out + C, tl.sum(weighted, axis=0) * reciprocal, mask=inside)
    if residual is not None:
        tl.store(out + 2 * C, tl.sum(plain_2, axis=0), mask=inside)
        tl.store(out + 3 * C, tl.sum(weighted_2, axis=0) * reciprocal_2, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def output_gradient_kernel(
    grad_y, y, keep,
    temporal, temporal_statistics, temporal_affine, temporal_coefficients,
    residual, residual_statistics, residual_affine, residual_coefficients,  # or None
    grad_temporal, grad_residual,  # out
    rows, keep_scale, eps,
    TRAINING: tl.constexpr,
    C: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of both convolutions' outputs, through ReLU, dropout and norms."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    at = row * C + channel[None, :]
    valid = (row < rows) & (channel < C)[None, :]
    grad, dropped = _load_gradients(grad_y, y, keep, keep_scale, at, valid)
    values = norm_gradient(
        dropped, temporal, at, valid, temporal_statistics, temporal_affine,
        temporal_coefficients, eps, channel, C, TRAINING,
    )  # fmt: skip
    tl.store(grad_temporal + at, values.to(grad_temporal.dtype.element_ty), mask=valid)
    if residual is not None:
        values = norm_gradient(
            grad, residual, at, valid, residual_statistics, residual_affine,
            residual_coefficients, eps, channel, C, TRAINING,
        )  # fmt: skip
        tl.store(grad_residual + at, values.to(grad_residual.dtype.element_ty), mask=valid)

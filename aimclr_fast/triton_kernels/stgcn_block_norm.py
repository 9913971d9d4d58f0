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


@triton.jit(do_not_specialize=["parts", "parts_2"])
def merge_statistics_kernel(
    counts,  # [groups * parts]
    partials,  # [groups * parts, 2, C]: mean, squared deviations
    counts_2, partials_2,  # of a second map, or None
    statistics,  # out [1 or 2, 2, C] of each group, STEP apart
    parts, parts_2,
    C: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance of one channel of one group of a map, by Chan's rule for merging."""
    channel, group, index = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if counts_2 is not None:
        second = index == 1
        counts = tl.where(second, counts_2, counts)
        partials = tl.where(second, partials_2, partials)
        parts = tl.where(second, parts_2, parts)
    counts += group * parts
    partials += group * parts * (2 * C)
    statistics += group * STEP + index * (2 * C)
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
    partials,  # [GROUPS * parts, norms, 2, C]: sums of g and of g * normalized value
    statistics,  # [norms, 2, C] of each group, STEP apart
    affine,  # [norms, 2, C]
    grad_affine,  # out [norms, 2, C]
    grad_bias, grad_bias_2,  # out [C], of the convolutions before the norms; or None
    coefficients,  # out [norms, GROUPS, 2, C]
    parts, rows, eps,
    TRAINING: tl.constexpr, C: tl.constexpr, GROUPS: tl.constexpr, STEP: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of one channel's parameters, and the coefficients of the gradient of its values.

    With them that is scale * g + coefficients[0] * (value - mean) + coefficients[1]. A group has
    `rows` rows.
    """
    channel, index, norms = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    statistics += index * (2 * C) + channel
    affine += index * (2 * C) + channel
    grad_affine += index * (2 * C) + channel
    weight = tl.load(affine).to(tl.float32)
    # Sums over the groups: they share the parameters.
    of_weight = tl.cast(0.0, tl.float32)
    of_bias = of_weight
    of_values = of_weight
    for group in tl.static_range(GROUPS):
        plain = tl.zeros([BLOCK], tl.float32)
        weighted = tl.zeros([BLOCK], tl.float32)
        for first in range(0, parts, BLOCK):
            part = first + tl.arange(0, BLOCK)
            at = partials + ((group * parts + part) * norms + index) * (2 * C) + channel
            plain += tl.load(at, mask=part < parts, other=0.0)
            weighted += tl.load(at + C, mask=part < parts, other=0.0)
        sum_plain = tl.sum(plain, axis=0)
        sum_weighted = tl.sum(weighted, axis=0)
        reciprocal = tl.rsqrt(tl.load(statistics + group * STEP + C) + eps)
        scale = weight * reciprocal
        of_weight += sum_weighted
        of_bias += sum_plain
        of_values += sum_plain * scale
        if TRAINING:
            per_row = scale / rows.to(tl.float32)
            out = coefficients + (index * GROUPS + group) * (2 * C) + channel
            tl.store(out, -per_row * reciprocal * sum_weighted)
            tl.store(out + C, -per_row * sum_plain)
    tl.store(grad_affine, of_weight.to(grad_affine.dtype.element_ty))
    tl.store(grad_affine + C, of_bias.to(grad_affine.dtype.element_ty))
    # The batch's norm subtracts a bias again.
    before = of_values * (0.0 if TRAINING else 1.0)
    if grad_bias is not None:
        tl.store(grad_bias + channel, before.to(grad_bias.dtype.element_ty), mask=index == 0)
    if grad_bias_2 is not None:
        tl.store(grad_bias_2 + channel, before.to(grad_bias_2.dtype.element_ty), mask=index == 1)


@triton.jit
def _store_sums(total, out, column, SHAPE: tl.constexpr):
    """Columns of partials in the place that `out` has for them; SHAPE as sum_kernel has it."""
    last, middle = column % SHAPE[1], column // SHAPE[1] % SHAPE[0]
    first = column // (SHAPE[0] * SHAPE[1])
    at = first * SHAPE[2] + middle * SHAPE[3] + last * SHAPE[4]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=column < SHAPE[5])


@triton.jit(do_not_specialize=["parts_0", "parts_1", "parts_2", "parts_3", "parts_4"])
def sum_kernel(
    partials_0, partials_1, partials_2, partials_3, partials_4,  # [parts, size], float32
    out_0, out_1, out_2, out_3, out_4,  # out, up to three axes in the order of the partials'
    parts_0, parts_1, parts_2, parts_3, parts_4,
    SHAPE_0: tl.constexpr, SHAPE_1: tl.constexpr, SHAPE_2: tl.constexpr, SHAPE_3: tl.constexpr,
    SHAPE_4: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_PARTS: tl.constexpr,
):  # fmt: skip
    """Sums of the columns of up to five partial results, top to bottom.

    A SHAPE is the sizes of the last two axes, the steps of all three in `out`, and the number of
    columns; that of a result which is not there is 0.
    """
    END_0: tl.constexpr = (SHAPE_0[5] + BLOCK - 1) // BLOCK
    END_1: tl.constexpr = END_0 + (SHAPE_1[5] + BLOCK - 1) // BLOCK
    END_2: tl.constexpr = END_1 + (SHAPE_2[5] + BLOCK - 1) // BLOCK
    END_3: tl.constexpr = END_2 + (SHAPE_3[5] + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    # One loop for all: which it is goes for the whole program.
    in_1, in_2, in_3, in_4 = program >= END_0, program >= END_1, program >= END_2, program >= END_3
    partials = tl.where(in_1, partials_1, partials_0)
    partials = tl.where(in_2, partials_2, partials)
    partials = tl.where(in_3, partials_3, partials)
    partials = tl.where(in_4, partials_4, partials)
    parts = tl.where(in_1, parts_1, parts_0)
    parts = tl.where(in_2, parts_2, parts)
    parts = tl.where(in_3, parts_3, parts)
    parts = tl.where(in_4, parts_4, parts)
    size = tl.where(in_1, SHAPE_1[5], SHAPE_0[5])
    size = tl.where(in_2, SHAPE_2[5], size)
    size = tl.where(in_3, SHAPE_3[5], size)
    size = tl.where(in_4, SHAPE_4[5], size)
    first = tl.where(in_1, END_0, 0)
    first = tl.where(in_2, END_1, first)
    first = tl.where(in_3, END_2, first)
    first = tl.where(in_4, END_3, first)

    column = (program - first) * BLOCK + tl.arange(0, BLOCK)
    part = tl.arange(0, BLOCK_PARTS)
    at = part[:, None] * size + column[None, :]
    sums = tl.zeros([BLOCK_PARTS, BLOCK], tl.float32)
    for first_part in range(0, parts, BLOCK_PARTS):
        valid = (part < parts - first_part)[:, None] & (column < size)[None, :]
        sums += tl.load(partials + at, mask=valid, other=0.0)
        partials += BLOCK_PARTS * size.to(tl.int64)
    total = tl.sum(sums, axis=0)
    if program < END_0:
        _store_sums(total, out_0, column, SHAPE_0)
    elif program < END_1:
        _store_sums(total, out_1, column, SHAPE_1)
    elif program < END_2:
        _store_sums(total, out_2, column, SHAPE_2)
    elif program < END_3:
        _store_sums(total, out_3, column, SHAPE_3)
    else:
        _store_sums(total, out_4, column, SHAPE_4)


# --- Passes over rows [rows, C] without a product -------------------------------------------------
#
# The programs of a group take turns at its tiles [row, eight, 8]. What the backward pass needs of
# the output's signs and of dropout are two bits an element: `masks`, int16 [rows, ceil(C / 8)], has
# those of eight channels; bit i says whether y is positive, bit 8 + i whether dropout kept it, too.


@triton.jit
def _channels(C: tl.constexpr, BLOCK_E: tl.constexpr):
    """Which eights of channels a program has, and the channels [eight, 8]."""
    eight = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    return eight, eight[:, None] * 8 + tl.arange(0, 8)[None, :]


@triton.jit
def _load_kept(keep, words, row, eight, some, at, valid, C: tl.constexpr):
    """Which elements dropout keeps; `keep` is [rows, C], or int64 [words] as the op says.

    `some` is valid of an eight, `valid` of its elements.
    """
    if keep.dtype.element_ty != tl.int64:
        return tl.load(keep + at, mask=valid, other=0) != 0
    if C % 8 == 0:  # one word has eight neighbors
        index = row[:, None] * (C // 8) + eight[None, :]
        place = index // words
        word = tl.load(keep + (index - place * words), mask=some, other=0) >> place
        bits = word[:, :, None] >> (8 * tl.arange(0, 8))[None, None, :]
    else:
        index = at // 8
        place = index // words
        word = tl.load(keep + (index - place * words), mask=valid, other=0)
        bits = word >> (place + 8 * (at % 8))
    return (bits & 1) != 0


@triton.jit(do_not_specialize=["rows", "programs", "words"])
def output_kernel(
    temporal, temporal_statistics, temporal_affine,
    residual,  # the block's input, or the residual convolution's output with its norm
    residual_statistics, residual_affine,
    keep,  # uint8 [rows, C], int64 [words] or None
    y, masks,  # out; masks may be None
    rows, programs, words, keep_scale, eps,  # rows and programs of one group
    RESIDUAL: tl.constexpr, C: tl.constexpr, STEP: tl.constexpr,  # between groups' statistics
    BLOCK_R: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Norm, dropout, residual and ReLU."""
    EIGHTS: tl.constexpr = (C + 7) // 8
    group, first = tl.program_id(0) // programs, tl.program_id(0) % programs
    eight, channel = _channels(C, BLOCK_E)
    mean, _, scale, shift = load_norm(
        temporal_statistics + group * STEP, temporal_affine, eps, channel, C
    )
    if keep is not None:
        scale, shift = scale * keep_scale, shift * keep_scale
    if RESIDUAL == 2:
        mean_2, _, scale_2, shift_2 = load_norm(
            residual_statistics + group * STEP, residual_affine, eps, channel, C
        )
    for tile in range(first, tl.cdiv(rows, BLOCK_R), programs):
        in_group = tile * BLOCK_R + tl.arange(0, BLOCK_R)
        row = group * rows + in_group
        at = row[:, None, None] * C + channel[None, :, :]
        some = (in_group < rows)[:, None] & (eight * 8 < C)[None, :]
        valid = (in_group < rows)[:, None, None] & (channel < C)[None, :, :]
        values = tl.load(temporal + at, mask=valid, other=0.0).to(tl.float32)
        values = (values - mean[None, :, :]) * scale[None, :, :] + shift[None, :, :]
        if keep is not None:
            kept = _load_kept(keep, words, row, eight, some, at, valid, C)
            values = tl.where(kept, values, 0.0 * values)  # what is not finite is not hidden
        if RESIDUAL != 0:
            beside = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
            if RESIDUAL == 2:
                beside = (beside - mean_2[None, :, :]) * scale_2[None, :, :] + shift_2[None, :, :]
            values += beside
        values = tl.maximum(values, 0.0, propagate_nan=tl.PropagateNan.ALL)
        rounded = values.to(y.dtype.element_ty)
        tl.store(y + at, rounded, mask=valid)
        if masks is not None:
            positive = valid & (rounded.to(tl.float32) > 0.0)
            bit = tl.full([1], 1, tl.int32) << tl.arange(0, 8)
            both = bit * 257
            if keep is not None:
                both = tl.where(kept, both[None, None, :], bit[None, None, :])
            else:
                both = both[None, None, :]
            bits = tl.sum(tl.where(positive, both, 0), axis=2)
            into = masks + row[:, None] * EIGHTS + eight[None, :]
            tl.store(into, bits.to(tl.int16), mask=some)


@triton.jit
def _load_gradients(grad_y, masks, row, eight, some, at, valid, C: tl.constexpr):
    """The gradient after the last ReLU's mask, and after the dropout's, but for its scale."""
    EIGHTS: tl.constexpr = (C + 7) // 8
    bits = tl.load(masks + row[:, None] * EIGHTS + eight[None, :], mask=some, other=0)
    bits = bits.to(tl.int32)[:, :, None] >> tl.arange(0, 8)[None, None, :]
    grad = tl.load(grad_y + at, mask=valid, other=0.0).to(tl.float32)
    return tl.where((bits & 1) != 0, grad, 0.0), tl.where((bits & 256) != 0, grad, 0.0)


@triton.jit(do_not_specialize=["rows", "programs"])
def output_sums_kernel(
    grad_y, masks,
    temporal, temporal_statistics,
    residual, residual_statistics,  # of a residual convolution, or None
    partials,  # out [groups * programs, 1 or 2, 2, C]: sums of g, g * normalized; of the residual
    rows, programs, keep_scale, eps,  # rows and programs of one group
    C: tl.constexpr, STEP: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Sums that the gradients of the norms before the last ReLU need."""
    SUMS: tl.constexpr = 2 if residual is None else 4
    group, first = tl.program_id(0) // programs, tl.program_id(0) % programs
    eight, channel = _channels(C, BLOCK_E)
    inside = channel < C
    temporal_statistics += group * STEP
    mean = tl.load(temporal_statistics + channel, mask=inside, other=0.0)
    plain = tl.zeros([BLOCK_R, BLOCK_E, 8], tl.float32)
    weighted = tl.zeros([BLOCK_R, BLOCK_E, 8], tl.float32)
    if residual is not None:
        residual_statistics += group * STEP
        mean_2 = tl.load(residual_statistics + channel, mask=inside, other=0.0)
        plain_2 = tl.zeros([BLOCK_R, BLOCK_E, 8], tl.float32)
        weighted_2 = tl.zeros([BLOCK_R, BLOCK_E, 8], tl.float32)
    for tile in range(first, tl.cdiv(rows, BLOCK_R), programs):
        in_group = tile * BLOCK_R + tl.arange(0, BLOCK_R)
        row = group * rows + in_group
        at = row[:, None, None] * C + channel[None, :, :]
        some = (in_group < rows)[:, None] & (eight * 8 < C)[None, :]
        valid = (in_group < rows)[:, None, None] & inside[None, :, :]
        grad, dropped = _load_gradients(grad_y, masks, row, eight, some, at, valid, C)
        values = tl.load(temporal + at, mask=valid, other=0.0).to(tl.float32)
        plain += dropped
        weighted += dropped * (values - mean[None, :, :])
        if residual is not None:
            values = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
            plain_2 += grad
            weighted_2 += grad * (values - mean_2[None, :, :])
    out = partials + tl.program_id(0) * (SUMS * C) + channel
    variance = tl.load(temporal_statistics + C + channel, mask=inside, other=1.0)
    tl.store(out, tl.sum(plain, axis=0) * keep_scale, mask=inside)
    weighted_sums = tl.sum(weighted, axis=0) * (keep_scale * tl.rsqrt(variance + eps))
    tl.store(out + C, weighted_sums, mask=inside)
    if residual is not None:
        variance = tl.load(residual_statistics + C + channel, mask=inside, other=1.0)
        tl.store(out + 2 * C, tl.sum(plain_2, axis=0), mask=inside)
        tl.store(out + 3 * C, tl.sum(weighted_2, axis=0) * tl.rsqrt(variance + eps), mask=inside)


@triton.jit
def _load_gradient_norm(
    statistics, affine, coefficients, group, eps, channel, C: tl.constexpr, TRAINING: tl.constexpr
):
    """Mean, scale and coefficients of channels, of one group."""
    mean, _, scale, _ = load_norm(statistics, affine, eps, channel, C)
    slope, offset = mean, mean
    if TRAINING:
        coefficients += group * (2 * C) + channel
        slope = tl.load(coefficients, mask=channel < C, other=0.0)
        offset = tl.load(coefficients + C, mask=channel < C, other=0.0)
    return mean, scale, slope, offset


@triton.jit(do_not_specialize=["rows", "programs"])
def output_gradient_kernel(
    grad_y, masks,
    temporal, temporal_statistics, temporal_affine, temporal_coefficients,
    residual, residual_statistics, residual_affine, residual_coefficients,  # or None
    grad_temporal, grad_residual,  # out
    rows, programs, keep_scale, eps,  # rows and programs of one group
    TRAINING: tl.constexpr, C: tl.constexpr, STEP: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Gradients of both convolutions' outputs, through ReLU, dropout and norms."""
    group, first = tl.program_id(0) // programs, tl.program_id(0) % programs
    eight, channel = _channels(C, BLOCK_E)
    mean, scale, slope, offset = _load_gradient_norm(
        temporal_statistics + group * STEP, temporal_affine, temporal_coefficients, group, eps,
        channel, C, TRAINING,
    )  # fmt: skip
    scale *= keep_scale
    if residual is not None:
        mean_2, scale_2, slope_2, offset_2 = _load_gradient_norm(
            residual_statistics + group * STEP, residual_affine, residual_coefficients, group, eps,
            channel, C, TRAINING,
        )  # fmt: skip
    for tile in range(first, tl.cdiv(rows, BLOCK_R), programs):
        in_group = tile * BLOCK_R + tl.arange(0, BLOCK_R)
        row = group * rows + in_group
        at = row[:, None, None] * C + channel[None, :, :]
        some = (in_group < rows)[:, None] & (eight * 8 < C)[None, :]
        valid = (in_group < rows)[:, None, None] & (channel < C)[None, :, :]
        grad, dropped = _load_gradients(grad_y, masks, row, eight, some, at, valid, C)
        result = dropped * scale[None, :, :]
        if TRAINING:
            values = tl.load(temporal + at, mask=valid, other=0.0).to(tl.float32)
            result += (values - mean[None, :, :]) * slope[None, :, :] + offset[None, :, :]
        tl.store(grad_temporal + at, result.to(grad_temporal.dtype.element_ty), mask=valid)
        if residual is not None:
            result = grad * scale_2[None, :, :]
            if TRAINING:
                values = tl.load(residual + at, mask=valid, other=0.0).to(tl.float32)
                result += (values - mean_2[None, :, :]) * slope_2[None, :, :]
                result += offset_2[None, :, :]
            tl.store(grad_residual + at, result.to(grad_residual.dtype.element_ty), mask=valid)

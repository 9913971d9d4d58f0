"""queue_contrast on a GPU: attention over a queue, split over its keys, with gradients and mining.

The three views are one stack of 3N rows, and all that a row's loss and gradient need of the queue
is a softmax-weighted sum of keys: the scan is attention with keys = values = queue. It also notes
each row's largest score in every tile of keys. The topk nearest keys lie in the topk tiles whose
largest scores are largest, so that only those are looked at again.

Scores stay plain dot products; the temperature enters in the exponent.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import INTERPRETED

LOG2E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(-(2**63))
HIGHEST = tl.constexpr(2**63 - 1)
# Operands of the two matrix products; sums are float32.
OPERANDS = {"ieee": tl.float32, "tf32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}
# Or the assembler spills some to fit one more program on a processor.
ALL_REGISTERS = 255


@triton.jit
def _ranked(score, index):
    """Score and index as one integer: greater for a greater score, then for a lower index."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # -0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - index).to(tl.int64)


@triton.jit
def _index(rank):
    return 0x7FFFFFFF - (rank & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _load_rows(query, extreme, dropped, row, n, dim, D: tl.constexpr):
    """Rows [len(row), len(dim)] of the stack of query, extreme and dropped; zero outside it."""
    view = row // n
    at = (row - view * n)[:, None] * D + dim[None, :]
    inside = (dim < D)[None, :]
    rows = tl.load(query + at, mask=(view == 0)[:, None] & inside, other=0.0)
    rows += tl.load(extreme + at, mask=(view == 1)[:, None] & inside, other=0.0)
    rows += tl.load(dropped + at, mask=(view == 2)[:, None] & inside, other=0.0)
    return rows


@triton.jit
def _load_keys(queue, key, k, dim, D: tl.constexpr):
    """Keys [len(key), len(dim)] of the queue; beyond its end the last one, for the caller to mask.

    Beyond its width zero.
    """
    at = tl.minimum(key, k - 1).to(tl.int64)[:, None] * D + dim[None, :]
    return tl.load(queue + at, mask=(dim < D)[None, :], other=0.0)


@triton.jit(do_not_specialize=["n", "k"])
def _scan_kernel(
    query, extreme, dropped, queue,  # [n, D] three times, [k, D]
    key_sums, maxima, normalizers,  # out: [splits, 3n, D], [splits, 3n] twice
    tile_maxima,  # out: [tiles, 3n]
    n, k, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, MINE: tl.constexpr,
):  # fmt: skip
    """One block of rows against one part of the queue, with an online softmax."""
    split = tl.program_id(1)
    tiles = tl.cdiv(k, BLOCK_KEYS)
    first = tiles * split // tl.num_programs(1)
    last = tiles * (split + 1) // tl.num_programs(1)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    dim = tl.arange(0, BLOCK_D)
    stack = 3 * n.to(tl.int64)
    in_stack = row < stack
    rows = _load_rows(query, extreme, dropped, row, n, dim, D).to(OPERAND).to(DOT)

    maximum = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    normalizer = tl.zeros((BLOCK_ROWS,), tl.float32)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_D), tl.float32)
    for tile in range(first, last):
        key = tile * BLOCK_KEYS + tl.arange(0, BLOCK_KEYS)
        keys = _load_keys(queue, key, k, dim, D).to(OPERAND).to(DOT)
        scores = tl.dot(rows, tl.trans(keys), input_precision=PRECISION)
        scores = tl.where((key < k)[None, :], scores, float("-inf"))
        largest = tl.max(scores, 1)
        if MINE:
            tl.store(tile_maxima + tile * stack + row, largest, mask=in_stack)
        new_maximum = tl.maximum(maximum, largest)
        rescale = tl.exp2((maximum - new_maximum) * scale)
        weights = tl.exp2((scores - new_maximum[:, None]) * scale)
        normalizer = normalizer * rescale + tl.sum(weights, 1)
        sums = sums * rescale[:, None]
        sums = tl.dot(weights.to(OPERAND).to(DOT), keys, sums, input_precision=PRECISION)
        maximum = new_maximum

    at = split * stack + row
    tl.store(maxima + at, maximum, mask=in_stack)
    tl.store(normalizers + at, normalizer, mask=in_stack)
    inside = in_stack[:, None] & (dim < D)[None, :]
    tl.store(key_sums + at[:, None] * D + dim[None, :], sums, mask=inside)


@triton.jit(do_not_specialize=["n", "k"])
def _mine_kernel(
    query, extreme, dropped, queue,
    tile_maxima,  # [tiles, 3n]
    neighbors,  # out: [n, 3, TOPK]
    n, k,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_TILES: tl.constexpr,
    TOPK: tl.constexpr, BLOCK_TOPK: tl.constexpr,
):  # fmt: skip
    """The TOPK nearest keys of one row, by exact float32 scores, from the tiles that hold them."""
    row = tl.program_id(0)
    view = row // n
    dim = tl.arange(0, BLOCK_D)
    own = _load_rows(query, extreme, dropped, row + tl.arange(0, 1), n, dim, D).to(tl.float32)
    tiles = tl.cdiv(k, BLOCK_KEYS)
    slot = tl.arange(0, BLOCK_TOPK)
    # Unsorted, and all different from the start, so that a value names its place.
    best = tl.where(slot < TOPK, LOWEST + slot.to(tl.int64), HIGHEST)
    previous_tile = HIGHEST
    for _ in range(tl.minimum(tiles, TOPK)):
        best_tile = LOWEST
        for start in range(0, tiles, BLOCK_TILES):
            tile = start + tl.arange(0, BLOCK_TILES)
            at = tile.to(tl.int64) * (3 * n) + row
            rank = _ranked(tl.load(tile_maxima + at, mask=tile < tiles, other=0.0), tile)
            rank = tl.where((tile < tiles) & (rank < previous_tile), rank, LOWEST)
            best_tile = tl.maximum(best_tile, tl.max(rank, 0))
        previous_tile = best_tile

        key = _index(best_tile) * BLOCK_KEYS + tl.arange(0, BLOCK_KEYS)
        keys = _load_keys(queue, key, k, dim, D).to(tl.float32)
        rank = tl.where(key < k, _ranked(tl.sum(keys * own, 1), key), LOWEST)
        nearest = tl.max(rank, 0)
        worst = tl.min(best, 0)
        while nearest > worst:
            best = tl.where(best == worst, nearest, best)
            rank = tl.where(rank < nearest, rank, LOWEST)
            nearest = tl.max(rank, 0)
            worst = tl.min(best, 0)

    best = tl.where(slot < TOPK, best, LOWEST)
    out = neighbors + ((row - view * n).to(tl.int64) * 3 + view) * TOPK
    for place in range(TOPK):
        nearest = tl.max(best, 0)
        tl.store(out + place, _index(nearest).to(tl.int64))
        best = tl.where(best < nearest, best, LOWEST)


@triton.jit
def _merge_splits(
    row, key, key_sums, maxima, normalizers, stacked, rows, splits, dim, scale,
    D: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
):  # fmt: skip
    """A row's softmax over its own key and the queue, seen from its own key.

    Returns what the mean key adds to the own key, and the log of the normalizer less the own key's
    logit: a confident row's losses and gradients are made of these small numbers, and would drown
    in rounding elsewhere.
    """
    own = tl.sum(row * key, 0)
    maximum = own
    in_queue = 0.0
    sums = tl.zeros_like(key)
    for start in range(0, splits, BLOCK_SPLITS):
        split = start + tl.arange(0, BLOCK_SPLITS)
        at = split.to(tl.int64) * rows + stacked
        top = tl.load(maxima + at, mask=split < splits, other=float("-inf"))
        part = tl.load(normalizers + at, mask=split < splits, other=0.0)
        inside = (split < splits)[:, None] & (dim < D)[None, :]
        part_sums = tl.load(key_sums + at[:, None] * D + dim[None, :], mask=inside, other=0.0)
        new_maximum = tl.maximum(maximum, tl.max(top, 0))
        rescale = tl.exp2((maximum - new_maximum) * scale)
        weight = tl.exp2((top - new_maximum) * scale)
        in_queue = in_queue * rescale + tl.sum(weight * part, 0)
        sums = sums * rescale + tl.sum(weight[:, None] * part_sums, 0)
        maximum = new_maximum
    total = tl.exp2((own - maximum) * scale) + in_queue
    lean = (sums - in_queue * key) / total
    return lean, ((maximum - own) * scale + tl.log2(total)) / LOG2E


@triton.jit
def _sum_positives(
    neighbors, queue, own, dim,
    D: tl.constexpr, BLOCK_D: tl.constexpr, MINED: tl.constexpr, BLOCK_MINED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum of (key - own key) over a list of MINED neighbors, each once; how many they are."""
    total = tl.zeros((BLOCK_D,), tl.float32)
    count = 0.0
    other = tl.arange(0, BLOCK_MINED)
    others = tl.load(neighbors + other, mask=other < MINED, other=-1)
    for start in range(0, MINED, BLOCK):
        place = start + tl.arange(0, BLOCK)
        mined = tl.load(neighbors + place, mask=place < MINED, other=0)
        earlier = (mined[:, None] == others[None, :]) & (other[None, :] < place[:, None])
        is_new = (place < MINED) & (tl.sum(earlier.to(tl.int32), 1) == 0)
        inside = is_new[:, None] & (dim < D)[None, :]
        keys = tl.load(queue + mined[:, None] * D + dim[None, :], mask=inside, other=0.0)
        total += tl.sum(tl.where(inside, keys.to(tl.float32) - own[None, :], 0.0), 0)
        count += tl.sum(is_new.to(tl.float32), 0)
    return total, count


@triton.jit(do_not_specialize=["n", "splits"])
def _combine_kernel(
    query, extreme, dropped, key, queue,
    key_sums, maxima, normalizers,  # [splits, 3n, D], [splits, 3n] twice
    neighbors,  # [n, 3, TOPK]
    row_losses, gradients,  # out: [3, n], [3, n, D]
    n, splits, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
    TOPK: tl.constexpr, BLOCK_MINED: tl.constexpr, BLOCK_POSITIVES: tl.constexpr,
):  # fmt: skip
    """Losses and gradients of one row of the batch in its three views."""
    i = tl.program_id(0)
    dim = tl.arange(0, BLOCK_D)
    inside = dim < D
    at = i.to(tl.int64) * D + dim
    own = tl.load(key + at, mask=inside, other=0.0).to(tl.float32)
    q = tl.load(query + at, mask=inside, other=0.0).to(tl.float32)
    e = tl.load(extreme + at, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(dropped + at, mask=inside, other=0.0).to(tl.float32)
    lean_q, log_q = _merge_splits(
        q, own, key_sums, maxima, normalizers, i, 3 * n, splits, dim, scale, D, BLOCK_SPLITS
    )
    lean_e, log_e = _merge_splits(
        e, own, key_sums, maxima, normalizers, i + n, 3 * n, splits, dim, scale, D, BLOCK_SPLITS
    )
    lean_d, log_d = _merge_splits(
        d, own, key_sums, maxima, normalizers, i + 2 * n, 3 * n, splits, dim, scale, D, BLOCK_SPLITS
    )
    positive = tl.zeros_like(own)  # as seen from the own key, too
    if TOPK > 0:
        mined, count = _sum_positives(
            neighbors + i.to(tl.int64) * (3 * TOPK), queue, own, dim,
            D, BLOCK_D, 3 * TOPK, BLOCK_MINED, BLOCK_POSITIVES,
        )  # fmt: skip
        positive = mined / (1.0 + count)

    inverse = scale / LOG2E  # 1 / temperature
    tl.store(row_losses + i, log_q - tl.sum(q * positive, 0) * inverse)
    tl.store(row_losses + n + i, log_e - tl.sum(e * lean_q, 0) * inverse)
    tl.store(row_losses + 2 * n + i, log_d - tl.sum(d * lean_q, 0) * inverse)
    view = n.to(tl.int64) * D
    step = inverse / n
    tl.store(gradients + at, (lean_q - positive) * step, mask=inside)
    tl.store(gradients + view + at, (lean_e - lean_q) * step, mask=inside)
    tl.store(gradients + 2 * view + at, (lean_d - lean_q) * step, mask=inside)


class Scan(NamedTuple):
    """How a program of the scan is shaped."""

    block_rows: int
    block_keys: int
    num_warps: int
    num_stages: int


def scan_shape(d: int, precision: str, queue_bytes: int) -> Scan:
    """The scan's shape for rows of width d and a queue of `queue_bytes` a number.

    As large as registers allow, and shared memory below 100 KiB for the smaller GPUs.
    """
    if precision == "ieee":  # without tensor cores
        return Scan(64, 32, 8, 2) if d <= 128 else Scan(16, 32, 8, 2)
    if precision == "tf32":
        return Scan(64, 32, 8, 2) if d <= 128 else Scan(32, 32, 4, 2)
    if d <= 64 or (d <= 128 and queue_bytes == 2):
        return Scan(64, 64, 4, 3)
    return Scan(64, 64 if queue_bytes == 2 or d <= 128 else 32, 8, 2)


def split_count(blocks: int, tiles: int, processors: int, limit: int = 64) -> int:
    """Parts of the queue, so that blocks x parts programs fill the processors evenly.

    Time is counted in tiles: rounds of programs times tiles a program, and for each part a write
    and a read of its key sums.
    """
    merge = 0.03 * blocks

    def time(parts: int) -> float:
        return math.ceil(blocks * parts / processors) * math.ceil(tiles / parts) + merge * parts

    return min(range(1, max(1, min(tiles, limit)) + 1), key=time)


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
    precision: str,
    processors: int,
    outputs: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Fill `outputs`: row losses [3, N], neighbors [N, 3, topk] int64, gradients [3, N, D].

    Rows [N, D] share a dtype, and all inputs are contiguous. `precision` is a key of OPERANDS;
    `processors` is how many programs run at a time.
    """
    row_losses, neighbors, gradients = outputs
    if len(queue) == 0:  # a softmax over one logit
        row_losses.zero_()
        gradients.zero_()
        return
    (n, d), k, rows = query.shape, len(queue), 3 * len(query)
    shape = scan_shape(d, precision, queue.element_size())
    blocks, tiles = triton.cdiv(rows, shape.block_rows), triton.cdiv(k, shape.block_keys)
    splits = split_count(blocks, tiles, processors)
    block_d = max(16, triton.next_power_of_2(d))
    scale = LOG2E.value / temperature

    def floats(*size: int) -> Tensor:
        return query.new_empty(size, dtype=torch.float32)

    key_sums, maxima, normalizers = floats(splits, rows, d), *floats(2, splits, rows)
    tile_maxima = floats(tiles if topk else 0, rows)
    operand = OPERANDS[precision]
    _scan_kernel[blocks, splits](
        query, extreme, dropped, queue, key_sums, maxima, normalizers, tile_maxima, n, k, scale,
        D=d, BLOCK_D=block_d, BLOCK_ROWS=shape.block_rows, BLOCK_KEYS=shape.block_keys,
        # Triton's interpreter would multiply bfloat16 numbers as integers.
        OPERAND=operand, DOT=tl.float32 if INTERPRETED else operand,
        PRECISION="ieee" if precision == "ieee" else "tf32", MINE=topk > 0,
        num_warps=shape.num_warps, num_stages=shape.num_stages, maxnreg=ALL_REGISTERS,
    )  # fmt: skip
    if topk:
        _mine_kernel[rows,](
            query, extreme, dropped, queue, tile_maxima, neighbors, n, k,
            D=d, BLOCK_D=block_d, BLOCK_KEYS=shape.block_keys,
            BLOCK_TILES=min(1024, triton.next_power_of_2(tiles)),
            TOPK=topk, BLOCK_TOPK=triton.next_power_of_2(topk), maxnreg=ALL_REGISTERS,
        )  # fmt: skip
    mined = triton.next_power_of_2(3 * topk)
    _combine_kernel[n,](
        query, extreme, dropped, key, queue, key_sums, maxima, normalizers, neighbors,
        row_losses, gradients, n, splits, scale,
        D=d, BLOCK_D=block_d, BLOCK_SPLITS=16,
        TOPK=topk, BLOCK_MINED=mined, BLOCK_POSITIVES=min(mined, 16),
    )  # fmt: skip

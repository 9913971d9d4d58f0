"""queue_contrast on a GPU: attention over a queue, split over its keys, with gradients and mining.

The R sets of rows are one stack of R N rows, and all that a row's loss and gradient need of the
queue is a softmax-weighted sum of keys: the scan is attention with keys = values = queue. It also
notes each row's largest score in every tile of keys. The topk nearest keys lie in the topk tiles
whose largest scores are largest, so that only those are looked at again. Streams, each with a queue
of its own, are searched one after the other; what a set learns enters when its splits are merged.

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
def _pick(at, OF: tl.constexpr, COUNT: tl.constexpr):
    """The number `at` of a tuple of COUNT constants."""
    value = tl.zeros_like(at) + OF[0]
    for i in tl.static_range(1, COUNT):
        value = tl.where(at == i, OF[i], value)
    return value


@triton.jit
def _load_row(rows, row, dim, D: tl.constexpr):
    """One row [len(dim)] as float32; zero beyond its width."""
    return tl.load(rows + row.to(tl.int64) * D + dim, mask=dim < D, other=0.0).to(tl.float32)


@triton.jit
def _load_keys(queue, key, k, dim, D: tl.constexpr):
    """Keys [len(key), len(dim)] of the queue; beyond its end the last one, for the caller to mask.

    Beyond its width zero.
    """
    at = tl.minimum(key, k - 1).to(tl.int64)[:, None] * D + dim[None, :]
    return tl.load(queue + at, mask=(dim < D)[None, :], other=0.0)


@triton.jit(do_not_specialize=["count", "k"])
def _scan_kernel(
    rows, queue,  # [count, D], [k, D]
    key_sums, maxima, normalizers,  # out: [splits, count, D], [splits, count] twice
    tile_maxima,  # out: [tiles, count]
    count, k, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_KEYS: tl.constexpr,
    OPERAND: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, MINE: tl.constexpr,
    AHEAD: tl.constexpr,
):  # fmt: skip
    """One block of rows against one part of the queue, with an online softmax.

    With AHEAD a tile is loaded while the one before is multiplied. Triton does so itself, through
    shared memory, but not where both products take the keys as they are loaded.
    """
    split = tl.program_id(1)
    tiles = tl.cdiv(k, BLOCK_KEYS)
    first = tiles * split // tl.num_programs(1)
    last = tiles * (split + 1) // tl.num_programs(1)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    dim = tl.arange(0, BLOCK_D)
    stack = count.to(tl.int64)
    in_stack = row < stack
    inside = in_stack[:, None] & (dim < D)[None, :]
    at = row.to(tl.int64)[:, None] * D + dim[None, :]
    own = tl.load(rows + at, mask=inside, other=0.0).to(OPERAND).to(DOT)

    maximum = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    normalizer = tl.zeros((BLOCK_ROWS,), tl.float32)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_D), tl.float32)
    offset = tl.arange(0, BLOCK_KEYS)
    end = tl.minimum(last * BLOCK_KEYS, k)
    if AHEAD:
        ahead = _load_keys(queue, first * BLOCK_KEYS + offset, end, dim, D)
    for tile in range(first, last):
        key = tile * BLOCK_KEYS + offset
        if AHEAD:
            keys = ahead.to(OPERAND).to(DOT)
            ahead = _load_keys(queue, key + BLOCK_KEYS, end, dim, D)
        else:
            keys = _load_keys(queue, key, end, dim, D).to(OPERAND).to(DOT)
        scores = tl.dot(own, tl.trans(keys), input_precision=PRECISION)
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
    tl.store(key_sums + at[:, None] * D + dim[None, :], sums, mask=inside)


@triton.jit(do_not_specialize=["n", "count", "k"])
def _mine_kernel(
    rows, queue,
    tile_maxima,  # [tiles, count]
    neighbors,  # out: [n, COUNT, TOPK]
    n, count, k,
    MINERS: tl.constexpr, COUNT: tl.constexpr,  # the sets that mine, and how many they are
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_KEYS: tl.constexpr, BLOCK_TILES: tl.constexpr,
    TOPK: tl.constexpr, BLOCK_TOPK: tl.constexpr,
):  # fmt: skip
    """The TOPK nearest keys of one row, by exact float32 scores, from the tiles that hold them."""
    miner = tl.program_id(0) // n
    i = tl.program_id(0) - miner * n
    row = _pick(miner, MINERS, COUNT) * n + i
    dim = tl.arange(0, BLOCK_D)
    own = _load_row(rows, row, dim, D)[None, :]
    tiles = tl.cdiv(k, BLOCK_KEYS)
    slot = tl.arange(0, BLOCK_TOPK)
    # Unsorted, and all different from the start, so that a value names its place.
    best = tl.where(slot < TOPK, LOWEST + slot.to(tl.int64), HIGHEST)
    previous_tile = HIGHEST
    for _ in range(tl.minimum(tiles, TOPK)):
        best_tile = LOWEST
        for start in range(0, tiles, BLOCK_TILES):
            tile = start + tl.arange(0, BLOCK_TILES)
            at = tile.to(tl.int64) * count + row
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
    out = neighbors + (i.to(tl.int64) * COUNT + miner) * TOPK
    for place in range(TOPK):
        nearest = tl.max(best, 0)
        tl.store(out + place, _index(nearest).to(tl.int64))
        best = tl.where(best < nearest, best, LOWEST)


@triton.jit
def _merge_splits(
    row, key, negative, has_negative, key_sums, maxima, normalizers, stacked, count, splits, dim,
    scale, D: tl.constexpr, BLOCK_SPLITS: tl.constexpr, NEGATIVES: tl.constexpr,
):  # fmt: skip
    """A row's softmax over its own key, the queue and its negative, seen from its own key.

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
        at = split.to(tl.int64) * count + stacked
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
    if NEGATIVES:
        score = tl.where(has_negative, tl.sum(row * negative, 0), float("-inf"))
        new_maximum = tl.maximum(maximum, score)
        rescale = tl.exp2((maximum - new_maximum) * scale)
        weight = tl.exp2((score - new_maximum) * scale)
        in_queue = in_queue * rescale + weight
        sums = sums * rescale + weight * negative
        maximum = new_maximum
    total = tl.exp2((own - maximum) * scale) + in_queue
    lean = (sums - in_queue * key) / total
    return lean, ((maximum - own) * scale + tl.log2(total)) / LOG2E


@triton.jit
def _sum_positives(
    neighbors, queue, own, i, n, stream, dim,
    D: tl.constexpr, BLOCK_D: tl.constexpr, STREAMS: tl.constexpr, VOTES: tl.constexpr,
    MINERS: tl.constexpr, TOPK: tl.constexpr, BLOCK_MINED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum of (key - own key) over sample i's mined positives, each once; how many they are.

    They are on the lists of its stream or, with votes, on those of all streams.
    """
    LIST: tl.constexpr = MINERS * TOPK  # of one stream
    MINED: tl.constexpr = STREAMS * LIST if VOTES > 0 else LIST
    first = 0 if VOTES > 0 else stream
    total = tl.zeros((BLOCK_D,), tl.float32)
    count = 0.0
    other = tl.arange(0, BLOCK_MINED)
    # Entry `other % LIST` of stream `first + other // LIST`.
    entry = ((first + other // LIST).to(tl.int64) * n + i) * LIST + other % LIST
    others = tl.load(neighbors + entry, mask=other < MINED, other=-1)
    for start in range(0, MINED, BLOCK):
        place = start + tl.arange(0, BLOCK)
        at = ((first + place // LIST).to(tl.int64) * n + i) * LIST + place % LIST
        mined = tl.load(neighbors + at, mask=place < MINED, other=0)
        same = mined[:, None] == others[None, :]
        earlier = same & (other[None, :] < place[:, None])
        is_new = (place < MINED) & (tl.sum(earlier.to(tl.int32), 1) == 0)
        if VOTES > 0:
            votes = tl.zeros((BLOCK,), tl.int32)
            for s in tl.static_range(STREAMS):
                lists = same & (other // LIST == s)[None, :]
                votes += (tl.sum(lists.to(tl.int32), 1) == MINERS).to(tl.int32)
            is_new = is_new & (votes >= VOTES)
        inside = is_new[:, None] & (dim < D)[None, :]
        keys = tl.load(queue + mined[:, None] * D + dim[None, :], mask=inside, other=0.0)
        total += tl.sum(tl.where(inside, keys.to(tl.float32) - own[None, :], 0.0), 0)
        count += tl.sum(is_new.to(tl.float32), 0)
    return total, count


@triton.jit(do_not_specialize=["n", "stream", "splits"])
def _combine_kernel(
    rows, keys, queue,  # [SETS, n, D], [keys, n, D], [k, D]
    key_sums, maxima, normalizers,  # [splits, SETS n, D], [splits, SETS n] twice
    neighbors,  # [STREAMS, n, MINERS, TOPK]
    row_losses, counts, gradients,  # out: [SETS, n], [n], [SETS, n, D]
    n, stream, splits, scale,
    # By set: its teacher and negative, -1 for none; whether positives are its aim; its key.
    SETS: tl.constexpr, TEACHER: tl.constexpr, NEGATIVE: tl.constexpr, POSITIVES: tl.constexpr,
    OWN_KEY: tl.constexpr, NEGATIVES: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
    STREAMS: tl.constexpr, VOTES: tl.constexpr, MINERS: tl.constexpr, TOPK: tl.constexpr,
    BLOCK_MINED: tl.constexpr, BLOCK_POSITIVES: tl.constexpr,
):  # fmt: skip
    """Loss and gradient of one row."""
    i = tl.program_id(0)
    at_set = tl.program_id(1)
    dim = tl.arange(0, BLOCK_D)
    at = at_set * n + i
    own = _load_row(keys, _pick(at_set, OWN_KEY, SETS) * n + i, dim, D)
    row = _load_row(rows, at, dim, D)
    other = _pick(at_set, NEGATIVE, SETS)
    negative = row
    if NEGATIVES:
        negative = _load_row(rows, tl.where(other >= 0, other, at_set) * n + i, dim, D)
    lean, log_normalizer = _merge_splits(
        row, own, negative, other >= 0, key_sums, maxima, normalizers, at, SETS * n, splits, dim,
        scale, D, BLOCK_SPLITS, NEGATIVES,
    )  # fmt: skip

    # What the mean key should add to the own key.
    aim = tl.zeros_like(own)
    teacher = _pick(at_set, TEACHER, SETS)
    if teacher >= 0:
        taught = teacher * n + i
        teaching = _load_row(rows, taught, dim, D)
        aim, _ = _merge_splits(
            teaching, own, teaching, False, key_sums, maxima, normalizers, taught, SETS * n, splits,
            dim, scale, D, BLOCK_SPLITS, False,
        )  # fmt: skip
    if TOPK > 0:
        wanted = _pick(at_set, POSITIVES, SETS) > 0
        if wanted | (at_set == 0):
            mined, count = _sum_positives(
                neighbors, queue, own, i, n, stream, dim,
                D, BLOCK_D, STREAMS, VOTES, MINERS, TOPK, BLOCK_MINED, BLOCK_POSITIVES,
            )  # fmt: skip
            aim = tl.where(wanted, mined / (1.0 + count), aim)
            tl.store(counts + i, (1.0 + count).to(tl.int64), mask=at_set == 0)
    else:
        tl.store(counts + i, 1, mask=at_set == 0)

    inverse = scale / LOG2E  # 1 / temperature
    tl.store(row_losses + at, log_normalizer - tl.sum(row * aim, 0) * inverse)
    out = gradients + at.to(tl.int64) * D + dim
    tl.store(out, (lean - aim) * (inverse / n), mask=dim < D)


@triton.jit(do_not_specialize=["n", "size"])
def enqueue_kernel(
    queue, keys,  # [size, D], [n, D]
    pointer, accept,  # [1] int64, one boolean or None
    advanced,  # out: [1] int64, where the next keys go
    n, size, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    """Keys take the places from the pointer on, past the end those at the start."""
    first = tl.load(pointer)
    count = n
    if accept is not None:
        count = tl.where(tl.load(accept) != 0, n, 0)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    dim = tl.arange(0, BLOCK_D)[None, :]
    inside = (row < count)[:, None] & (dim < D)
    own = tl.load(keys + row.to(tl.int64)[:, None] * D + dim, mask=inside, other=0.0)
    place = (first + row) % size
    tl.store(queue + place[:, None] * D + dim, own.to(queue.dtype.element_ty), mask=inside)
    # The pointer itself is still read by other programs.
    tl.store(advanced, (first + count) % size, mask=tl.program_id(0) == 0)


class Scan(NamedTuple):
    """How a program of the scan is shaped."""

    block_rows: int
    block_keys: int
    num_warps: int
    num_stages: int
    ahead: bool = False


def scan_shape(d: int, precision: str, queue_bytes: int) -> Scan:
    """The scan's shape for rows of width d and a queue of `queue_bytes` a number.

    As large as registers allow, and shared memory below 100 KiB for the smaller GPUs. Of 64 rows
    two groups of four warps would both do the whole first product on sm_90, of 128 half each.
    """
    if precision == "ieee":  # without tensor cores
        return Scan(64, 32, 8, 2) if d <= 128 else Scan(16, 32, 8, 2)
    if precision == "tf32":
        if d <= 128:
            return Scan(128, 64 if d <= 64 else 32, 8, 2, ahead=True)
        return Scan(32, 32, 4, 2)
    if d <= 64 or (d <= 128 and queue_bytes == 2):
        return Scan(64, 64, 4, 3)
    if d <= 128:
        return Scan(128, 32, 8, 2, ahead=True)
    return Scan(64, 64 if queue_bytes == 2 else 32, 8, 2)


def split_count(blocks: int, tiles: int, processors: int, limit: int = 64) -> int:
    """Parts of the queue, so that blocks x parts programs fill the processors evenly.

    Time is counted in tiles: rounds of programs times tiles a program, and for each part a write
    and a read of its key sums.
    """
    merge = 0.03 * blocks

    def time(parts: int) -> float:
        return math.ceil(blocks * parts / processors) * math.ceil(tiles / parts) + merge * parts

    return min(range(1, max(1, min(tiles, limit)) + 1), key=time)


class Terms(NamedTuple):
    """What the sets of rows learn; a number for each.

    Attributes:
        teacher: index of its teacher, -1 for none.
        negative: index of the set of its negatives, -1 for none.
        positives: whether its loss is over the mined positives.
        own_key: index of its key.
        miners: indices of the sets that mine.
    """

    teacher: tuple[int, ...]
    negative: tuple[int, ...]
    positives: tuple[int, ...]
    own_key: tuple[int, ...]
    miners: tuple[int, ...]


class Found(NamedTuple):
    """What the scan leaves of the splits of a queue."""

    key_sums: Tensor
    maxima: Tensor
    normalizers: Tensor


def _search(
    rows: Tensor,
    queue: Tensor,
    miners: tuple[int, ...],
    scale: float,
    precision: str,
    processors: int,
    neighbors: Tensor,
) -> Found:
    """Scans a stream's queue for its rows [R, N, D], and fills in neighbors [N, miners, topk]."""
    (sets, n, d), k, topk = rows.shape, queue.shape[0], neighbors.shape[2]
    count = sets * n
    shape = scan_shape(d, precision, queue.element_size())
    blocks, tiles = triton.cdiv(count, shape.block_rows), triton.cdiv(k, shape.block_keys)
    splits = split_count(blocks, tiles, processors) if k else 0
    block_d = max(16, triton.next_power_of_2(d))

    def floats(*size: int) -> Tensor:
        return rows.new_empty(size, dtype=torch.float32)

    found = Found(floats(splits, count, d), *floats(2, splits, count))
    if k == 0:
        return found
    mines = topk > 0 and len(miners) > 0
    tile_maxima = floats(tiles if mines else 0, count)
    operand = OPERANDS[precision]
    _scan_kernel[blocks, splits](
        rows, queue, *found, tile_maxima, count, k, scale,
        D=d, BLOCK_D=block_d, BLOCK_ROWS=shape.block_rows, BLOCK_KEYS=shape.block_keys,
        # Triton's interpreter would multiply bfloat16 numbers as integers.
        OPERAND=operand, DOT=tl.float32 if INTERPRETED else operand,
        PRECISION="ieee" if precision == "ieee" else "tf32", MINE=mines,
        AHEAD=shape.ahead,
        num_warps=shape.num_warps, num_stages=shape.num_stages, maxnreg=ALL_REGISTERS,
    )  # fmt: skip
    if mines:
        _mine_kernel[len(miners) * n,](
            rows, queue, tile_maxima, neighbors, n, count, k,
            MINERS=miners, COUNT=len(miners),
            D=d, BLOCK_D=block_d, BLOCK_KEYS=shape.block_keys,
            BLOCK_TILES=min(1024, triton.next_power_of_2(tiles)),
            TOPK=topk, BLOCK_TOPK=triton.next_power_of_2(topk), maxnreg=ALL_REGISTERS,
        )  # fmt: skip
    return found


def queue_contrast(
    rows: Tensor,
    keys: Tensor,
    queues: list[Tensor],
    terms: Terms,
    temperature: float,
    votes: int,
    precision: str,
    processors: int,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Fill `outputs`: row losses [S, R, N], neighbors [S, N, miners, topk] int64, counts of
    positives [S, N] int64, gradients [S, R, N, D].

    Rows [S, R, N, D], keys [S, P, N, D] and queues [K, D] are contiguous. `precision` is a key of
    OPERANDS; `processors` is how many programs run at a time.
    """
    row_losses, neighbors, counts, gradients = outputs
    streams, sets, n, d = rows.shape
    miners, topk = neighbors.shape[2:]
    scale = LOG2E.value / temperature
    # Votes are those of all streams, so all are searched first.
    found = [
        _search(rows[s], queues[s], terms.miners, scale, precision, processors, neighbors[s])
        for s in range(streams)
    ]
    mined = triton.next_power_of_2(max(1, miners * topk * (streams if votes else 1)))
    for s in range(streams):
        _combine_kernel[n, sets](
            rows[s], keys[s], queues[s], *found[s], neighbors, row_losses[s], counts[s],
            gradients[s], n, s, found[s].maxima.shape[0], scale,
            SETS=sets, TEACHER=terms.teacher, NEGATIVE=terms.negative, POSITIVES=terms.positives,
            OWN_KEY=terms.own_key, NEGATIVES=max(terms.negative) >= 0,
            D=d, BLOCK_D=max(16, triton.next_power_of_2(d)), BLOCK_SPLITS=16,
            STREAMS=streams, VOTES=votes, MINERS=miners, TOPK=topk if miners else 0,
            BLOCK_MINED=mined, BLOCK_POSITIVES=min(mined, 16),
        )  # fmt: skip


def enqueue(queue: Tensor, pointer: Tensor, keys: Tensor, accept: Tensor | None) -> Tensor:
    """Write keys [N, D] into queue [K, D], both contiguous, from `pointer` (int64 [1]) on.

    Returns where the pointer is to be next, [1].
    """
    n, d = keys.shape
    advanced = torch.empty_like(pointer)
    block_d = triton.next_power_of_2(d)
    block_rows = max(1, 1024 // block_d)
    enqueue_kernel[max(1, triton.cdiv(n, block_rows)),](
        queue, keys, pointer, accept, advanced, n, queue.shape[0],
        D=d, BLOCK_D=block_d, BLOCK_ROWS=block_rows,
    )  # fmt: skip
    return advanced

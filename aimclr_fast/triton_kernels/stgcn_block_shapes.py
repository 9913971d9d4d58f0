"""How the Triton kernels of stgcn_block are cut into programs.

Sizes follow from what a program keeps in registers: the tensor cores take operands of two bytes
twice as deep as those of four, and without tensor cores ("ieee") a product holds both operands,
too. Kernels with little to compute per byte (few channels) get taller tiles.
"""

from __future__ import annotations

from typing import NamedTuple

from triton import cdiv, next_power_of_2

MAX_JOINTS = 64  # a tile holds whole frames, and joints on both sides of the adjacency
HALVES = ("bf16", "fp16")
PARTS_AT_ONCE = 4  # of a graph, that one product takes
SUMMED_VALUES = 2048  # of partial sums, that one program adds at a time
ROW_VALUES = 2048  # of a tile of the passes without a product
PROGRAMS_PER_PROCESSOR = 2  # of kernels that sum over parts of the rows
# Of the passes without a product, as many as fit at once, with one norm and with two.
OUTPUT_PROGRAMS = 4, 3
SUMS_PROGRAMS = 4, 2
GRADIENT_PROGRAMS = 4, 2


class Spatial(NamedTuple):
    """Shape of the graph convolution's programs; see the parameters of the same names.

    Each processor has `each` programs at once.
    """

    block_p: int
    block_v: int
    block_f: int
    block_c: int
    block_n: int
    hoisted: bool
    warps: int
    stages: int
    each: int


class SpatialGradients(NamedTuple):
    """Which gradients one launch computes, and the shape of its programs."""

    input: bool
    edges: bool
    weights: bool
    shape: Spatial


class Temporal(NamedTuple):
    """Shape of the temporal convolution's programs; see the parameters of the same names."""

    block_m: int
    block_n: int
    block_c: int
    taps: int
    frames: int
    warps: int
    stages: int


class Backward(NamedTuple):
    """Shape of the programs that find both gradients of a narrow convolution.

    `programs` of them fit on a multiprocessor.
    """

    block_m: int
    block_c: int
    taps: int
    warps: int
    stages: int
    programs: int


class Weight(NamedTuple):
    """Shape of the programs that sum the gradient of a convolution's weights."""

    block_m: int
    block_n: int
    block_r: int
    warps: int
    splits: int
    stages: int


class Activation(NamedTuple):
    """Shape of the programs that apply a norm and ReLU."""

    block_r: int
    block_c: int


class Rows(NamedTuple):
    """Shape of passes without a product; a group of samples has `programs` by `columns`."""

    block_r: int
    block_e: int
    programs: int
    columns: int


def width(size: int, limit: int) -> int:
    """Columns of a tile: a power of two, no less than what a product takes."""
    return min(max(16, int(next_power_of_2(size))), limit)


def depth(precision: str) -> int:
    """Inner columns of one product."""
    return {"ieee": 16, "tf32": 32}.get(precision, 64)


def joints(count: int) -> int:
    """Joints of a tile."""
    return max(16, int(next_power_of_2(count)))


def spatial(count: int, c_in: int, c_out: int, parts: int, precision: str) -> Spatial:
    """The graph convolution of `count` joints. Its programs keep the edges of block_p parts."""
    block_v = joints(count)
    if precision not in HALVES or parts > PARTS_AT_ONCE:
        most = 16 if precision == "ieee" else 32
        warps, each = (4, 2) if block_v <= 32 else (8, 1)
        return Spatial(0, block_v, 1, width(c_in, most), width(c_out, most), False, warps, 1, each)
    block_f = max(1, 64 // block_v)
    if c_in > 32 or c_out > 64:
        # sm_80 would keep weights in registers, and has none for wider products either.
        return Spatial(parts, block_v, block_f, 16, width(c_out, 64), False, 4, 2, 2)
    block_c, block_n = width(c_in, 32), width(c_out, 32)
    each = 4 if max(block_c, block_n) <= 16 else 2
    return Spatial(parts, block_v, block_f, block_c, block_n, True, 4, 3, each)


def _gradients(count: int, c_in: int, c_out: int, parts: int, precision: str) -> Spatial:
    """What the shapes of its gradients' programs begin with.

    Wider tiles would need fewer programs beside each other, but sm_80 keeps weights in registers.
    """
    block_v = joints(count)
    block_f = max(1, 64 // block_v)
    if precision == "ieee":
        return Spatial(1, block_v, 1, width(c_in, 16), width(c_out, 16), False, 4, 1, 2)
    if precision not in HALVES or parts > PARTS_AT_ONCE:
        block_c, block_n = width(c_in, 32), width(c_out, 32)
        return Spatial(1, block_v, block_f, block_c, block_n, False, 8, 1, 1)
    block_p, block_c, block_n = int(next_power_of_2(parts)), width(c_in, 32), width(c_out, 32)
    if c_in > 32 or c_out > 64:
        # With conditions on channels as well, registers would not do for wider tiles.
        even = c_in % block_c == 0 and c_out % 128 == 0
        block_n = width(c_out, 128 if even and block_v <= 32 else 64)
        return Spatial(block_p, block_v, block_f, block_c, block_n, False, 8, 2, 1)
    each = 4 if max(block_c, block_n) <= 16 else 2
    return Spatial(block_p, block_v, block_f, block_c, block_n, True, 4, 3, each)


def spatial_gradients(
    count: int, c_in: int, c_out: int, parts: int, precision: str
) -> list[SpatialGradients]:
    """Its gradients: all in one launch where their sums fit in registers."""
    shape = _gradients(count, c_in, c_out, parts, precision)
    if shape.block_p < parts or precision not in HALVES:
        return [
            SpatialGradients(True, False, False, shape),
            SpatialGradients(False, True, False, shape),
            SpatialGradients(False, False, True, shape),
        ]
    if c_in > 32 or c_out > (64 if shape.block_v <= 32 else 32):
        block_c, block_n = width(c_in, 64), width(c_out, 32)
        shape = shape._replace(block_c=block_c, block_n=block_n, warps=8, stages=2, each=1)
        shape = shape._replace(hoisted=False)
        return [
            SpatialGradients(True, True, False, shape),
            SpatialGradients(False, False, True, shape),
        ]
    shape = shape._replace(block_c=16, block_n=width(c_out, 64), hoisted=True)
    if max(c_in, c_out) <= 16:
        shape = shape._replace(warps=4, stages=2, each=2)
    else:
        # With two stages registers would not do on sm_80.
        shape = shape._replace(warps=8, stages=1, each=1)
        if c_out <= 32 and shape.block_v <= 32:
            shape = shape._replace(block_f=128 // shape.block_v)
    return [SpatialGradients(True, True, True, shape)]


def spatial_programs(frames: int, shape: Spatial, blocks: int, groups: int, processors: int) -> int:
    """Programs that share a group's frames, each of them `blocks` times: no more than fit."""
    fit = shape.each * processors // (blocks * groups)
    return max(1, min(fit, int(cdiv(frames, shape.block_f))))


def temporal(
    c_from: int, c_to: int, taps: int, stride: int, precision: str, gradient: bool = False
) -> Temporal:
    """A convolution over `taps` frames, or its gradient, from c_from to c_to channels."""
    exact, half = precision == "ieee", precision in HALVES
    inner = depth(precision)
    block_c = width(c_from, inner)
    block_n = width(c_to, {"ieee": 32, "tf32": 64}.get(precision, 128))
    at_once = min(inner // block_c, int(next_power_of_2(taps)))
    if half and taps > 1 and not gradient and block_n <= 32 * stride:
        # Few channels: rows of several frames. Of one frame, each element is normalized apart. Tall
        # tiles read weights less often.
        block_m, columns = (128, 64) if block_n <= 32 else (64, 128)
        return Temporal(block_m, block_n, block_c, at_once, columns // block_n, 4, 1)
    block_m = 64 if exact or (gradient and block_n > 64 and not half) else 128
    few = not exact and block_n <= (64 if half and not gradient else 32)
    return Temporal(block_m, block_n, block_c, at_once, 1, 4 if few else 8, 3)


def temporal_backward(channels: int, taps: int, precision: str) -> Backward | None:
    """Both gradients of a convolution in one kernel; None where that cannot hold them."""
    if precision not in HALVES or channels > 32:
        return None
    block_c = width(channels, 32)
    at_once = min(64 // block_c, int(next_power_of_2(taps)))
    warps, programs = (4, 2) if block_c == 16 else (8, 1)
    return Backward(64, block_c, at_once, warps, 1, programs)


def temporal_weight(
    c_in: int, c_out: int, taps: int, rows: int, precision: str, processors: int
) -> Weight:
    """The gradient of a convolution's weights, summed over `rows`."""
    exact, half = precision == "ieee", precision in HALVES
    block_n = width(c_out, 32 if exact else 256 if half else 128)
    tall = half and block_n == 64 and taps > 1  # or the gradient would be read for too few taps
    block_m = width(taps * c_in, 32 if exact else 256 if tall else 128)
    block_r = {"ieee": 16, "tf32": 32}.get(precision, 32 if block_n == 256 else 64)
    blocks = cdiv(taps * c_in, block_m) * cdiv(c_out, block_n)
    # No more programs than run at once, or the last of them would run alone. Each leaves a sum.
    programs = processors * (1 if half else PROGRAMS_PER_PROCESSOR)
    splits = max(1, min(programs // blocks, int(cdiv(rows, block_r))))
    warps = 8 if block_m * block_n > 64 * 128 else 4
    stages = 4 if block_n == 256 else 2 if tall else 3
    return Weight(block_m, block_n, block_r, warps, splits, stages)


def activation(channels: int) -> Activation:
    """The pass that applies a norm and ReLU."""
    block_c = min(int(next_power_of_2(channels)), 128)
    return Activation(8192 // block_c, block_c)


def rows(count: int, channels: int, groups: int, processors: int, each: int) -> Rows:
    """Passes over [groups * count, channels], by `each` programs a processor."""
    eights = cdiv(channels, 8)
    block_e = min(next_power_of_2(eights), 32)
    block_r = ROW_VALUES // (8 * block_e)
    columns = cdiv(eights, block_e)
    programs = min(cdiv(count, block_r), each * processors // (groups * columns))
    return Rows(block_r, block_e, max(1, programs), columns)


def sums(sizes: list[int], processors: int) -> tuple[int, int]:
    """Columns of a program that sums partial results, and rows that it adds at a time."""
    block = 32
    while block < 128 and sum(cdiv(size, block) for size in sizes) > 16 * processors:
        block *= 2
    return block, SUMMED_VALUES // block

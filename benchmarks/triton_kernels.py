"""Of each Triton kernel of this package: how often its loops run, how many of its programs read the
same, and the products it is for.

All three follow from what it is launched with. A new kernel gets an entry in `KERNELS`, and is
refused while it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, NamedTuple

Values = Mapping[str, Any]


class Loop(NamedTuple):
    """How often a loop runs, and whether the compiler knows that (and may unroll it)."""

    trips: float
    known: bool = True


# --- Loops ---------------------------------------------------------------------------------------


def _parts(values: Values, parts: str, block: str) -> list[Loop]:
    """Partial results, some at a time."""
    return [Loop(ceil(values[parts] / values[block]), known=False)]


def _most(rows: float, block: int, programs: int) -> Loop:
    """Tiles of the program that has most of those that programs share."""
    return Loop(ceil(ceil(rows / block) / programs), known=False)


def _convolution(v: Values) -> list[Loop]:
    """A row of several frames meets a window of frames, some at a time."""
    channels = ceil(v["C_IN"] / v["BLOCK_C"])
    frames = ceil(((v["FRAMES"] - 1) * v["STRIDE"] + v["K"]) / v["TAPS"])
    return [Loop(channels * frames)] if v["FRAMES"] == 1 else [Loop(channels), Loop(frames)]


def _convolution_gradient(v: Values) -> list[Loop]:
    """A program's frames meet every STRIDE-th tap, from another one on for each phase."""
    stride = v["STRIDE"]
    met = [ceil((v["K"] - (phase + v["K"] // 2) % stride) / stride) for phase in range(stride)]
    taps = sum(ceil(taps / v["TAPS"]) for taps in met) / stride
    return [Loop(ceil(v["C_OUT"] / v["BLOCK_C"]) * taps, known=stride == 1)]


def _convolution_weight(v: Values) -> list[Loop]:
    rows = v["batch"] * v["T_OUT"] * v["V"]
    return [_most(rows, v["BLOCK_R"], v["splits"])]


def _convolution_backward(v: Values) -> list[Loop]:
    rows = v["batch"] * ceil(v["T"] / v["STRIDE"]) * v["V"]
    return [_most(rows, v["BLOCK_M"], v["programs"])]


def _pack(v: Values) -> list[Loop]:
    """The taps that a program writes, on average."""
    ends = [*v["FIRST"][1:], v["grid"][0]]
    taps = sum((e - f) * k for f, e, k in zip(v["FIRST"], ends, v["TAPS"], strict=True))
    return [Loop(taps / v["grid"][0], known=False)]


def _spatial(v: Values) -> list[Loop]:
    """Tiles of frames of one of the programs that share a group's."""
    return [_most(v["frames"], v["BLOCK_F"], v["programs"])]


def _spatial_forward(v: Values) -> list[Loop]:
    """Edges that are not kept in registers are found again for each block of channels."""
    kept = v["BLOCK_P"] >= v["P"]
    return [*_spatial(v), *([] if kept else [Loop(ceil(v["C_IN"] / v["BLOCK_C"]))])]


def _merged(v: Values) -> list[Loop]:
    """Of the map with most partial results."""
    parts = max(v["parts"], v["parts_2"] if v["counts_2"] is not None else 0)
    return [Loop(ceil(parts / v["BLOCK"]), known=False)]


def _rows(v: Values) -> list[Loop]:
    """Tiles of rows of one program."""
    return [_most(v["rows"], v["BLOCK_R"], v["programs"])]


def _sum(v: Values) -> list[Loop]:
    """On the average of its programs, of which each has one of the results."""
    blocks = [ceil(v[f"SHAPE_{i}"][5] / v["BLOCK"]) for i in range(5)]
    trips = [ceil(v[f"parts_{i}"] / v["BLOCK_PARTS"]) for i in range(5)]
    all_trips = sum(each * times for each, times in zip(blocks, trips, strict=True))
    return [Loop(all_trips / sum(blocks), known=False)]


def _spatial_gradients(v: Values) -> list[Loop]:
    """Of each tile the channels that the gradients of the input and of the edges need."""
    blocks = ceil(v["C_OUT"] / v["BLOCK_N"]) if _to_input(v) else 1
    return [*_spatial(v), Loop(blocks)]


def _to_input(v: Values) -> bool:
    return v["out"] is not None or v["edge_partials"] is not None


def _scan(v: Values) -> list[Loop]:
    return [Loop(ceil(v["k"] / v["BLOCK_KEYS"]) / v["grid"][1], known=False)]


def _mine(v: Values) -> list[Loop]:
    tiles = ceil(v["k"] / v["BLOCK_KEYS"])
    return [Loop(min(tiles, v["TOPK"]), False), Loop(ceil(tiles / v["BLOCK_TILES"]), False)]


def _forward(v: Values) -> list[Loop]:
    tiles = ceil(v["T"] / (8 * v["BLOCK_O"]))
    return [Loop(v["BLOCKS"]), *([] if v["ONE_TILE"] else [Loop(tiles)])]


# --- Reads ---------------------------------------------------------------------------------------


def _columns(*names: str) -> Callable[[Values], dict[str, float]]:
    """Programs beside each other, of other columns of the result, read the same rows."""
    return lambda v: dict.fromkeys(names, v["grid"][1])


def _beside(v: Values) -> float:
    """How many tiles of rows meet a frame, whose taps find it in the first-level cache."""
    return 1 + (v["K"] - 1) * v["V"] / v["BLOCK_M"]


def _convolution_reads(v: Values) -> dict[str, float]:
    frames = v["FRAMES"] * v["STRIDE"]
    beside = _beside(v) if v["FRAMES"] == 1 else 1 + (v["K"] - v["STRIDE"]) / frames
    return {"source": v["grid"][1] * beside}


def _convolution_weight_reads(v: Values) -> dict[str, float]:
    taps, blocks = v["K"], v["grid"][0]
    return {"source": v["grid"][1] * min(taps, blocks), "gradient": blocks}


def _spatial_reads(v: Values) -> dict[str, float]:
    """Programs of other parts of the graph or blocks of channels read the same frames."""
    parts, inputs = (
        1 if v["out"] is not None else ceil(v["P"] / v["BLOCK_P"]),
        ceil(v["C_IN"] / v["BLOCK_C"]),
    )
    outputs = 1 if _to_input(v) else ceil(v["C_OUT"] / v["BLOCK_N"])
    of_gradient = parts * inputs
    return {"x": parts * outputs, "gradient": of_gradient, "before": of_gradient}


# --- Products ------------------------------------------------------------------------------------


def _over_time(v: Values) -> float:
    groups = v["grid"][0] // v["programs"] if "programs" in v else 1
    return 2.0 * groups * v["batch"] * v["T_OUT"] * v["V"] * v["K"] * v["C_IN"] * v["C_OUT"]


def _weights_over_time(v: Values) -> float:
    return _over_time({**v, "grid": v["grid"][2:], "programs": v["splits"]})


def _spatial_products(v: Values) -> float:
    return 2.0 * v["x"].numel() * v["P"] * (v["C_OUT"] + v["V"])


def _spatial_gradients_products(v: Values) -> float:
    """Weights and neighbors of each part; the residual's weights.

    The input's gradient and that of the edges have a product with the weights in common.
    """
    to_input, to_edges, to_weights = (
        v[name] is not None for name in ("out", "edge_partials", "weight_partials")
    )
    by_weights = v["C_IN"] * v["C_OUT"] * ((to_input or to_edges) + to_weights)
    by_joints = v["V"] * v["C_IN"] * (to_input + to_edges + to_weights)
    residual = v["C_IN"] * v["C_OUT"] * v["T_OUT"] / v["T"]
    per_row = v["P"] * (by_weights + by_joints)
    if to_input and v["RESIDUAL"] == 2:
        per_row += residual
    return 2.0 * v["x"].numel() / v["C_IN"] * per_row


# --- Kernels -------------------------------------------------------------------------------------


class Kernel(NamedTuple):
    """What is known of a Triton kernel, each from its arguments by name and its "grid".

    Attributes:
        loops: from the outermost inwards.
        reads: how many programs read each part of a large argument, where it is more than one. What
            one program reads again is in the first-level cache, or (copied past it) counted in the
            machine code.
        products: FLOP of the products that a launch is for, without what pads its tiles.
    """

    loops: Callable[[Values], list[Loop]] = lambda v: []
    reads: Callable[[Values], dict[str, float]] = lambda v: {}
    products: Callable[[Values], float] = lambda v: 0.0


KERNELS = {
    # stgcn_block
    "spatial_kernel": Kernel(_spatial_forward, _columns("x"), _spatial_products),
    "spatial_gradients_kernel": Kernel(
        _spatial_gradients, _spatial_reads, _spatial_gradients_products
    ),
    "edge_gradient_kernel": Kernel(lambda v: [Loop(ceil(v["C_OUT"] / v["BLOCK_C"]))]),
    "activation_kernel": Kernel(),
    "convolution_kernel": Kernel(_convolution, _convolution_reads, _over_time),
    "convolution_gradient_kernel": Kernel(
        _convolution_gradient, lambda v: {"gradient": v["grid"][1] * _beside(v)}, _over_time
    ),
    "convolution_backward_kernel": Kernel(
        _convolution_backward,
        lambda v: {"gradient": _beside(v)},
        lambda v: 2.0 * _over_time(v),
    ),
    "convolution_weight_kernel": Kernel(
        _convolution_weight, _convolution_weight_reads, _weights_over_time
    ),
    "merge_statistics_kernel": Kernel(_merged),
    "merge_gradient_kernel": Kernel(lambda v: _parts(v, "parts", "BLOCK")),
    "sum_kernel": Kernel(_sum),
    # The bits of a byte are of rows far from each other.
    "output_kernel": Kernel(
        _rows, lambda v: {"keep": 8} if v["words"] and v["keep"].dim() == 1 else {}
    ),
    "output_sums_kernel": Kernel(_rows),
    "output_gradient_kernel": Kernel(_rows),
    "pack_kernel": Kernel(_pack),
    # eadm_pool
    "forward_kernel": Kernel(_forward),
    # Of its loops, the one over joints takes the most turns.
    "drop_kernel": Kernel(
        lambda v: [Loop(ceil(v["batch"] * v["V"] / v["BLOCK"]), known=False)],
        lambda v: dict.fromkeys(("attention_sums", "kept_counts"), v["grid"][0]),
    ),
    "backward_kernel": Kernel(),
    # queue_contrast
    "_scan_kernel": Kernel(
        _scan,
        lambda v: {"queue": v["grid"][0]},
        lambda v: 4.0 * v["count"] * v["k"] * v["D"],
    ),
    "_mine_kernel": Kernel(_mine),
    "enqueue_kernel": Kernel(),
    "_combine_kernel": Kernel(lambda v: _parts(v, "splits", "BLOCK_SPLITS")),
}


def kernel_named(name: str) -> Kernel:
    """What is known of a kernel; a ValueError that says where to add it if nothing is."""
    if name not in KERNELS:
        raise ValueError(f"{name} is not known; add it to KERNELS in benchmarks/triton_kernels.py")
    return KERNELS[name]


def trips(kernel: str, values: Values, depth: int) -> list[float]:
    """How often the loops run that are left in the machine code, `depth` of them in each other.

    The compiler unrolls the innermost of those whose trips it knows; of one trip, nothing is left.

    Args:
        kernel: name of the function.
        values: its arguments, and its grid.
        depth: of nested loops in the machine code.
    """
    found = kernel_named(kernel).loops(values)
    left = [loop for loop in found if not (loop.known and loop.trips == 1)]
    while len(left) > depth:
        unrolled = [i for i, loop in enumerate(left) if loop.known]
        if not unrolled:  # a loop that runs once may be gone, too
            unrolled = [i for i, loop in enumerate(left) if loop.trips <= 1]
        if not unrolled:
            raise ValueError(f"{kernel}: {depth} loops in its code, and {left} in its source")
        del left[unrolled[-1]]
    return [loop.trips for loop in left]


def read_again(kernel: str, values: Values) -> dict[str, float]:
    """How often more than once each argument is read that several programs read."""
    return {name: times - 1 for name, times in kernel_named(kernel).reads(values).items()}


def products(kernel: str, values: Values) -> float:
    """FLOP of the products that a launch is for, without what pads its tiles."""
    return kernel_named(kernel).products(values)

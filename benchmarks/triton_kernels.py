"""Of each Triton kernel of this package: how often its loops run, how many of its programs read the
same, and the products it is for.

All three follow from what it is launched with. A new kernel gets its lines here, and is refused
while nothing says how often its loops run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

Values = Mapping[str, Any]


class Loop(NamedTuple):
    """How often a loop runs, and whether the compiler knows that (and may unroll it)."""

    trips: float
    known: bool = True


def _parts(values: Values, parts: str, block: str) -> list[Loop]:
    """Partial results, some at a time."""
    return [Loop(ceil(values[parts] / values[block]), known=False)]


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
    return [Loop(ceil(rows / v["BLOCK_R"]) / v["splits"], known=False)]


def _convolution_backward(v: Values) -> list[Loop]:
    rows = v["batch"] * ceil(v["T"] / v["STRIDE"]) * v["V"]
    return [Loop(ceil(rows / v["BLOCK_M"]) / v["programs"], known=False)]


def _tiles(v: Values, blocks: int) -> Loop:
    """Tiles of frames of one of `blocks` programs that share them."""
    return Loop(ceil(v["frames"] / v["BLOCK_F"]) * blocks / v["grid"][0], known=False)


def _spatial_weight(v: Values) -> list[Loop]:
    blocks = ceil(v["C_IN"] / v["BLOCK_C"]) * ceil(v["C_OUT"] / v["BLOCK_N"])
    return [_tiles(v, v["P"] * blocks)]


def _edge(v: Values) -> list[Loop]:
    tiles = _tiles(v, v["P"] * ceil(v["C_IN"] / v["BLOCK_C"]))
    return [tiles, Loop(ceil(v["C_OUT"] / v["BLOCK_N"]))]


def _scan(v: Values) -> list[Loop]:
    return [Loop(ceil(v["k"] / v["BLOCK_KEYS"]) / v["grid"][1], known=False)]


def _mine(v: Values) -> list[Loop]:
    tiles = ceil(v["k"] / v["BLOCK_KEYS"])
    return [Loop(min(tiles, v["TOPK"]), False), Loop(ceil(tiles / v["BLOCK_TILES"]), False)]


def _forward(v: Values) -> list[Loop]:
    return [] if v["ONE_TILE"] else [Loop(ceil(v["T"] / (8 * v["BLOCK_O"])))]


#: From the outermost inwards.
LOOPS: dict[str, Callable[[Values], list[Loop]]] = {
    # stgcn_block
    "spatial_kernel": lambda v: [Loop(ceil(v["C_IN"] / v["BLOCK_C"])), Loop(v["P"])],
    "spatial_gradient_kernel": lambda v: [Loop(ceil(v["C_OUT"] / v["BLOCK_C"])), Loop(v["P"])],
    "spatial_weight_kernel": _spatial_weight,
    "edge_kernel": _edge,
    "edge_gradient_kernel": lambda v: [Loop(ceil(v["C_OUT"] / v["BLOCK_C"]))],
    "convolution_kernel": _convolution,
    "convolution_gradient_kernel": _convolution_gradient,
    "convolution_weight_kernel": _convolution_weight,
    "convolution_backward_kernel": _convolution_backward,
    "activation_kernel": lambda v: [],
    "merge_statistics_kernel": lambda v: _parts(v, "parts", "BLOCK"),
    "merge_gradient_kernel": lambda v: _parts(v, "parts", "BLOCK"),
    "sum_kernel": lambda v: _parts(v, "parts", "BLOCK_PARTS"),
    "output_kernel": lambda v: [],
    "output_sums_kernel": lambda v: [Loop(v["steps"], known=False)],
    "output_gradient_kernel": lambda v: [],
    # eadm_pool
    "forward_kernel": _forward,
    "joint_kernel": lambda v: [Loop(ceil(v["BLOCKS"] / v["BLOCK"]))],
    "drop_kernel": lambda v: _parts(v, "batch", "BLOCK_B"),
    "backward_kernel": lambda v: [],
    # queue_contrast
    "_scan_kernel": _scan,
    "_mine_kernel": _mine,
    "_combine_kernel": lambda v: _parts(v, "splits", "BLOCK_SPLITS"),
}


def trips(kernel: str, values: Values, depth: int) -> list[float]:
    """How often the loops run that are left in the machine code, `depth` of them in each other.

    The compiler unrolls the innermost of those whose trips it knows; of one trip, nothing is left.

    Args:
        kernel: name of the function.
        values: its arguments, and its grid.
        depth: of nested loops in the machine code.
    """
    if kernel not in LOOPS:
        raise ValueError(f"{kernel}: how often its loops run is not known; add it to LOOPS")
    left = [loop for loop in LOOPS[kernel](values) if not (loop.known and loop.trips == 1)]
    while len(left) > depth:
        unrolled = [i for i, loop in enumerate(left) if loop.known]
        if not unrolled:  # a loop that runs once may be gone, too
            unrolled = [i for i, loop in enumerate(left) if loop.trips <= 1]
        if not unrolled:
            raise ValueError(f"{kernel}: {depth} loops in its code, and {left} in its source")
        del left[unrolled[-1]]
    return [loop.trips for loop in left]


# --- Reads ---------------------------------------------------------------------------------------


def _columns(name: str) -> Callable[[Values], dict[str, float]]:
    """Programs beside each other, of other columns of the result, read the same rows."""
    return lambda v: {name: v["grid"][1]}


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


def _spatial_weight_reads(v: Values) -> dict[str, float]:
    inputs, outputs = ceil(v["C_IN"] / v["BLOCK_C"]), ceil(v["C_OUT"] / v["BLOCK_N"])
    of_gradient = v["P"] * inputs
    return {"x": v["P"] * outputs, "gradient": of_gradient, "before": of_gradient}


def _edge_reads(v: Values) -> dict[str, float]:
    of_gradient = v["P"] * ceil(v["C_IN"] / v["BLOCK_C"])
    return {"x": v["P"], "gradient": of_gradient, "before": of_gradient}


#: How many programs read each part of a large argument, where it is more than one. What one program
#: reads again is in the first-level cache, or (copied past it) counted in the machine code.
READS: dict[str, Callable[[Values], dict[str, float]]] = {
    "convolution_kernel": _convolution_reads,
    "convolution_gradient_kernel": lambda v: {"gradient": v["grid"][1] * _beside(v)},
    "convolution_backward_kernel": lambda v: {"gradient": _beside(v)},
    "convolution_weight_kernel": _convolution_weight_reads,
    "spatial_kernel": _columns("x"),
    "spatial_gradient_kernel": lambda v: dict.fromkeys(("gradient", "before"), v["grid"][1]),
    "spatial_weight_kernel": _spatial_weight_reads,
    "edge_kernel": _edge_reads,
    "_scan_kernel": lambda v: {"queue": v["grid"][0]},
}


def read_again(kernel: str, values: Values) -> dict[str, float]:
    """How often more than once each argument is read that several programs read."""
    times = READS[kernel](values) if kernel in READS else {}
    return {name: number - 1 for name, number in times.items()}


# --- Products ------------------------------------------------------------------------------------


def _over_time(v: Values) -> float:
    groups = v["grid"][0] // v["programs"] if "programs" in v else 1
    return 2.0 * groups * v["batch"] * v["T_OUT"] * v["V"] * v["K"] * v["C_IN"] * v["C_OUT"]


def _weights_over_time(v: Values) -> float:
    return _over_time({**v, "grid": v["grid"][2:], "programs": v["splits"]})


def _over_joints(v: Values, mixed: Sequence[str]) -> float:
    """Neighbors of a map with `mixed` channels, and the weights of each part."""
    rows = 2.0 * v["frames"] * v["V"] * v["P"]
    return rows * (v["C_IN"] * v["C_OUT"] + sum(v["V"] * v[size] for size in mixed))


def _spatial_gradient(v: Values) -> float:
    residual = 2.0 * v["frames"] / v["T"] * v["T_OUT"] * v["V"] * v["C_IN"] * v["C_OUT"]
    return _over_joints(v, ["C_OUT"]) + (residual if v["RESIDUAL"] == 2 else 0.0)


PRODUCTS: dict[str, Callable[[Values], float]] = {
    "convolution_kernel": _over_time,
    "convolution_gradient_kernel": _over_time,
    "convolution_weight_kernel": _weights_over_time,
    "convolution_backward_kernel": lambda v: 2.0 * _over_time(v),
    "spatial_kernel": lambda v: _over_joints(v, ["C_IN"]),
    "spatial_weight_kernel": lambda v: _over_joints(v, ["C_IN"]),
    "edge_kernel": lambda v: _over_joints(v, ["C_IN"]),
    "spatial_gradient_kernel": _spatial_gradient,
    "_scan_kernel": lambda v: 4.0 * v["count"] * v["k"] * v["D"],
}


def products(kernel: str, values: Values) -> float:
    """FLOP of the products that a launch is for, without what pads its tiles."""
    return PRODUCTS[kernel](values) if kernel in PRODUCTS else 0.0

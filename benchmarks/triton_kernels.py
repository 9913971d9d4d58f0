"""Of each Triton kernel of this package: how often its loops run, how many of its programs read the
same, and the products it is for.

All three follow from what it is launched with. A new kernel gets its lines here, and is refused
while nothing says how often its loops run.
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


def _parts(values: Values, parts: str, block: str) -> list[Loop]:
    """Partial results, some at a time."""
    return [Loop(ceil(values[parts] / values[block]), known=False)]


def _convolution(v: Values) -> list[Loop]:
    return [Loop(ceil(v["C_IN"] / v["BLOCK_C"])), Loop(ceil(v["K"] / v["TAPS"]))]


def _convolution_gradient(v: Values) -> list[Loop]:
    """A program's frames meet every STRIDE-th tap, from another one on for each phase."""
    stride = v["STRIDE"]
    met = [ceil((v["K"] - (phase + v["K"] // 2) % stride) / stride) for phase in range(stride)]
    taps = sum(ceil(taps / v["TAPS"]) for taps in met) / stride
    return [Loop(ceil(v["C_OUT"] / v["BLOCK_C"])), Loop(taps, known=stride == 1)]


def _convolution_weight(v: Values) -> list[Loop]:
    rows = v["batch"] * v["T_OUT"] * v["V"]
    return [Loop(ceil(rows / v["BLOCK_R"]) / v["grid"][2], known=False)]


def _spatial(v: Values) -> list[Loop]:
    """Tiles of frames of one of the programs that share a group's."""
    return [Loop(ceil(v["frames"] / v["BLOCK_F"]) / v["programs"], known=False)]


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
    return [] if v["ONE_TILE"] else [Loop(ceil(v["T"] / (8 * v["BLOCK_O"])))]


#: From the outermost inwards.
LOOPS: dict[str, Callable[[Values], list[Loop]]] = {
    # stgcn_block
    "spatial_kernel": _spatial,
    "spatial_gradients_kernel": _spatial_gradients,
    "edge_gradient_kernel": lambda v: [Loop(ceil(v["C_OUT"] / v["BLOCK_C"]))],
    "convolution_kernel": _convolution,
    "convolution_gradient_kernel": _convolution_gradient,
    "convolution_weight_kernel": _convolution_weight,
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


def _spatial_reads(v: Values) -> dict[str, float]:
    """Programs of other parts of the graph or blocks of channels read the same frames."""
    parts, inputs = (
        1 if v["out"] is not None else ceil(v["P"] / v["BLOCK_P"]),
        ceil(v["C_IN"] / v["BLOCK_C"]),
    )
    outputs = 1 if _to_input(v) else ceil(v["C_OUT"] / v["BLOCK_N"])
    of_gradient = parts * inputs
    return {"x": parts * outputs, "gradient": of_gradient, "before": of_gradient}


#: How many programs read each part of a large argument, where it is more than one. What one program
#: reads again is in the first-level cache, or (copied past it) counted in the machine code.
READS: dict[str, Callable[[Values], dict[str, float]]] = {
    "convolution_kernel": _columns("source"),
    "convolution_gradient_kernel": _columns("gradient"),
    "convolution_weight_kernel": lambda v: {"source": v["grid"][1], "gradient": v["grid"][0]},
    "spatial_kernel": _columns("x"),
    "spatial_gradients_kernel": _spatial_reads,
    "_scan_kernel": lambda v: {"queue": v["grid"][0]},
}


def read_again(kernel: str, values: Values) -> dict[str, float]:
    """How often more than once each argument is read that several programs read."""
    times = READS[kernel](values) if kernel in READS else {}
    return {name: number - 1 for name, number in times.items()}


# --- Products ------------------------------------------------------------------------------------


def _over_time(v: Values) -> float:
    return 2.0 * v["batch"] * v["T_OUT"] * v["V"] * v["K"] * v["C_IN"] * v["C_OUT"]


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


PRODUCTS: dict[str, Callable[[Values], float]] = {
    "convolution_kernel": _over_time,
    "convolution_gradient_kernel": _over_time,
    "convolution_weight_kernel": _over_time,
    "spatial_kernel": _spatial_products,
    "spatial_gradients_kernel": _spatial_gradients_products,
    "_scan_kernel": lambda v: 4.0 * v["count"] * v["k"] * v["D"],
}


def products(kernel: str, values: Values) -> float:
    """FLOP of the products that a launch is for, without what pads its tiles."""
    return PRODUCTS[kernel](values) if kernel in PRODUCTS else 0.0

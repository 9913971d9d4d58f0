"""The kernels that PyTorch and its libraries launch for one operation of the walk, by shapes alone.

Nothing of them is compiled here, so that all of this is assumed: how many kernels an operation is,
what each reads and writes, and how it is cut into blocks. Where a choice is not known it is a good
one: maps stay channels last, and a product reads its operands once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from pretend_gpu import Launch, Operand

#: Threads of a block of a pass without a product, and elements that it takes: four a thread.
THREADS, ELEMENTS = 128, 512
#: Threads of a block of a product, the most rows and columns of its tile, and what they are
#: multiples of.
PRODUCT_THREADS, TILE, GRAIN = 256, 128, 64
#: Tensors that one kernel of a multi-tensor operation takes, by how many lists it goes through.
TENSORS = {1: 110, 2: 64, 3: 48, 4: 36}


@dataclass(frozen=True)
class Kernel:
    """One kernel of an operation.

    Attributes:
        part: of the operation, or "".
        read: tensors that it reads.
        written: tensors that it writes.
        bytes_read: of those it needs.
        bytes_written: likewise.
        threads: of a block.
        blocks: in its grid; of a product its tiles, if these are enough to fill a GPU.
        flop: products that are wanted.
        executed: with those that pad its tiles.
        kind: of the products' operands: "bf16", "fp16" or "tf32".
    """

    part: str
    read: tuple[Operand, ...]
    written: tuple[Operand, ...]
    bytes_read: int
    bytes_written: int
    threads: int = THREADS
    blocks: int = 0
    flop: float = 0.0
    executed: float = 0.0
    kind: str = ""


def kernels(launch: Launch) -> list[Kernel]:
    """The kernels of one aten operation of a walk."""
    name = launch.name.removeprefix("aten.")
    if name.startswith(("_foreach", "_fused")):
        return _multi_tensor(launch)
    if name in KERNELS:
        return KERNELS[name](launch)
    blocks = _blocks(launch.read + launch.written)
    return [
        Kernel(
            "", launch.read, launch.written, launch.bytes_read, launch.bytes_written, blocks=blocks
        )
    ]


def _blocks(operands: Sequence[Operand]) -> int:
    return ceil(max(prod(operand.shape) for operand in operands) / ELEMENTS) or 1


def _bytes(operands: Sequence[Operand]) -> int:
    return sum(operand.bytes for operand in operands)


def _pass(part: str, read: Sequence[Operand], written: Sequence[Operand]) -> Kernel:
    read, written = tuple(read), tuple(written)
    blocks = _blocks(read + written)
    return Kernel(part, read, written, _bytes(read), _bytes(written), blocks=blocks)


def _multi_tensor(launch: Launch) -> list[Kernel]:
    """Some tens of tensors a kernel; of norms, one more that ends them."""
    lists = ceil(len(launch.read) / max(1, len(launch.written))) + 1
    parts = ceil(len(launch.written) / TENSORS[min(max(TENSORS), lists)])
    found = [
        _pass("", launch.read[i::parts], launch.written[i::parts]) for i in range(max(1, parts))
    ]
    if launch.name == "aten._foreach_norm":
        found.append(_pass("merge", launch.written, launch.written))
    return found


# --- Batch norm ----------------------------------------------------------------------------------


def _batch_norm(launch: Launch) -> list[Kernel]:
    """Statistics; those of all blocks merged, with the running ones; and the norm itself."""
    (x, *affine), (y, *statistics) = launch.read, launch.written
    return [
        _pass("statistics", [x], statistics),
        _pass("merge", statistics, statistics),
        _pass("norm", [x, *affine, *statistics], [y]),
    ]


def _batch_norm_backward(launch: Launch) -> list[Kernel]:
    (gradient, x, *affine), (dx, *sums) = launch.read, launch.written
    return [
        _pass("sums", [gradient, x], sums),
        _pass("gradient", [gradient, x, *affine, *sums], [dx]),
    ]


# --- Products ------------------------------------------------------------------------------------


def kind_of(operand: Operand) -> str:
    """How the step multiplies it: float32 in TF32, as training sets it."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(operand.dtype, "tf32")


def _product(
    part: str, read: Sequence[Operand], out: Operand, tiled: tuple[int, int, int], flop: float
) -> Kernel:
    """A product that writes [batch, rows, columns]."""
    batch, rows, columns = tiled
    padded = [ceil(size / GRAIN) * GRAIN for size in (rows, columns)]
    tiles = batch * prod(ceil(size / min(TILE, size)) for size in padded)
    return Kernel(
        part, tuple(read), (out,), _bytes(read), out.bytes, PRODUCT_THREADS,
        tiles, flop, flop * prod(padded) / (rows * columns), kind_of(read[0]),
    )  # fmt: skip


def _matrices(launch: Launch) -> list[Kernel]:
    """bmm, mm, and addmm, whose first operand is added."""
    a, b = launch.read[-2:]
    *batch, rows, inner = a.shape
    tiled = (prod(batch), rows, b.shape[-1])
    return [_product("", launch.read, launch.written[0], tiled, 2.0 * inner * prod(tiled))]


def _convolution(launch: Launch) -> list[Kernel]:
    """The product, and the bias, which PyTorch adds to what cuDNN has written."""
    x, weight, *bias = launch.read
    (out,) = launch.written
    tiled = (1, prod(out.shape) // weight.shape[0], weight.shape[0])
    flop = 2.0 * prod(out.shape) * prod(weight.shape[1:])
    found = [_product("product", [x, weight], out, tiled, flop)]
    return found + [_pass("bias", [out, each], [out]) for each in bias]


def _convolution_backward(launch: Launch) -> list[Kernel]:
    """Each gradient that is asked for: of the input, weight and bias."""
    gradient, x, weight = launch.read
    flop = 2.0 * prod(gradient.shape) * prod(weight.shape[1:])
    found = []
    for out in launch.written:
        if out.shape == x.shape:
            tiled = (1, prod(x.shape) // x.shape[1], x.shape[1])
            found.append(_product("input", [gradient, weight], out, tiled, flop))
        elif out.shape == weight.shape:
            tiled = (1, weight.shape[0], prod(weight.shape[1:]))
            found.append(_product("weight", [gradient, x], out, tiled, flop))
        else:
            found.append(_pass("bias", [gradient], [out]))
    return found


KERNELS: dict[str, Callable[[Launch], list[Kernel]]] = {
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
    "bmm": _matrices,
    "mm": _matrices,
    "addmm": _matrices,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
}

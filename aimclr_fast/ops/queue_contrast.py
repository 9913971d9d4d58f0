"""queue_contrast: the contrastive loss with mined positives, and distribution matching (D3M).

A compiled backend finds losses, gradients and neighbors in one pass over the queue, so the backward
pass only scales what the forward pass saved.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast import native
from aimclr_fast.reference import queue_contrast as reference

from ._checks import (
    FLOATS,
    check_dense,
    check_dtype,
    check_integer,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend
from ._native import SUFFIXES, cpp_why_not
from ._op import Op, gradients
from ._triton import product_precision, triton_why_not

# How the triton backend multiplies; the others always do so exactly in the rows' precision.
PRECISIONS = ("ieee", "tf32", "bf16", "fp16")
MAX_TRITON_WIDTH = 256


class ContrastLosses(NamedTuple):
    """Scalars of `queue_contrast` and the mined neighbors [N, 3, topk] (int64)."""

    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor
    neighbors: Tensor


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `queue_contrast`."""

    query: Tensor
    extreme: Tensor
    dropped: Tensor
    key: Tensor
    queue: Tensor
    temperature: float
    topk: int
    backend: str
    precision: str | None


class Outputs(NamedTuple):
    """What a compiled backend computes.

    Attributes:
        losses: [3], means over rows: InfoNCE, D3M of the extreme and of the dropped view.
        neighbors: [N, 3, topk].
        gradients: [3, N, D], of each loss by its rows: query, extreme and dropped.
    """

    losses: Tensor
    neighbors: Tensor
    gradients: Tensor


def _check(call: Call) -> None:
    query, queue = call.query, call.queue
    check_shape("query", query, "N", "D")
    rows = {"query": query, "extreme": call.extreme, "dropped": call.dropped, "key": call.key}
    for name, row in rows.items():
        check_shape(name, row, *query.shape)
        check_dtype(name, row, *FLOATS)
    check_shape("queue", queue, "K", query.shape[1])
    check_dtype("queue", queue, *FLOATS)
    check_same_device(**rows, queue=queue)
    if query.shape[0] == 0:
        raise ValueError("query has no rows, so the mean over rows is not defined")
    if not 0.0 < call.temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {call.temperature}")
    if not 0 <= call.topk <= queue.shape[0]:
        raise ValueError(
            f"topk must lie in 0..{queue.shape[0]} (the queue's size), got {call.topk}"
        )
    if call.precision is not None and call.precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}, got {call.precision!r}"
        )


def _prepare(call: Call) -> Outputs:
    _check(call)
    query = call.query
    _OP.check_backend(call.backend, query)
    n, d = query.shape
    # As in the reference, half-precision rows are widened.
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    return Outputs(
        query.new_empty(3, dtype=dtype),
        query.new_empty((n, 3, call.topk), dtype=torch.int64),
        query.new_empty((3, n, d), dtype=dtype),
    )


# --- Backends ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _workspace_bytes(sizes: tuple[tuple[str, int], ...], element_bytes: int, threads: int) -> int:
    size: int = native.load().queue_contrast_workspace_cpu(
        **dict(sizes), element_bytes=element_bytes, threads=threads
    )
    return size


def _cpp(call: Call, out: Outputs) -> None:
    dtype = out.losses.dtype
    names = Call._fields[:5]
    # Held here for their addresses.
    inputs = {name: getattr(call, name).to(dtype).contiguous() for name in names}
    threads = torch.get_num_threads()
    sizes = {
        "n": call.query.shape[0],
        "k": call.queue.shape[0],
        "d": call.query.shape[1],
        "topk": call.topk,
    }
    size = _workspace_bytes(tuple(sizes.items()), dtype.itemsize, threads)
    workspace = torch.empty(size, dtype=torch.uint8)
    run = getattr(native.load(), f"queue_contrast_{SUFFIXES[dtype]}_cpu")
    tensors = inputs | out._asdict() | {"workspace": workspace}
    run(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        **sizes,
        temperature=call.temperature,
        threads=threads,
    )


def default_precision(query: Tensor, queue: Tensor) -> str:
    """The precision of the triton backend's products, if the caller gives none."""
    return product_precision(torch.promote_types(query.dtype, queue.dtype))


def _triton_why_not(query: Tensor) -> str | None:
    width = query.shape[-1] if query.dim() else 0
    if width % 16 or not 0 < width <= MAX_TRITON_WIDTH:
        return f"rows must be a multiple of 16 wide, up to {MAX_TRITON_WIDTH}, got {width}"
    return triton_why_not(query)


def _triton(call: Call, out: Outputs) -> None:
    from aimclr_fast.triton_kernels import queue_contrast as kernels

    query, extreme, dropped, queue = call.query, call.extreme, call.dropped, call.queue
    # The rows share a dtype in the kernels, which have no float64.
    if not query.dtype == extreme.dtype == dropped.dtype:
        query, extreme, dropped = query.float(), extreme.float(), dropped.float()
    if queue.dtype == torch.float64:
        queue = queue.float()
    row_losses = out.gradients.new_empty(3, len(call.query))
    processors = 4
    if call.query.device.type == "cuda":
        processors = torch.cuda.get_device_properties(call.query.device).multi_processor_count
    with torch.cuda.device_of(call.query):
        kernels.queue_contrast(
            query.contiguous(),
            extreme.contiguous(),
            dropped.contiguous(),
            call.key.contiguous(),
            queue.contiguous(),
            call.temperature,
            call.topk,
            call.precision or default_precision(query, queue),
            processors,
            (row_losses, out.neighbors, out.gradients),
        )
        torch.mean(row_losses, 1, out=out.losses)


def _reference(call: Call) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(call)
    return reference.queue_contrast(*call[:7])


BACKENDS = [
    Backend("cpp", None, cpp_why_not, _cpp),
    Backend("triton", None, _triton_why_not, _triton),
    Backend(REFERENCE, _reference),
]


# --- The torch op and its gradient ---------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    out = Outputs(*output)
    ctx.mark_non_differentiable(out.neighbors, out.gradients)
    ctx.save_for_backward(out.gradients)
    ctx.dtypes = [rows.dtype for rows in inputs[:3]]


@once_differentiable
def _gradient(ctx: Any, grad_losses: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    (saved,) = ctx.saved_tensors
    scaled = (saved * grad_losses[:, None, None]).unbind()
    rows = [
        gradient.to(dtype) if needed else None
        for gradient, dtype, needed in zip(scaled, ctx.dtypes, ctx.needs_input_grad, strict=False)
    ]
    return gradients(Call, query=rows[0], extreme=rows[1], dropped=rows[2])


_OP = Op("queue_contrast", BACKENDS)
_OP.define(Call, Outputs, _prepare, lambda call, out: _OP.forward(call, out))
_OP.differentiate(_save, _gradient)


# --- The function --------------------------------------------------------------------------------


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
    backend: str = "auto",
    *,
    precision: str | None = None,
) -> ContrastLosses:
    """InfoNCE with mined positives and the two distribution-matching losses over a queue.

    The positives of a row are its key and, with `topk` > 0, the union of the queue's keys nearest
    to the query, the extreme and the dropped row (NNM, section 3.5). The query's softmax over
    [key, queue] teaches those of the extreme and the dropped row (D3M, section 3.4) and is
    detached. loss = info_nce + (d3m_extreme + d3m_dropped) / 2, each a mean over rows. Keys and
    queue get no gradient. Ties among neighbors go to the lower index.

    Args:
        query: rows [N, D] of the normal view.
        extreme: rows [N, D] of the extreme view.
        dropped: rows [N, D] of the extreme view after dropping.
        key: rows [N, D] of the key view.
        queue: [K, D] keys of earlier batches.
        temperature: divides every similarity.
        topk: neighbors mined per row, 0 for none.
        backend: "auto" for the fastest that can run, or a name.
        precision: how the triton backend multiplies: "ieee", "tf32", "bf16" or "fp16"; None
            follows the dtype and, for float32, torch's setting.

    Returns:
        ContrastLosses; neighbors are [N, 3, topk] in the order query, extreme, dropped.

    Raises:
        ValueError: shapes disagree, N is 0, the temperature is not positive, or topk exceeds K;
            there is no such backend or precision.
        TypeError: a tensor is not floating point.
        BackendError: the backend cannot run.
    """
    rows = {"query": query, "extreme": extreme, "dropped": dropped, "key": key, "queue": queue}
    for name, tensor in rows.items():
        check_dense(name, tensor)
    if not isinstance(precision, str | None):
        raise TypeError(f"precision must be a name, got {type(precision).__name__}")
    call = Call(
        query,
        extreme,
        dropped,
        key,
        queue,
        check_number("temperature", temperature),
        check_integer("topk", topk),
        backend,
        precision,
    )
    chosen = _OP.route(backend, query)
    if chosen.run is not None:
        info_nce, d3m_extreme, d3m_dropped, neighbors = chosen.run(call)
    else:
        call = call._replace(backend=chosen.name)
        losses, neighbors, _ = torch.ops.aimclr_fast.queue_contrast(*call)
        info_nce, d3m_extreme, d3m_dropped = losses.unbind()
    loss = info_nce + (d3m_extreme + d3m_dropped) / 2
    return ContrastLosses(loss, info_nce, d3m_extreme, d3m_dropped, neighbors)

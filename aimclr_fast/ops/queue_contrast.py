"""queue_contrast: checks, backends and the torch op behind the fast ones.

A fast backend finds losses, gradients and neighbours in one pass over the queue, so the backward
pass only scales what the forward pass saved.
"""

from __future__ import annotations

import functools
import math
from typing import Any

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
    check_memory,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend, always, check_backend, choose
from ._native import cpp_why_not
from ._triton import product_precision, triton_why_not

# How the triton backend multiplies; the others always do so exactly in the rows' precision.
PRECISIONS = ("ieee", "tf32", "bf16", "fp16")
MAX_TRITON_WIDTH = 256

Outputs = tuple[Tensor, Tensor, Tensor]


def _check(
    precision: str | None,
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
) -> None:
    check_shape("query", query, "N", "D")
    rows = {"query": query, "extreme": extreme, "dropped": dropped, "key": key}
    for name, row in rows.items():
        check_shape(name, row, *query.shape)
        check_dtype(name, row, *FLOATS)
    check_shape("queue", queue, "K", query.shape[1])
    check_dtype("queue", queue, *FLOATS)
    check_same_device(**rows, queue=queue)
    if query.shape[0] == 0:
        raise ValueError("query has no rows, so the mean over rows is not defined")
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    if not 0 <= topk <= queue.shape[0]:
        raise ValueError(f"topk must lie in 0..{queue.shape[0]} (the queue's size), got {topk}")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def _allocate(query: Tensor, topk: int) -> Outputs:
    """Losses [3], neighbours [N, 3, topk] and the gradient [3, N, D] of each loss by its rows."""
    n, d = query.shape
    # As in the reference, half-precision rows are widened.
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    return (
        query.new_empty(3, dtype=dtype),
        query.new_empty((n, 3, topk), dtype=torch.int64),
        query.new_empty((3, n, d), dtype=dtype),
    )


# --- cpp -----------------------------------------------------------------------------------------


def _cpp(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
) -> Outputs:
    losses, neighbors, gradients = _allocate(query, topk)
    inputs = [x.to(losses.dtype).contiguous() for x in (query, extreme, dropped, key, queue)]
    library, threads = native.load(), torch.get_num_threads()
    double = losses.dtype == torch.float64
    run = library.queue_contrast_f64_cpu if double else library.queue_contrast_f32_cpu
    sizes = (len(query), len(queue), query.shape[1])
    size = library.queue_contrast_workspace_cpu(*sizes, topk, threads, losses.element_size())
    workspace = torch.empty(size, dtype=torch.uint8)
    run(
        *(x.data_ptr() for x in inputs),
        *sizes,
        temperature,
        topk,
        *(x.data_ptr() for x in (workspace, losses, gradients, neighbors)),
        threads,
    )
    return losses, neighbors, gradients


# --- triton --------------------------------------------------------------------------------------


def default_precision(query: Tensor, queue: Tensor) -> str:
    """The precision of the triton backend's products, if the caller gives none."""
    return product_precision(torch.promote_types(query.dtype, queue.dtype))


def _triton_why_not(query: Tensor) -> str | None:
    width = query.shape[-1] if query.dim() else 0
    if width % 16 or not 0 < width <= MAX_TRITON_WIDTH:
        return f"rows must be a multiple of 16 wide, up to {MAX_TRITON_WIDTH}, got {width}"
    return triton_why_not(query)


def _triton(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
    *,
    precision: str | None,
) -> Outputs:
    from aimclr_fast.triton_kernels import queue_contrast as kernels

    _, neighbors, gradients = _allocate(query, topk)
    # The rows share a dtype in the kernels, which have no float64.
    if not query.dtype == extreme.dtype == dropped.dtype:
        query, extreme, dropped = query.float(), extreme.float(), dropped.float()
    if queue.dtype == torch.float64:
        queue = queue.float()
    row_losses = gradients.new_empty(3, len(query))
    processors = 4
    if query.device.type == "cuda":
        processors = torch.cuda.get_device_properties(query.device).multi_processor_count
    with torch.cuda.device_of(query):
        kernels.queue_contrast(
            query.contiguous(),
            extreme.contiguous(),
            dropped.contiguous(),
            key.contiguous(),
            queue.contiguous(),
            temperature,
            topk,
            precision or default_precision(query, queue),
            processors,
            (row_losses, neighbors, gradients),
        )
    return row_losses.mean(1), neighbors, gradients


# --- The torch op: one for all fast backends -----------------------------------------------------

_OP = "aimclr_fast::queue_contrast"
torch.library.define(
    _OP,
    "(Tensor query, Tensor extreme, Tensor dropped, Tensor key, Tensor queue, float temperature,"
    " SymInt topk, str backend, str? precision)"
    " -> (Tensor losses, Tensor neighbors, Tensor gradients)",
)


def _check_call(*arguments: Any) -> None:
    *inputs, backend, precision = arguments
    _check(precision, *inputs)
    check_backend("queue_contrast", BACKENDS, backend, inputs[0])


def _fake(*arguments: Any) -> Outputs:
    _check_call(*arguments)
    query, *_, topk = arguments[:7]
    return _allocate(query, topk)


def _forward(*arguments: Any) -> Outputs:
    _check_call(*arguments)
    check_memory(*arguments)
    *inputs, backend, precision = arguments
    return _triton(*inputs, precision=precision) if backend == "triton" else _cpp(*inputs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    _, neighbors, gradients = output
    ctx.mark_non_differentiable(neighbors, gradients)
    ctx.save_for_backward(gradients)
    ctx.dtypes = [rows.dtype for rows in inputs[:3]]


@once_differentiable
def _backward(ctx: Any, grad_losses: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    (gradients,) = ctx.saved_tensors
    scaled = (gradients * grad_losses[:, None, None]).unbind()
    rows = [
        gradient.to(dtype) if needed else None
        for gradient, dtype, needed in zip(scaled, ctx.dtypes, ctx.needs_input_grad, strict=False)
    ]
    return (*rows, *[None] * 6)


torch.library.impl(_OP, ("cpu", "cuda"), _forward)
torch.library.register_fake(_OP, _fake)
torch.library.register_autograd(_OP, _backward, setup_context=_save)


# --- The function --------------------------------------------------------------------------------


def _fast(
    backend: str, *inputs: Any, precision: str | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    losses, neighbors, _ = torch.ops.aimclr_fast.queue_contrast(*inputs, backend, precision)
    info_nce, d3m_extreme, d3m_dropped = losses.unbind()
    return info_nce, d3m_extreme, d3m_dropped, neighbors


def _reference(*inputs: Any, precision: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(precision, *inputs)
    return reference.queue_contrast(*inputs)


BACKENDS = (
    Backend("cpp", functools.partial(_fast, "cpp"), cpp_why_not),
    Backend("triton", functools.partial(_fast, "triton"), _triton_why_not),
    Backend(REFERENCE, _reference, always),
)


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
    backend: str = "auto",
    precision: str | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = {"query": query, "extreme": extreme, "dropped": dropped, "key": key}
    for name, tensor in {**rows, "queue": queue}.items():
        check_dense(name, tensor)
    temperature = check_number("temperature", temperature)
    topk = check_integer("topk", topk)
    if not isinstance(precision, str | None):
        raise TypeError(f"precision must be a name, got {type(precision).__name__}")
    run = choose("queue_contrast", BACKENDS, backend, query)
    info_nce, d3m_extreme, d3m_dropped, neighbors = run(
        query, extreme, dropped, key, queue, temperature, topk, precision=precision
    )
    return info_nce, d3m_extreme, d3m_dropped, neighbors

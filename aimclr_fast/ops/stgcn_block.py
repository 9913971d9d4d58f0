"""stgcn_block: checks, backends and the torch op behind `cpp` and `triton`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast.reference import stgcn_block as reference

from . import _stgcn_block_cpp as cpp
from . import _stgcn_block_torch as plain
from ._checks import check_dense, check_integer, check_memory, check_number
from ._dispatch import REFERENCE, Backend, always, check_backend, choose
from ._native import cpp_why_not
from ._stgcn_block_call import (
    HALVES,
    Gradients,
    Inputs,
    Outputs,
    Settings,
    check,
    check_saved,
    output_shapes,
    statistics_dtype,
)
from ._triton import product_precision, triton_why_not

MAX_TRITON_JOINTS = 64
LAST = torch.channels_last


def _empty_outputs(inputs: Inputs, settings: Settings) -> Outputs:
    def empty(name: str, shape: tuple[int, ...]) -> Tensor:
        if name == "statistics":
            return inputs.x.new_empty(shape, dtype=statistics_dtype(inputs.x))
        if len(shape) == 1:
            return inputs.x.new_empty(shape)
        batch, channels, frames, joints = shape
        return inputs.x.new_empty((batch, frames, joints, channels)).permute(0, 3, 1, 2)

    shapes = output_shapes(inputs, settings)
    return Outputs(**{name: empty(name, shape) for name, shape in shapes.items()})


def _empty_gradients(inputs: Inputs) -> Gradients:
    def empty(name: str, tensor: Tensor | None) -> Tensor:
        if tensor is None:
            return inputs.x.new_empty(0)
        memory_format = LAST if name == "x" else torch.contiguous_format
        return torch.empty_like(tensor, memory_format=memory_format)

    return Gradients(*(empty(name, getattr(inputs, name)) for name in Gradients._fields))


def _laid_out(inputs: Inputs) -> Inputs:
    """The same values in the memory formats that backends expect."""

    def one(name: str, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if name == "keep":
            tensor = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        return (
            tensor.contiguous(memory_format=LAST)
            if name in ("x", "keep")
            else (tensor.contiguous())
        )

    return Inputs(*(one(name, tensor) for name, tensor in inputs._asdict().items()))  # type: ignore[arg-type]


# --- triton --------------------------------------------------------------------------------------


def _triton_forward(inputs: Inputs, settings: Settings, out: Outputs) -> None:
    from aimclr_fast.triton_kernels import stgcn_block as kernels

    with torch.cuda.device_of(inputs.x):
        kernels.forward(inputs, settings, out, product_precision(inputs.x.dtype))


def _triton_backward(
    grad_y: Tensor, inputs: Inputs, settings: Settings, saved: Outputs, out: Gradients
) -> None:
    from aimclr_fast.triton_kernels import stgcn_block as kernels

    with torch.cuda.device_of(grad_y):
        precision = product_precision(inputs.x.dtype)
        kernels.backward(grad_y, inputs, settings, saved, out, precision)


# --- The torch op: one for all fast backends -----------------------------------------------------

_FORWARD = {"cpp": cpp.forward, "triton": _triton_forward}
_BACKWARD = {"cpp": cpp.backward, "triton": _triton_backward}

_OP = "aimclr_fast::stgcn_block"
_INPUTS = (
    "Tensor x, Tensor adjacency, Tensor spatial_weight, Tensor spatial_bias,"
    " Tensor temporal_weight, Tensor temporal_bias, Tensor norms, Tensor? residual_weight,"
    " Tensor? residual_bias, Tensor? running, Tensor? keep,"
    " bool identity, float scale, int stride, float eps, bool save"
)
_SAVED = "Tensor y, Tensor statistics, Tensor spatial, Tensor temporal, Tensor shortcut"
torch.library.define(_OP, f"({_INPUTS}, str backend) -> ({_SAVED})")
torch.library.define(
    f"{_OP}_backward",
    f"(Tensor grad_y, {_INPUTS}, {_SAVED}, str backend) -> (Tensor, Tensor, Tensor, Tensor,"
    " Tensor, Tensor, Tensor, Tensor, Tensor)",
)
_TENSORS, _ALL = len(Inputs._fields), len(Inputs._fields) + len(Settings._fields)


def _forward_fake(*arguments: Any) -> Outputs:
    inputs, settings = Inputs(*arguments[:_TENSORS]), Settings(*arguments[_TENSORS:_ALL])
    check(inputs, settings)
    check_backend("stgcn_block", COMPILED, arguments[-1], inputs.x)
    return _empty_outputs(inputs, settings)


def _forward(*arguments: Any) -> Outputs:
    out = _forward_fake(*arguments)
    check_memory(*arguments)
    *_, backend = arguments
    inputs = _laid_out(Inputs(*arguments[:_TENSORS]))
    settings = Settings(*arguments[_TENSORS:_ALL])
    if out.y.numel():
        _FORWARD[backend](inputs, settings, out)
    elif inputs.running is not None:
        out.statistics.copy_(inputs.running)
    else:
        out.statistics.fill_(torch.nan)
    return out


def _backward_fake(grad_y: Tensor, *arguments: Any) -> Gradients:
    inputs, settings = Inputs(*arguments[:_TENSORS]), Settings(*arguments[_TENSORS:_ALL])
    check(inputs, settings)
    check_saved(grad_y, inputs, settings, Outputs(*arguments[_ALL:-1]))
    check_backend("stgcn_block_backward", COMPILED, arguments[-1], inputs.x)
    return _empty_gradients(inputs)


def _backward(grad_y: Tensor, *arguments: Any) -> Gradients:
    out = _backward_fake(grad_y, *arguments)
    check_memory(grad_y, *arguments)
    *_, backend = arguments
    inputs = _laid_out(Inputs(*arguments[:_TENSORS]))
    settings = Settings(*arguments[_TENSORS:_ALL])
    if grad_y.numel():
        grad_y, *saved = (
            tensor.contiguous(memory_format=LAST) if tensor.dim() == 4 else tensor.contiguous()
            for tensor in (grad_y, *arguments[_ALL:-1])
        )
        _BACKWARD[backend](grad_y, inputs, settings, Outputs(*saved), out)
    else:
        for gradient in out:
            gradient.zero_()
    return out


def _save(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    *arguments, ctx.backend = inputs
    ctx.settings = arguments[_TENSORS:]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros would be written for each saved map
    ctx.save_for_backward(*arguments[:_TENSORS], *output)


@once_differentiable
def _gradient(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad_y is None:
        return (None,) * (_ALL + 1)
    inputs, saved = ctx.saved_tensors[:_TENSORS], ctx.saved_tensors[_TENSORS:]
    gradients = torch.ops.aimclr_fast.stgcn_block_backward(
        grad_y, *inputs, *ctx.settings, *saved, ctx.backend
    )
    of = dict(zip(Gradients._fields, gradients, strict=True))
    needed = dict(zip(Inputs._fields, ctx.needs_input_grad, strict=False))
    return (
        *(of.get(name) if needed[name] else None for name in Inputs._fields),
        *[None] * (len(Settings._fields) + 1),
    )


torch.library.impl(_OP, ("cpu", "cuda"), _forward)
torch.library.impl(f"{_OP}_backward", ("cpu", "cuda"), _backward)
torch.library.register_fake(_OP, _forward_fake)
torch.library.register_fake(f"{_OP}_backward", _backward_fake)
torch.library.register_autograd(_OP, _gradient, setup_context=_save)


# --- The function --------------------------------------------------------------------------------


def _fast(backend: str, inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    save = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in inputs
    )
    y, statistics, *_ = torch.ops.aimclr_fast.stgcn_block(
        *inputs, *settings._replace(save=save), backend
    )
    return y, statistics


def _checked(inputs: Inputs, settings: Settings) -> Inputs:
    """What the op accepts, with parameters in the type of x."""
    check(inputs, settings)
    if inputs.x.dtype in HALVES:  # PyTorch's products take operands of one type
        narrow = {
            name: tensor.to(inputs.x.dtype)
            for name, tensor in inputs._asdict().items()
            if tensor is not None and ("weight" in name or "bias" in name or name == "adjacency")
        }
        inputs = inputs._replace(**narrow)
    return inputs


def _reference(inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    y, statistics = reference.stgcn_block(*_checked(inputs, settings), *settings[:-1])
    return y, statistics.detach()


def _torch(inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    y, statistics = plain.stgcn_block(_checked(inputs, settings), settings)
    return y, statistics.detach()


def _cpp_why_not(x: Tensor) -> str | None:
    if x.dtype in HALVES:
        return "it has no half-precision kernels"
    return cpp_why_not(x)


def _triton_why_not(x: Tensor) -> str | None:
    if x.dim() == 4 and x.shape[3] > MAX_TRITON_JOINTS:
        return f"its tiles hold up to {MAX_TRITON_JOINTS} joints, got {x.shape[3]}"
    return triton_why_not(x)


BACKENDS = (
    Backend("cpp", functools.partial(_fast, "cpp"), _cpp_why_not),
    Backend("torch", _torch, always),
    Backend(REFERENCE, _reference, always),
    # Last, so only by name: no GPU has measured it against the reference (cuDNN) yet.
    Backend("triton", functools.partial(_fast, "triton"), _triton_why_not),
)

# What the torch op runs: the others are PyTorch's own operations.
COMPILED = tuple(backend for backend in BACKENDS if backend.name in _FORWARD)


def stgcn_block(inputs: Inputs, settings: Settings, backend: str = "auto") -> tuple[Tensor, Tensor]:
    for name, tensor in inputs._asdict().items():
        if name == "x" or tensor is not None:
            check_dense(name, tensor)
    if inputs.running is not None:  # a constant for every backend
        inputs = inputs._replace(running=inputs.running.detach())
    settings = settings._replace(
        stride=check_integer("stride", settings.stride), eps=check_number("eps", settings.eps)
    )
    y, statistics = choose("stgcn_block", BACKENDS, backend, inputs.x)(inputs, settings)
    return y, statistics

"""stgcn_block: checks, backends and the torch op behind `cpp` and `triton`."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast.reference import stgcn_block as reference

from . import _stgcn_block_cpp as cpp
from . import _stgcn_block_torch as plain
from ._checks import (
    FLOATS,
    check_dtype,
    check_integer,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend, always, choose
from ._native import cpp_why_not
from ._triton import product_precision, triton_why_not

HALVES = (torch.float16, torch.bfloat16)
MAX_TRITON_JOINTS = 64
LAST = torch.channels_last


class Inputs(NamedTuple):
    """The op's tensors; x and keep are channels_last, the others contiguous.

    Attributes:
        x: [B, C_in, T, V].
        adjacency: [P, V, V].
        spatial_weight: [P * C_out, C_in, 1, 1].
        spatial_bias: [P * C_out].
        temporal_weight: [C_out, C_out, K, 1].
        temporal_bias: [C_out].
        norms: [n, 2, C_out], (weight, bias) of the spatial, temporal and residual norm; n is 3
            with a residual convolution, else 2.
        residual_weight: [C_out, C_in, 1, 1], or None.
        residual_bias: [C_out], or None.
        running: [n, 2, C_out], (mean, variance) in evaluation; None in training.
        keep: uint8 or bool [B, C_out, T_out, V], or None.
    """

    x: Tensor
    adjacency: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    temporal_weight: Tensor
    temporal_bias: Tensor
    norms: Tensor
    residual_weight: Tensor | None
    residual_bias: Tensor | None
    running: Tensor | None
    keep: Tensor | None


class Settings(NamedTuple):
    """Attributes:
    identity: add x before the last ReLU.
    scale: what `keep` is multiplied by.
    stride: of the temporal and the residual convolution in time, 1 or 2.
    eps: added to every variance.
    save: fill what the backward pass needs, in evaluation, too.
    """

    identity: bool
    scale: float
    stride: int
    eps: float
    save: bool


class Outputs(NamedTuple):
    """What a fast backend fills; maps are channels_last. All of it is kept for the gradient.

    In evaluation without `save` the last three are empty ([0]).

    Attributes:
        y: [B, C_out, T_out, V].
        statistics: [n, 2, C_out], (mean, biased variance) each norm used; float32, or float64.
        spatial: [B, C_out, T, V], what goes into the spatial norm.
        temporal: [B, C_out, T_out, V], what goes into the temporal norm.
        shortcut: [B, C_out, T_out, V], what goes into the residual norm; [0] without it.
    """

    y: Tensor
    statistics: Tensor
    spatial: Tensor
    temporal: Tensor
    shortcut: Tensor


class Gradients(NamedTuple):
    """Gradients of the inputs that have one, each as its input ([0] for an absent one).

    That of the adjacency is zero where the adjacency is. The biases of the temporal and the
    residual convolution have none in training, for batch norm subtracts them again.
    """

    x: Tensor
    adjacency: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    temporal_weight: Tensor
    temporal_bias: Tensor
    norms: Tensor
    residual_weight: Tensor
    residual_bias: Tensor


def _empty_outputs(inputs: Inputs, settings: Settings) -> Outputs:
    batch, _, frames, joints = inputs.x.shape
    channels = len(inputs.temporal_bias)
    kept = settings.save or inputs.running is None

    def empty(frames: int, wanted: bool = True) -> Tensor:
        if not wanted:
            return inputs.x.new_empty(0)
        return inputs.x.new_empty((batch, frames, joints, channels)).permute(0, 3, 1, 2)

    shorter = -(-frames // settings.stride)
    dtype = torch.float32 if inputs.x.dtype in HALVES else inputs.x.dtype
    return Outputs(
        empty(shorter),
        torch.empty_like(inputs.norms, dtype=dtype),
        empty(frames, kept),
        empty(shorter, kept),
        empty(shorter, kept and inputs.residual_weight is not None),
    )


def _empty_gradients(inputs: Inputs) -> Gradients:
    of = {
        name: inputs.x.new_empty(0) if tensor is None else torch.empty_like(tensor)
        for name, tensor in inputs._asdict().items()
        if name in Gradients._fields
    }
    of["x"] = torch.empty_like(inputs.x, memory_format=LAST)
    return Gradients(**of)


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
    return _empty_outputs(Inputs(*arguments[:_TENSORS]), Settings(*arguments[_TENSORS:_ALL]))


def _forward(*arguments: Any) -> Outputs:
    *_, backend = arguments
    inputs = _laid_out(Inputs(*arguments[:_TENSORS]))
    settings = Settings(*arguments[_TENSORS:_ALL])
    out = _empty_outputs(inputs, settings)
    if out.y.numel():
        _FORWARD[backend](inputs, settings, out)
    elif inputs.running is not None:
        out.statistics.copy_(inputs.running)
    else:
        out.statistics.fill_(torch.nan)
    return out


def _backward_fake(grad_y: Tensor, *arguments: Any) -> Gradients:
    return _empty_gradients(Inputs(*arguments[:_TENSORS]))


def _backward(grad_y: Tensor, *arguments: Any) -> Gradients:
    *_, backend = arguments
    inputs = _laid_out(Inputs(*arguments[:_TENSORS]))
    settings = Settings(*arguments[_TENSORS:_ALL])
    saved = Outputs(*arguments[_ALL:-1])
    out = _empty_gradients(inputs)
    if grad_y.numel():
        grad_y = grad_y.contiguous(memory_format=LAST)
        _BACKWARD[backend](grad_y, inputs, settings, saved, out)
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


def _narrowed(inputs: Inputs) -> Inputs:
    """With parameters in the type of x."""
    if inputs.x.dtype in HALVES:  # PyTorch's products take operands of one type
        narrow = {
            name: tensor.to(inputs.x.dtype)
            for name, tensor in inputs._asdict().items()
            if tensor is not None and ("weight" in name or "bias" in name or name == "adjacency")
        }
        inputs = inputs._replace(**narrow)
    return inputs


def _reference(inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    y, statistics = reference.stgcn_block(*_narrowed(inputs), *settings[:-1])
    return y, statistics.detach()


def _torch(inputs: Inputs, settings: Settings) -> tuple[Tensor, Tensor]:
    y, statistics = plain.stgcn_block(_narrowed(inputs), settings)
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


def _check(inputs: Inputs, settings: Settings) -> None:
    x, adjacency = inputs.x, inputs.adjacency
    check_shape("x", x, "B", "C_in", "T", "V")
    batch, width, frames, joints = x.shape
    check_shape("adjacency", adjacency, "P", joints, joints)
    check_shape("temporal_bias", inputs.temporal_bias, "C_out")
    channels = len(inputs.temporal_bias)
    check_shape("spatial_weight", inputs.spatial_weight, len(adjacency) * channels, width, 1, 1)
    check_shape("spatial_bias", inputs.spatial_bias, len(adjacency) * channels)
    check_shape("temporal_weight", inputs.temporal_weight, channels, channels, "K", 1)
    if 0 in (width, frames, joints, len(adjacency), channels):
        raise ValueError(
            "x, adjacency and temporal_bias must have at least one channel, frame, joint and part, "
            f"got shapes {list(x.shape)}, {list(adjacency.shape)} and [{channels}]"
        )
    if inputs.temporal_weight.shape[2] % 2 == 0:
        raise ValueError(f"K must be odd, got temporal_weight {list(inputs.temporal_weight.shape)}")
    check_integer("stride", settings.stride)
    if not 0.0 < settings.eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {settings.eps}")
    if settings.stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {settings.stride}")
    shorter = -(-frames // settings.stride)
    if inputs.running is None and batch * shorter * joints == 1:
        raise ValueError(
            f"x must have several values per channel to take statistics of, got {list(x.shape)}"
        )
    count = 2
    if inputs.residual_weight is not None:
        count = 3
        check_shape("residual weight", inputs.residual_weight, channels, width, 1, 1)
        if inputs.residual_bias is None:
            raise ValueError("the residual convolution needs a bias")
        check_shape("residual bias", inputs.residual_bias, channels)
    elif settings.identity and (channels != width or settings.stride != 1):
        raise ValueError(
            f"the identity needs as many channels out as in and stride 1, got {width} in, "
            f"{channels} out and stride {settings.stride}"
        )
    check_shape("norms", inputs.norms, count, 2, channels)
    if inputs.running is not None:
        check_shape("running", inputs.running, count, 2, channels)
    given = {name: tensor for name, tensor in inputs._asdict().items() if tensor is not None}
    if inputs.keep is not None:
        check_shape("keep", inputs.keep, batch, channels, shorter, joints)
        check_dtype("keep", inputs.keep, torch.uint8, torch.bool)
    check_dtype("x", x, *FLOATS)
    for name, tensor in given.items():
        if name != "keep":
            # Parameters stay float32 where maps are half as wide.
            check_dtype(name, tensor, x.dtype, *((torch.float32,) if x.dtype in HALVES else ()))
    check_same_device(**given)


def stgcn_block(inputs: Inputs, settings: Settings, backend: str = "auto") -> tuple[Tensor, Tensor]:
    settings = settings._replace(eps=check_number("eps", settings.eps))
    _check(inputs, settings)
    y, statistics = choose("stgcn_block", BACKENDS, backend, inputs.x)(inputs, settings)
    return y, statistics

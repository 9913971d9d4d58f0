"""stgcn_block: one block of the spatial-temporal graph convolutional network, and its gradient."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast import native
from aimclr_fast.reference import stgcn_block as reference

from . import _stgcn_block_torch as plain
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

HALVES = (torch.float16, torch.bfloat16)
LAST = torch.channels_last
MAX_TRITON_JOINTS = 64

# --- What the op takes and gives -----------------------------------------------------------------


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


def _output_shapes(inputs: Inputs, settings: Settings) -> dict[str, tuple[int, ...]]:
    batch, _, frames, joints = inputs.x.shape
    channels = inputs.temporal_bias.shape[0]
    map_, short_map = (
        (batch, channels, count, joints) for count in (frames, -(-frames // settings.stride))
    )
    kept = settings.save or inputs.running is None
    return {
        "y": short_map,
        "statistics": tuple(inputs.norms.shape),
        "spatial": map_ if kept else (0,),
        "temporal": short_map if kept else (0,),
        "shortcut": short_map if kept and inputs.residual_weight is not None else (0,),
    }


def _statistics_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in HALVES else x.dtype


def _check(inputs: Inputs, settings: Settings) -> None:
    x, adjacency = inputs.x, inputs.adjacency
    check_shape("x", x, "B", "C_in", "T", "V")
    batch, width, frames, joints = x.shape
    check_shape("adjacency", adjacency, "P", joints, joints)
    check_shape("temporal_bias", inputs.temporal_bias, "C_out")
    channels, parts = inputs.temporal_bias.shape[0], adjacency.shape[0]
    check_shape("spatial_weight", inputs.spatial_weight, parts * channels, width, 1, 1)
    check_shape("spatial_bias", inputs.spatial_bias, parts * channels)
    check_shape("temporal_weight", inputs.temporal_weight, channels, channels, "K", 1)
    if width == 0 or frames == 0 or joints == 0 or parts == 0 or channels == 0:
        raise ValueError(
            "x, adjacency and temporal_bias must have at least one channel, frame, joint and part, "
            f"got shapes {list(x.shape)}, {list(adjacency.shape)} and [{channels}]"
        )
    if inputs.temporal_weight.shape[2] % 2 == 0:
        raise ValueError(f"K must be odd, got temporal_weight {list(inputs.temporal_weight.shape)}")
    if not 0.0 < settings.eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {settings.eps}")
    if not 1.0 <= settings.scale < math.inf:
        raise ValueError(
            f"scale, one over keep_prob, must be finite and at least 1, got {settings.scale}"
        )
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
        if settings.identity:
            raise ValueError("the identity and a residual convolution exclude each other")
    elif inputs.residual_bias is not None:
        raise ValueError("the residual convolution needs a weight, and only its bias is given")
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


def _check_saved(grad_y: Tensor, inputs: Inputs, settings: Settings, saved: Outputs) -> None:
    """What the backward pass takes besides the inputs."""
    # In evaluation the forward pass keeps its maps with `save` alone.
    shapes = _output_shapes(inputs, settings._replace(save=True))
    given = {"grad_y": grad_y, **saved._asdict()}
    for name, tensor in given.items():
        check_shape(name, tensor, *shapes["y" if name == "grad_y" else name])
        wide = name == "statistics"
        check_dtype(name, tensor, _statistics_dtype(inputs.x) if wide else inputs.x.dtype)
    check_same_device(x=inputs.x, **given)


def _empty_outputs(inputs: Inputs, settings: Settings) -> Outputs:
    def empty(name: str, shape: tuple[int, ...]) -> Tensor:
        if name == "statistics":
            return inputs.x.new_empty(shape, dtype=_statistics_dtype(inputs.x))
        if len(shape) == 1:
            return inputs.x.new_empty(shape)
        batch, channels, frames, joints = shape
        return inputs.x.new_empty((batch, frames, joints, channels)).permute(0, 3, 1, 2)

    shapes = _output_shapes(inputs, settings)
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
        memory_format = LAST if name in ("x", "keep") else torch.contiguous_format
        return tensor.contiguous(memory_format=memory_format)

    return Inputs(*(one(name, tensor) for name, tensor in inputs._asdict().items()))  # type: ignore[arg-type]


# --- Compiled backends ---------------------------------------------------------------------------

_local = threading.local()


def _workspace(size: int) -> int:
    """The aligned address of `size` bytes that are kept from call to call.

    Tens of megabytes that the system would have to clear each time take longer than some blocks.
    """
    kept: Tensor | None = getattr(_local, "workspace", None)
    if kept is None or kept.numel() < size + 64:
        _local.workspace = kept = torch.empty(size + 64, dtype=torch.uint8)
    return -(-kept.data_ptr() // 64) * 64


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _cpp(name: str, inputs: Inputs, settings: Settings, **others: Tensor) -> None:
    """Call the pass `name` of the compiled library, with the addresses of the tensors."""
    library, threads = native.load(), torch.get_num_threads()
    batch, width, frames, joints = inputs.x.shape
    channels, _, taps, _ = inputs.temporal_weight.shape
    shape = {
        "batch": batch, "in": width, "out": channels, "frames": frames, "joints": joints,
        "parts": len(inputs.adjacency), "taps": taps, "stride": settings.stride,
    }  # fmt: skip
    size = library.stgcn_block_workspace_cpu(
        **shape,
        residual=inputs.residual_weight is not None,
        backward=name == "backward",
        element_bytes=inputs.x.element_size(),
        threads=threads,
    )
    dtype = {torch.float32: "f32", torch.float64: "f64"}[inputs.x.dtype]
    tensors = {**inputs._asdict(), **others}
    getattr(library, f"stgcn_block_{name}_{dtype}_cpu")(
        **{name: _address(tensor) for name, tensor in tensors.items()},
        shape=shape,
        identity=settings.identity,
        scale=settings.scale,
        eps=settings.eps,
        workspace=_workspace(size),
        threads=threads,
    )


def _cpp_forward(inputs: Inputs, settings: Settings, out: Outputs) -> None:
    _cpp("forward", inputs, settings, **out._asdict())


def _cpp_backward(
    grad_y: Tensor, inputs: Inputs, settings: Settings, saved: Outputs, out: Gradients
) -> None:
    gradients = {f"d_{name}": tensor for name, tensor in out._asdict().items()}
    _cpp("backward", inputs, settings, grad_y=grad_y, **saved._asdict(), **gradients)


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

_FORWARD = {"cpp": _cpp_forward, "triton": _triton_forward}
_BACKWARD = {"cpp": _cpp_backward, "triton": _triton_backward}

_OP = "aimclr_fast::stgcn_block"
_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool", float: "float", int: "int"}


def _schema(arguments: type[tuple[Any, ...]]) -> str:
    return ", ".join(f"{_TYPES[t]} {name}" for name, t in get_type_hints(arguments).items())


_CALL = f"{_schema(Inputs)}, {_schema(Settings)}"
torch.library.define(_OP, f"({_CALL}, str backend) -> ({_schema(Outputs)})")
torch.library.define(
    f"{_OP}_backward",
    f"(Tensor grad_y, {_CALL}, {_schema(Outputs)}, str backend)"
    f" -> ({', '.join('Tensor' for _ in Gradients._fields)})",
)
_TENSORS, _ALL = len(Inputs._fields), len(Inputs._fields) + len(Settings._fields)


def _forward_fake(*arguments: Any) -> Outputs:
    inputs, settings = Inputs(*arguments[:_TENSORS]), Settings(*arguments[_TENSORS:_ALL])
    _check(inputs, settings)
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
    _check(inputs, settings)
    _check_saved(grad_y, inputs, settings, Outputs(*arguments[_ALL:-1]))
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


# --- The table of backends ----------------------------------------------------------------------


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
    _check(inputs, settings)
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
    y, statistics = plain.stgcn_block(*_checked(inputs, settings), *settings[:-1])
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


# --- The function --------------------------------------------------------------------------------


def stgcn_block(
    x: Tensor,
    adjacency: Tensor,
    spatial: tuple[Tensor, Tensor],
    temporal: tuple[Tensor, Tensor],
    norms: Tensor,
    *,
    residual: str | tuple[Tensor, Tensor] = "none",
    running: Tensor | None = None,
    keep: Tensor | None = None,
    keep_prob: float = 1.0,
    stride: int = 1,
    eps: float = 1e-5,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """One block of ST-GCN (Yan et al., AAAI 2018, section 3), in training or in evaluation.

    A 1x1 convolution per part of the graph, summed over neighbors and parts; batch norm; ReLU; a
    convolution over K frames; batch norm; dropout; the residual; ReLU. The joint w of the spatial
    convolution's output is the sum over parts p and joints v of joint v times adjacency[p, v, w].

    All backends but the reference keep the channels last in memory (`torch.channels_last`), and so
    is their output. `torch` is PyTorch's own operations laid out for a GPU; it runs anywhere.

    Args:
        x: feature map [B, C_in, T, V].
        adjacency: [P, V, V], already times the edges' importance. A zero is no edge: its gradient
            is zero.
        spatial: weight [P * C_out, C_in, 1, 1] and bias [P * C_out]; the parts one after the other.
        temporal: weight [C_out, C_out, K, 1], K odd, and bias [C_out]; padded with K // 2 frames of
            zeros on each side.
        norms: [n, 2, C_out], weight and bias of the spatial, the temporal and, with a residual
            convolution, the residual norm.
        residual: "none", "identity", or weight [C_out, C_in, 1, 1] and bias [C_out] of a 1x1
            convolution, which a norm follows.
        running: [n, 2, C_out], mean and variance that the norms use, in evaluation. Without it they
            use those of the batch. They get no gradient.
        keep: uint8 or bool [B, C_out, ceil(T / stride), V], 1 where dropout keeps an element, which
            is then divided by `keep_prob`. None keeps all.
        keep_prob: see `keep`; in (0, 1].
        stride: of the temporal and the residual convolution in time, 1 or 2.
        eps: added to the variances.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        (y, statistics): the output [B, C_out, ceil(T / stride), V], and the mean and biased
        variance [n, 2, C_out] that the norms used, without a gradient.

    Raises:
        ValueError: a shape, the stride or the residual is off; it is named.
        TypeError: a tensor is of the wrong dtype.
    """
    if isinstance(residual, str) and residual not in ("none", "identity"):
        raise ValueError(f"residual must be 'none', 'identity' or a convolution, got {residual!r}")
    for name, pair in (("spatial", spatial), ("temporal", temporal), ("residual", residual)):
        if name == "residual" and isinstance(pair, str):
            continue
        if (
            not isinstance(pair, tuple | list)
            or [isinstance(t, Tensor) for t in pair] != [True] * 2
        ):
            raise TypeError(f"{name} must be a weight and a bias, got {type(pair).__name__}")
    keep_prob = check_number("keep_prob", keep_prob)
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(f"keep_prob must lie in (0, 1], got {keep_prob}")
    beside_weight, beside_bias = (None, None) if isinstance(residual, str) else residual
    inputs = Inputs(
        *(x, adjacency, *spatial, *temporal, norms, beside_weight, beside_bias, running, keep)
    )
    for name, tensor in inputs._asdict().items():
        if name == "x" or tensor is not None:
            check_dense(name, tensor)
    if running is not None:  # a constant for every backend
        inputs = inputs._replace(running=running.detach())
    stride, eps = check_integer("stride", stride), check_number("eps", eps)
    settings = Settings(residual == "identity", 1.0 / keep_prob, stride, eps, False)
    y, statistics = choose("stgcn_block", BACKENDS, backend, x)(inputs, settings)
    return y, statistics

"""masked_pool: means of a feature map over a region and over the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.reference import masked_pool as reference

from ._checks import FLOATS, check_dense, check_dtype, check_same_device, check_shape
from ._dispatch import REFERENCE, Backend
from ._native import SUFFIXES, cpp_why_not
from ._op import Op, gradients
from ._triton import triton_why_not_pool
from .eadm_pool import is_channels_last, memory_format_of, pooled_dtype

# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `masked_pool`."""

    features: Tensor
    mask: Tensor
    backend: str


class Pooled(NamedTuple):
    """What it gives, each [B, C]."""

    inside: Tensor
    outside: Tensor


class GradientCall(NamedTuple):
    """The arguments of the op's backward pass.

    Attributes:
        grad_inside: [B, C], like the next one.
        grad_outside: see there.
        mask: [T, V].
        channels_last: whether the map's gradient lies in memory as [B, T, V, C].
        dtype: of the map.
        backend: name of a compiled backend.
    """

    grad_inside: Tensor
    grad_outside: Tensor
    mask: Tensor
    channels_last: bool
    dtype: torch.dtype
    backend: str


def _check(call: Call) -> None:
    features, mask = call.features, call.mask
    check_shape("features", features, "B", "C", "T", "V")
    check_dtype("features", features, *FLOATS)
    _, _, frames, joints = features.shape
    if frames == 0 or joints == 0:
        raise ValueError(
            f"features must have at least one frame and one joint, got {list(features.shape)}"
        )
    check_shape("mask", mask, frames, joints)
    check_dtype("mask", mask, torch.bool)
    check_same_device(features=features, mask=mask)


def _check_values(mask: Tensor) -> None:
    """On the CPU only: on a GPU it would wait for the device."""
    if torch.compiler.is_compiling() or mask.device.type != "cpu":
        return
    inside = int(mask.count_nonzero())
    if inside in (0, mask.numel()):
        only = "true" if inside else "false"
        raise ValueError(f"mask must have both true and false entries, got only {only} ones")


def _prepare(call: Call) -> Pooled:
    _check(call)
    features = call.features
    _OP.check_backend(call.backend, features)
    shape, dtype = features.shape[:2], pooled_dtype(features.dtype)
    return Pooled(*(features.new_empty(shape, dtype=dtype) for _ in Pooled._fields))


def _prepare_backward(call: GradientCall) -> Tensor:
    check_shape("grad_inside", call.grad_inside, "B", "C")
    batch, channels = call.grad_inside.shape
    check_shape("grad_outside", call.grad_outside, batch, channels)
    check_shape("mask", call.mask, "T", "V")
    check_dtype("mask", call.mask, torch.bool)
    if call.dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {call.dtype}")
    grads = {"grad_inside": call.grad_inside, "grad_outside": call.grad_outside}
    for name, tensor in grads.items():
        check_dtype(name, tensor, pooled_dtype(call.dtype))
    check_same_device(**grads, mask=call.mask)
    dx = torch.empty(
        (batch, channels, *call.mask.shape),
        dtype=call.dtype,
        device=call.mask.device,
        memory_format=memory_format_of(call.channels_last),
    )
    _OP.check_backend(call.backend, dx, suffix="_backward")
    return dx


def _compute(call: Call, out: Pooled) -> None:
    _check_values(call.mask)
    features = call.features
    if features.numel():
        laid_out = memory_format_of(is_channels_last(features))
        _OP.forward(
            call._replace(
                features=features.contiguous(memory_format=laid_out), mask=call.mask.contiguous()
            ),
            out,
        )


def _compute_backward(call: GradientCall, dx: Tensor) -> None:
    if dx.numel():
        laid_out = call._replace(
            grad_inside=call.grad_inside.contiguous(),
            grad_outside=call.grad_outside.contiguous(),
            mask=call.mask.contiguous(),
        )
        _OP.backward(laid_out, dx)


# --- Backends ------------------------------------------------------------------------------------


def _cpp(name: str, like: Tensor, channels_last: bool, **members: Any) -> None:
    """Call a function of the library for maps such as `like`; `members` complete its struct."""
    shape = dict(zip(("batch", "channels", "frames", "joints"), like.shape, strict=True))
    run = getattr(native.load(), f"masked_pool_{name}_{SUFFIXES[like.dtype]}_cpu")
    run(
        shape={**shape, "channels_last": channels_last},
        threads=torch.get_num_threads(),
        **{key: tensor.data_ptr() for key, tensor in members.items()},
    )


def _cpp_forward(call: Call, out: Pooled) -> None:
    features = call.features
    _cpp("forward", features, is_channels_last(features), x=features, mask=call.mask,
         **out._asdict())  # fmt: skip


def _cpp_backward(call: GradientCall, dx: Tensor) -> None:
    _cpp("backward", dx, call.channels_last, grad_inside=call.grad_inside,
         grad_outside=call.grad_outside, mask=call.mask, dx=dx)  # fmt: skip


def _triton_forward(call: Call, out: Pooled) -> None:
    from aimclr_fast.triton_kernels import masked_pool as kernels

    with torch.cuda.device_of(call.features):
        kernels.forward(call.features, call.mask, is_channels_last(call.features), *out)


def _triton_backward(call: GradientCall, dx: Tensor) -> None:
    from aimclr_fast.triton_kernels import masked_pool as kernels

    with torch.cuda.device_of(dx):
        kernels.backward(*call[:4], dx)


def _reference(call: Call) -> tuple[Tensor, Tensor]:
    _check(call)
    _check_values(call.mask)
    return reference.masked_pool(call.features, call.mask)


BACKENDS = [
    Backend("cpp", None, cpp_why_not, _cpp_forward, _cpp_backward),
    Backend("triton", None, triton_why_not_pool, _triton_forward, _triton_backward),
    Backend(REFERENCE, _reference),
]


# --- The torch op and its gradient ---------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call = Call(*inputs)
    ctx.save_for_backward(call.mask)
    ctx.of_map = (is_channels_last(call.features), call.features.dtype, call.backend)


def _gradient(ctx: Any, grad_inside: Tensor, grad_outside: Tensor) -> tuple[Any, ...]:
    call = GradientCall(grad_inside, grad_outside, *ctx.saved_tensors, *ctx.of_map)
    return gradients(Call, features=torch.ops.aimclr_fast.masked_pool_backward(*call))


def _no_second_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "masked_pool: the compiled backends have no second derivative; use backend='reference'"
    )


_OP = Op("masked_pool", BACKENDS)
_OP.define(Call, Pooled, _prepare, _compute)
_OP.define(GradientCall, Tensor, _prepare_backward, _compute_backward, "_backward")
_OP.differentiate(_save, _gradient)
_OP.differentiate(None, _no_second_gradient, "_backward")


# --- The function --------------------------------------------------------------------------------


def masked_pool(features: Tensor, mask: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Mean-pool a feature map over a region of frames and joints, and over the rest, in one read.

    With the mask of `skelemix` these are SkeleMixCLR's trimmed row (what was replaced, the
    partner's) and truncated row (what was left), for each body; the mean over bodies is the
    encoder's.

    Args:
        features: feature map [B, C, T, V], with B = N * M for N sequences of M bodies.
        mask: [T, V] bool, true in the region; the same for all sequences.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        (inside, outside), each [B, C]; float32 for half-precision maps, else the map's dtype. On a
        GPU, which is not waited for, a mean over nothing is NaN, and so are its gradients.

    Raises:
        ValueError: a shape is off, or, on the CPU, nothing is inside or outside of the mask;
            there is no such backend.
        TypeError: the map is not floating point, or the mask not bool.
        BackendError: the backend cannot run.

    Example:
        >>> mask = torch.zeros(13, 25, dtype=torch.bool)
        >>> mask[3:9, 4:12] = True
        >>> inside, outside = masked_pool(torch.randn(8, 256, 13, 25), mask)
        >>> inside.shape
        torch.Size([8, 256])
    """
    check_dense("features", features)
    check_dense("mask", mask)
    inside, outside = _OP.dispatch(Call(features, mask, backend), features)
    return inside, outside

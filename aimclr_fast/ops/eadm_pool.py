"""eadm_pool: checks, backends and the torch op behind the fast ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.reference import eadm_pool as reference

from ._checks import (
    FLOATS,
    MOST_ELEMENTS,
    check_dense,
    check_dtype,
    check_memory,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend, always, check_backend, choose
from ._native import cpp_why_not
from ._triton import triton_why_not

HALVES = (torch.float16, torch.bfloat16)


class Saved(NamedTuple):
    """What the fast backends compute; all but the first two is kept for the gradient.

    Attributes:
        pooled: [B, C].
        pooled_drop: [B, C].
        bits: uint8 [B, C, ceil(T / 8), V] in the map's memory format. Bit t % 8 of octet t // 8 is
            set where the element's attention is below keep_prob.
        kept_joints: uint8 [B, V], 1 where the joint's mean attention is below keep_prob.
        scale: [1], the product of both rescalings.
    """

    pooled: Tensor
    pooled_drop: Tensor
    bits: Tensor
    kept_joints: Tensor
    scale: Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether x lies in memory as [B, T, V, C] and not (also) as [B, C, T, V]."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _pooled_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALVES else dtype


def _empty_outputs(x: Tensor, channels_last: bool) -> Saved:
    batch, channels, frames, joints = x.shape
    dtype = _pooled_dtype(x.dtype)
    return Saved(
        x.new_empty(batch, channels, dtype=dtype),
        x.new_empty(batch, channels, dtype=dtype),
        torch.empty(
            (batch, channels, (frames + 7) // 8, joints),
            dtype=torch.uint8,
            device=x.device,
            memory_format=_format(channels_last),
        ),
        x.new_empty(batch, joints, dtype=torch.uint8),
        x.new_empty(1, dtype=dtype),
    )


# --- cpp -----------------------------------------------------------------------------------------


def _cpp_function(name: str, dtype: torch.dtype) -> Any:
    return getattr(native.load(), f"{name}_{str(dtype).removeprefix('torch.')}_cpu")


def _cpp_scratch(shape: Sequence[int], real: Tensor) -> tuple[Tensor, int]:
    """Scratch of every thread, and the number of threads."""
    batch, *sizes = shape
    threads = max(1, min(torch.get_num_threads(), batch))
    stride = native.load().eadm_pool_scratch_bytes(*sizes, real.element_size())
    return torch.empty(threads * stride, dtype=torch.uint8), threads


def _cpp_forward(
    x: Tensor, channels_last: bool, keep_prob: float, e_lambda: float, out: Saved
) -> None:
    scratch, threads = _cpp_scratch(x.shape, out.pooled)
    _cpp_function("eadm_pool_forward", x.dtype)(
        x.data_ptr(),
        *x.shape,
        channels_last,
        keep_prob,
        e_lambda,
        *(tensor.data_ptr() for tensor in out),
        scratch.data_ptr(),
        threads,
    )


def _cpp_backward(
    grad_pooled: Tensor,
    grad_drop: Tensor,
    bits: Tensor,
    kept_joints: Tensor,
    scale: Tensor,
    channels_last: bool,
    dx: Tensor,
) -> None:
    scratch, threads = _cpp_scratch(dx.shape, scale)
    inputs = (grad_pooled, grad_drop, bits, kept_joints, scale)
    _cpp_function("eadm_pool_backward", dx.dtype)(
        *(tensor.data_ptr() for tensor in inputs),
        *dx.shape,
        channels_last,
        dx.data_ptr(),
        scratch.data_ptr(),
        threads,
    )


# --- triton --------------------------------------------------------------------------------------


def _triton_forward(
    x: Tensor, channels_last: bool, keep_prob: float, e_lambda: float, out: Saved
) -> None:
    from aimclr_fast.triton_kernels import eadm_pool as kernels

    with torch.cuda.device_of(x):
        kernels.forward(x, channels_last, keep_prob, e_lambda, *out)


def _triton_backward(grad_pooled: Tensor, *arguments: Any) -> None:
    from aimclr_fast.triton_kernels import eadm_pool as kernels

    with torch.cuda.device_of(grad_pooled):
        kernels.backward(grad_pooled, *arguments)


# --- The torch op: one for all fast backends -----------------------------------------------------

_FORWARD = {"cpp": _cpp_forward, "triton": _triton_forward}
_BACKWARD = {"cpp": _cpp_backward, "triton": _triton_backward}

torch.library.define(
    "aimclr_fast::eadm_pool",
    "(Tensor x, float keep_prob, float e_lambda, str backend)"
    " -> (Tensor pooled, Tensor pooled_drop, Tensor bits, Tensor kept_joints, Tensor scale)",
)
torch.library.define(
    "aimclr_fast::eadm_pool_backward",
    "(Tensor grad_pooled, Tensor grad_drop, Tensor bits, Tensor kept_joints, Tensor scale,"
    " SymInt frames, bool channels_last, ScalarType dtype, str backend) -> Tensor",
)


def _check(x: Tensor, keep_prob: float, e_lambda: float) -> None:
    check_shape("x", x, "B", "C", "T", "V")
    check_dtype("x", x, *FLOATS)
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"x must have at least one frame and one joint, got {list(x.shape)}")
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(f"keep_prob must lie in (0, 1], got {keep_prob}")
    if not 0.0 < e_lambda < math.inf:
        raise ValueError(f"e_lambda must be positive and finite, got {e_lambda}")


def _forward_fake(x: Tensor, keep_prob: float, e_lambda: float, backend: str) -> Saved:
    _check(x, keep_prob, e_lambda)
    check_backend("eadm_pool", BACKENDS, backend, x)
    return _empty_outputs(x, is_channels_last(x))


def _forward(x: Tensor, keep_prob: float, e_lambda: float, backend: str) -> Saved:
    out = _forward_fake(x, keep_prob, e_lambda, backend)
    check_memory(x)
    if x.numel() == 0:
        out.kept_joints.zero_()
        out.scale.zero_()
    else:
        channels_last = is_channels_last(x)
        x = x.contiguous(memory_format=_format(channels_last))
        _FORWARD[backend](x, channels_last, keep_prob, e_lambda, out)
    return out


def _backward_fake(
    grad_pooled: Tensor,
    grad_drop: Tensor,
    bits: Tensor,
    kept_joints: Tensor,
    scale: Tensor,
    frames: int,
    channels_last: bool,
    dtype: torch.dtype,
    backend: str,
) -> Tensor:
    check_shape("grad_pooled", grad_pooled, "B", "C")
    batch, channels = grad_pooled.shape
    check_shape("kept_joints", kept_joints, batch, "V")
    joints = kept_joints.shape[1]
    if dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {dtype}")
    if not 0 < frames < MOST_ELEMENTS or joints == 0:
        raise ValueError(f"a map must have frames and joints, got {frames} and {joints}")
    check_shape("grad_drop", grad_drop, batch, channels)
    check_shape("bits", bits, batch, channels, (frames + 7) // 8, joints)
    check_shape("scale", scale, 1)
    reals = {"grad_pooled": grad_pooled, "grad_drop": grad_drop, "scale": scale}
    masks = {"bits": bits, "kept_joints": kept_joints}
    for name, tensor in reals.items():
        check_dtype(name, tensor, _pooled_dtype(dtype))
    for name, tensor in masks.items():
        check_dtype(name, tensor, torch.uint8)
    check_same_device(**reals, **masks)
    dx = torch.empty(
        (batch, channels, frames, joints),
        dtype=dtype,
        device=grad_pooled.device,
        memory_format=_format(channels_last),
    )
    check_backend("eadm_pool_backward", BACKENDS, backend, dx)
    return dx


def _backward(
    grad_pooled: Tensor,
    grad_drop: Tensor,
    bits: Tensor,
    kept_joints: Tensor,
    scale: Tensor,
    frames: int,
    channels_last: bool,
    dtype: torch.dtype,
    backend: str,
) -> Tensor:
    inputs = (grad_pooled, grad_drop, bits, kept_joints, scale)
    dx = _backward_fake(*inputs, frames, channels_last, dtype, backend)
    check_memory(*inputs)
    if dx.numel():
        _BACKWARD[backend](
            grad_pooled.contiguous(),
            grad_drop.contiguous(),
            bits.contiguous(memory_format=_format(channels_last)),
            kept_joints.contiguous(),
            scale.contiguous(),
            channels_last,
            dx,
        )
    return dx


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, ctx.backend = inputs
    _, _, bits, kept_joints, scale = output
    ctx.mark_non_differentiable(bits, kept_joints, scale)
    ctx.set_materialize_grads(False)  # or zeros would be written for the bits
    ctx.save_for_backward(bits, kept_joints, scale)
    ctx.frames, ctx.channels_last, ctx.dtype = x.shape[2], is_channels_last(x), x.dtype


def _gradient(
    ctx: Any, grad_pooled: Tensor | None, grad_drop: Tensor | None, *_: Any
) -> tuple[Any, ...]:
    given = grad_pooled if grad_pooled is not None else grad_drop
    if given is None:
        return (None,) * 4
    grad_pooled, grad_drop = (
        torch.zeros_like(given) if grad is None else grad for grad in (grad_pooled, grad_drop)
    )
    dx = torch.ops.aimclr_fast.eadm_pool_backward(
        grad_pooled,
        grad_drop,
        *ctx.saved_tensors,
        ctx.frames,
        ctx.channels_last,
        ctx.dtype,
        ctx.backend,
    )
    return dx, None, None, None


def _no_second_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "eadm_pool: the fast backends have no second derivative; use backend='reference'"
    )


torch.library.impl("aimclr_fast::eadm_pool", ("cpu", "cuda"), _forward)
torch.library.impl("aimclr_fast::eadm_pool_backward", ("cpu", "cuda"), _backward)
torch.library.register_fake("aimclr_fast::eadm_pool", _forward_fake)
torch.library.register_fake("aimclr_fast::eadm_pool_backward", _backward_fake)
torch.library.register_autograd("aimclr_fast::eadm_pool", _gradient, setup_context=_save)
torch.library.register_autograd("aimclr_fast::eadm_pool_backward", _no_second_gradient)


# --- The function --------------------------------------------------------------------------------


def _fast(backend: str, x: Tensor, keep_prob: float, e_lambda: float) -> tuple[Tensor, Tensor]:
    pooled, pooled_drop, *_ = torch.ops.aimclr_fast.eadm_pool(x, keep_prob, e_lambda, backend)
    return pooled, pooled_drop


def _reference(x: Tensor, keep_prob: float, e_lambda: float) -> tuple[Tensor, Tensor]:
    _check(x, keep_prob, e_lambda)
    return reference.eadm_pool(x, keep_prob, e_lambda)


def _triton_why_not(x: Tensor) -> str | None:
    if math.prod(x.shape[1:]) >= 2**31:
        return "it counts a sample's values in 32 bits, and one has 2^31 or more"
    return triton_why_not(x)


BACKENDS = (
    Backend("cpp", functools.partial(_fast, "cpp"), cpp_why_not),
    Backend("triton", functools.partial(_fast, "triton"), _triton_why_not),
    Backend(REFERENCE, _reference, always),
)


def eadm_pool(
    x: Tensor, keep_prob: float, e_lambda: float, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    check_dense("x", x)
    keep_prob = check_number("keep_prob", keep_prob)
    e_lambda = check_number("e_lambda", e_lambda)
    pooled, pooled_drop = choose("eadm_pool", BACKENDS, backend, x)(x, keep_prob, e_lambda)
    return pooled, pooled_drop

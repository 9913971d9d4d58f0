"""eadm_pool: energy-based attention-guided drop and pooling (EADM)."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.reference import eadm_pool as reference
from aimclr_fast.reference.eadm_pool import SumOverRanks

from ._checks import (
    FLOATS,
    MOST_ELEMENTS,
    check_dense,
    check_dtype,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend
from ._native import SUFFIXES, cpp_why_not
from ._op import Op, gradients
from ._triton import triton_why_not_pool

HALVES = (torch.float16, torch.bfloat16)


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `eadm_pool`."""

    x: Tensor
    keep_prob: float
    e_lambda: float
    backend: str


class Saved(NamedTuple):
    """What a compiled backend computes; all but the first two is kept for the gradient.

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


class GradientCall(NamedTuple):
    """The arguments of the op's backward pass.

    Attributes:
        grad_pooled: [B, C], like the next one.
        grad_drop: see there.
        bits: see Saved, like the next two.
        kept_joints: see there.
        scale: see there.
        frames: T.
        channels_last: whether the map's gradient lies in memory as [B, T, V, C].
        dtype: of the map.
        backend: name of a compiled backend.
    """

    grad_pooled: Tensor
    grad_drop: Tensor
    bits: Tensor
    kept_joints: Tensor
    scale: Tensor
    frames: int
    channels_last: bool
    dtype: torch.dtype
    backend: str


def is_channels_last(x: Tensor) -> bool:
    """Whether x lies in memory as [B, T, V, C] and not (also) as [B, C, T, V]."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def memory_format_of(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def pooled_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALVES else dtype


def _check(call: Call) -> None:
    x = call.x
    check_shape("x", x, "B", "C", "T", "V")
    check_dtype("x", x, *FLOATS)
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"x must have at least one frame and one joint, got {list(x.shape)}")
    if not 0.0 < call.keep_prob <= 1.0:
        raise ValueError(f"keep_prob must lie in (0, 1], got {call.keep_prob}")
    if not 0.0 < call.e_lambda < math.inf:
        raise ValueError(f"e_lambda must be positive and finite, got {call.e_lambda}")


def _prepare(call: Call) -> Saved:
    _check(call)
    x = call.x
    _OP.check_backend(call.backend, x)
    batch, channels, frames, joints = x.shape
    dtype = pooled_dtype(x.dtype)
    return Saved(
        x.new_empty(batch, channels, dtype=dtype),
        x.new_empty(batch, channels, dtype=dtype),
        torch.empty(
            (batch, channels, (frames + 7) // 8, joints),
            dtype=torch.uint8,
            device=x.device,
            memory_format=memory_format_of(is_channels_last(x)),
        ),
        x.new_empty(batch, joints, dtype=torch.uint8),
        x.new_empty(1, dtype=dtype),
    )


def _prepare_backward(call: GradientCall) -> Tensor:
    check_shape("grad_pooled", call.grad_pooled, "B", "C")
    batch, channels = call.grad_pooled.shape
    check_shape("kept_joints", call.kept_joints, batch, "V")
    joints = call.kept_joints.shape[1]
    if call.dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {call.dtype}")
    if not 0 < call.frames < MOST_ELEMENTS or joints == 0:
        raise ValueError(f"a map must have frames and joints, got {call.frames} and {joints}")
    check_shape("grad_drop", call.grad_drop, batch, channels)
    check_shape("bits", call.bits, batch, channels, (call.frames + 7) // 8, joints)
    check_shape("scale", call.scale, 1)
    reals = {"grad_pooled": call.grad_pooled, "grad_drop": call.grad_drop, "scale": call.scale}
    masks = {"bits": call.bits, "kept_joints": call.kept_joints}
    for name, tensor in reals.items():
        check_dtype(name, tensor, pooled_dtype(call.dtype))
    for name, tensor in masks.items():
        check_dtype(name, tensor, torch.uint8)
    check_same_device(**reals, **masks)
    dx = torch.empty(
        (batch, channels, call.frames, joints),
        dtype=call.dtype,
        device=call.grad_pooled.device,
        memory_format=memory_format_of(call.channels_last),
    )
    _OP.check_backend(call.backend, dx, suffix="_backward")
    return dx


def _compute(call: Call, out: Saved) -> None:
    x = call.x
    if x.numel() == 0:
        out.kept_joints.zero_()
        out.scale.zero_()
    else:
        x = x.contiguous(memory_format=memory_format_of(is_channels_last(x)))
        _OP.forward(Call(x, *call[1:]), out)


def _compute_backward(call: GradientCall, dx: Tensor) -> None:
    if dx.numel():
        laid_out = call._replace(
            grad_pooled=call.grad_pooled.contiguous(),
            grad_drop=call.grad_drop.contiguous(),
            bits=call.bits.contiguous(memory_format=memory_format_of(call.channels_last)),
            kept_joints=call.kept_joints.contiguous(),
            scale=call.scale.contiguous(),
        )
        _OP.backward(laid_out, dx)


# --- Backends ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _workspace_bytes(shape: tuple[tuple[str, int], ...], dtype: torch.dtype, threads: int) -> int:
    bytes_of_sums = pooled_dtype(dtype).itemsize
    size: int = native.load().eadm_pool_workspace_cpu(
        **dict(shape), real_bytes=bytes_of_sums, threads=threads
    )
    return size


def _cpp(name: str, like: Tensor, channels_last: bool, **members: Any) -> None:
    """Call a function of the library for maps such as `like`; `members` complete its struct."""
    batch, channels, frames, joints = like.shape
    shape = {
        "batch": batch,
        "channels": channels,
        "frames": frames,
        "joints": joints,
        "channels_last": channels_last,
    }
    threads = torch.get_num_threads()
    size = _workspace_bytes(tuple(shape.items()), like.dtype, threads)
    workspace = torch.empty(size, dtype=torch.uint8)
    run = getattr(native.load(), f"eadm_pool_{name}_{SUFFIXES[like.dtype]}_cpu")
    run(shape=shape, workspace=workspace.data_ptr(), threads=threads, **members)


def _cpp_forward(call: Call, out: Saved) -> None:
    _cpp(
        "forward",
        call.x,
        is_channels_last(call.x),
        x=call.x.data_ptr(),
        keep_prob=call.keep_prob,
        e_lambda=call.e_lambda,
        pooled=out.pooled.data_ptr(),
        pooled_drop=out.pooled_drop.data_ptr(),
        bits=out.bits.data_ptr(),
        kept_joints=out.kept_joints.data_ptr(),
        scale=out.scale.data_ptr(),
    )


def _cpp_backward(call: GradientCall, dx: Tensor) -> None:
    tensors = {name: getattr(call, name).data_ptr() for name in GradientCall._fields[:5]}
    _cpp("backward", dx, call.channels_last, dx=dx.data_ptr(), **tensors)


def _triton_forward(call: Call, out: Saved) -> None:
    from aimclr_fast.triton_kernels import eadm_pool as kernels

    with torch.cuda.device_of(call.x):
        kernels.forward(call.x, is_channels_last(call.x), call.keep_prob, call.e_lambda, *out)


def _triton_backward(call: GradientCall, dx: Tensor) -> None:
    from aimclr_fast.triton_kernels import eadm_pool as kernels

    with torch.cuda.device_of(call.grad_pooled):
        kernels.backward(*call[:5], call.channels_last, dx)


def _reference(call: Call, over_ranks: SumOverRanks | None = None) -> tuple[Tensor, Tensor]:
    _check(call)
    return reference.eadm_pool(call.x, call.keep_prob, call.e_lambda, over_ranks)


BACKENDS = [
    Backend("cpp", None, cpp_why_not, _cpp_forward, _cpp_backward),
    Backend("triton", None, triton_why_not_pool, _triton_forward, _triton_backward),
    Backend(REFERENCE, _reference),
]


# --- The torch op and its gradient ---------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call, saved = Call(*inputs), Saved(*output)
    ctx.mark_non_differentiable(*saved[2:])
    ctx.set_materialize_grads(False)  # or zeros would be written for the bits
    ctx.save_for_backward(*saved[2:])
    ctx.of_map = (call.x.shape[2], is_channels_last(call.x), call.x.dtype, call.backend)


def _gradient(
    ctx: Any, grad_pooled: Tensor | None, grad_drop: Tensor | None, *_: Any
) -> tuple[Any, ...]:
    given = grad_pooled if grad_pooled is not None else grad_drop
    if given is None:
        return gradients(Call)
    grad_pooled, grad_drop = (
        torch.zeros_like(given) if grad is None else grad for grad in (grad_pooled, grad_drop)
    )
    call = GradientCall(grad_pooled, grad_drop, *ctx.saved_tensors, *ctx.of_map)
    return gradients(Call, x=torch.ops.aimclr_fast.eadm_pool_backward(*call))


def _no_second_gradient(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "eadm_pool: the compiled backends have no second derivative; use backend='reference'"
    )


_OP = Op("eadm_pool", BACKENDS, results=lambda saved: saved[:2])
_OP.define(Call, Saved, _prepare, _compute)
_OP.define(GradientCall, Tensor, _prepare_backward, _compute_backward, "_backward")
_OP.differentiate(_save, _gradient)
_OP.differentiate(None, _no_second_gradient, "_backward")


# --- The function --------------------------------------------------------------------------------


def eadm_pool(
    x: Tensor,
    keep_prob: float = 0.7,
    e_lambda: float = 1e-4,
    backend: str = "auto",
    *,
    over_ranks: SumOverRanks | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean-pool a feature map, plain and after energy-based attention-guided dropping (EADM).

    Per sample and channel, attention is a sigmoid of the squared distance from the mean over its
    variance (section 3.3, equations 4 to 6). Joints whose mean attention over channels and time,
    and elements whose own attention, reach `keep_prob` are dropped; the rest is divided by the kept
    shares of joints and of elements over the whole batch. The masks carry no gradient.

    Args:
        x: feature map [B, C, T, V].
        keep_prob: attention at which to drop, in (0, 1].
        e_lambda: added to the variance.
        backend: "auto" for the fastest that can run, or a name.
        over_ranks: sums a tensor over the processes of a job; the kept shares are then those of
            the batches of all processes. The reference alone does this.

    Returns:
        (pooled, pooled_drop), each [B, C]; float32 for half-precision maps, else x's dtype.

    Raises:
        ValueError: x is not four-dimensional, or has no frame or joint; keep_prob is out of range;
            there is no such backend.
        TypeError: x is not floating point.
        BackendError: the backend cannot run.
    """
    check_dense("x", x)
    call = Call(
        x, check_number("keep_prob", keep_prob), check_number("e_lambda", e_lambda), backend
    )
    reason = None if over_ranks is None else "it counts what is kept in one process alone"
    pooled, pooled_drop = _OP.dispatch(call, x, over_ranks=over_ranks, only_reference=reason)
    return pooled, pooled_drop

"""apply_augment: checks, backends and the torch op behind the fast ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, AugmentParams

from ._checks import (
    FLOATS,
    check_dtype,
    check_integer,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend, always, choose
from ._native import cpp_why_not, cuda_why_not, current_stream
from .skeleton_augment import (
    DTYPES,
    address,
    check_joints,
    check_streams,
    joint_table,
    native_chain,
    unless,
    why_too_large,
)

PARAM_SHAPES: dict[str, tuple[int, ...]] = {"shear": (3, 3), "rotation_angles": (3,)}
INTEGERS = (torch.int64, torch.int32)
ACCEPTED: dict[str, tuple[torch.dtype, ...]] = {
    "crop_start": INTEGERS,
    "axis_mask": INTEGERS,
    "spatial_flip": (torch.bool,),
    "temporal_flip": (torch.bool,),
}
# As the kernels take them, in the order of the schema; None stands for the arithmetic's dtype.
PARAM_DTYPES: dict[str, torch.dtype | None] = {
    "crop_start": torch.int64,
    "shear": None,
    "spatial_flip": torch.bool,
    "rotation_angles": None,
    "blur_sigma": None,
    "axis_mask": torch.int64,
    "temporal_flip": torch.bool,
}

_PARAMS = ", ".join(f"Tensor? {name}" for name in PARAM_DTYPES)
_OPTIONS = (
    "int[] swap, int[] parents, int stream, int crop_ratio, int blur_taps, bool blur_normalize,"
    " str backend"
)
torch.library.define(
    "aimclr_fast::apply_augment", f"(Tensor x, Tensor? noise, {_PARAMS}, {_OPTIONS}) -> Tensor"
)
# Gradients of x and of the noise; one that is not wanted has no elements.
torch.library.define(
    "aimclr_fast::apply_augment_backward",
    f"(Tensor grad, bool[2] wanted, {_PARAMS}, {_OPTIONS}) -> (Tensor, Tensor)",
)


def _call(
    backward: bool,
    tensors: dict[str, Tensor | None],
    params: Sequence[Tensor | None],
    swap: Sequence[int],
    parents: Sequence[int],
    stream: int,
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
    backend: str,
) -> None:
    """Run a compiled function on contiguous `tensors`, of which the input has shape and dtype."""
    like = tensors["input"]
    assert like is not None
    # Held here until the launch: the library gets addresses alone.
    params = [None if value is None else value.contiguous() for value in params]
    chain, _ = native_chain(
        (like.shape[2], like.shape[3], like.shape[4]),
        tuple(swap),
        tuple(parents),
        crop_ratio,
        blur_taps,
        blur_normalize,
        like.device,
    )
    library = native.load()
    dtype = DTYPES[like.dtype]
    call = library.ApplyAugmentCall(
        backward=backward,
        dtype=dtype,
        **{name: address(tensor) for name, tensor in tensors.items()},
        stream=stream,
        samples=len(like),
        params=[address(value) for value in params],
        chain=chain,
    )
    if backend == "cpp":
        library.apply_augment_cpu(call, torch.get_num_threads())
        return
    with torch.cuda.device(like.device):
        size = library.apply_augment_workspace(chain, len(like), dtype)
        workspace = torch.empty(size, dtype=torch.uint8, device=like.device)
        library.apply_augment_cuda(call, workspace.data_ptr(), size, current_stream(like))


def _forward_fake(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _forward(x: Tensor, noise: Tensor | None, *rest: Any) -> Tensor:
    out = _forward_fake(x)
    if out.numel():
        tensors = {
            "input": x.contiguous(),
            "noise": None if noise is None else noise.contiguous(),
            "output": out,
            "noise_output": None,
        }
        _call(False, tensors, rest[: len(PARAM_DTYPES)], *rest[len(PARAM_DTYPES) :])
    return out


def _backward_fake(grad: Tensor, wanted: Sequence[bool], *_: Any) -> tuple[Tensor, Tensor]:
    grad_x, grad_noise = (grad.new_empty(grad.shape if want else (0,)) for want in wanted)
    return grad_x, grad_noise


def _backward(grad: Tensor, wanted: Sequence[bool], *rest: Any) -> tuple[Tensor, Tensor]:
    out = _backward_fake(grad, wanted)
    if grad.numel() and any(wanted):
        tensors = {
            "input": grad.contiguous(),
            "noise": None,
            "output": out[0] if wanted[0] else None,
            "noise_output": out[1] if wanted[1] else None,
        }
        _call(True, tensors, rest[: len(PARAM_DTYPES)], *rest[len(PARAM_DTYPES) :])
    return out


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    params = inputs[2 : 2 + len(PARAM_DTYPES)]
    ctx.options = inputs[2 + len(PARAM_DTYPES) :]
    ctx.save_for_backward(*params)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    grads = torch.ops.aimclr_fast.apply_augment_backward(
        grad, wanted, *ctx.saved_tensors, *ctx.options
    )
    found = [tensor if want else None for tensor, want in zip(grads, wanted, strict=True)]
    return (*found, *[None] * (len(PARAM_DTYPES) + len(ctx.options)))


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _save(ctx, inputs, output)
    ctx.wanted = inputs[1]


def _second_gradient(ctx: Any, grad_x: Tensor, grad_noise: Tensor) -> tuple[Any, ...]:
    """The op is linear in x and the noise: the transpose of its transpose is itself."""
    wants_x, wants_noise = ctx.wanted
    noise = grad_noise if wants_noise else None
    x = grad_x if wants_x else torch.zeros_like(grad_noise)
    grad = torch.ops.aimclr_fast.apply_augment(x, noise, *ctx.saved_tensors, *ctx.options)
    return (grad, None, *[None] * (len(PARAM_DTYPES) + len(ctx.options)))


torch.library.register_fake("aimclr_fast::apply_augment", _forward_fake)
torch.library.impl("aimclr_fast::apply_augment", ("cpu", "cuda"), _forward)
torch.library.register_fake("aimclr_fast::apply_augment_backward", _backward_fake)
torch.library.impl("aimclr_fast::apply_augment_backward", ("cpu", "cuda"), _backward)
torch.library.register_autograd("aimclr_fast::apply_augment", _gradient, setup_context=_save)
torch.library.register_autograd(
    "aimclr_fast::apply_augment_backward", _second_gradient, setup_context=_save_backward
)


# --- The function --------------------------------------------------------------------------------


def _fast(
    backend: str,
    x: Tensor,
    params: AugmentParams,
    layout: Layout,
    stream: str,
    noise: Tensor | None,
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
) -> Tensor:
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    values = (getattr(params, name) for name in PARAM_DTYPES)
    augmented: Tensor = torch.ops.aimclr_fast.apply_augment(
        x,
        noise,
        *(
            None if value is None else value.to(dtype or real)
            for value, dtype in zip(values, PARAM_DTYPES.values(), strict=True)
        ),
        layout.swap,
        layout.parents,
        STREAMS.index(stream),
        crop_ratio,
        blur_taps,
        blur_normalize,
        backend,
    )
    return augmented


def _reference(
    x: Tensor,
    params: AugmentParams,
    layout: Layout,
    stream: str,
    noise: Tensor | None,
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
) -> Tensor:
    return reference.apply_augment(
        x,
        params,
        swap=joint_table(layout.swap, x.device),
        parents=joint_table(layout.parents, x.device),
        stream=stream,
        noise=noise,
        crop_ratio=crop_ratio,
        blur_taps=blur_taps,
        blur_normalize=blur_normalize,
    )


BACKENDS = (
    Backend("cuda", functools.partial(_fast, "cuda"), cuda_why_not),
    Backend("cpp", functools.partial(_fast, "cpp"), cpp_why_not),
    Backend(REFERENCE, _reference, always),
)


def _why_not(x: Tensor, params: AugmentParams, crop_ratio: int, blur_taps: int) -> str | None:
    for field in fields(params):
        value = getattr(params, field.name)
        if value is not None and value.requires_grad and field.name != "noise_std":
            return f"it has no gradient for params.{field.name}"
    return why_too_large(x, crop_ratio, blur_taps)


def apply_augment(
    x: Tensor,
    params: AugmentParams,
    *,
    layout: str | Layout,
    stream: str,
    noise: Tensor | None,
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
    backend: str = "auto",
) -> Tensor:
    layout = get_layout(layout)
    check_joints("x", x, layout)
    check_dtype("x", x, *FLOATS)
    check_streams((stream,))
    check_type("params", params, AugmentParams, "AugmentParams")
    check_type("blur_normalize", blur_normalize, bool, "a bool")
    check_integer("crop_ratio", crop_ratio)
    check_integer("blur_taps", blur_taps)
    if not 1 <= crop_ratio < 2**31:
        raise ValueError(f"crop_ratio must lie in 1..2^31-1, got {crop_ratio}")
    if not 1 <= blur_taps <= reference.MOST_BLUR_TAPS or blur_taps % 2 == 0:
        raise ValueError(
            f"blur_taps must be odd, from 1 to {reference.MOST_BLUR_TAPS}, got {blur_taps}"
        )
    for name, value in vars(params).items():
        if value is not None:
            check_shape(f"params.{name}", value, len(x), *PARAM_SHAPES.get(name, ()))
            check_dtype(f"params.{name}", value, *ACCEPTED.get(name, FLOATS))
            check_same_device(**{"x": x, f"params.{name}": value})
    if not torch.compiler.is_compiling():  # the compiled backends look, too
        if params.crop_start is not None:
            check_range("params.crop_start", params.crop_start, 0, 2 * (x.shape[2] // crop_ratio))
        if params.axis_mask is not None:
            check_range("params.axis_mask", params.axis_mask, -1, 2)
    if noise is not None:
        check_shape("noise", noise, *x.shape)
        check_dtype("noise", noise, *FLOATS)
        check_same_device(x=x, noise=noise)
        noise = noise.to(x.dtype)
    elif params.noise_std is not None:
        std = params.noise_std.to(x.dtype)
        noise = torch.randn_like(x) * std[:, None, None, None, None]
    reason = _why_not(x, params, crop_ratio, blur_taps)
    run = choose("apply_augment", unless(reason, BACKENDS), backend, x)
    augmented: Tensor = run(x, params, layout, stream, noise, crop_ratio, blur_taps, blur_normalize)
    return augmented

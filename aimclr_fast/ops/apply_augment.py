"""apply_augment: augmentations with given parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, AugmentParams

from ._augment import (
    DTYPES,
    address,
    check_chain,
    check_joints,
    check_sequences,
    check_streams,
    check_tables,
    joint_table,
    native_chain,
    why_too_large,
)
from ._checks import (
    FLOATS,
    check_dense,
    check_dtype,
    check_integer,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend
from ._native import cpp_why_not, cuda_why_not, current_stream
from ._op import Op, call_of, fields_of, gradients

PARAM_SHAPES: dict[str, tuple[int, ...]] = {"shear": (3, 3), "rotation_angles": (3,)}
INTEGERS = (torch.int64, torch.int32)
ACCEPTED: dict[str, tuple[torch.dtype, ...]] = {
    "crop_start": INTEGERS,
    "axis_mask": INTEGERS,
    "spatial_flip": (torch.bool,),
    "temporal_flip": (torch.bool,),
}
# As the kernels take them; None stands for the arithmetic's dtype. The noise's deviation is not
# among them: the op is given the noise.
PARAM_DTYPES: dict[str, torch.dtype | None] = {
    "crop_start": torch.int64,
    "shear": None,
    "spatial_flip": torch.bool,
    "rotation_angles": None,
    "blur_sigma": None,
    "axis_mask": torch.int64,
    "temporal_flip": torch.bool,
}


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `apply_augment`.

    Attributes:
        x: [N, 3, T, V, M].
        noise: [N, 3, T, V, M] or None.
        crop_start: a field of AugmentParams, like the next six.
        shear: see there.
        spatial_flip: see there.
        rotation_angles: see there.
        blur_sigma: see there.
        axis_mask: see there.
        temporal_flip: see there.
        swap: [V], each joint's mirror image.
        parents: [V], each joint's neighbor towards the center.
        stream: index into STREAMS.
        crop_ratio: see `apply_augment`, like the next two.
        blur_taps: see there.
        blur_normalize: see there.
        backend: name of a compiled backend.
    """

    x: Tensor
    noise: Tensor | None
    crop_start: Tensor | None
    shear: Tensor | None
    spatial_flip: Tensor | None
    rotation_angles: Tensor | None
    blur_sigma: Tensor | None
    axis_mask: Tensor | None
    temporal_flip: Tensor | None
    swap: Sequence[int]
    parents: Sequence[int]
    stream: int
    crop_ratio: int
    blur_taps: int
    blur_normalize: bool
    backend: str


# The backward pass takes the gradient of the output, whether x and the noise want theirs, and the
# rest of the call.
GradientCall: Any = call_of(
    "GradientCall", ("grad", Tensor), ("wanted", Sequence[bool]), *fields_of(Call)[2:]
)


class Gradients(NamedTuple):
    """Gradients of x and of the noise; one that is not wanted has no elements."""

    x: Tensor
    noise: Tensor


def _params(call: Any) -> dict[str, Tensor | None]:
    return {name: getattr(call, name) for name in PARAM_DTYPES}


def _check(name: str, x: Tensor, noise: Tensor | None, call: Any) -> None:
    """`x`, called `name`, may be a gradient: it is as the sequences are."""
    check_sequences(name, x, call.swap, call.parents)
    check_dtype(name, x, *FLOATS)
    check_chain(call.crop_ratio, call.blur_taps)
    if not 0 <= call.stream < len(STREAMS):
        raise ValueError(f"stream must lie in 0..{len(STREAMS) - 1}, got {call.stream}")
    for field, value in _params(call).items():
        if value is not None:
            _check_param(name, x, field, value)
    if noise is not None:
        check_shape("noise", noise, *x.shape)
        check_dtype("noise", noise, *FLOATS)
        check_same_device(**{name: x, "noise": noise})


def _check_param(name: str, x: Tensor, field: str, value: Tensor) -> None:
    field_name = f"params.{field}"
    check_shape(field_name, value, x.shape[0], *PARAM_SHAPES.get(field, ()))
    check_dtype(field_name, value, *ACCEPTED.get(field, FLOATS))
    check_same_device(**{name: x, field_name: value})


def _check_values(x: Tensor, call: Any) -> None:
    if call.crop_start is not None:
        check_range("params.crop_start", call.crop_start, 0, 2 * (x.shape[2] // call.crop_ratio))
    if call.axis_mask is not None:
        check_range("params.axis_mask", call.axis_mask, -1, 2)


def _check_compiled(name: str, x: Tensor, noise: Tensor | None, call: Any) -> None:
    _check(name, x, noise, call)
    check_tables(tuple(call.swap), tuple(call.parents))
    _OP.check_backend(call.backend, x, why_too_large(x, call.crop_ratio, call.blur_taps))


def _prepare(call: Call) -> Tensor:
    _check_compiled("x", call.x, call.noise, call)
    return torch.empty_like(call.x, memory_format=torch.contiguous_format)


def _prepare_backward(call: Any) -> Gradients:
    grad, wanted = call.grad, call.wanted
    _check_compiled("grad", grad, None, call)
    if len(wanted) != 2:
        raise ValueError(f"wanted must be two, for x and the noise, got {list(wanted)}")
    return Gradients(*(grad.new_empty(grad.shape if want else (0,)) for want in wanted))


def _compute(call: Call, out: Tensor) -> None:
    _check_values(call.x, call)
    if out.numel():
        _OP.forward(call, out)


def _compute_backward(call: Any, out: Gradients) -> None:
    _check_values(call.grad, call)
    if call.grad.numel() and any(call.wanted):
        _OP.backward(call, out)


# --- Backends ------------------------------------------------------------------------------------


def _run(
    like: Tensor, call: Any, backward: bool, noise: Tensor | None, *outputs: Tensor | None
) -> None:
    """Run a compiled function.

    Args:
        like: the input, x or the gradient.
        call: of either pass.
        backward: which one.
        noise: see Call.
        outputs: what is written, and in the backward pass the noise's gradient.
    """
    like = like.contiguous()
    real = torch.float64 if like.dtype == torch.float64 else torch.float32
    # Held here until the launch: the library gets addresses alone.
    given = {
        name: None if value is None else value.to(PARAM_DTYPES[name] or real).contiguous()
        for name, value in _params(call).items()
    }
    noise = None if noise is None else noise.to(like.dtype).contiguous()
    chain, _ = native_chain(
        (like.shape[2], like.shape[3], like.shape[4]),
        tuple(call.swap),
        tuple(call.parents),
        call.crop_ratio,
        call.blur_taps,
        call.blur_normalize,
        like.device,
    )
    output, noise_output = (*outputs, None)[:2]
    library = native.load()
    dtype = DTYPES[like.dtype]
    members = {
        "backward": backward,
        "type": dtype,
        "input": address(like),
        "noise": address(noise),
        "output": address(output),
        "noise_output": address(noise_output),
        "stream": call.stream,
        "samples": like.shape[0],
        "params": {name: address(value) for name, value in given.items()},
        "chain": chain,
    }
    if like.is_cpu:
        library.apply_augment_cpu(**members, threads=torch.get_num_threads())
        return
    with torch.cuda.device(like.device):
        size = library.apply_augment_workspace_cuda(**chain, samples=like.shape[0], type=dtype)
        workspace = torch.empty(size, dtype=torch.uint8, device=like.device)
        library.apply_augment_cuda(
            **members,
            workspace=workspace.data_ptr(),
            workspace_bytes=size,
            cuda_stream=current_stream(like),
        )


def _compiled(call: Call, out: Tensor) -> None:
    _run(call.x, call, False, call.noise, out)


def _compiled_backward(call: Any, out: Gradients) -> None:
    outputs = (one if want else None for one, want in zip(out, call.wanted, strict=True))
    _run(call.grad, call, True, None, *outputs)


def _reference(call: Call) -> Tensor:
    x = call.x
    _check("x", x, call.noise, call)
    _check_values(x, call)
    return reference.apply_augment(
        x,
        AugmentParams(**_params(call)),
        swap=joint_table(call.swap, x.device),
        parents=joint_table(call.parents, x.device),
        stream=STREAMS[call.stream],
        noise=None if call.noise is None else call.noise.to(x.dtype),
        crop_ratio=call.crop_ratio,
        blur_taps=call.blur_taps,
        blur_normalize=call.blur_normalize,
    )


BACKENDS = [
    Backend("cuda", None, cuda_why_not, _compiled, _compiled_backward),
    Backend("cpp", None, cpp_why_not, _compiled, _compiled_backward),
    Backend(REFERENCE, _reference),
]


# --- The torch op and its gradients --------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = 2 + len(PARAM_DTYPES)
    for name, needed in zip(PARAM_DTYPES, ctx.needs_input_grad[2:tensors], strict=True):
        if needed:
            raise NotImplementedError(
                f"apply_augment: the compiled backends have no gradient for params.{name}; use "
                "backend='reference'"
            )
    ctx.options = inputs[tensors:]
    ctx.save_for_backward(*inputs[2:tensors])


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    call = GradientCall(grad, wanted, *ctx.saved_tensors, *ctx.options)
    grads = torch.ops.aimclr_fast.apply_augment_backward(*call)
    x, noise = (tensor if want else None for tensor, want in zip(grads, wanted, strict=True))
    return gradients(Call, x=x, noise=noise)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _save(ctx, inputs, output)
    ctx.wanted = inputs[1]


def _second_gradient(ctx: Any, grad_x: Tensor, grad_noise: Tensor) -> tuple[Any, ...]:
    """The op is linear in x and the noise: the transpose of its transpose is itself."""
    wants_x, wants_noise = ctx.wanted
    noise = grad_noise if wants_noise else None
    x = grad_x if wants_x else torch.zeros_like(grad_noise)
    call = Call(x, noise, *ctx.saved_tensors, *ctx.options)
    return gradients(GradientCall, grad=torch.ops.aimclr_fast.apply_augment(*call))


_OP = Op("apply_augment", BACKENDS)
_OP.define(Call, Tensor, _prepare, _compute)
_OP.define(GradientCall, Gradients, _prepare_backward, _compute_backward, "_backward")
_OP.differentiate(_save, _gradient)
_OP.differentiate(_save_backward, _second_gradient, "_backward")


# --- The function --------------------------------------------------------------------------------


def apply_augment(
    x: Tensor,
    params: AugmentParams,
    *,
    layout: str | Layout = "ntu-rgb+d",
    stream: str = "joint",
    noise: Tensor | None = None,
    crop_ratio: int = 6,
    blur_taps: int = 15,
    blur_normalize: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Augment sequences with given parameters, then turn them into a stream (section 3.2).

    The order is crop, shear, left-right flip, rotation, noise, blur, axis mask, time flip, stream.

    Args:
        x: positions [N, 3, T, V, M] in meters.
        params: one value per sample and augmentation; a field left None is off.
        layout: skeleton of the joints, for the left-right flip and the bones.
        stream: "joint", "motion" (x[t+1] - x[t], last frame 0) or "bone" (joint minus its
            neighbor towards the center).
        noise: [N, 3, T, V, M], added as it is. Without it, `params.noise_std` scales standard
            normal draws from torch's generator.
        crop_ratio: T // crop_ratio mirrored frames are padded on each side before cropping.
        blur_taps: length of the blur kernel, odd.
        blur_normalize: divide the blur's weights by their sum; the authors do not.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        [N, 3, T, V, M] of x's dtype. Half-precision sequences are augmented in float32 by the
        compiled backends. All backends differentiate by x and the noise, the reference also by
        the parameters.

    Raises:
        ValueError: a shape, joint count, stream or parameter is off; it is named. There is no such
            backend.
        TypeError: x is not floating point.
        BackendError: the backend cannot run.
    """
    layout = get_layout(layout)
    check_type("params", params, AugmentParams, "AugmentParams")
    fields = vars(params)
    check_dense("x", x)
    for name, value in {"noise": noise, **fields}.items():
        if value is not None:
            check_dense(name if name == "noise" else f"params.{name}", value)
    check_joints("x", x, layout)
    check_streams((stream,))
    check_type("blur_normalize", blur_normalize, bool, "a bool")
    std = params.noise_std
    if std is not None:
        check_dtype("x", x, *FLOATS)
        _check_param("x", x, "noise_std", std)
        if noise is None:
            noise = torch.randn_like(x) * std.to(x.dtype)[:, None, None, None, None]
    call = Call(
        x=x,
        noise=noise,
        swap=layout.swap,
        parents=layout.parents,
        stream=STREAMS.index(stream),
        crop_ratio=check_integer("crop_ratio", crop_ratio),
        blur_taps=check_integer("blur_taps", blur_taps),
        blur_normalize=blur_normalize,
        backend=backend,
        **{name: fields[name] for name in PARAM_DTYPES},
    )
    wanting = [
        name for name, value in _params(call).items() if value is not None and value.requires_grad
    ]
    augmented: Tensor = _OP.dispatch(
        call,
        x,
        only_reference=f"it has no gradient for params.{wanting[0]}" if wanting else None,
        limit=lambda: why_too_large(x, call.crop_ratio, call.blur_taps),
    )
    return augmented

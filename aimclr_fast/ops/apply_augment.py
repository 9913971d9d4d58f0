"""apply_augment: checks, backends and the torch op behind the fast ones."""

from __future__ import annotations

import functools
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
    unless,
    why_too_large,
)
from ._checks import (
    FLOATS,
    check_dense,
    check_dtype,
    check_integer,
    check_memory,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend, always, check_backend, choose
from ._native import cpp_why_not, cuda_why_not, current_stream

PARAM_SHAPES: dict[str, tuple[int, ...]] = {"shear": (3, 3), "rotation_angles": (3,)}
INTEGERS = (torch.int64, torch.int32)
ACCEPTED: dict[str, tuple[torch.dtype, ...]] = {
    "crop_start": INTEGERS,
    "axis_mask": INTEGERS,
    "spatial_flip": (torch.bool,),
    "temporal_flip": (torch.bool,),
}
# As the kernels take them, in the order of the schema; None stands for the arithmetic's dtype. The
# noise's deviation is not among them: the op is given the noise.
PARAM_DTYPES: dict[str, torch.dtype | None] = {
    "crop_start": torch.int64,
    "shear": None,
    "spatial_flip": torch.bool,
    "rotation_angles": None,
    "blur_sigma": None,
    "axis_mask": torch.int64,
    "temporal_flip": torch.bool,
}

Params = dict[str, Tensor | None]

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


class Options(NamedTuple):
    """The op's arguments after its tensors; see `aimclr_fast.functional.apply_augment`.

    Attributes:
        swap: [V], each joint's mirror image.
        parents: [V], each joint's neighbor towards the center.
        stream: place in STREAMS.
        crop_ratio: see there, like the next two.
        blur_taps: see there.
        blur_normalize: see there.
        backend: "cpp" or "cuda".
    """

    swap: Sequence[int]
    parents: Sequence[int]
    stream: int
    crop_ratio: int
    blur_taps: int
    blur_normalize: bool
    backend: str


def _check(name: str, x: Tensor, noise: Tensor | None, params: Params, options: Options) -> None:
    """`x`, called `name`, may be a gradient: it is as the sequences are."""
    check_sequences(name, x, options.swap, options.parents)
    check_dtype(name, x, *FLOATS)
    check_chain(options.crop_ratio, options.blur_taps)
    if not 0 <= options.stream < len(STREAMS):
        raise ValueError(f"stream must lie in 0..{len(STREAMS) - 1}, got {options.stream}")
    for field, value in params.items():
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


def _check_values(x: Tensor, params: Params, options: Options) -> None:
    if (start := params["crop_start"]) is not None:
        check_range("params.crop_start", start, 0, 2 * (x.shape[2] // options.crop_ratio))
    if (mask := params["axis_mask"]) is not None:
        check_range("params.axis_mask", mask, -1, 2)


def _checked(
    name: str, x: Tensor, noise: Tensor | None, rest: Sequence[Any]
) -> tuple[Params, Options]:
    """Parameters and options, of the arguments from the first parameter on."""
    count = len(PARAM_DTYPES)
    params = dict(zip(PARAM_DTYPES, rest[:count], strict=True))
    options = Options(*rest[count:])
    _check(name, x, noise, params, options)
    check_tables(tuple(options.swap), tuple(options.parents))
    reason = why_too_large(x, options.crop_ratio, options.blur_taps)
    check_backend("apply_augment", unless(reason, BACKENDS), options.backend, x)
    return params, options


def _call(
    backward: bool, tensors: dict[str, Tensor | None], params: Params, options: Options
) -> None:
    """Run a compiled function on contiguous `tensors`, of which the input has shape and dtype."""
    like = tensors["input"]
    assert like is not None
    real = torch.float64 if like.dtype == torch.float64 else torch.float32
    # Held here until the launch: the library gets addresses alone.
    given = [
        None if value is None else value.to(PARAM_DTYPES[name] or real).contiguous()
        for name, value in params.items()
    ]
    chain, _ = native_chain(
        (like.shape[2], like.shape[3], like.shape[4]),
        tuple(options.swap),
        tuple(options.parents),
        options.crop_ratio,
        options.blur_taps,
        options.blur_normalize,
        like.device,
    )
    library = native.load()
    dtype = DTYPES[like.dtype]
    call = library.ApplyAugmentCall(
        backward=backward,
        dtype=dtype,
        **{name: address(tensor) for name, tensor in tensors.items()},
        stream=options.stream,
        samples=like.shape[0],
        params=[address(value) for value in given],
        chain=chain,
    )
    if options.backend == "cpp":
        library.apply_augment_cpu(call, torch.get_num_threads())
        return
    with torch.cuda.device(like.device):
        size = library.apply_augment_workspace(chain, like.shape[0], dtype)
        workspace = torch.empty(size, dtype=torch.uint8, device=like.device)
        library.apply_augment_cuda(call, workspace.data_ptr(), size, current_stream(like))


def _empty_output(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _forward_fake(x: Tensor, noise: Tensor | None, *rest: Any) -> Tensor:
    _checked("x", x, noise, rest)
    return _empty_output(x)


def _forward(x: Tensor, noise: Tensor | None, *rest: Any) -> Tensor:
    params, options = _checked("x", x, noise, rest)
    check_memory(x, noise, *rest)
    _check_values(x, params, options)
    out = _empty_output(x)
    if out.numel():
        tensors = {
            "input": x.contiguous(),
            "noise": None if noise is None else noise.to(x.dtype).contiguous(),
            "output": out,
            "noise_output": None,
        }
        _call(False, tensors, params, options)
    return out


def _empty_gradients(grad: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    if len(wanted) != 2:
        raise ValueError(f"wanted must be two, for x and the noise, got {list(wanted)}")
    grad_x, grad_noise = (grad.new_empty(grad.shape if want else (0,)) for want in wanted)
    return grad_x, grad_noise


def _backward_fake(grad: Tensor, wanted: Sequence[bool], *rest: Any) -> tuple[Tensor, Tensor]:
    _checked("grad", grad, None, rest)
    return _empty_gradients(grad, wanted)


def _backward(grad: Tensor, wanted: Sequence[bool], *rest: Any) -> tuple[Tensor, Tensor]:
    params, options = _checked("grad", grad, None, rest)
    check_memory(grad, *rest)
    _check_values(grad, params, options)
    out = _empty_gradients(grad, wanted)
    if grad.numel() and any(wanted):
        tensors = {
            "input": grad.contiguous(),
            "noise": None,
            "output": out[0] if wanted[0] else None,
            "noise_output": out[1] if wanted[1] else None,
        }
        _call(True, tensors, params, options)
    return out


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    after = 2 + len(PARAM_DTYPES)
    for name, needed in zip(PARAM_DTYPES, ctx.needs_input_grad[2:after], strict=True):
        if needed:
            raise NotImplementedError(
                f"apply_augment: the fast backends have no gradient for params.{name}; use "
                "backend='reference'"
            )
    ctx.options = inputs[after:]
    ctx.save_for_backward(*inputs[2:after])


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
    backend: str, x: Tensor, noise: Tensor | None, params: Params, options: Options
) -> Tensor:
    options = options._replace(backend=backend)
    augmented: Tensor = torch.ops.aimclr_fast.apply_augment(x, noise, *params.values(), *options)
    return augmented


def _reference(x: Tensor, noise: Tensor | None, params: Params, options: Options) -> Tensor:
    _check("x", x, noise, params, options)
    _check_values(x, params, options)
    return reference.apply_augment(
        x,
        AugmentParams(**params),
        swap=joint_table(options.swap, x.device),
        parents=joint_table(options.parents, x.device),
        stream=STREAMS[options.stream],
        noise=None if noise is None else noise.to(x.dtype),
        crop_ratio=options.crop_ratio,
        blur_taps=options.blur_taps,
        blur_normalize=options.blur_normalize,
    )


BACKENDS = (
    Backend("cuda", functools.partial(_fast, "cuda"), cuda_why_not),
    Backend("cpp", functools.partial(_fast, "cpp"), cpp_why_not),
    Backend(REFERENCE, _reference, always),
)


def _why_not(x: Tensor, params: Params, options: Options) -> str | None:
    for name, value in params.items():
        if value is not None and value.requires_grad:
            return f"it has no gradient for params.{name}"
    return why_too_large(x, options.crop_ratio, options.blur_taps)


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
    options = Options(
        layout.swap,
        layout.parents,
        STREAMS.index(stream),
        check_integer("crop_ratio", crop_ratio),
        check_integer("blur_taps", blur_taps),
        blur_normalize,
        backend,
    )
    given = {name: fields[name] for name in PARAM_DTYPES}
    backends = unless(_why_not(x, given, options), BACKENDS)
    augmented: Tensor = choose("apply_augment", backends, backend, x)(x, noise, given, options)
    return augmented

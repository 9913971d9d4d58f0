"""stgcn_block: one block of the spatial-temporal graph convolutional network, and its gradient."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast import native
from aimclr_fast.reference import stgcn_block as reference
from aimclr_fast.reference.stgcn_block import SumOverRanks

from . import _stgcn_block_torch as plain
from ._checks import (
    FLOATS,
    check_dense,
    check_dtype,
    check_integer,
    check_number,
    check_same_device,
    check_shape,
)
from ._dispatch import REFERENCE, Backend, constant_to_dynamo
from ._native import SUFFIXES, cpp_why_not
from ._op import Op, call_of, fields_of, gradients
from ._triton import product_precision, triton_why_not

HALVES = (torch.float16, torch.bfloat16)
LAST = torch.channels_last
MAX_TRITON_JOINTS = 64
TAKE_BITS = ("triton", "cpp")  # backends that take the bits of `keep`
LEAVE_BITS = ("triton",)  # backends that leave bits for their backward pass
TAKE_GROUPS = ("triton",)  # backends that take all groups at once

# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments. Backends get x and keep as channels_last, the others contiguous.

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
        keep: uint8 or bool [B, C_out, T_out, V], or bits (see the function), or None. Backends
            get bits only if they take them.
        identity: add x before the last ReLU.
        scale: what `keep` is multiplied by.
        stride: of the temporal and the residual convolution in time, 1 or 2.
        eps: added to every variance.
        groups: of samples, one after the other, that each have statistics of their own.
        save: fill what the backward pass needs, in evaluation, too.
        packed: the weights by `pack_weights`, which the triton backend then need not lay out; None,
            or of another precision: it lays them out.
        backend: name of a backend.
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
    identity: bool
    scale: float
    stride: int
    eps: float
    groups: int
    save: bool
    packed: Tensor | None
    backend: str


INPUTS = Call._fields[:11]  # its tensors
OPERANDS = (*INPUTS[1:6], "residual_weight", "residual_bias")  # what maps are convolved with


class Outputs(NamedTuple):
    """What a compiled backend fills; maps are channels_last. All of it is kept for the gradient.

    In evaluation without `save` the maps but y are empty ([0]).

    Attributes:
        y: [B, C_out, T_out, V].
        statistics: [groups, n, 2, C_out], (mean, biased variance) each norm used; float32, or
            float64.
        spatial: [B, C_out, T, V], what goes into the spatial norm.
        temporal: [B, C_out, T_out, V], what goes into the temporal norm.
        shortcut: [B, C_out, T_out, V], what goes into the residual norm; [0] without it.
        masks: int16 [B * T_out * V, ceil(C_out / 8)], of eight channels whether y is positive (bit
            i) and whether dropout kept it as well (bit 8 + i). The Triton kernels alone fill it,
            with `save`; else it is [0].
    """

    y: Tensor
    statistics: Tensor
    spatial: Tensor
    temporal: Tensor
    shortcut: Tensor
    masks: Tensor


CPP_OUTPUTS = Outputs._fields[:-1]

# The backward pass takes the gradient of y, the call and what its forward pass filled.
GradientCall: Any = call_of(
    "GradientCall",
    ("grad_y", Tensor),
    *fields_of(Call)[:-1],
    *fields_of(Outputs),
    ("backend", str),
)


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


def _output_shapes(call: Any, save: bool) -> dict[str, tuple[int, ...]]:
    batch, _, frames, joints = call.x.shape
    channels = call.temporal_bias.shape[0]
    map_, short_map = (
        (batch, channels, count, joints) for count in (frames, -(-frames // call.stride))
    )
    kept = save or call.running is None
    bits = save and call.backend in LEAVE_BITS
    return {
        "y": short_map,
        "statistics": (call.groups, *call.norms.shape),
        "spatial": map_ if kept else (0,),
        "temporal": short_map if kept else (0,),
        "shortcut": short_map if kept and call.residual_weight is not None else (0,),
        "masks": (batch * short_map[2] * joints, -(-channels // 8)) if bits else (0,),
    }


def _output_dtype(name: str, x: Tensor) -> torch.dtype:
    if name == "masks":
        return torch.int16
    return torch.float32 if name == "statistics" and x.dtype in HALVES else x.dtype


def _check(call: Any) -> None:
    x, adjacency = call.x, call.adjacency
    check_shape("x", x, "B", "C_in", "T", "V")
    batch, width, frames, joints = x.shape
    check_shape("adjacency", adjacency, "P", joints, joints)
    check_shape("temporal_bias", call.temporal_bias, "C_out")
    channels, parts = call.temporal_bias.shape[0], adjacency.shape[0]
    check_shape("spatial_weight", call.spatial_weight, parts * channels, width, 1, 1)
    check_shape("spatial_bias", call.spatial_bias, parts * channels)
    check_shape("temporal_weight", call.temporal_weight, channels, channels, "K", 1)
    if width == 0 or frames == 0 or joints == 0 or parts == 0 or channels == 0:
        raise ValueError(
            "x, adjacency and temporal_bias must have at least one channel, frame, joint and part, "
            f"got shapes {list(x.shape)}, {list(adjacency.shape)} and [{channels}]"
        )
    if call.temporal_weight.shape[2] % 2 == 0:
        raise ValueError(f"K must be odd, got temporal_weight {list(call.temporal_weight.shape)}")
    if not 0.0 < call.eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {call.eps}")
    if not 1.0 <= call.scale < math.inf:
        raise ValueError(
            f"scale, one over keep_prob, must be finite and at least 1, got {call.scale}"
        )
    if call.stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {call.stride}")
    if call.groups < 1 or batch % call.groups or (call.running is not None and call.groups != 1):
        must = f"divide the {batch} samples of x" if call.running is None else "be 1 in evaluation"
        raise ValueError(f"groups must {must}, got {call.groups}")
    shorter = -(-frames // call.stride)
    if call.running is None and batch * shorter * joints == call.groups:
        raise ValueError(
            "x must have several values per channel to take statistics of, got "
            f"{list(x.shape)} in {call.groups} group{'s' * (call.groups > 1)}"
        )
    _check_residual(call, width, channels)
    count = 2 if call.residual_weight is None else 3
    check_shape("norms", call.norms, count, 2, channels)
    if call.running is not None:
        check_shape("running", call.running, count, 2, channels)
    given = {name: getattr(call, name) for name in INPUTS if getattr(call, name) is not None}
    if call.keep is not None and call.keep.dim() == 1:
        check_dtype("keep", call.keep, torch.int64)
        check_shape("keep", call.keep, words_of(batch * channels * shorter * joints))
    elif call.keep is not None:
        check_shape("keep", call.keep, batch, channels, shorter, joints)
        check_dtype("keep", call.keep, torch.uint8, torch.bool)
    check_dtype("x", x, *FLOATS)
    for name, tensor in given.items():
        if name != "keep":
            # Parameters stay float32 where maps are half as wide.
            check_dtype(name, tensor, x.dtype, *((torch.float32,) if x.dtype in HALVES else ()))
    if call.packed is not None:
        _check_packed(call)
        given["packed"] = call.packed
    check_same_device(**given)


def _check_packed(call: Any) -> None:
    """Its whole contract but the values: kernels read it by the weights' sizes."""
    weights = (call.spatial_weight, call.temporal_weight, call.residual_weight)
    least = sum(2 * weight.numel() for weight in weights if weight is not None)
    check_shape("packed", call.packed, "size")
    check_dtype("packed", call.packed, torch.float32, *HALVES)
    if len(call.packed) < least:
        raise ValueError(
            f"packed must hold each weight twice, {least} values, got {len(call.packed)}"
        )


def _check_residual(call: Any, width: int, channels: int) -> None:
    if call.residual_weight is not None:
        check_shape("residual weight", call.residual_weight, channels, width, 1, 1)
        if call.residual_bias is None:
            raise ValueError("the residual convolution needs a bias")
        check_shape("residual bias", call.residual_bias, channels)
        if call.identity:
            raise ValueError("the identity and a residual convolution exclude each other")
    elif call.residual_bias is not None:
        raise ValueError("the residual convolution needs a weight, and only its bias is given")
    elif call.identity and (channels != width or call.stride != 1):
        raise ValueError(
            f"the identity needs as many channels out as in and stride 1, got {width} in, "
            f"{channels} out and stride {call.stride}"
        )


def _prepare(call: Call) -> Outputs:
    _check(call)
    _OP.check_backend(call.backend, call.x)
    return empty_outputs(call)


def _prepare_backward(call: Any) -> Gradients:
    _check(call)
    # In evaluation the forward pass keeps its maps with `save` alone.
    shapes = _output_shapes(call, save=True)
    given = {name: getattr(call, name) for name in ("grad_y", *Outputs._fields)}
    for name, tensor in given.items():
        check_shape(name, tensor, *shapes["y" if name == "grad_y" else name])
        check_dtype(name, tensor, _output_dtype(name, call.x))
    check_same_device(x=call.x, **given)
    _OP.check_backend(call.backend, call.x, suffix="_backward")
    return empty_gradients(call)


def empty_outputs(call: Call) -> Outputs:
    def empty(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in _MAPS or len(shape) != 4:
            return call.x.new_empty(shape, dtype=_output_dtype(name, call.x))
        batch, channels, frames, joints = shape
        return call.x.new_empty((batch, frames, joints, channels)).permute(0, 3, 1, 2)

    shapes = _output_shapes(call, call.save)
    return Outputs(**{name: empty(name, shape) for name, shape in shapes.items()})


def empty_gradients(call: Any) -> Gradients:
    x: Tensor = call.x

    def empty(name: str, tensor: Tensor | None) -> Tensor:
        if tensor is None:
            return x.new_empty(0)
        memory_format = LAST if name == "x" else torch.contiguous_format
        return torch.empty_like(tensor, memory_format=memory_format)

    return Gradients(*(empty(name, getattr(call, name)) for name in Gradients._fields))


_MAPS = {"x", "keep", "grad_y", "y", "spatial", "temporal", "shortcut"}


def _laid_out(call: Any) -> Any:
    """The same values in the memory formats that backends expect."""

    def one(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.dtype == torch.bool:
            value = value.view(torch.uint8)
        last = name in _MAPS and value.dim() == 4
        return value.contiguous(memory_format=LAST if last else torch.contiguous_format)

    return type(call)(*map(one, call._fields, call))


def _group(call: Any, i: int) -> Any:
    """One group of a call, of its outputs or of its gradients: views, with statistics [n, 2, C].

    The memory of each group's maps is in one piece, for samples are the outermost axis.
    """

    def one(name: str, value: Any) -> Any:
        if name == "groups":
            return 1
        if not isinstance(value, Tensor) or value.numel() == 0:
            return value
        if name == "statistics":
            return value[i]
        return value.chunk(groups)[i] if name in _MAPS else value

    groups = _groups(call)
    if groups == 1:  # nothing to part
        named = {"statistics": call.statistics[0]} if "statistics" in call._fields else {}
        return call._replace(**named)
    return type(call)(*map(one, call._fields, call))


def _groups(call: Any) -> int:
    """Of a call, of its outputs or of its gradients."""
    return int(call.groups) if hasattr(call, "groups") else len(call.statistics)


def _forward_by_group(call: Call, out: Outputs) -> None:
    for i in range(call.groups):
        _OP.forward(_group(call, i), _group(out, i))


def _backward_by_group(call: Any, out: Gradients) -> None:
    for i in range(call.groups):
        own = out._replace(x=out.x.chunk(call.groups)[i])
        if i > 0:  # parameters get the sum over groups
            own = Gradients(own.x, *map(torch.empty_like, own[1:]))
        _OP.backward(_group(call, i), own)
        for total, more in zip(out[1:], own[1:] if i > 0 else (), strict=i > 0):
            total += more


def words_of(size: int) -> int:
    """Words of the bits of `size` elements."""
    return -(-size // 64)


def _without_bits(call: Any) -> Any:
    """The call with `keep` as a map, where it has bits that the backend does not take."""
    if call.keep is None or call.keep.dim() != 1:
        return call
    if call.backend in TAKE_BITS and (_groups(call) == 1 or call.backend in TAKE_GROUPS):
        return call
    batch, _, frames, joints = call.x.shape
    shape = batch, -(-frames // call.stride), joints, len(call.temporal_bias)
    keep = reference.unpacked(call.keep, math.prod(shape)).view(shape).permute(0, 3, 1, 2)
    return call._replace(keep=keep)


def _compute(call: Call, out: Outputs) -> None:
    if out.y.numel():
        run = _OP.forward if call.backend in TAKE_GROUPS else _forward_by_group
        run(_laid_out(_without_bits(call)), out)
    elif call.running is not None:
        out.statistics[0].copy_(call.running)
    else:
        out.statistics.fill_(torch.nan)


def _compute_backward(call: Any, out: Gradients) -> None:
    if call.grad_y.numel():
        run = _OP.backward if call.backend in TAKE_GROUPS else _backward_by_group
        run(_laid_out(_without_bits(call)), out)
    else:
        for gradient in out:
            gradient.zero_()


# --- Backends ------------------------------------------------------------------------------------

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


def _cpp(name: str, call: Any, **others: Tensor) -> None:
    """Call the pass `name` of the compiled library; `others` are tensors beside the inputs."""
    library, threads = native.load(), torch.get_num_threads()
    batch, width, frames, joints = call.x.shape
    channels, _, taps, _ = call.temporal_weight.shape
    shape = {
        "batch": batch, "in": width, "out": channels, "frames": frames, "joints": joints,
        "parts": len(call.adjacency), "taps": taps, "stride": call.stride,
    }  # fmt: skip
    size = library.stgcn_block_workspace_cpu(
        **shape,
        residual=call.residual_weight is not None,
        backward=name == "backward",
        element_bytes=call.x.element_size(),
        threads=threads,
    )
    given = {name: getattr(call, name) for name in INPUTS} | others
    tensors = _as_kernels_take(given, call.x.dtype)
    getattr(library, f"stgcn_block_{name}_{SUFFIXES[call.x.dtype]}_cpu")(
        **{name: _address(tensor) for name, tensor in tensors.items()},
        shape=shape,
        keep_bytes=8 * len(call.keep) if call.keep is not None and call.keep.dim() == 1 else 0,
        identity=call.identity,
        scale=call.scale,
        eps=call.eps,
        workspace=_workspace(size),
        threads=threads,
    )
    for name, tensor in others.items():
        if tensors[name] is not tensor:
            tensor.copy_(tensors[name])


def _as_kernels_take(tensors: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Beside maps of bfloat16, parameters, statistics and their gradients in float32."""
    if dtype != torch.bfloat16:
        return tensors
    return {
        name: tensor if tensor is None or name.removeprefix("d_") in _MAPS else tensor.float()
        for name, tensor in tensors.items()
    }


def _cpp_forward(call: Call, out: Outputs) -> None:
    _cpp("forward", call, **{name: getattr(out, name) for name in CPP_OUTPUTS})


def _cpp_backward(call: Any, out: Gradients) -> None:
    saved = {name: getattr(call, name) for name in ("grad_y", *CPP_OUTPUTS)}
    _cpp("backward", call, **saved, **{f"d_{name}": each for name, each in out._asdict().items()})


def _cpp_why_not(x: Tensor) -> str | None:
    if x.dtype == torch.float16:
        return "it has no float16 kernels; its maps are float32, float64 or bfloat16"
    reason = cpp_why_not(x)
    if reason is None and x.dtype == torch.bfloat16:
        return _why_no_bf16_maps()
    return reason


@constant_to_dynamo
def _why_no_bf16_maps() -> str | None:
    return native.why_no_bf16_maps()


def _triton_forward(call: Call, out: Outputs) -> None:
    from aimclr_fast.triton_kernels import stgcn_block as kernels

    with torch.cuda.device_of(call.x):
        kernels.forward(call, out, product_precision(call.x.dtype))


def _triton_backward(call: Any, out: Gradients) -> None:
    from aimclr_fast.triton_kernels import stgcn_block as kernels

    with torch.cuda.device_of(call.x):
        kernels.backward(call, out, product_precision(call.x.dtype))


def _triton_why_not(x: Tensor) -> str | None:
    if x.dim() == 4 and x.shape[3] > MAX_TRITON_JOINTS:
        return f"its tiles hold up to {MAX_TRITON_JOINTS} joints, got {x.shape[3]}"
    return triton_why_not(x)


def _checked(call: Call) -> Call:
    """A call for PyTorch's operations, whose products take operands of one dtype: that of x."""
    _check(call)
    call = _without_bits(call)
    if call.x.dtype not in HALVES:
        return call
    given = {name: getattr(call, name) for name in OPERANDS}
    return call._replace(
        **{name: each.to(call.x.dtype) for name, each in given.items() if each is not None}
    )


def _in_groups(call: Call, run: Callable[[Call], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What `run` makes of each group of a checked call, in one."""
    checked = _checked(call)
    if call.groups == 1:
        y, statistics = run(checked)
        return y, statistics[None].detach()
    found = [run(_group(checked, i)) for i in range(call.groups)]
    return torch.cat([y for y, _ in found]), torch.stack([s for _, s in found]).detach()


def _torch(call: Call) -> tuple[Tensor, Tensor]:
    return _in_groups(call, plain.stgcn_block)


def _reference(call: Call, over_ranks: SumOverRanks | None = None) -> tuple[Tensor, Tensor]:
    return _in_groups(call, lambda one: reference.stgcn_block(*one[:15], over_ranks))


BACKENDS = [
    Backend("cpp", None, _cpp_why_not, _cpp_forward, _cpp_backward),
    Backend("torch", _torch),
    Backend(REFERENCE, _reference),
    # Last, so only by name: no GPU has measured it against the reference (cuDNN) yet.
    Backend("triton", None, _triton_why_not, _triton_forward, _triton_backward),
]


# --- The torch op and its gradient ---------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    *arguments, ctx.backend = inputs
    ctx.settings = arguments[len(INPUTS) :]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros would be written for each saved map
    ctx.save_for_backward(*arguments[: len(INPUTS)], *output)


@once_differentiable
def _gradient(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad_y is None:
        return gradients(Call)
    inputs, saved = ctx.saved_tensors[: len(INPUTS)], ctx.saved_tensors[len(INPUTS) :]
    call = GradientCall(grad_y, *inputs, *ctx.settings, *saved, ctx.backend)
    found = torch.ops.aimclr_fast.stgcn_block_backward(*call)
    needed = zip(Gradients._fields, found, ctx.needs_input_grad, strict=False)
    return gradients(Call, **{name: gradient for name, gradient, needs in needed if needs})


_OP = Op("stgcn_block", BACKENDS, results=lambda outputs: outputs[:2])
_OP.define(Call, Outputs, _prepare, _compute)
_OP.define(GradientCall, Gradients, _prepare_backward, _compute_backward, "_backward")
_OP.differentiate(_save, _gradient)


# --- The functions -------------------------------------------------------------------------------


def pack_weights(
    blocks: Sequence[tuple[Tensor, Tensor, Tensor | None]], dtype: torch.dtype
) -> list[Tensor]:
    """The weights of blocks as the triton backend multiplies them, laid out in one launch.

    Args:
        blocks: of each the weights of the spatial, the temporal and the residual convolution, the
            last one None without it.
        dtype: of the maps that the blocks will take.

    Returns:
        Of each block a tensor for `packed_block`, without a gradient.
    """
    from aimclr_fast.triton_kernels import stgcn_block as kernels
    from aimclr_fast.triton_kernels.stgcn_block_weights import Weights

    with torch.no_grad(), torch.cuda.device_of(blocks[0][0]):
        return kernels.pack_weights([Weights(*of) for of in blocks], product_precision(dtype))


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
    groups: int = 1,
    backend: str = "auto",
    over_ranks: SumOverRanks | None = None,
) -> tuple[Tensor, Tensor]:
    """One block of ST-GCN (Yan et al., AAAI 2018, section 3), in training or in evaluation.

    A 1x1 convolution per part of the graph, summed over neighbors and parts; batch norm; ReLU; a
    convolution over K frames; batch norm; dropout; the residual; ReLU. The joint w of the spatial
    convolution's output is the sum over parts p and joints v of joint v times adjacency[p, v, w].

    All backends but the reference keep the channels last in memory (`torch.channels_last`), and so
    is their output. `torch` is PyTorch's own operations laid out for a GPU; it runs anywhere.

    Maps may be of half precision (for `cpp` bfloat16), and the other tensors float32 beside them:
    so are statistics and gradients of parameters then, and what is kept for the backward pass, x,
    y and what goes into the norms, takes half of the memory.

    Args:
        x: feature map [B, C_in, T, V], floating point.
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
            is then divided by `keep_prob`. None keeps all. Or bits, int64
            [ceil(B * ceil(T / stride) * V * C_out / 64)]: with the words as bytes in memory, and n
            bytes in all, bit p of byte j (from the lowest) is element p * n + j of
            [B, ceil(T / stride), V, C_out]. `triton` takes bits as they are.
        keep_prob: see `keep`; in (0, 1].
        stride: of the temporal and the residual convolution in time, 1 or 2.
        eps: added to the variances.
        groups: in training, of so many samples one after the other, all groups equally large. Each
            is normalized by its own statistics, as if it were a batch of its own.
        backend: "auto" for the fastest that can run, or a name.
        over_ranks: sums a tensor over the processes of a job; the norms then use the statistics of
            the batches of all processes, equally large. The reference alone does this.

    Returns:
        (y, statistics): the output [B, C_out, ceil(T / stride), V], and the mean and biased
        variance [n, 2, C_out] that the norms used, without a gradient; with several groups
        [groups, n, 2, C_out].

    Raises:
        ValueError: a shape, the stride, the groups or the residual is off; it is named.
        TypeError: a tensor is of the wrong dtype.
    """
    return packed_block(
        x,
        adjacency,
        spatial,
        temporal,
        norms,
        residual=residual,
        running=running,
        keep=keep,
        keep_prob=keep_prob,
        stride=stride,
        eps=eps,
        groups=groups,
        backend=backend,
        over_ranks=over_ranks,
    )


def packed_block(
    x: Tensor,
    adjacency: Tensor,
    spatial: tuple[Tensor, Tensor],
    temporal: tuple[Tensor, Tensor],
    norms: Tensor,
    *,
    residual: str | tuple[Tensor, Tensor],
    running: Tensor | None,
    keep: Tensor | None,
    keep_prob: float,
    stride: int,
    eps: float,
    groups: int,
    backend: str,
    over_ranks: SumOverRanks | None,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`stgcn_block` with its weights by `pack_weights`, too: they get the gradient, and `packed` is
    what the triton backend multiplies with.
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
    given = (x, adjacency, *spatial, *temporal, norms, beside_weight, beside_bias, running, keep)
    tensors: dict[str, Any] = dict(zip(INPUTS, given, strict=True))
    for name, tensor in tensors.items():
        if name == "x" or tensor is not None:
            check_dense(name, tensor)
    if running is not None:  # a constant for every backend
        tensors["running"] = running.detach()
    call = Call(
        **tensors,
        identity=residual == "identity",
        scale=1.0 / keep_prob,
        stride=check_integer("stride", stride),
        eps=check_number("eps", eps),
        groups=check_integer("groups", groups),
        save=torch.is_grad_enabled()
        and any(tensor is not None and tensor.requires_grad for tensor in tensors.values()),
        packed=packed,
        backend=backend,
    )
    reason = None if over_ranks is None else "it takes statistics in one process alone"
    y, statistics = _OP.dispatch(call, x, over_ranks=over_ranks, only_reference=reason)
    return y, statistics if call.groups > 1 else statistics[0]

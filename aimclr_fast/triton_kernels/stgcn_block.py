"""stgcn_block in Triton: what is launched, in which order.

Maps are [B, T, V, C] in memory. With E the bytes of one map (E_x of the block's input), training
reads and writes, besides weights and sums:

forward                                          read               written
  graph convolution (and its statistics)         E_x                E
  residual convolution (and its statistics)      E_x                E
  norm, ReLU, temporal convolution (and ...)     E                  E
  norm, dropout, residual, ReLU                  2 E + dropout      E + masks
backward
  sums of the norms before the output            2 E (3) + masks    -
  gradient of what these norms take              2 E (3) + masks    E (2)
  temporal convolution, norm's ReLU, its sums    2 E                E
  temporal convolution's weights                 in the same kernel
  residual convolution's weights                 E + E_x            -
  graph convolution, all of it, and the residual 2 E + 3 E_x (E)    E_x

In parentheses with a residual convolution. Dropout is a bit an element (E / 16 in bfloat16), and
the masks are two: where the output is positive, and where dropout kept it as well. With the
identity that is 7.2 E forward and 14.25 E backward; one operation after the other, with maps of
three parts and two passes in each batch norm, takes 25.5 E and 41.5 E.

Where channels are many (64 and more), or numbers float32, it is more. A temporal convolution takes
the normalized map from memory, for it would find it again once per tap: a pass writes it, and
backward the kernel of the input's gradient, before one of its own sums the weights'. That is 2 E
forward and 3 E backward. And the weights of the graph convolution have a launch of their own, which
reads 2 E + E_x.

The gradient of the temporal convolution's output is written and not found again where it is read,
for its readers gather each row once per tap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import INTERPRETED
from . import stgcn_block_norm as norm
from . import stgcn_block_shapes as shapes
from . import stgcn_block_spatial as spatial
from . import stgcn_block_temporal as temporal
from .stgcn_block_weights import Packed, Weights, pack, unpack

# Operands of the products; sums are float32.
OPERANDS = {
    "ieee": (tl.float32, torch.float32),
    "tf32": (tl.float32, torch.float32),
    "bf16": (tl.bfloat16, torch.bfloat16),
    "fp16": (tl.float16, torch.float16),
}
# Or the assembler spills some to fit one more program on a processor.
ALL_REGISTERS = {"maxnreg": 255}
PROCESSORS = 4  # where there is no GPU
MERGED = 1024  # partial sums that one program holds


class Block(NamedTuple):
    """Sizes of a call, as the kernels name them, and how it multiplies.

    `batch` samples follow each other in each of `groups`, whose norms have statistics of their own.
    """

    groups: int
    batch: int
    c_in: int
    c_out: int
    frames: int
    frames_out: int
    joints: int
    parts: int
    taps: int
    stride: int
    eps: float
    training: bool
    residual: int
    precision: str
    processors: int
    weights: Packed

    def product(self) -> dict[str, Any]:
        operand, exact = OPERANDS[self.precision][0], self.precision == "ieee"
        # Triton's interpreter would multiply bfloat16 numbers as integers.
        dot = tl.float32 if INTERPRETED else operand
        product = {"OPERAND": operand, "DOT": dot, "PRECISION": "ieee" if exact else "tf32"}
        return product | (ALL_REGISTERS if exact else {})


def _block(call: Any, precision: str) -> Block:
    samples, c_in, frames, joints = call.x.shape
    groups, c_out = call.groups, len(call.temporal_bias)
    if joints > shapes.MAX_JOINTS:
        raise ValueError(f"the triton kernels take up to {shapes.MAX_JOINTS} joints, got {joints}")
    if samples * frames * joints * max(c_in, c_out) >= 2**31:
        raise ValueError(f"a map must have fewer than 2^31 values, got x {list(call.x.shape)}")
    if call.residual_weight is not None:
        residual = norm.CONVOLUTION
    else:
        residual = norm.IDENTITY if call.identity else norm.NO_RESIDUAL
    processors = PROCESSORS
    if call.x.device.type == "cuda":
        processors = torch.cuda.get_device_properties(call.x.device).multi_processor_count
    elif call.x.device.type == "meta":  # compiled ahead of time: as on an H100
        processors = 132
    return Block(
        groups, samples // groups, c_in, c_out, frames, -(-frames // call.stride), joints,
        len(call.adjacency), call.temporal_weight.shape[2], call.stride, call.eps,
        call.running is None, residual, precision, processors, _weights(call, precision),
    )  # fmt: skip


def pack_weights(blocks: Iterable[Weights], precision: str) -> list[Tensor]:
    """The weights of blocks as their calls take them in `packed`, written in one launch."""
    return pack(list(blocks), OPERANDS[precision][1])


def _weights(call: Any, precision: str) -> Packed:
    """Those of a call; packed for another precision they are packed again."""
    weights = Weights(call.spatial_weight, call.temporal_weight, call.residual_weight)
    packed = call.packed
    if packed is None or packed.dtype != OPERANDS[precision][1]:
        (packed,) = pack_weights([weights], precision)
    return unpack(packed, weights)


def _floats(like: Tensor, *size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device=like.device)


def _scratch(out: Tensor, like: Tensor, b: Block, frames: int) -> Tensor:
    """`out`, or as large a map where the op wants none of it."""
    return out if out.numel() else like.new_empty(b.groups * b.batch, frames, b.joints, b.c_out)


# --- Forward -------------------------------------------------------------------------------------


def _of_groups(statistics: Tensor, b: Block) -> Tensor:
    """Statistics as [groups, norms, 2, C_OUT]."""
    return statistics.view(b.groups, -1, 2, b.c_out)


class Partials(NamedTuple):
    """What each program that writes a map leaves of its statistics.

    Attributes:
        counts: rows of each, [groups * parts].
        values: mean and squared deviations, [groups * parts, 2, C].
    """

    counts: Tensor
    values: Tensor


def _partials(out: Tensor, b: Block, programs: int) -> Partials:
    """Empty ones of so many programs a group; none in evaluation."""
    count = b.groups * programs if b.training else 0
    return Partials(_floats(out, count), _floats(out, count, 2, b.c_out))


def _merge_statistics(found: list[Partials], statistics: Tensor) -> None:
    """Of one map or two into statistics [groups, maps, 2, C], in one launch."""
    groups, maps, _, channels = statistics.shape
    parts = [len(each.counts) // groups for each in found]
    first, second = found[0], found[1] if maps > 1 else (None, None)
    norm.merge_statistics_kernel[channels, groups, maps](
        *first, *second, statistics, parts[0], parts[-1],
        C=channels, STEP=statistics.stride(0), BLOCK=MERGED,
    )  # fmt: skip


def _graph_convolution(call: Any, b: Block, out: Tensor, statistics: Tensor) -> None:
    shape = shapes.spatial(b.joints, b.c_in, b.c_out, b.parts, b.precision)
    frames, columns = b.batch * b.frames, triton.cdiv(b.c_out, shape.block_n)
    programs = shapes.spatial_programs(frames, shape, columns, b.groups, b.processors)
    partials = _partials(out, b, programs)
    spatial.spatial_kernel[b.groups * programs, columns](
        call.x, call.adjacency, b.weights.spatial, call.spatial_bias,
        out, *partials, frames, programs,
        V=b.joints, C_IN=b.c_in, C_OUT=b.c_out, P=b.parts, STATISTICS=b.training,
        WARPS=shape.warps, **_spatial_shape(shape), **b.product(), num_warps=shape.warps,
    )  # fmt: skip
    if b.training:
        _merge_statistics([partials], statistics)


def _spatial_shape(shape: shapes.Spatial) -> dict[str, Any]:
    return {
        "HOISTED": shape.hoisted, "STAGES": shape.stages, "BLOCK_P": shape.block_p,
        "BLOCK_V": shape.block_v, "BLOCK_F": shape.block_f,
        "BLOCK_C": shape.block_c, "BLOCK_N": shape.block_n,
    }  # fmt: skip


def _activated(b: Block, source: Tensor, before: tuple[Tensor, Tensor]) -> Tensor:
    """Norm and ReLU of what the graph convolution leaves."""
    out, rows = torch.empty_like(source), b.batch * b.frames * b.joints
    shape = shapes.activation(b.c_out)
    tiles = triton.cdiv(rows, shape.block_r)
    temporal.activation_kernel[b.groups * tiles, triton.cdiv(b.c_out, shape.block_c)](
        source, *before, out, rows, tiles, before[0].stride(0), b.eps,
        C=b.c_out, BLOCK_R=shape.block_r, BLOCK_C=shape.block_c,
    )  # fmt: skip
    return out


def _convolution(
    b: Block,
    source: Tensor,
    before: tuple[Tensor, Tensor] | None,
    weight: Tensor,
    bias: Tensor,
    out: Tensor,
) -> Partials:
    """A convolution over time with weight [K, C_OUT, C_IN], after a norm or (None) of the input."""
    taps, _, c_in = weight.shape
    shape = shapes.temporal(c_in, b.c_out, taps, b.stride, b.precision)
    if before is not None and shape.frames == 1 < taps:
        # Else each element would be normalized once per tap.
        source, before = _activated(b, source, before), None
    rows = b.batch * triton.cdiv(b.frames_out, shape.frames) * b.joints
    programs = triton.cdiv(rows, shape.block_m)
    partials = _partials(out, b, programs)
    temporal.convolution_kernel[b.groups * programs, triton.cdiv(b.c_out, shape.block_n)](
        source, *(before or (None, None)), weight, bias, out, *partials,
        b.batch, programs, before[0].stride(0) if before else 0, b.eps,
        T=b.frames, T_OUT=b.frames_out, V=b.joints, C_IN=c_in, C_OUT=b.c_out,
        K=taps, STRIDE=b.stride, NORMALIZE=before is not None, STATISTICS=b.training,
        FRAMES=shape.frames,
        BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_C=shape.block_c, TAPS=shape.taps,
        **b.product(), num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return partials


def _output(call: Any, b: Block, before: Tensor, beside: Tensor | None, out: Any) -> None:
    """The last pass, from what goes into the temporal norm and what is beside it."""
    rows = b.batch * b.frames_out * b.joints
    convolved = b.residual == norm.CONVOLUTION
    shape = shapes.rows(rows, b.c_out, b.groups, b.processors, shapes.OUTPUT_PROGRAMS[convolved])
    statistics = _of_groups(out.statistics, b)
    residual_norm = (statistics[:, 2], call.norms[2]) if convolved else (None, None)
    words = call.keep.numel() if call.keep is not None else 0
    norm.output_kernel[b.groups * shape.programs, shape.columns](
        before, statistics[:, 1], call.norms[1], beside, *residual_norm, call.keep,
        out.y, out.masks if out.masks.numel() else None,
        rows, shape.programs, words, call.scale, b.eps,
        RESIDUAL=b.residual, C=b.c_out, STEP=statistics.stride(0),
        BLOCK_R=shape.block_r, BLOCK_E=shape.block_e, num_warps=8,
    )  # fmt: skip


def forward(call: Any, out: Any, precision: str) -> None:
    """Fill `out` (the op's Outputs) for the op's Call."""
    b = _block(call, precision)
    statistics = _of_groups(out.statistics, b)
    if not b.training:
        statistics.copy_(call.running)
    before_spatial = _scratch(out.spatial, call.x, b, b.frames)
    before_temporal = _scratch(out.temporal, call.x, b, b.frames_out)

    _graph_convolution(call, b, before_spatial, statistics[:, :1])
    partials = [
        _convolution(
            b, before_spatial, (statistics[:, 0], call.norms[0]),
            b.weights.temporal, call.temporal_bias, before_temporal,
        )
    ]  # fmt: skip
    beside = call.x if b.residual == norm.IDENTITY else None
    if b.weights.residual is not None:
        beside, bias = _scratch(out.shortcut, call.x, b, b.frames_out), call.residual_bias
        partials.append(_convolution(b, call.x, None, b.weights.residual, bias, beside))
    if b.training:
        _merge_statistics(partials, statistics[:, 1:])
    _output(call, b, before_temporal, beside, out)


# --- Backward ------------------------------------------------------------------------------------


class Sum(NamedTuple):
    """What is to be summed: partials [..., *size] over their leading axes, float32, into `out`.

    `out` has up to three axes, in the order of the partials', with any strides.
    """

    partials: Tensor
    out: Tensor

    @property
    def size(self) -> int:
        return self.out.numel()

    def shape(self) -> tuple[int, ...]:
        """As sum_kernel takes it."""
        missing = 3 - self.out.dim()
        sizes, steps = (1,) * missing + self.out.shape, (0,) * missing + self.out.stride()
        return (*sizes[1:], *steps, self.size)


SUMS = 5  # that one launch takes


def _sum_parts(sums: list[Sum], processors: int) -> None:
    """All of it in one launch. The longest columns come first, or others would wait for them."""
    sums = sorted(sums, key=lambda one: one.size / one.partials.numel())
    sizes = [one.size for one in sums]
    block, parts_at_once = shapes.sums(sizes, processors)
    absent = SUMS - len(sums)
    given = [*sums, *[sums[0]] * absent]
    parts = [one.partials.numel() // one.size for one in given]
    taken = [one.shape() for one in sums] + [(1, 1, 0, 0, 0, 0)] * absent
    norm.sum_kernel[sum(triton.cdiv(size, block) for size in sizes),](
        *(one.partials for one in given), *(one.out for one in given), *parts, *taken,
        BLOCK=block, BLOCK_PARTS=parts_at_once,
    )  # fmt: skip


def _merge_gradients(
    call: Any, b: Block, partials: Tensor, first: int, rows: int, out: Any
) -> list[Tensor]:
    """Gradients of the parameters of norms from `first` on; returns their coefficients.

    `partials` [groups * parts, norms, 2, C] are sums of the gradient, and of it times the
    normalized values; a group has `rows` rows.
    """
    count, channels = partials.shape[1], partials.shape[3]
    statistics = _of_groups(call.statistics, b)
    coefficients = _floats(partials, count, b.groups, 2, channels)
    biases = (None, out.temporal_bias, out.residual_bias)[first : first + count]
    norm.merge_gradient_kernel[channels, count](
        partials, statistics[:, first], call.norms[first:], out.norms[first:],
        *(*biases, None)[:2], coefficients, len(partials) // b.groups, rows, b.eps,
        TRAINING=b.training, C=channels, GROUPS=b.groups, STEP=statistics.stride(0), BLOCK=MERGED,
    )  # fmt: skip
    return list(coefficients)


def _output_gradients(call: Any, b: Block, out: Any) -> tuple[Tensor, Tensor | None]:
    """Gradients of what goes into the temporal and (or None) the residual norm."""
    convolved = b.residual == norm.CONVOLUTION
    rows = b.batch * b.frames_out * b.joints
    shape = shapes.rows(rows, b.c_out, b.groups, b.processors, shapes.SUMS_PROGRAMS[convolved])
    statistics = _of_groups(call.statistics, b)
    scale = 1.0 if call.keep is None else call.scale
    sizes = {"C": b.c_out, "STEP": statistics.stride(0)}
    beside = (call.shortcut, statistics[:, 2]) if convolved else (None, None)
    norms = 2 if convolved else 1
    partials = _floats(call.grad_y, b.groups * shape.programs, norms, 2, b.c_out)
    norm.output_sums_kernel[b.groups * shape.programs, shape.columns](
        call.grad_y, call.masks, call.temporal, statistics[:, 1], *beside, partials,
        rows, shape.programs, scale, b.eps,
        **sizes, BLOCK_R=shape.block_r, BLOCK_E=shape.block_e, num_warps=8,
    )  # fmt: skip
    of_temporal, *of_residual = _merge_gradients(call, b, partials, 1, rows, out)
    grad_temporal, grad_residual = torch.empty_like(call.temporal), None
    residual: tuple[Tensor | None, ...] = (None,) * 4
    if convolved:
        residual = (*beside, call.norms[2], *of_residual)
        grad_residual = torch.empty_like(call.shortcut)
    shape = shapes.rows(rows, b.c_out, b.groups, b.processors, shapes.GRADIENT_PROGRAMS[convolved])
    norm.output_gradient_kernel[b.groups * shape.programs, shape.columns](
        call.grad_y, call.masks, call.temporal, statistics[:, 1], call.norms[1], of_temporal,
        *residual, grad_temporal, grad_residual, rows, shape.programs, scale, b.eps,
        TRAINING=b.training, **sizes,
        BLOCK_R=shape.block_r, BLOCK_E=shape.block_e, num_warps=8,
    )  # fmt: skip
    return grad_temporal, grad_residual


def _weight_sum(partials: Tensor, out: Tensor) -> Sum:
    """Parts [K, C_IN, C_OUT] of the gradient [C_OUT, C_IN, K, 1] of a convolution's weights."""
    return Sum(partials, out.squeeze(3).permute(2, 1, 0))


def _convolution_weight(b: Block, source: Tensor, gradient: Tensor, taps: int, out: Tensor) -> Sum:
    """Gradient [C_OUT, C_IN, K, 1] of a convolution's weights, to be summed; `source` is what the
    convolution took.
    """
    _, c_in, _, _ = out.shape
    batch = b.groups * b.batch
    rows = batch * b.frames_out * b.joints
    shape = shapes.temporal_weight(c_in, b.c_out, taps, rows, b.precision, b.processors)
    partials = _floats(gradient, shape.splits, taps * c_in, b.c_out)
    grid = (
        triton.cdiv(taps * c_in, shape.block_m),
        triton.cdiv(b.c_out, shape.block_n),
        shape.splits,
    )
    temporal.convolution_weight_kernel[grid](
        source, gradient, partials, batch, shape.splits,
        T=b.frames, T_OUT=b.frames_out, V=b.joints, C_IN=c_in, C_OUT=b.c_out,
        K=taps, STRIDE=b.stride,
        BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_R=shape.block_r,
        **(b.product() | ALL_REGISTERS), num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return _weight_sum(partials, out)


def _convolution_gradients(
    call: Any, b: Block, grad_temporal: Tensor, out: Any
) -> tuple[Tensor, Tensor, Sum]:
    """Of what comes before the temporal convolution, and of its weights.

    Returns the gradient after the spatial norm, before its ReLU; that norm's coefficients; and the
    gradient of the weights, to be summed.
    """
    statistics = _of_groups(call.statistics, b)[:, 0]
    rows = b.batch * -(-b.frames // b.stride) * b.joints
    grad_spatial = torch.empty_like(call.spatial)
    sizes = {
        "T": b.frames, "T_OUT": b.frames_out, "V": b.joints, "C_IN": b.c_out, "C_OUT": b.c_out,
        "K": b.taps, "STRIDE": b.stride, **(b.product() | ALL_REGISTERS),
    }  # fmt: skip
    weight = b.weights.temporal_back
    given = grad_temporal, weight, call.spatial, statistics, call.norms[0], grad_spatial
    met = -(-b.taps // b.stride)
    narrow = shapes.temporal_backward(b.c_out, met, b.precision)
    if narrow is not None:
        each = narrow.programs * b.processors // (b.groups * b.stride)
        programs = max(1, min(each, triton.cdiv(rows, narrow.block_m)))
        partials = _floats(grad_temporal, b.groups * b.stride * programs, 1, 2, b.c_out)
        parts = _floats(grad_temporal, b.groups * programs, b.taps * b.c_out, b.c_out)
        temporal.convolution_backward_kernel[b.groups * programs, 1, b.stride](
            *given, partials, parts, b.batch, programs, statistics.stride(0), b.eps, **sizes,
            BLOCK_M=narrow.block_m, BLOCK_N=narrow.block_c, BLOCK_C=narrow.block_c,
            TAPS=narrow.taps, num_warps=narrow.warps, num_stages=narrow.stages,
        )  # fmt: skip
        of_weight = _weight_sum(parts, out.temporal_weight)
    else:
        shape = shapes.temporal(b.c_out, b.c_out, met, 1, b.precision, gradient=True)
        programs = triton.cdiv(rows, shape.block_m)
        partials = _floats(grad_temporal, b.groups * b.stride * programs, 1, 2, b.c_out)
        activated = torch.empty_like(call.spatial)
        grid = b.groups * programs, triton.cdiv(b.c_out, shape.block_n), b.stride
        temporal.convolution_gradient_kernel[grid](
            *given, activated, partials, b.batch, programs, statistics.stride(0), b.eps, **sizes,
            BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_C=shape.block_c,
            TAPS=shape.taps, num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
        of_weight = _convolution_weight(b, activated, grad_temporal, b.taps, out.temporal_weight)
    (coefficients,) = _merge_gradients(call, b, partials, 0, b.batch * b.frames * b.joints, out)
    return grad_spatial, coefficients, of_weight


def _graph_convolution_gradients(
    call: Any, b: Block, grads: tuple[Tensor, Tensor, Tensor | None], out: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the input, from the spatial norm's and the residual's; the others are to be summed.

    Those are partial results of the weights, of the edges but for the bias, and of the gradient
    at each joint [V, C_OUT].
    """
    grad_spatial, coefficients, grad_residual = grads
    statistics = _of_groups(call.statistics, b)
    weight, residual_weight = b.weights.spatial_back, b.weights.residual_back
    beside = (call.grad_y, call.y) if b.residual == norm.IDENTITY else (None, None)
    frames = b.batch * b.frames
    more = {} if b.precision in shapes.HALVES else ALL_REGISTERS
    partials: dict[str, Tensor] = {}
    for launch in shapes.spatial_gradients(b.joints, b.c_in, b.c_out, b.parts, b.precision):
        shape = launch.shape
        blocks_in = triton.cdiv(b.c_in, shape.block_c)
        blocks = blocks_in * (1 if launch.input else triton.cdiv(b.parts, shape.block_p))
        if not (launch.input or launch.edges):
            blocks *= triton.cdiv(b.c_out, shape.block_n)
        programs = shapes.spatial_programs(frames, shape, blocks, b.groups, b.processors)
        splits = b.groups * programs
        if launch.edges:
            edges = b.parts * b.joints * b.joints
            partials["edges"] = _floats(call.grad_y, splits, blocks_in, edges)
        if launch.weights:
            partials["weights"] = _floats(call.grad_y, splits, b.parts * b.c_out * b.c_in)
            partials["joints"] = _floats(call.grad_y, splits, b.joints * b.c_out)
        spatial.spatial_gradients_kernel[splits * blocks,](
            call.x, grad_spatial, call.spatial, statistics[:, 0], call.norms[0], coefficients,
            call.adjacency, weight, *beside, grad_residual, residual_weight,
            out.x if launch.input else None,
            partials["edges"] if launch.edges else None,
            *((partials["weights"], partials["joints"]) if launch.weights else (None, None)),
            frames, programs, b.eps,
            TRAINING=b.training, RESIDUAL=b.residual, STRIDE=b.stride, T=b.frames,
            T_OUT=b.frames_out, V=b.joints, C_IN=b.c_in, C_OUT=b.c_out, P=b.parts,
            GROUP_STEP=statistics.stride(0), **_spatial_shape(shape),
            **(b.product() | more), num_warps=shape.warps,
        )  # fmt: skip
    return partials["weights"], partials["edges"], partials["joints"]


def _edge_gradients(call: Any, b: Block, edges: Tensor, joints: Tensor, out: Any) -> None:
    """Of the edges and the bias of the graph convolution."""
    spatial.edge_gradient_kernel[b.parts,](
        edges, joints, call.adjacency, call.spatial_bias, out.adjacency, out.spatial_bias,
        V=b.joints, C_OUT=b.c_out, BLOCK_V=shapes.joints(b.joints), BLOCK_C=32,
    )  # fmt: skip


def backward(call: Any, out: Any, precision: str) -> None:
    """Fill `out` (the op's Gradients) for the op's GradientCall."""
    b = _block(call, precision)
    grad_temporal, grad_residual = _output_gradients(call, b, out)
    sums = []
    if grad_residual is not None:
        sums.append(_convolution_weight(b, call.x, grad_residual, 1, out.residual_weight))
    grad_spatial, coefficients, of_weight = _convolution_gradients(call, b, grad_temporal, out)
    sums.append(of_weight)
    grads = grad_spatial, coefficients, grad_residual
    weights, edges, joints = _graph_convolution_gradients(call, b, grads, out)
    of_edges = _floats(edges, b.parts * b.joints * b.joints)
    of_joints = _floats(joints, b.joints * b.c_out)
    sums += [Sum(edges, of_edges), Sum(joints, of_joints)]
    _sum_parts([*sums, Sum(weights, out.spatial_weight.view(-1))], b.processors)
    _edge_gradients(call, b, of_edges, of_joints, out)

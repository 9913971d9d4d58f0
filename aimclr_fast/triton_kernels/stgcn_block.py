"""stgcn_block in Triton: what is launched, in which order.

Maps are [B, T, V, C] in memory. With E the bytes of one map (E_x of the block's input), training
reads and writes, besides weights and sums:

forward                                          read               written
  graph convolution (and its statistics)         E_x                E
  residual convolution (and its statistics)      E_x                E
  norm, ReLU, temporal convolution (and ...)     E                  E
  norm, dropout, residual, ReLU                  2 E + mask         E
backward
  sums of the norms before the output            3 E (4) + mask     -
  gradient of what these norms take              3 E (4) + mask     E (2)
  temporal convolution, norm's ReLU, its sums    2 E                E
  temporal convolution's weights                 2 E                -
  residual convolution's weights                 E + E_x            -
  graph convolution, all of it, and the residual 2 E + 3 E_x (E)    E_x

In parentheses with a residual convolution. With the identity and a mask (half of E in bfloat16)
that is 7.5 E forward and 19 E backward; one operation after the other, with maps of three parts and
two passes in each batch norm, takes 25.5 E and 41.5 E. The gradient of the temporal convolution's
output is written and not found again where it is read, for its readers gather each row once per
tap; that of the graph convolution's output is found where it is read: once, or twice where there
are many channels, for then weights have a launch of their own, which reads 2 E + E_x more.
"""

from __future__ import annotations

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

# Operands of the products; sums are float32.
OPERANDS = {
    "ieee": (tl.float32, torch.float32),
    "tf32": (tl.float32, torch.float32),
    "bf16": (tl.bfloat16, torch.bfloat16),
    "fp16": (tl.float16, torch.float16),
}
# Or the assembler spills some to fit one more program on a processor.
ALL_REGISTERS = {"maxnreg": 255}
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

    def product(self) -> dict[str, Any]:
        operand, exact = OPERANDS[self.precision][0], self.precision == "ieee"
        # Triton's interpreter would multiply bfloat16 numbers as integers.
        dot = tl.float32 if INTERPRETED else operand
        product = {"OPERAND": operand, "DOT": dot, "PRECISION": "ieee" if exact else "tf32"}
        return product | (ALL_REGISTERS if exact else {})

    def operand(self, weight: Tensor) -> Tensor:
        """Weights as a product takes them: the last axis is summed over."""
        return weight.to(OPERANDS[self.precision][1]).contiguous()


def _block(call: Any, precision: str) -> Block:
    samples, c_in, frames, joints = call.x.shape
    groups, c_out = getattr(call, "groups", 1), len(call.temporal_bias)
    if joints > shapes.MAX_JOINTS:
        raise ValueError(f"the triton kernels take up to {shapes.MAX_JOINTS} joints, got {joints}")
    if samples * frames * joints * max(c_in, c_out) >= 2**31:
        raise ValueError(f"a map must have fewer than 2^31 values, got x {list(call.x.shape)}")
    if call.residual_weight is not None:
        residual = norm.CONVOLUTION
    else:
        residual = norm.IDENTITY if call.identity else norm.NO_RESIDUAL
    processors = 4
    if call.x.device.type == "cuda":
        processors = torch.cuda.get_device_properties(call.x.device).multi_processor_count
    elif call.x.device.type == "meta":  # compiled ahead of time: as on an H100
        processors = 132
    return Block(
        groups, samples // groups, c_in, c_out, frames, -(-frames // call.stride), joints,
        len(call.adjacency),
        call.temporal_weight.shape[2], call.stride, call.eps, call.running is None,
        residual, precision, processors,
    )  # fmt: skip


def _floats(like: Tensor, *size: int) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device=like.device)


def _scratch(out: Tensor, like: Tensor, b: Block, frames: int) -> Tensor:
    """`out`, or as large a map where the op wants none of it."""
    return out if out.numel() else like.new_empty(b.groups * b.batch, frames, b.joints, b.c_out)


# --- Forward -------------------------------------------------------------------------------------


def _merge_statistics(counts: Tensor, partials: Tensor, statistics: Tensor) -> None:
    parts, _, channels = partials.shape
    norm.merge_statistics_kernel[channels,](
        counts, partials, statistics, parts, C=channels, BLOCK=MERGED
    )


def _graph_convolution(call: Any, b: Block, out: Tensor, statistics: Tensor) -> None:
    shape = shapes.spatial(b.joints, b.c_in, b.c_out, b.parts, b.precision)
    frames, columns = b.batch * b.frames, triton.cdiv(b.c_out, shape.block_n)
    programs = shapes.spatial_programs(frames, shape, columns, b.groups, b.processors)
    counts = _floats(out, b.groups * programs if b.training else 0)
    partials = _floats(out, b.groups * programs if b.training else 0, 2, b.c_out)
    spatial.spatial_kernel[b.groups * programs, columns](
        call.x, call.adjacency, b.operand(call.spatial_weight), call.spatial_bias,
        out, counts, partials, frames, programs,
        V=b.joints, C_IN=b.c_in, C_OUT=b.c_out, P=b.parts, STATISTICS=b.training,
        WARPS=shape.warps, **_spatial_shape(shape), **b.product(), num_warps=shape.warps,
    )  # fmt: skip
    if b.training:
        _merge_statistics(counts, partials, statistics)


def _spatial_shape(shape: shapes.Spatial) -> dict[str, Any]:
    return {
        "HOISTED": shape.hoisted, "STAGES": shape.stages, "BLOCK_P": shape.block_p,
        "BLOCK_V": shape.block_v, "BLOCK_F": shape.block_f,
        "BLOCK_C": shape.block_c, "BLOCK_N": shape.block_n,
    }  # fmt: skip


def _convolution(
    b: Block,
    source: Tensor,
    before: tuple[Tensor, Tensor] | None,
    weight: Tensor,
    bias: Tensor,
    out: Tensor,
    statistics: Tensor,
) -> None:
    """A convolution over time with weight [K, C_OUT, C_IN], after a norm or (None) of the input."""
    taps, _, c_in = weight.shape
    shape = shapes.temporal(c_in, b.c_out, taps, b.precision)
    programs = triton.cdiv(b.batch * b.frames_out * b.joints, shape.block_m)
    counts = _floats(out, programs if b.training else 0)
    partials = _floats(out, programs if b.training else 0, 2, b.c_out)
    temporal.convolution_kernel[programs, triton.cdiv(b.c_out, shape.block_n)](
        source, *(before or (None, None)), weight, bias, out, counts, partials, b.batch, b.eps,
        T=b.frames, T_OUT=b.frames_out, V=b.joints, C_IN=c_in, C_OUT=b.c_out,
        K=taps, STRIDE=b.stride, NORMALIZE=before is not None, STATISTICS=b.training,
        BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_C=shape.block_c, TAPS=shape.taps,
        **b.product(), num_warps=shape.warps, num_stages=3,
    )  # fmt: skip
    if b.training:
        _merge_statistics(counts, partials, statistics)


def forward(call: Any, out: Any, precision: str) -> None:
    """Fill `out` (the op's Outputs) for the op's Call."""
    b = _block(call, precision)
    statistics = out.statistics
    if not b.training:
        statistics.copy_(call.running)
    before_spatial = _scratch(out.spatial, call.x, b, b.frames)
    before_temporal = _scratch(out.temporal, call.x, b, b.frames_out)

    _graph_convolution(call, b, before_spatial, statistics[0])
    beside, residual_norm = call.x, (None, None)
    if b.residual == norm.CONVOLUTION:
        beside = _scratch(out.shortcut, call.x, b, b.frames_out)
        residual_norm = (statistics[2], call.norms[2])
        weight = b.operand(call.residual_weight.view(1, b.c_out, b.c_in))
        _convolution(b, call.x, None, weight, call.residual_bias, beside, statistics[2])
    _convolution(
        b, before_spatial, (statistics[0], call.norms[0]),
        b.operand(call.temporal_weight.squeeze(3).permute(2, 0, 1)), call.temporal_bias,
        before_temporal, statistics[1],
    )  # fmt: skip
    rows = b.batch * b.frames_out * b.joints
    shape = shapes.rows(rows, b.c_out, b.processors)
    grid = triton.cdiv(rows, shape.block_r), triton.cdiv(b.c_out, shape.block_c)
    norm.output_kernel[grid](
        before_temporal, statistics[1], call.norms[1], beside, *residual_norm, call.keep,
        out.y, rows, call.scale, b.eps,
        RESIDUAL=b.residual, C=b.c_out, BLOCK_R=shape.block_r, BLOCK_C=shape.block_c,
    )  # fmt: skip


# --- Backward ------------------------------------------------------------------------------------


def _sum_parts(partials: Tensor, size: int) -> Tensor:
    """Sums over all leading axes of what ends in `size` numbers."""
    out, parts = _floats(partials, size), partials.numel() // size
    norm.sum_kernel[triton.cdiv(size, 128),](
        partials, out, parts, size=size, BLOCK=128, BLOCK_PARTS=shapes.PARTS_AT_A_TIME
    )
    return out


def _merge_gradient(
    b: Block,
    partials: Tensor,
    first: int,
    statistics: Tensor,
    affine: Tensor,
    rows: int,
    grad_affine: Tensor,
    grad_bias: Tensor | None,
) -> Tensor:
    """Gradients of a norm's parameters; returns its coefficients.

    Its two sums are `first` and the next of those in partials [parts, sums, C].
    """
    parts, sums, channels = partials.shape
    coefficients = _floats(partials, 2, channels)
    norm.merge_gradient_kernel[channels,](
        partials[:, first:], statistics, affine, grad_affine, grad_bias, coefficients,
        parts, rows, b.eps,
        TRAINING=b.training, C=channels, STEP=sums * channels, BLOCK=MERGED,
    )  # fmt: skip
    return coefficients


def _output_gradients(call: Any, b: Block, out: Any) -> tuple[Tensor, Tensor | None]:
    """Gradients of what goes into the temporal and (or None) the residual norm."""
    rows = b.batch * b.frames_out * b.joints
    shape = shapes.rows(rows, b.c_out, b.processors)
    columns = triton.cdiv(b.c_out, shape.block_c)
    block = {"C": b.c_out, "BLOCK_R": shape.block_r, "BLOCK_C": shape.block_c}
    convolved = b.residual == norm.CONVOLUTION
    partials = _floats(call.grad_y, shape.programs, 4 if convolved else 2, b.c_out)
    beside = (call.shortcut, call.statistics[2]) if convolved else (None, None)
    norm.output_sums_kernel[shape.programs, columns](
        call.grad_y, call.y, call.keep, call.temporal, call.statistics[1], *beside, partials,
        rows, shape.steps, call.scale, b.eps, **block,
    )  # fmt: skip
    coefficients = _merge_gradient(
        b, partials, 0, call.statistics[1], call.norms[1], rows, out.norms[1], out.temporal_bias
    )
    grad_temporal, grad_residual = torch.empty_like(call.temporal), None
    residual: tuple[Tensor | None, ...] = (None,) * 4
    if convolved:
        of = _merge_gradient(
            b, partials, 2, call.statistics[2], call.norms[2], rows, out.norms[2],
            out.residual_bias,
        )  # fmt: skip
        residual = (*beside, call.norms[2], of)
        grad_residual = torch.empty_like(call.shortcut)
    norm.output_gradient_kernel[triton.cdiv(rows, shape.block_r), columns](
        call.grad_y, call.y, call.keep,
        call.temporal, call.statistics[1], call.norms[1], coefficients, *residual,
        grad_temporal, grad_residual, rows, call.scale, b.eps, TRAINING=b.training, **block,
    )  # fmt: skip
    return grad_temporal, grad_residual


def _convolution_weight(
    b: Block,
    source: Tensor,
    before: tuple[Tensor, Tensor] | None,
    gradient: Tensor,
    taps: int,
    out: Tensor,
) -> None:
    """Gradient [C_OUT, C_IN, K, 1] of a convolution's weights."""
    _, c_in, _, _ = out.shape
    rows = b.batch * b.frames_out * b.joints
    shape = shapes.temporal_weight(c_in, b.c_out, taps, rows, b.precision, b.processors)
    partials = _floats(gradient, shape.splits, taps * c_in, b.c_out)
    grid = (
        triton.cdiv(taps * c_in, shape.block_m),
        triton.cdiv(b.c_out, shape.block_n),
        shape.splits,
    )
    temporal.convolution_weight_kernel[grid](
        source, *(before or (None, None)), gradient, partials, b.batch, b.eps,
        T=b.frames, T_OUT=b.frames_out, V=b.joints, C_IN=c_in, C_OUT=b.c_out,
        K=taps, STRIDE=b.stride, NORMALIZE=before is not None,
        BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_R=shape.block_r,
        **b.product(), num_warps=shape.warps, num_stages=3,
    )  # fmt: skip
    total = _sum_parts(partials, taps * c_in * b.c_out)
    out.copy_(total.view(taps, c_in, b.c_out, 1).permute(2, 1, 0, 3))


def _convolution_input(
    call: Any, b: Block, grad_temporal: Tensor, out: Any
) -> tuple[Tensor, Tensor]:
    """Gradient after the spatial norm, before its ReLU; and that norm's coefficients."""
    shape = shapes.temporal(b.c_out, b.c_out, -(-b.taps // b.stride), b.precision, gradient=True)
    rows = b.batch * -(-b.frames // b.stride) * b.joints
    programs = triton.cdiv(rows, shape.block_m)
    grad_spatial = torch.empty_like(call.spatial)
    partials = _floats(grad_temporal, programs * b.stride, 2, b.c_out)
    grid = programs, triton.cdiv(b.c_out, shape.block_n), b.stride
    temporal.convolution_gradient_kernel[grid](
        grad_temporal, b.operand(call.temporal_weight.squeeze(3).permute(2, 1, 0)),
        call.spatial, call.statistics[0], call.norms[0], grad_spatial, partials,
        b.batch, b.eps,
        T=b.frames, T_OUT=b.frames_out, V=b.joints, C_IN=b.c_out, C_OUT=b.c_out,
        K=b.taps, STRIDE=b.stride,
        BLOCK_M=shape.block_m, BLOCK_N=shape.block_n, BLOCK_C=shape.block_c, TAPS=shape.taps,
        **b.product(), num_warps=shape.warps, num_stages=3,
    )  # fmt: skip
    coefficients = _merge_gradient(
        b, partials, 0, call.statistics[0], call.norms[0], b.batch * b.frames * b.joints,
        out.norms[0], None,
    )  # fmt: skip
    return grad_spatial, coefficients


def _graph_convolution_gradients(
    call: Any, b: Block, grads: tuple[Tensor, Tensor, Tensor | None], out: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the input, from the spatial norm's and the residual's; the others are to be summed.

    Those are partial results of the weights, of the edges but for the bias, and of the gradient
    at each joint [V, C_OUT].
    """
    grad_spatial, coefficients, grad_residual = grads
    statistics = call.statistics.view(b.groups, -1, 2, b.c_out)
    weight = b.operand(call.spatial_weight.view(b.parts, b.c_out, b.c_in).transpose(1, 2))
    residual_weight = None
    if b.residual == norm.CONVOLUTION:
        residual_weight = b.operand(call.residual_weight.view(b.c_out, b.c_in).t())
    beside = (call.grad_y, call.y) if b.residual == norm.IDENTITY else (None, None)
    frames = b.batch * b.frames
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
            **b.product(), num_warps=shape.warps,
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
    spatial_norm = call.statistics[0], call.norms[0]
    _convolution_weight(
        b, call.spatial, spatial_norm, grad_temporal, b.taps, out.temporal_weight
    )  # fmt: skip
    if grad_residual is not None:
        _convolution_weight(b, call.x, None, grad_residual, 1, out.residual_weight)
    grad_spatial, coefficients = _convolution_input(call, b, grad_temporal, out)
    grads = grad_spatial, coefficients, grad_residual
    weights, edges, joints = _graph_convolution_gradients(call, b, grads, out)
    out.spatial_weight.copy_(_sum_parts(weights, weights.shape[-1]).view_as(out.spatial_weight))
    of_edges, of_joints = (_sum_parts(each, each.shape[-1]) for each in (edges, joints))
    _edge_gradients(call, b, of_edges, of_joints, out)

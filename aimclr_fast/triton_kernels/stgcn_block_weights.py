"""The weights of stgcn_block as its products take them, those of several blocks in one launch.

A product sums over the last axis of its operands, so a convolution's weight is wanted twice: as
[taps, C_out, C_in] forward and as [taps, C_in, C_out] for the gradient of its input.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 32
ALIGNED = 64  # values; a block's part starts at a multiple of them


@triton.jit
def pack_kernel(
    weights,  # tuple of [PARTS, OUT, IN, TAPS]
    packed,
    FIRST: tl.constexpr, AT: tl.constexpr,  # of each weight its first program and its place
    PARTS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, TAPS: tl.constexpr,
    COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Casts each weight and writes it to `packed` at AT: [PARTS, TAPS, OUT, IN], and after that
    [PARTS, TAPS, IN, OUT].
    """
    program = tl.program_id(0)
    weight, first, at = weights[0], FIRST[0], AT[0]
    parts, out, into, taps = PARTS[0], OUT[0], IN[0], TAPS[0]
    for i in tl.static_range(1, COUNT):
        here = program >= FIRST[i]
        weight = tl.where(here, weights[i], weight)
        first, at = tl.where(here, FIRST[i], first), tl.where(here, AT[i], at)
        parts, out = tl.where(here, PARTS[i], parts), tl.where(here, OUT[i], out)
        into, taps = tl.where(here, IN[i], into), tl.where(here, TAPS[i], taps)
    tile = program - first
    rows, columns = tl.cdiv(out, BLOCK), tl.cdiv(into, BLOCK)
    part = tile // (rows * columns)
    o = tile // columns % rows * BLOCK + tl.arange(0, BLOCK)
    i = tile % columns * BLOCK + tl.arange(0, BLOCK)
    inside = (o[:, None] < out) & (i[None, :] < into)
    turned = (i[:, None] < into) & (o[None, :] < out)
    source = weight + ((part * out + o[:, None]) * into + i[None, :]) * taps
    forward = packed + at + part * taps * out * into
    backward = forward + parts * taps * out * into
    for k in range(taps):
        values = tl.load(source + k, mask=inside).to(packed.dtype.element_ty)
        tap = k * out * into
        tl.store(forward + tap + o[:, None] * into + i[None, :], values, mask=inside)
        tl.store(backward + tap + i[:, None] * out + o[None, :], tl.trans(values), mask=turned)


class Weights(NamedTuple):
    """The weights of a block as the op has them; the last may be None.

    Attributes:
        spatial: [P * C_out, C_in, 1, 1].
        temporal: [C_out, C_out, K, 1].
        residual: [C_out, C_in, 1, 1].
    """

    spatial: Tensor
    temporal: Tensor
    residual: Tensor | None

    def shapes(self) -> list[tuple[int, int, int, int]]:
        """Parts, channels out and in, and taps of each that there is."""
        c_out = len(self.temporal)
        given = [self.spatial, self.temporal, *([] if self.residual is None else [self.residual])]
        return [(len(w) // c_out, c_out, w.shape[1], w.shape[2]) for w in given]


class Packed(NamedTuple):
    """The weights of a block as the kernels take them; those with `_back` are for gradients.

    Attributes:
        spatial: [P, C_out, C_in].
        spatial_back: [P, C_in, C_out].
        temporal: [K, C_out, C_in], C_in being C_out.
        temporal_back: [K, C_in, C_out].
        residual: [1, C_out, C_in], or None.
        residual_back: [1, C_in, C_out], or None.
    """

    spatial: Tensor
    spatial_back: Tensor
    temporal: Tensor
    temporal_back: Tensor
    residual: Tensor | None = None
    residual_back: Tensor | None = None


def pack(blocks: Sequence[Weights], dtype: torch.dtype) -> list[Tensor]:
    """Of each block one tensor, which `unpack` takes apart."""
    weights = [w.contiguous() for block in blocks for w in block if w is not None]
    if len({w.dtype for w in weights}) > 1:
        weights = [w.float() for w in weights]
    shapes, places, sizes, end = [], [], [], 0
    for block in blocks:
        own = [2 * prod(shape) for shape in block.shapes()]
        places += [end + sum(own[:i]) for i in range(len(own))]
        shapes += block.shapes()
        sizes.append(-(-sum(own) // ALIGNED) * ALIGNED)
        end += sizes[-1]
    tiles = [p * triton.cdiv(out, TILE) * triton.cdiv(into, TILE) for p, out, into, _ in shapes]
    parts, out, into, taps = zip(*shapes, strict=True)
    packed = weights[0].new_empty(end, dtype=dtype)
    pack_kernel[sum(tiles),](
        tuple(weights), packed, FIRST=tuple(sum(tiles[:i]) for i in range(len(tiles))),
        AT=tuple(places), PARTS=parts, OUT=out, IN=into, TAPS=taps, COUNT=len(weights), BLOCK=TILE,
    )  # fmt: skip
    return list(packed.split(sizes))


def unpack(packed: Tensor, weights: Weights) -> Packed:
    """What `pack` made of the block with these weights."""
    found, at = [], 0
    for parts, out, into, taps in weights.shapes():
        size = parts * taps * out * into
        for shape in ((parts * taps, out, into), (parts * taps, into, out)):
            found.append(packed[at : at + size].view(shape))
            at += size
    return Packed(*found)

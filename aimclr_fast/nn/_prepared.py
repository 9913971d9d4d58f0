"""What the blocks of an encoder compute with, laid out for all of them at once.

By itself each block stacks its norms' parameters, has its weights laid out and draws its dropout: a
dozen launches of a GPU, some of which take longer than what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast.ops.stgcn_block import pack_weights, words_of

ALIGNED = 16  # words: where the bits of a block start, for loads of whole cache lines


class Prepared(NamedTuple):
    """Of one block.

    Attributes:
        adjacency: [P, V, V], times the edges' importance.
        norms: [n, 2, C], as `functional.stgcn_block` has it.
        running: likewise; None in training.
        packed: its weights by `pack_weights`.
        keep: bits of what its dropout keeps, as `functional.stgcn_block` has them; None where the
            block drops nothing, or draws by itself.
    """

    adjacency: Tensor
    norms: Tensor
    running: Tensor | None
    packed: Tensor
    keep: Tensor | None


def prepare(
    blocks: Sequence[Any], adjacency: Tensor, importance: Sequence[Tensor], x: Tensor
) -> list[Prepared]:
    """For a pass of the map x through these blocks (`STGCNBlock`)."""
    norms = [block.norms() for block in blocks]
    counts = [len(of) for of in norms]
    affine = [p for of in norms for norm in of for p in (norm.weight, norm.bias)]
    laid_out = _Laid.apply(adjacency, counts, *importance, *affine)  # type: ignore[no-untyped-call]
    running: list[Tensor | None] = [None] * len(blocks)
    if not blocks[0].training:
        found = [b for of in norms for norm in of for b in (norm.running_mean, norm.running_var)]
        running = [*_stacked(found, counts)]
    packed = pack_weights([block.weights() for block in blocks], x.dtype)
    keep = _drawn(blocks, x)
    rows = laid_out[: len(blocks)], laid_out[len(blocks) :], running, packed, keep
    return [Prepared(*row) for row in zip(*rows, strict=True)]


def draw_words(count: int, device: torch.device) -> Tensor:
    """So many words of random bits, int64."""
    return torch.empty(count, dtype=torch.int64, device=device).random_(-(2**63), None)


def _drawn(blocks: Sequence[Any], x: Tensor) -> list[Tensor | None]:
    """The bits of each block that takes bits, all of one draw."""
    batch, _, frames, joints = x.shape
    sizes, starts, end = [], [], 0
    for block in blocks:
        frames = -(-frames // block.stride)
        elements = batch * frames * joints * block.temporal.out_channels
        sizes.append(words_of(elements) if block.takes_bits(x) else 0)
        starts.append(end)
        end += -(-sizes[-1] // ALIGNED) * ALIGNED
    if end == 0:
        return [None] * len(blocks)
    words = draw_words(end, x.device)
    each = zip(starts, sizes, strict=True)
    return [words[start : start + size] if size else None for start, size in each]


@torch.no_grad()
def _stacked(rows: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """[n, 2, C] of each block of n norms, in one launch."""
    found, at = [], 0
    for count in counts:
        found.append(rows[at].new_empty(count, 2, len(rows[at])))
        at += 2 * count
    torch._foreach_copy_([row for of in found for row in of.flatten(0, 1).unbind()], list(rows))
    return found


class _Laid(torch.autograd.Function):
    """Edges times their importance, and norms' parameters stacked: two launches, and one for the
    gradients of all importances. Those of the norms are handed back as they are.
    """

    @staticmethod
    def forward(adjacency: Tensor, counts: list[int], *parameters: Tensor) -> tuple[Tensor, ...]:
        importance, affine = parameters[: len(counts)], parameters[len(counts) :]
        edges = torch._foreach_mul([adjacency] * len(counts), list(importance))
        return *edges, *_stacked(affine, counts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        adjacency, ctx.counts, *_ = inputs
        ctx.save_for_backward(adjacency)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (adjacency,) = ctx.saved_tensors
        edges, stacked = grads[: len(ctx.counts)], grads[len(ctx.counts) :]
        there = [grad for grad in edges if grad is not None]
        times = iter(torch._foreach_mul(there, [adjacency] * len(there)) if there else ())
        affine: list[Tensor | None] = []
        for count, grad in zip(ctx.counts, stacked, strict=True):
            affine += [None] * 2 * count if grad is None else grad.flatten(0, 1).unbind()
        return None, None, *(grad if grad is None else next(times) for grad in edges), *affine

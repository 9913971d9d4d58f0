"""AimCLR: momentum contrast between extremely and normally augmented views of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from aimclr_fast._sections import section
from aimclr_fast.functional import ContrastLosses, queue_contrast
from aimclr_fast.layouts import Layout

from .methods import Method, Parts, Recipe, plain_encoder
from .momentum import MomentumContrast, unit
from .stgcn import SkeletonEncoder

__all__ = ["METHOD", "AimCLR", "AimCLRMethod", "StepOutput"]


ALL = Parts()


class StepOutput(NamedTuple):
    """What one pretraining step yields.

    Attributes:
        loss: info_nce + d3m_weight * (d3m_extreme + d3m_dropped).
        info_nce: of the query rows.
        d3m_extreme: of the extreme view's rows: D3M, or their InfoNCE where D3M is off; 0 without
            the view.
        d3m_dropped: likewise after dropping; 0 without EADM.
        keys: rows [N, D] to enqueue.
        neighbors: what query, extreme and dropped rows mined, [N, 3, topk] indices into the queue.
            Where a row is absent, those of the one before it.
    """

    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor
    keys: Tensor
    neighbors: Tensor


class AimCLR(MomentumContrast):
    """Query encoder, its momentum copy and a queue of keys (paper figure 2).

    Args:
        encoder: query encoder; the key encoder is made from it.
        keep_prob: attention threshold; energy-based dropping (EADM) drops what reaches it.
        d3m_weight: weight of each of the two losses of the extreme view.
        parts: which parts of the method are on.
        options: as `MomentumContrast` takes them: embedding, queue_size, momentum, temperature,
            init, backend.
    """

    def __init__(
        self,
        encoder: SkeletonEncoder,
        *,
        keep_prob: float = 0.7,
        d3m_weight: float = 0.5,
        parts: Parts = ALL,
        **options: Any,
    ) -> None:
        super().__init__(encoder, **options)
        self.keep_prob = keep_prob
        self.d3m_weight = d3m_weight
        self.parts = parts

    def forward(
        self, extreme: Tensor | None, query: Tensor, key: Tensor, topk: int = 0
    ) -> StepOutput:
        """One step's loss from the three views [N, C, T, V, M].

        Moves the key encoder first; call `enqueue(output.keys)` after the backward pass. `topk`
        neighbors of each of the three rows join the positives (0: no mining). Views and
        neighbors that no part asks for are not looked at.
        """
        # The query view goes first, as in the authors' code: batch norm's running statistics see
        # the views in this order.
        with section("forward, query view"):
            query_row = unit(self.query_encoder(query))
        with section("forward, extreme view"):
            extreme_row, dropped_row = self._extreme_rows(extreme, query_row)
        with section("forward, key view"), torch.no_grad():
            self.update_key_encoder()
            key_row = unit(self.key_encoder(key))
        # In float32 whatever the encoders compute in: the products of the losses make logits.
        with section("losses"), torch.autocast(query_row.device.type, enabled=False):
            topk = topk if self.parts.nnm else 0
            losses = self._contrast((query_row, extreme_row, dropped_row), key_row, topk)
        d3m = losses.d3m_extreme + losses.d3m_dropped
        return StepOutput(
            losses.info_nce + self.d3m_weight * d3m,
            losses.info_nce,
            losses.d3m_extreme,
            losses.d3m_dropped,
            key_row,
            losses.neighbors,
        )

    def _extreme_rows(self, view: Tensor | None, query_row: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the extreme view, plain and dropped. For an absent one the row before it stands
        in, without a gradient: it adds nothing to the union of mined neighbors.
        """
        if not self.parts.extreme:
            return query_row.detach(), query_row.detach()
        assert view is not None, "the extreme view is missing"
        if not self.parts.eadm:
            row = unit(self.query_encoder(view))
            return row, row.detach()
        rows = self.query_encoder.forward_with_drop(view, self.keep_prob, backend=self.backend)
        extreme_row, dropped_row = map(unit, rows)
        return extreme_row, dropped_row

    def _contrast(
        self, rows: tuple[Tensor, Tensor, Tensor], key_row: Tensor, topk: int
    ) -> ContrastLosses:
        """The losses of query, extreme and dropped rows; 0 for those of absent parts."""

        def contrast(first: Tensor, second: Tensor, third: Tensor) -> ContrastLosses:
            inputs = (first, second, third, key_row, self.queue, self.temperature, topk)
            return queue_contrast(*inputs, backend=self.backend)

        parts, (query_row, extreme_row, dropped_row) = self.parts, rows
        losses = contrast(query_row, extreme_row, dropped_row)
        if not parts.d3m:  # each in the query's place; the positives, a union, stay the same
            if parts.extreme:
                hard = contrast(extreme_row, query_row, dropped_row)
                losses = losses._replace(d3m_extreme=hard.info_nce)
            if parts.eadm:
                hard = contrast(dropped_row, query_row, extreme_row)
                losses = losses._replace(d3m_dropped=hard.info_nce)
        if not parts.extreme:
            losses = losses._replace(d3m_extreme=torch.zeros_like(losses.info_nce))
        if not parts.eadm:
            losses = losses._replace(d3m_dropped=torch.zeros_like(losses.info_nce))
        return losses


class AimCLRMethod(Method):
    """AimCLR with some of its parts.

    Args:
        summary: one line for people.
        parts: those that are on by default.
    """

    losses: ClassVar[Mapping[str, str]] = {
        "info_nce": "InfoNCE",
        "d3m_extreme": "D3M extreme",
        "d3m_dropped": "D3M dropped",
    }

    def __init__(self, summary: str, parts: Parts) -> None:
        self.summary, self.parts = summary, parts

    def build(self, layout: Layout, recipe: Recipe) -> AimCLR:
        model, parts = recipe.model, self.parts_of(recipe)
        assert parts is not None
        return AimCLR(
            plain_encoder(layout, model),
            embedding=model.embedding,
            queue_size=model.queue_size,
            momentum=model.momentum,
            temperature=model.temperature,
            keep_prob=model.keep_prob,
            d3m_weight=model.d3m_weight,
            parts=parts,
            init=model.init,
            backend=recipe.backend,
        )

    def phase(self, recipe: Recipe, epoch: int) -> int:
        """Neighbors mined in a row."""
        mines = 0 < recipe.optim.mining_epoch <= epoch
        return int(recipe.model.topk) if mines else 0


METHOD = AimCLRMethod("AimCLR (Guo et al., AAAI 2022) with all its parts", ALL)

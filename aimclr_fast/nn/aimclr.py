"""AimCLR: momentum contrast between extremely and normally augmented views of a sequence."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimclr_fast._sections import section
from aimclr_fast.functional import ContrastLosses, queue_contrast

from .methods import METHODS, Parts
from .stgcn import SkeletonEncoder, initialise_small

INITS = ("copy", "official")


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


def _unit(rows: Tensor) -> Tensor:
    """Rows of length one, in float32 at least."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=1)


class AimCLR(nn.Module):
    """Query encoder, its momentum copy and a queue of keys (paper figure 2).

    Args:
        encoder: query encoder; the key encoder is made from it.
        embedding: width D of the encoder's output.
        queue_size: keys K in the queue, stored as rows [K, D] of unit length.
        momentum: the key encoder keeps this share of itself in each step.
        temperature: softmax temperature of all three losses.
        keep_prob: attention at which energy-based dropping (EADM) drops.
        d3m_weight: weight of each of the two losses of the extreme view.
        parts: which parts of the method are on.
        init: "copy" keeps the query encoder's weights and starts the key encoder as its copy
            (MoCo); "official" initialises convolutions and norms of both as ST-GCN does, each
            apart, as the authors' code comes to do.
        backend: backend of the ops.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        encoder: SkeletonEncoder,
        *,
        embedding: int = 128,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        keep_prob: float = 0.7,
        d3m_weight: float = 0.5,
        parts: Parts = METHODS["aimclr"],
        init: str = "copy",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        if queue_size < 1:
            raise ValueError(f"queue_size must be at least 1, got {queue_size}")
        self.query_encoder = encoder
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        if init == "official":
            for module in (self.query_encoder, self.key_encoder):
                module.apply(initialise_small)
        self.momentum = momentum
        self.temperature = temperature
        self.keep_prob = keep_prob
        self.d3m_weight = d3m_weight
        self.parts = parts
        self.backend = backend
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, embedding), dim=1))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))

    @property
    def backend(self) -> str:
        """Backend of the ops; setting it sets that of both encoders' blocks, too."""
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        self._backend = name
        self.query_encoder.backend = name
        self.key_encoder.backend = name

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """Move the key encoder's parameters towards the query encoder's; buffers are its own."""
        torch._foreach_lerp_(
            list(self.key_encoder.parameters()),
            list(self.query_encoder.parameters()),
            1.0 - self.momentum,
        )

    @torch.no_grad()
    def enqueue(self, keys: Tensor, accept: Tensor | None = None) -> None:
        """Overwrite the oldest keys with `keys` [N, D], N at most the queue's size, in place.

        `accept`, a boolean on the device, leaves queue and pointer as they are where it is false.
        """
        size = len(self.queue)
        if len(keys) > size:
            raise ValueError(f"{len(keys)} keys do not fit a queue of {size}")
        places = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % size
        keys = keys.to(self.queue.dtype)
        count: int | Tensor = len(keys)
        if accept is not None:
            keys = torch.where(accept, keys, self.queue[places])
            count = count * accept
        self.queue.index_copy_(0, places, keys)
        self.queue_ptr.add_(count).remainder_(size)

    def forward(
        self, extreme: Tensor | None, query: Tensor, key: Tensor, topk: int = 0
    ) -> StepOutput:
        """One step's loss from the three views [N, C, T, V, M].

        Moves the key encoder first; call `enqueue(output.keys)` after the backward pass. `topk`
        neighbours of each of the three rows join the positives (0: no mining). Views and
        neighbours that no part asks for are not looked at.
        """
        # The query view goes first, as in the authors' code: batch norm's running statistics see
        # the views in this order.
        with section("forward, query view"):
            query_row = _unit(self.query_encoder(query))
        with section("forward, extreme view"):
            extreme_row, dropped_row = self._extreme_rows(extreme, query_row)
        with section("forward, key view"), torch.no_grad():
            self.update_key_encoder()
            key_row = _unit(self.key_encoder(key))
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
        in, without a gradient: it adds nothing to the union of mined neighbours.
        """
        if not self.parts.extreme:
            return query_row.detach(), query_row.detach()
        assert view is not None, "the extreme view is missing"
        if not self.parts.eadm:
            row = _unit(self.query_encoder(view))
            return row, row.detach()
        rows = self.query_encoder.forward_with_drop(view, self.keep_prob, backend=self.backend)
        extreme_row, dropped_row = map(_unit, rows)
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

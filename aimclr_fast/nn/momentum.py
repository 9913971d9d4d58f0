"""Momentum contrast: an encoder, its momentum copy and a queue of keys (MoCo, He et al., 2020)."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aimclr_fast.ops.queue_contrast import enqueue

from .stgcn import SkeletonEncoder, initialise_small

INITS = ("copy", "official")
SHORTEST = 1e-12  # shorter rows become shorter than one; of F.normalize


def unit(rows: Tensor) -> Tensor:
    """Rows of length one, in float32 at least."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)


def units(sets: list[Tensor]) -> list[Tensor]:
    """`unit` of sets of rows [N, D]. On a GPU all at once, with a gradient of few launches, each of
    which takes longer than what it does.
    """
    return units_together(sets) if sets[0].is_cuda else [unit(rows) for rows in sets]


def units_together(sets: list[Tensor]) -> list[Tensor]:
    rows = torch.stack(sets)
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    unit_rows, _ = _Unit.apply(wide)  # type: ignore[no-untyped-call]
    return list(unit_rows.unbind())


class _Unit(torch.autograd.Function):
    """F.normalize of the last axis: PyTorch's own gradient is twice as many launches."""

    @staticmethod
    def forward(rows: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min_(SHORTEST)
        return rows / length, length

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> Tensor | None:
        if grad is None:
            return None
        rows, length = ctx.saved_tensors
        along = (grad * rows).sum(-1, keepdim=True).masked_fill_(length <= SHORTEST, 0.0)
        return torch.addcmul(grad, rows, along, value=-1).div_(length)


class MomentumContrast(nn.Module):
    """Query encoder, its momentum copy and a queue of keys. A method adds the forward pass.

    Args:
        encoder: query encoder; the key encoder is made from it.
        embedding: width D of the encoder's output.
        queue_size: keys K in the queue, stored as rows [K, D] of unit length.
        momentum: fraction of its weights that the key encoder keeps in each step.
        temperature: softmax temperature of the losses.
        init: "copy" keeps the query encoder's weights and starts the key encoder as its copy
            (MoCo); "official" initializes convolutions and norms of both as ST-GCN does,
            separately, as in the authors' code.
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
        if len(keys) > len(self.queue):
            raise ValueError(f"{len(keys)} keys do not fit a queue of {len(self.queue)}")
        enqueue(self.queue, self.queue_ptr, keys, accept, self.backend)

"""The momentum pair with its queue [D, K], and a training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from . import contrast
from .encoder import Encoder


class AimCLR(nn.Module):
    """AimCLR before (`topk` 0) and after nearest-neighbor mining starts.

    `encoder` holds arguments of `Encoder`.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        *,
        embedding: int = 128,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        **encoder: object,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.encoder_q = Encoder(embedding=embedding, **encoder)  # type: ignore[arg-type]
        self.encoder_k = Encoder(embedding=embedding, **encoder)  # type: ignore[arg-type]
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        for parameter in self.encoder_k.parameters():
            parameter.requires_grad = False
        self.register_buffer("queue", normalize(torch.randn(embedding, queue_size), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        pairs = zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True)
        for query, key in pairs:
            key.data = key.data * self.momentum + query.data * (1.0 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        size, start = self.queue.shape[1], int(self.queue_ptr)
        if size % len(keys):
            raise ValueError(f"a queue of {size} is not a multiple of the batch of {len(keys)}")
        self.queue[:, start : start + len(keys)] = keys.T
        self.queue_ptr[0] = (start + len(keys)) % size

    def forward(
        self, extreme: Tensor, query: Tensor, key: Tensor, topk: int = 0
    ) -> contrast.Losses:
        query_row = normalize(self.encoder_q(query), dim=1)
        extreme_row, dropped_row = (
            normalize(row, dim=1) for row in self.encoder_q(extreme, drop=True)
        )
        with torch.no_grad():
            self.update_key_encoder()
            key_row = normalize(self.encoder_k(key), dim=1)
        losses = contrast.losses(
            query_row, extreme_row, dropped_row, key_row, self.queue, self.temperature, topk
        )
        self.enqueue(key_row)
        return losses


class Training:
    """The model with its optimizer; `step` takes one batch as a data loader yields it.

    Args:
        model: what to train.
        device: where.
        half: run the forward pass under bf16 autocast.
        lr: learning rate.
    """

    def __init__(
        self, model: AimCLR, device: torch.device | str, half: bool = False, lr: float = 0.1
    ) -> None:
        self.device = torch.device(device)
        self.half = half
        self.model = model.to(self.device).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4
        )

    def step(self, batch: list[Tensor], topk: int = 0) -> float:
        """Forward, backward, update; returns the loss, which waits for the device."""
        extreme, query, key = (view.float().to(self.device, non_blocking=True) for view in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            losses = self.model(extreme, query, key, topk)
        self.optimizer.zero_grad()
        losses.loss.backward()
        self.optimizer.step()
        return losses.loss.item()

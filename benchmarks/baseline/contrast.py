"""The losses in plain PyTorch: batch x queue logits, distributions and masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor


def logits_of(rows: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """[q.k, q.queue] / temperature, [N, 1+K], against a copy of the queue [D, K].

    The queue is overwritten in place before the backward pass would read it again, hence the copy.
    """
    positive = torch.einsum("nd,nd->n", rows, key).unsqueeze(-1)
    negative = torch.einsum("nd,dk->nk", rows, queue.clone().detach())
    logits = torch.cat([positive, negative], dim=1)
    logits /= temperature
    return logits


def neighbor_mask(logits: Tensor, topk: int) -> Tensor:
    """1 at the `topk` keys of the queue nearest to each row, [N, 1+K]; column 0 stays 0."""
    _, nearest = torch.topk(logits[:, 1:], topk, dim=1)
    return torch.zeros_like(logits).scatter_(1, nearest + 1, 1.0)


def losses(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
) -> Losses:
    """InfoNCE with mined positives and both D3M losses; rows [N, D], queue [D, K]."""
    rows = (query, extreme, dropped)
    logits, logits_extreme, logits_dropped = (
        logits_of(row, key, queue, temperature) for row in rows
    )
    probability = torch.softmax(logits, dim=1)
    probability_extreme = torch.softmax(logits_extreme, dim=1)
    probability_dropped = torch.softmax(logits_dropped, dim=1)

    positives = torch.zeros_like(logits)
    positives[:, 0] = 1.0
    if topk > 0:
        for each in (logits, logits_extreme, logits_dropped):
            positives += neighbor_mask(each.detach(), topk)
        positives.clamp_(max=1.0)  # a union

    teacher = probability.detach()
    log_probability = torch.log(probability)
    info_nce = -((log_probability * positives).sum(1) / positives.sum(1)).mean()
    d3m_extreme = -(teacher * torch.log(probability_extreme)).sum(1).mean()
    d3m_dropped = -(teacher * torch.log(probability_dropped)).sum(1).mean()
    loss = info_nce + (d3m_extreme + d3m_dropped) / 2
    return Losses(loss, info_nce, d3m_extreme, d3m_dropped)

"""The three losses over a queue of keys: InfoNCE with mined positives, and D3M twice.

Paper sections 3.4 (distribution divergence, equations 8 and 9) and 3.5 (nearest-neighbor mining,
equations 10 and 11).
"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbors(rows: Tensor, queue: Tensor, topk: int) -> Tensor:
    """Indices [N, topk] of the keys most similar to each row; ties go to the lower index."""
    if topk == 0:
        return torch.zeros((len(rows), 0), dtype=torch.int64, device=rows.device)
    return torch.sort(rows @ queue.T, dim=1, descending=True, stable=True).indices[:, :topk]


def positive_mask(neighbors: Tensor, num_keys: int) -> Tensor:
    """Positives [N, 1+K] as 0/1: the key itself in column 0, and the union of the neighbors."""
    mask = torch.zeros((len(neighbors), 1 + num_keys), device=neighbors.device)
    mask[:, 0] = 1.0
    return mask.scatter_(1, 1 + neighbors.flatten(1), 1.0)


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses (InfoNCE, D3M of the extreme view, D3M of the dropped view) and neighbors.

    Rows [N, D] and queue [K, D] are taken as given (unit rows in training). The query's
    distribution teaches the other two and gets no gradient from them, nor do the keys from any.
    Neighbors are [N, 3, topk] indices into the queue, mined by query, extreme and dropped rows.
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    query, extreme, dropped = query.to(dtype), extreme.to(dtype), dropped.to(dtype)
    key, queue = key.detach().to(query.dtype), queue.detach().to(query.dtype)

    def log_probabilities(rows: Tensor) -> Tensor:
        positive = (rows * key).sum(1, keepdim=True)
        return torch.log_softmax(torch.cat([positive, rows @ queue.T], 1) / temperature, dim=1)

    with torch.no_grad():
        neighbors = torch.stack(
            [nearest_neighbors(rows, queue, topk) for rows in (query, extreme, dropped)], dim=1
        )
        positives = positive_mask(neighbors, len(queue)).to(query.dtype)

    log_p = log_probabilities(query)
    teacher = log_p.detach().exp()
    info_nce = -((log_p * positives).sum(1) / positives.sum(1)).mean()
    d3m_extreme = -(teacher * log_probabilities(extreme)).sum(1).mean()
    d3m_dropped = -(teacher * log_probabilities(dropped)).sum(1).mean()
    return info_nce, d3m_extreme, d3m_dropped, neighbors

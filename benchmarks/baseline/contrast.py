"""The losses in plain PyTorch: batch x queue logits, distributions and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aimclr_fast.functional import Term


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


def losses_of_sets(
    rows: Sequence[Sequence[Tensor]],
    keys: Sequence[Sequence[Tensor]],
    queues: Sequence[Tensor],
    terms: Sequence[Term],
    temperature: float = 0.07,
    topk: int = 0,
    votes: int = 0,
) -> list[Tensor]:
    """Losses of R sets of rows [N, D] in each of S streams, one after the other; queues [D, K].

    What a set learns is a Term, which names its key.
    """
    logits = [
        [logits_of(row, own[term.key or 0], queue, temperature)
         for row, term in zip(sets, terms, strict=True)]
        for sets, own, queue in zip(rows, keys, queues, strict=True)
    ]  # fmt: skip
    found = []
    masks = positive_masks(logits, terms, topk, votes)
    for sets, of_stream, positives in zip(rows, logits, masks, strict=True):
        probabilities = []
        for row, own, term in zip(sets, of_stream, terms, strict=True):
            if term.negative is not None:
                other = sets[term.negative].detach()
                more = torch.einsum("nd,nd->n", row, other).unsqueeze(-1) / temperature
                own = torch.cat([own, more.to(own.dtype)], dim=1)
            probabilities.append(torch.softmax(own, dim=1))
        for probability, term in zip(probabilities, terms, strict=True):
            log = torch.log(probability)
            if term.teacher is not None:
                teacher = probabilities[term.teacher].detach()
                found.append(-(teacher * log).sum(1).mean())
            elif term.positives:
                found.append(-((log * positives).sum(1) / positives.sum(1)).mean())
            else:
                found.append(-log[:, 0].mean())
    return found


def positive_masks(
    logits: Sequence[Sequence[Tensor]], terms: Sequence[Term], topk: int, votes: int
) -> list[Tensor]:
    """The key and the union of what the sets of a stream mine; with votes, what streams share."""
    miners = [at for at, term in enumerate(terms) if term.mines and topk > 0]
    counts = []
    for of_stream in logits:
        count = torch.zeros_like(of_stream[0])
        for at in miners:
            count += neighbor_mask(of_stream[at].detach(), topk)
        counts.append(count)
    if votes:
        agreed = torch.stack([count == len(miners) for count in counts]).sum(0) >= votes
        counts = [agreed.to(counts[0].dtype)] * len(counts)
    masks = [count.clamp(max=1.0) for count in counts]
    for mask in masks:
        mask[:, 0] = 1.0
    return masks

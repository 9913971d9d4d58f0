"""Losses over a queue of keys: InfoNCE with mined positives, and distribution matching (D3M).

AimCLR (Guo et al., AAAI 2022), sections 3.4 (distribution divergence, equations 8 and 9) and 3.5
(nearest-neighbor mining, equations 10 and 11), and what later methods make of them: other teachers
(HiCLR), one more negative (SkeleMixCLR), votes of several streams (AimCLR++).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Term(NamedTuple):
    """What one set of rows learns; there is a set for each encoded view.

    Attributes:
        teacher: index of the set whose softmax teaches it (D3M), without a gradient. None: its
            loss is InfoNCE.
        negative: index of the set whose row of the same sample is one more negative, without a
            gradient.
        mines: its nearest neighbors in the queue join the positives.
        positives: InfoNCE is over the key and the positives. False: over the key alone.
        key: index of its key among those of the stream. None: the one that there is, or, where
            there are as many keys as sets, that of its own index.
    """

    teacher: int | None = None
    negative: int | None = None
    mines: bool = False
    positives: bool = True
    key: int | None = None


#: What AimCLR's query, extreme and dropped rows learn.
AIMCLR = (Term(mines=True), Term(teacher=0, mines=True), Term(teacher=0, mines=True))


def key_indices(terms: Sequence[Term], keys: int) -> list[int]:
    """The index of each set's key among the `keys` of a stream.

    Raises:
        ValueError: a term names no key, and the number of keys does not say which it is.
    """
    if keys not in (1, len(terms)) and any(term.key is None for term in terms):
        raise ValueError(
            f"keys must be one a stream or {len(terms)}, one a set, got {keys}: "
            "for another number each term names its key"
        )
    own = range(len(terms)) if keys > 1 else [0] * len(terms)
    return [at if term.key is None else term.key for term, at in zip(terms, own, strict=True)]


def enqueue(queue: Tensor, pointer: Tensor, keys: Tensor, accept: Tensor | None = None) -> None:
    """Overwrite rows of queue [K, D] with keys [N, D], N at most K, in place.

    They go where `pointer`, an int64 [1], says and after it, from the end on to the start; it moves
    on by N. Nothing changes where `accept`, a boolean of one element, is false.
    """
    size = len(queue)
    places = (pointer + torch.arange(len(keys), device=keys.device)) % size
    keys = keys.to(queue.dtype)
    count: int | Tensor = len(keys)
    if accept is not None:
        keys = torch.where(accept, keys, queue[places])
        count = count * accept
    queue.index_copy_(0, places, keys)
    pointer.add_(count).remainder_(size)


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


def voted_mask(neighbors: Tensor, num_keys: int, votes: int) -> Tensor:
    """Positives [N, 1+K] of all streams: the key itself, and what `votes` streams agree on.

    neighbors [S, N, miners, topk]: a stream votes for what all its miners have found.
    """
    streams, n, miners, _ = neighbors.shape
    indices = neighbors.flatten(2)
    found = torch.zeros((streams, n, num_keys), dtype=torch.int64, device=neighbors.device)
    found.scatter_add_(2, indices, torch.ones_like(indices))
    agreed = (found == miners).sum(0) >= votes
    return torch.nn.functional.pad(agreed.float(), (1, 0), value=1.0)


def positive_masks(neighbors: Tensor, sizes: Sequence[int], votes: int) -> list[Tensor]:
    """Positives [N, 1+K] of each stream; `neighbors` [S, N, miners, topk], K as `sizes` say."""
    if votes:
        return [voted_mask(neighbors, sizes[0], votes)] * len(sizes)
    return [positive_mask(found, size) for found, size in zip(neighbors, sizes, strict=True)]


def logits(
    rows: Tensor, key: Tensor, queue: Tensor, temperature: float, negative: Tensor | None = None
) -> Tensor:
    """Logits [N, 1+K] of rows over their key and the queue; one column more for `negative`."""
    similarities = [(rows * key).sum(1, keepdim=True), rows @ queue.T]
    if negative is not None:
        similarities.append((rows * negative).sum(1, keepdim=True))
    return torch.cat(similarities, 1) / temperature


def losses_of(
    rows: Tensor,
    keys: Tensor,
    queue: Tensor,
    terms: Sequence[Term],
    positives: Tensor,
    temperature: float,
) -> Tensor:
    """The losses [R] of one stream: rows [R, N, D], keys [P, N, D], positives [N, 1+K]."""
    log_p = []
    for at, (term, key) in enumerate(zip(terms, key_indices(terms, len(keys)), strict=True)):
        negative = None if term.negative is None else rows[term.negative].detach()
        log_p.append(logits(rows[at], keys[key], queue, temperature, negative).log_softmax(1))
    losses = []
    for own, term in zip(log_p, terms, strict=True):
        if term.teacher is not None:
            losses.append(-(log_p[term.teacher].detach().exp() * own).sum(1).mean())
        elif term.positives:
            chosen = (own[:, : positives.shape[1]] * positives).sum(1)
            losses.append(-(chosen / positives.sum(1)).mean())
        else:
            losses.append(-own[:, 0].mean())
    return torch.stack(losses)


def queue_losses(
    rows: Tensor,
    keys: Tensor,
    queues: Sequence[Tensor],
    terms: Sequence[Term],
    temperature: float = 0.07,
    topk: int = 0,
    votes: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [S, R], neighbors [S, N, miners, topk] and numbers of positives [S, N].

    rows [S, R, N, D] and keys [S, P, N, D] of S streams, whose queues are [K, D], are taken as
    given (unit rows in training); a term says what a set of rows learns. Teachers, negatives, keys
    and queues get no gradient. Without `votes` a stream's positives are the key and the union of
    its miners' neighbors; with them see `voted_mask`.
    """
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    rows, keys = rows.to(dtype), keys.detach().to(dtype)
    queues = [queue.detach().to(dtype) for queue in queues]
    with torch.no_grad():
        n, miners = rows.shape[2], [at for at, term in enumerate(terms) if term.mines]
        neighbors = rows.new_empty((len(queues), n, len(miners), topk), dtype=torch.int64)
        for stream, queue in enumerate(queues):
            for place, at in enumerate(miners):
                neighbors[stream, :, place] = nearest_neighbors(rows[stream, at], queue, topk)
        masks = positive_masks(neighbors, [len(queue) for queue in queues], votes)
    streams = zip(rows, keys, queues, masks, strict=True)
    losses = [
        losses_of(sets, own, queue, terms, mask.to(dtype), temperature)
        for sets, own, queue, mask in streams
    ]
    counts = torch.stack([mask.sum(1).to(torch.int64) for mask in masks])
    return torch.stack(losses), neighbors, counts


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """AimCLR's: losses (InfoNCE, D3M of the extreme view, D3M of the dropped view), neighbors.

    Rows [N, D] and queue [K, D] are taken as given (unit rows in training). The query's
    distribution teaches the other two and gets no gradient from them, nor do the keys from any.
    Neighbors are [N, 3, topk] indices into the queue, mined by query, extreme and dropped rows.
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    rows = torch.stack([row.to(dtype) for row in (query, extreme, dropped)])
    losses, neighbors, _ = queue_losses(
        rows[None], key[None, None], [queue], AIMCLR, temperature, topk
    )
    info_nce, d3m_extreme, d3m_dropped = losses[0].unbind()
    return info_nce, d3m_extreme, d3m_dropped, neighbors[0]

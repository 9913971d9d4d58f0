"""Exact nearest neighbors under cosine, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor


def nearest(
    queries: Tensor,
    gallery: Tensor | npt.NDArray[Any],
    k: int,
    *,
    exclude: Tensor | None = None,
    unit: bool = False,
    block: int = 1024,
    gallery_block: int = 65536,
) -> tuple[Tensor, Tensor]:
    """The `k` rows of `gallery` [S, F] most similar to each of `queries` [Q, F] under cosine.

    Args:
        queries: [Q, F].
        gallery: [S, F]; an array, such as a mapped file, is copied a block at a time if `unit`.
        k: at most S, or S - 1 with `exclude`.
        exclude: for each query a row of the gallery to ignore, [Q].
        unit: whether rows of both have length 1 already.
        block: queries at a time.
        gallery_block: rows of the gallery at a time; no [Q, S] matrix is kept.

    Returns:
        Similarities and row numbers, [Q, k] each, most similar first.
    """
    if not unit:
        queries, gallery = F.normalize(queries, dim=1), F.normalize(torch.as_tensor(gallery), dim=1)
    similarity = queries.new_empty(len(queries), k)
    index = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    for first in range(0, len(queries), block):
        rows = slice(first, first + block)
        here = queries[rows]
        best = best_index = here.new_empty(len(here), 0)
        for start in range(0, len(gallery), gallery_block):
            part = gallery[start : start + gallery_block]
            if not isinstance(part, Tensor):
                part = torch.from_numpy(np.array(part))
            products = here @ part.T
            if exclude is not None:
                own = exclude[rows] - start
                inside = ((own >= 0) & (own < products.shape[1])).nonzero()[:, 0]
                products[inside, own[inside]] = -torch.inf
            values, columns = _largest(products, min(k, products.shape[1]))
            if start:  # merge with the best of earlier blocks
                merged = torch.cat([best, values], 1)
                values, order = _largest(merged, min(k, merged.shape[1]))
                columns = torch.cat([best_index, columns + start], 1).gather(1, order)
            best, best_index = values, columns
        similarity[rows], index[rows] = best, best_index
    return similarity, index


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns, [Q, k] each."""
    if k != 1:
        values, columns = x.topk(k, dim=1)
    else:  # several times as fast
        values, columns = x.max(dim=1, keepdim=True)
    return values, columns

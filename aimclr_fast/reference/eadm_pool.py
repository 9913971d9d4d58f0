"""Energy-based attention-guided drop and pooling (paper section 3.3, equations 4 to 7)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SumOverRanks = Callable[[Tensor], Tensor]


def attention(x: Tensor, e_lambda: float = 1e-4) -> Tensor:
    """Energy-based attention in (0, 1) of a feature map [B, C, T, V], per sample and channel."""
    elements = x.shape[2] * x.shape[3]
    distance = (x - x.mean((2, 3), keepdim=True)).square()
    # A single position has no variance; dividing by one keeps its attention at sigmoid(0.5).
    variance = distance.sum((2, 3), keepdim=True) / max(elements - 1, 1)
    return torch.sigmoid(distance / (4.0 * (variance + e_lambda)) + 0.5)


def drop_scale(
    attention_map: Tensor, keep_prob: float, over_ranks: SumOverRanks | None = None
) -> Tensor:
    """What the map is multiplied by: 0 where dropped, the two batch-wide rescalings elsewhere.

    A joint is dropped when its mean attention over channels and time reaches `keep_prob`, an
    element when its own does. If everything is dropped the scale is 0 rather than 0/0. With
    `over_ranks`, which sums over processes, the rescalings are those of the batches of all.
    """
    joint_kept = (attention_map.mean((1, 2), keepdim=True) < keep_prob).to(attention_map.dtype)
    element_kept = (attention_map < keep_prob).to(attention_map.dtype)
    joint_scale, element_scale = (
        _rescaling(kept, over_ranks) for kept in (joint_kept, element_kept)
    )
    return joint_kept * joint_scale * element_kept * element_scale


def _rescaling(kept: Tensor, over_ranks: SumOverRanks | None) -> Tensor:
    if over_ranks is None:
        return kept.numel() / kept.sum().clamp(min=1)
    counts = over_ranks(torch.stack([kept.new_tensor(kept.numel()), kept.sum()]).double())
    return (counts[0] / counts[1].clamp(min=1)).to(kept.dtype)


def eadm_drop(
    x: Tensor,
    keep_prob: float = 0.7,
    e_lambda: float = 1e-4,
    over_ranks: SumOverRanks | None = None,
) -> Tensor:
    """The dropped feature map [B, C, T, V]; the masks carry no gradient."""
    return x * drop_scale(attention(x.detach(), e_lambda), keep_prob, over_ranks)


def eadm_pool(
    x: Tensor,
    keep_prob: float = 0.7,
    e_lambda: float = 1e-4,
    over_ranks: SumOverRanks | None = None,
) -> tuple[Tensor, Tensor]:
    """Means over time and joints of the map and of its dropped copy, each [B, C].

    Half-precision maps are pooled in float32, and float32 is what comes back.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    return x.mean((2, 3)), eadm_drop(x, keep_prob, e_lambda, over_ranks).mean((2, 3))

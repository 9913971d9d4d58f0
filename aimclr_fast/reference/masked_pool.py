"""Means of a feature map over a region and over the rest (SkeleMixCLR's trimmed and truncated)."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_pool(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Means of a map [B, C, T, V] over `mask` [T, V] and over its complement, each [B, C].

    Half-precision maps are pooled in float32, and float32 is what comes back. The mean over
    nothing is NaN.
    """
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()

    def mean(chosen: Tensor) -> Tensor:
        # By a choice and not by a product, which would spread what is not finite.
        return torch.where(chosen, features, 0.0).sum((2, 3)) / chosen.sum()

    return mean(mask), mean(~mask)

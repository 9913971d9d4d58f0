"""Features centered or standardized, as training features say."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALES = ("none", "center", "standardize")


class Scaling(NamedTuple):
    """What is subtracted from each feature, and what it is divided by then; float64 [F] each."""

    mean: Tensor
    deviation: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Scaled features [N, F]."""
        return ((features.double() - self.mean) / self.deviation).to(features.dtype)


def fit_scaling(train: Tensor, scale: str = "standardize") -> Scaling:
    """The scaling that gives training features [S, F] mean 0 ("center") and deviation 1, too
    ("standardize"); "none" leaves them as they are.
    """
    # In float64: a mean may be a thousand times the deviation, and its rounding then shows.
    rows = train.double()
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    if scale == "none":
        return Scaling(torch.zeros_like(mean), torch.ones_like(mean))
    if scale == "center":
        return Scaling(mean, torch.ones_like(mean))
    # A feature that hardly varies must not be blown up to matter as much as the others.
    return Scaling(mean, deviation.clamp(min=max(1e-3 * float(deviation.max()), 1e-12)))

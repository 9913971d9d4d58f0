"""Preprocessing as part of the network, for graphs that take recordings as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import EmbeddingModel


class FromRecordings(nn.Module):
    """An encoder behind its preprocessing: `aimclr_fast.data.preprocess` of recordings in which
    nothing is missing.

    Args:
        model: which knows how its training data were preprocessed.

    Shapes: positions [N, 3, T, V, M] in meters, y up -> what `model` gives. A body that is absent
    is zero in all frames. A missing joint or frame has to be filled before.

    Raises:
        ValueError: the model does not know its preprocessing.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        if model.traits.preprocessing is None:
            raise ValueError("how the encoder's training data were preprocessed is not known")
        self.model = model
        self.steps = model.traits.preprocessing
        layout = model.encoder.backbone.layout
        self.center = layout.center
        turned = self.steps.rotate != "none"
        self.shoulders = layout.shoulders if turned else None

    def forward(self, positions: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = positions
        if self.steps.normalize == "sequence":
            x = self._whole(x)
        else:
            x = x - x[:, :, :, self.center : self.center + 1]
        if self.steps.frames is not None:
            n, _, _, joints, bodies = x.shape
            # Half-pixel positions, as `resize_time` has them.
            rows = x.permute(0, 1, 3, 4, 2).flatten(1, 3)
            rows = F.interpolate(rows, self.steps.frames, mode="linear", align_corners=False)
            x = rows.reshape(n, 3, joints, bodies, self.steps.frames).permute(0, 1, 4, 2, 3)
        if self.shoulders is not None and self.steps.normalize != "sequence":
            left, right = self.shoulders
            across = x[:, :, :, right] - x[:, :, :, left]  # [N, 3, T, M]
            x = self._turned(x, across[:, 0, :, None], across[:, 2, :, None])
        found: Tensor | tuple[Tensor, Tensor] = self.model(x)
        return found

    def _whole(self, x: Tensor) -> Tensor:
        """Moved and turned by the first frame of the first body; absent bodies stay zero."""
        there = (x != 0).any(3, keepdim=True).any(2, keepdim=True).any(1, keepdim=True)
        moved = x - x[:, :, :1, self.center : self.center + 1, :1]
        if self.shoulders is not None:
            left, right = self.shoulders
            across = x[:, :, :1, right : right + 1, :1] - x[:, :, :1, left : left + 1, :1]
            moved = _turn(moved, *_exact(across[:, 0], across[:, 2]))
        return torch.where(there, moved, 0.0)

    def _turned(self, x: Tensor, dx: Tensor, dz: Tensor) -> Tensor:
        """Each frame of each body by its own angle."""
        if self.steps.rotate == "exact":
            return _turn(x, *_exact(dx, dz))
        # As published: the angle from a cosine, and one direction for a whole sequence.
        cos = dx / ((dx * dx + dz * dz).sqrt() + 1e-4)
        direction = torch.where(dz.sum(1, keepdim=True) < 0, -1.0, 1.0)
        return _turn(x, cos, direction * (1 - cos * cos).clamp(min=0).sqrt())


def _exact(dx: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of (dx, dz); that of nothing is 0."""
    length = (dx * dx + dz * dz).sqrt()
    some = length > 0
    length = torch.where(some, length, 1.0)
    return torch.where(some, dx / length, 1.0), torch.where(some, dz / length, 0.0)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """X [N, 3, T, V, M] about y; cosine and sine broadcast with [N, T, V, M]."""
    return torch.stack([cos * x[:, 0] + sin * x[:, 2], x[:, 1], cos * x[:, 2] - sin * x[:, 0]], 1)

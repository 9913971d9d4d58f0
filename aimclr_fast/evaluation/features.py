"""Frozen features of many sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from aimclr_fast.functional import AugmentParams, apply_augment
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.ops.skeleton_augment import MILLIMETRE


def in_metres(sequences: Tensor) -> Tensor:
    """Stored sequences as float32 metres; integers are millimetres."""
    scale = 1.0 if sequences.is_floating_point() else MILLIMETRE
    return sequences.float() * scale


@torch.no_grad()
def encode(
    encoder: SkeletonEncoder,
    data: Tensor,
    *,
    stream: str = "joint",
    batch_size: int = 256,
    backend: str = "auto",
) -> Tensor:
    """Features [S, F] of `data` [S, 3, T, V, M] (metres or int16 millimetres), not augmented.

    The encoder runs in eval mode and is left in the mode it was in.
    """
    was_training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    features = []
    for batch in data.split(batch_size):
        x = apply_augment(
            in_metres(batch.to(device)),
            AugmentParams(),
            layout=encoder.backbone.layout,
            stream=stream,
            backend=backend,
        )
        features.append(encoder.features(x).float())
    encoder.train(was_training)
    if not features:
        return torch.zeros(0, encoder.backbone.features, device=device)
    return torch.cat(features)


def raw_poses(data: Tensor, frames: int = 24) -> Tensor:
    """`data` [S, 3, T, V, M] as vectors of coordinates at `frames` evenly spaced frames."""
    picked = torch.linspace(0, data.shape[2] - 1, frames).round().long().to(data.device)
    return in_metres(data[:, :, picked]).flatten(1)

"""Frozen features of many sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from aimclr_fast.functional import AugmentParams, apply_augment
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.readouts import PUBLISHED, readout_width
from aimclr_fast.ops.skeleton_augment import MILLIMETER


def in_meters(sequences: Tensor) -> Tensor:
    """Stored sequences as float32 meters; integers are millimeters."""
    scale = 1.0 if sequences.is_floating_point() else MILLIMETER
    return sequences.float() * scale


@torch.no_grad()
def encode(
    encoder: SkeletonEncoder,
    data: Tensor,
    index: Tensor | None = None,
    *,
    stream: str = "joint",
    pool: str = PUBLISHED,
    batch_size: int = 256,
    backend: str = "auto",
) -> Tensor:
    """Features [N, F] of rows `index` [N] (None: all) of `data`, not augmented, by a readout.

    `data` is [S, 3, T, V, M], in meters or int16 millimeters, in any memory. The encoder runs in
    eval mode and is left in the mode it was in.

    Raises:
        ValueError: an unknown readout, or parts of a layout that has none.
    """
    backbone = encoder.backbone
    width = readout_width(pool, backbone.features, backbone.layout)
    was_training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    features = []
    for rows in _all_rows(data, index).split(batch_size):
        x = apply_augment(
            in_meters(data[rows].to(device)),
            AugmentParams(),
            layout=backbone.layout,
            stream=stream,
            backend=backend,
        )
        features.append(encoder.features(x, pool).float())
    encoder.train(was_training)
    if not features:
        return torch.zeros(0, width, device=device)
    return torch.cat(features)


def raw_poses(data: Tensor, index: Tensor | None = None, frames: int = 24) -> Tensor:
    """Rows of `data` [S, 3, T, V, M] as vectors of coordinates at evenly spaced frames."""
    picked = torch.linspace(0, data.shape[2] - 1, frames).round().long().to(data.device)
    rows = _all_rows(data, index)
    return in_meters(data[rows[:, None], :, picked[None]]).flatten(1)


def _all_rows(data: Tensor, index: Tensor | None) -> Tensor:
    return torch.arange(len(data), device=data.device) if index is None else index.to(data.device)

"""Frozen features of many sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.readers import FLAT_LAYOUTS
from aimclr_fast.functional import AugmentParams, apply_augment
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.precision import autocast
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
    precision: str = "fp32",
) -> Tensor:
    """Features [N, F] of rows `index` [N] (None: all) of `data`, not augmented, by a readout.

    `data` is [S, 3, T, V, M], in meters or int16 millimeters, in any memory. The encoder runs in
    eval mode, its maps in a precision, and is left in the mode it was in.

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
        with autocast(precision, device):
            found = encoder.features(x, pool)
        features.append(found.float())
    encoder.train(was_training)
    if not features:
        return torch.zeros(0, width, device=device)
    return torch.cat(features)


def raw_poses(
    data: Tensor, index: Tensor | None = None, frames: int = 24, *, align: Layout | None = None
) -> Tensor:
    """Rows of `data` [S, 3, T, V, M] as vectors of coordinates at evenly spaced frames.

    Where the skeleton is given as `align`, each sequence is turned about y by one angle, so that
    the vector from left to right, its mean over the first body's shoulders and hips
    (`Layout.sides`) and over all frames, lies along x.
    """
    picked = torch.linspace(0, data.shape[2] - 1, frames).round().long().to(data.device)
    rows = _all_rows(data, index)
    poses = in_meters(data[rows[:, None], :, picked[None]])  # [N, frames, 3, V, M]
    if align is not None:
        dx, _, dz = _left_to_right(data, rows, align).unbind(1)
        # From the vector and not from its angle; where it is zero, nothing is turned.
        length = torch.hypot(dx, dz)
        cos = torch.where(length > 0, dx / length, 1.0)[:, None, None, None]
        sin = torch.where(length > 0, dz / length, 0.0)[:, None, None, None]
        x, y, z = poses.unbind(2)
        poses = torch.stack((cos * x + sin * z, y, cos * z - sin * x), 2)
    return poses.flatten(1)


def can_be_aligned(layout: Layout, preprocessing: Preprocessing | None) -> bool:
    """Whether `raw_poses` can align sequences that preprocessing is known not to have turned.

    Poses of images have no angle, and a layout may not tell left from right.
    """
    if preprocessing is None or layout.name in FLAT_LAYOUTS or not layout.sides:
        return False
    return preprocessing.rotate == "none" or layout.shoulders is None


def _left_to_right(data: Tensor, rows: Tensor, layout: Layout) -> Tensor:
    """Vector [N, 3] from left to right, in meters; frames that are absent, zeros, add nothing."""
    left, right = torch.tensor(layout.sides, device=data.device).T
    first = data[..., 0]
    across = [in_meters(first[rows[:, None], :, :, side[None]]) for side in (left, right)]
    return (across[1] - across[0]).mean((1, 3))  # of [N, pairs, 3, T]


def _all_rows(data: Tensor, index: Tensor | None) -> Tensor:
    return torch.arange(len(data), device=data.device) if index is None else index.to(data.device)

"""EADM in plain PyTorch: every intermediate of equations 4 to 7 is a map of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def drop(x: Tensor, keep_prob: float = 0.7, e_lambda: float = 1e-4) -> Tensor:
    """The dropped map of [B, C, T, V], rescaled as DropBlock is."""
    _, _, frames, joints = x.shape
    distance = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
    variance = distance.sum(dim=[2, 3], keepdim=True) / (frames * joints - 1)
    energy = distance / (4 * (variance + e_lambda)) + 0.5
    attention = torch.sigmoid(energy)

    of_joint = attention.mean(dim=[1, 2], keepdim=True)
    joint_mask = torch.where(of_joint < keep_prob, torch.ones_like(of_joint), 0.0)
    element_mask = torch.where(attention < keep_prob, torch.ones_like(attention), 0.0)
    x = x * joint_mask * joint_mask.numel() / joint_mask.sum()
    return x * element_mask * element_mask.numel() / element_mask.sum()


def eadm_pool(x: Tensor, keep_prob: float = 0.7, e_lambda: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Means over frames and joints of the map [B, C, T, V] and of the dropped map."""
    dropped = drop(x, keep_prob, e_lambda)
    pool = torch.nn.functional.avg_pool2d
    return pool(x, x.shape[2:]).flatten(1), pool(dropped, x.shape[2:]).flatten(1)

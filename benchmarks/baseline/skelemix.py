"""SkeleMix in plain PyTorch: a copy of the batch, and body parts of another row written into it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mixed(query: Tensor, shift: int, joints: Tensor, begin: int, end: int) -> Tensor:
    """The sequences [N, 3, T, V, M], each with the `joints` of row i + shift in frames begin..end.

    Args:
        query: the sequences.
        shift: how many rows away the partner is.
        joints: indices of the joints that are replaced.
        begin: first frame of those.
        end: the frame after the last.
    """
    partner = query.roll(-shift, 0)
    found = query.clone()
    found[:, :, begin:end].index_copy_(3, joints, partner[:, :, begin:end].index_select(3, joints))
    return found


def to_stream(joint: Tensor, stream: str, parents: Tensor) -> Tensor:
    """The sequences as they are, as differences in time, or as bones."""
    if stream == "motion":
        return torch.cat([joint[:, :, 1:] - joint[:, :, :-1], joint[:, :, :1] * 0], dim=2)
    return joint - joint[:, :, :, parents] if stream == "bone" else joint


def skelemix(
    query: Tensor,
    draws: Sequence[tuple[int, Tensor, int, int]],
    streams: Sequence[str],
    parents: Tensor,
) -> list[Tensor]:
    """Views [R, N, 3, T, V, M] of each stream; a mix's draws are those that `mixed` takes."""
    joint = [mixed(query, *draw) for draw in draws]
    return [torch.stack([to_stream(x, stream, parents) for x in joint]) for stream in streams]

"""Joints that a masked view hides (HiCLR)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aimclr_fast.ops.philox import philox4x32
from aimclr_fast.reference.philox import split_seed, uniform

from .methods import Sampled

_PURPOSE = 0x20000  # of the draws, in the last word of the counter; others are below


def random_words(purpose: int, seed: int, turn: int | Tensor, places: Tensor, count: int) -> Tensor:
    """Random words [N, count] of N places in a step or epoch.

    Args:
        purpose: of the draws, the last word of the counter.
        seed: of the run.
        turn: the step or epoch.
        places: int64 [N].
        count: words of each place.
    """
    blocks = -(-count // 4)
    counter = places.new_zeros((len(places), blocks, 4))
    counter[..., 0] = torch.arange(blocks, device=places.device)
    counter[..., 1] = turn
    counter[..., 2] = places[:, None]
    counter[..., 3] = purpose
    return philox4x32(counter, split_seed(seed)).flatten(1)[:, :count]


def draw_hidden(config: Any, batch: Sampled, seed: int) -> Tensor:
    """Which joints are hidden: in each frame as many, drawn uniformly.

    Args:
        config: `share` of the joints, rounded down but at least one, and whether each sample has
            draws of its own (`per_sample`) or the batch shares them.
        batch: the sequences; draws are counted by its step and place in the global batch.
        seed: of the draws.

    Returns:
        Booleans [N or 1, 1, T, V, 1], true where hidden.
    """
    _, _, frames, joints, _ = batch.data.shape
    device = batch.index.device
    places = torch.arange(len(batch.index) if config.per_sample else 1, device=device)
    if config.per_sample:
        places = batch.offset + places
    words = random_words(_PURPOSE, seed, batch.step, places, frames * joints)
    draws = uniform(words).view(len(places), 1, frames, joints, 1)
    rank = draws.argsort(dim=3, stable=True).argsort(dim=3, stable=True)
    return rank < max(1, int(config.share * joints))

"""Learning rate and mining as functions of the place in training."""

from __future__ import annotations

from aimclr_fast._schedule import learning_rate

from .config import OptimConfig

__all__ = ["learning_rate", "mines"]


def mines(optim: OptimConfig, epoch: int) -> bool:
    """Whether epoch `epoch` (from 1) mines neighbours."""
    return 0 < optim.mining_epoch <= epoch

"""Learning rate and mining as functions of the place in training."""

from __future__ import annotations

import math

from .config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of step `step` (from 0). Warm-up and cosine move every step, milestones every epoch."""
    epochs_done = step / steps_per_epoch
    warmup = 1.0
    if epochs_done < optim.warmup_epochs:
        warmup = (step + 1) / (optim.warmup_epochs * steps_per_epoch)
    if optim.schedule == "cosine":
        return warmup * optim.lr * 0.5 * (1.0 + math.cos(math.pi * epochs_done / optim.epochs))
    passed = sum(int(epochs_done) >= milestone for milestone in optim.milestones)
    return warmup * optim.lr * optim.gamma**passed


def mines(optim: OptimConfig, epoch: int) -> bool:
    """Whether epoch `epoch` (from 1) mines neighbours."""
    return 0 < optim.mining_epoch <= epoch

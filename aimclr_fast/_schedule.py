"""Learning rate as a function of the place in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

#: Names of schedules: times gamma at each milestone, or a half cosine to zero.
SCHEDULES = ("step", "cosine")


class Schedule(Protocol):
    """The fields of a configuration that decide the learning rate; epochs count from 1."""

    @property
    def epochs(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def milestones(self) -> Sequence[int]: ...
    @property
    def gamma(self) -> float: ...
    @property
    def warmup_epochs(self) -> int: ...


def learning_rate(
    optim: Schedule, step: int, steps_per_epoch: int, steps: int | None = None
) -> float:
    """Rate of step `step` (from 0). Warm-up and cosine move every step, milestones every epoch.

    `steps` is the number of all steps, where the last epoch is not a whole one.
    """
    epochs_done = step / steps_per_epoch
    warmup = 1.0
    if epochs_done < optim.warmup_epochs:
        warmup = (step + 1) / (optim.warmup_epochs * steps_per_epoch)
    if optim.schedule == "cosine":
        done = epochs_done / optim.epochs if steps is None else step / steps
        return warmup * optim.lr * 0.5 * (1.0 + math.cos(math.pi * done))
    passed = sum(int(epochs_done) >= milestone for milestone in optim.milestones)
    return float(warmup * optim.lr * optim.gamma**passed)

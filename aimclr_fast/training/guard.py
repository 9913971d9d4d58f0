"""Skips steps whose loss or gradient is not finite, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

#: What follows the losses in the report of a step.
COUNTS = ("gradient_norm", "positives", "taken", "skipped", "skipped_in_a_row")


def report_names(losses: Iterable[str]) -> tuple[str, ...]:
    """Names of what a step reports, in order: the loss and its parts, the norm of the gradient, the
    mean number of positives per row, whether the step was taken (1 or 0), and the numbers of steps
    skipped in all and in a row.
    """
    return ("loss", *losses, *COUNTS)


class StepGuard:
    """Decides on the device whether a step is taken, and undoes its changes if not.

    A skipped step leaves the weights, the optimizer's momentum, the queue and the running
    statistics of both encoders' batch norms as they were. The key encoder's weights do move, by
    its momentum towards the query encoder's, which are finite.

    Attributes:
        statistics: the running statistics of both encoders' batch norms.
        skipped: steps that were skipped, in all and in a row.

    Args:
        model: the model whose running statistics are kept.
        device: of the model.
        losses: names of the parts of the loss, after their sum.
    """

    def __init__(self, model: nn.Module, device: torch.device, losses: Iterable[str]) -> None:
        self._parts = ("loss", *losses, "gradient")
        self.statistics = [
            buffer
            for name, buffer in model.named_buffers()
            if name.endswith(("running_mean", "running_var"))
        ]
        self._sizes = [buffer.numel() for buffer in self.statistics]
        self.skipped = torch.zeros(2, dtype=torch.int64, device=device)  # in all, in a row
        self._last_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._last_parts = torch.zeros(len(self._parts), dtype=torch.bool, device=device)

    def remember(self) -> Tensor:
        """The running statistics before a step."""
        return torch.cat([buffer.flatten() for buffer in self.statistics])

    def judge(self, losses: Tensor, gradient_norm: Tensor, step: int | Tensor) -> Tensor:
        """Whether all losses and the gradient are finite, as a boolean on the device."""
        values = torch.cat([losses, gradient_norm.to(losses.dtype)[None]]).abs()
        finite = values < math.inf  # as isfinite, which is twice as many launches
        fine = finite.all()
        bad = ~fine
        self.skipped.add_(bad)
        self.skipped[1].mul_(bad)
        this_step = torch.as_tensor(step, device=fine.device)
        torch.where(fine, self._last_step, this_step, out=self._last_step)
        torch.where(fine, self._last_parts, ~finite, out=self._last_parts)
        return fine

    def restore(self, statistics: Tensor, fine: Tensor) -> None:
        """Restore what `remember` returned unless the step was fine."""
        kept = torch.where(fine, self.remember(), statistics)
        rows = [
            row.view_as(buffer)
            for row, buffer in zip(kept.split(self._sizes), self.statistics, strict=True)
        ]
        torch._foreach_copy_(self.statistics, rows)

    def last_skipped(self) -> tuple[int, list[str]]:
        """The last skipped step and its parts that were not finite; waits for the device."""
        parts = [
            name for name, bad in zip(self._parts, self._last_parts.tolist(), strict=True) if bad
        ]
        return int(self._last_step), parts[1:] if parts[0] == "loss" else parts  # it is their sum

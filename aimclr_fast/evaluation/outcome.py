"""What an evaluation yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: What choices are made on, for results.json.
VALIDATION = "validation samples"


@dataclass(frozen=True, eq=False)
class Outcome:
    """The numbers of one evaluation of one encoder.

    Attributes:
        metrics: shares in 0..1, by name.
        details: what else belongs in results.json: curves, chosen rates, what was done.
        setting: what distinguishes this outcome from others of the same evaluation, such as "10 %".
        draw: number of the random subset, if there are several.
        logits: [Q, C] of the test samples after the last epoch, where there is a classifier.
        best_logits: after the epoch that was best on the test samples, or, if so asked, on the
            validation samples.
        save: tensors worth keeping, by name.
    """

    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    setting: str = ""
    draw: int | None = None
    logits: Tensor | None = None
    best_logits: Tensor | None = None
    save: Mapping[str, Tensor] = field(default_factory=dict)


def _curve(accuracy: Tensor) -> list[float | None]:
    return [None if value != value else round(value, 6) for value in accuracy.tolist()]


def top(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of rows whose label is among the k largest logits [Q, C]."""
    found = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return float((found == labels.to(found.device)[:, None]).any(1).double().mean())


def classified(
    logits: Tensor,
    best_logits: Tensor,
    labels: Tensor,
    accuracy: Tensor,
    choice: Tensor | None = None,
    *,
    details: Mapping[str, Any] | None = None,
    save: Mapping[str, Tensor] | None = None,
) -> Outcome:
    """The outcome of training a classifier: last epoch and best epoch, both named.

    ``top1_best`` is the best of the test samples' own; ``top1_chosen`` is the test accuracy of the
    epoch that validation samples chose.

    Args:
        logits: [Q, C] after the last epoch.
        best_logits: [Q, C] after the best epoch.
        labels: [Q].
        accuracy: test accuracy after each epoch [E]; NaN where it was not measured.
        choice: likewise on the validation samples that chose the best epoch; None: test samples.
        details: more for results.json.
        save: tensors worth keeping.
    """
    best = "top1_best" if choice is None else "top1_chosen"
    metrics = {"top1_last": top(logits, labels), best: top(best_logits, labels)}
    if logits.shape[1] > 5:
        metrics["top5_last"] = top(logits, labels, 5)
    by = accuracy if choice is None else choice
    best_epoch = int(torch.nan_to_num(by, nan=-1.0).argmax()) + 1
    curves = {"top1_by_epoch": _curve(accuracy)}
    if choice is not None:
        curves["validation_by_epoch"] = _curve(choice)
    return Outcome(
        metrics,
        {"last_epoch": len(accuracy), "best_epoch": best_epoch, **curves} | dict(details or {}),
        logits=logits,
        best_logits=best_logits,
        save=dict(save or {}),
    )

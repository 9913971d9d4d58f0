"""What an evaluation yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """The numbers of one evaluation of one encoder.

    Attributes:
        metrics: shares in 0..1, by name.
        details: what else belongs into results.json: curves, chosen rates, what was done.
        setting: what tells this outcome from others of the same evaluation, such as "10 %".
        draw: number of the random subset, where there are several.
        logits: [Q, C] of the test samples after the last epoch, where there is a classifier.
        best_logits: after the epoch that was best on the test samples.
        save: tensors worth keeping, by name.
    """

    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    setting: str = ""
    draw: int | None = None
    logits: Tensor | None = None
    best_logits: Tensor | None = None
    save: Mapping[str, Tensor] = field(default_factory=dict)


def top(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of rows whose label is among the k largest logits [Q, C]."""
    found = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return float((found == labels.to(found.device)[:, None]).any(1).double().mean())


def classified(
    logits: Tensor,
    best_logits: Tensor,
    labels: Tensor,
    accuracy: Tensor,
    *,
    details: Mapping[str, Any] | None = None,
    save: Mapping[str, Tensor] | None = None,
) -> Outcome:
    """The outcome of training a classifier: last epoch and best epoch, both named.

    Args:
        logits: [Q, C] after the last epoch.
        best_logits: [Q, C] after the epoch with the best test accuracy.
        labels: [Q].
        accuracy: test accuracy after each epoch [E]; NaN where it was not measured.
        details: more for results.json.
        save: tensors worth keeping.
    """
    metrics = {"top1_last": top(logits, labels), "top1_best": top(best_logits, labels)}
    if logits.shape[1] > 5:
        metrics["top5_last"] = top(logits, labels, 5)
    curve = [None if value != value else round(value, 6) for value in accuracy.tolist()]
    best_epoch = int(torch.nan_to_num(accuracy, nan=-1.0).argmax()) + 1
    return Outcome(
        metrics,
        {"last_epoch": len(curve), "best_epoch": best_epoch, "top1_by_epoch": curve}
        | dict(details or {}),
        logits=logits,
        best_logits=best_logits,
        save=dict(save or {}),
    )

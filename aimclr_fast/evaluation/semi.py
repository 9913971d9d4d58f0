"""Semi-supervised evaluation: few labels, drawn several times, the same number of each class."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .finetune import FinetuneConfig
from .heads import LinearConfig
from .problem import EvaluationError

TUNES = ("finetune", "linear")


@dataclass(frozen=True)
class SemiConfig:
    """How many labels, how they are drawn, and what is trained on them.

    Attributes:
        labels: amounts, each a share of the training samples ("1 %") or a number a class ("5").
        draws: random subsets for each amount.
        tune: finetune (encoder and classifier) or linear (classifier on frozen features).
        finetune: recipe of fine-tuning.
        linear: recipe of the classifier on frozen features.
    """

    labels: list[int | str] = field(default_factory=lambda: ["1%", "5%", "10%"])
    draws: int = 5
    tune: str = "finetune"
    # So many epochs because they are short: one is a few steps.
    finetune: FinetuneConfig = field(
        default_factory=lambda: FinetuneConfig(
            epochs=100, batch_size=32, warmup_epochs=5, test_every=10
        )
    )
    linear: LinearConfig = field(default_factory=LinearConfig)


def per_class(amount: int | str, labels: Tensor) -> int:
    """Labels of each class that an amount stands for.

    A share of the training samples is divided evenly among the classes, at least one each.

    Args:
        amount: such as "10 %" or "5".
        labels: of the training samples [S].

    Raises:
        EvaluationError: not an amount, or (a number) more than a class has.
    """
    text = str(amount).strip()
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0 < share <= 1:
                raise ValueError
            return max(1, round(share * len(labels) / len(counts)))
        number = int(text)
        if number < 1:
            raise ValueError
    except ValueError:
        raise EvaluationError(
            f"labels: {amount!r} is neither a share such as 10% nor a number a class such as 5"
        ) from None
    if number > int(counts.min()):
        raise EvaluationError(
            f"labels: {number} a class, but one class has only {int(counts.min())} training samples"
        )
    return number


def draw_labelled(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Rows of `count` random samples of each class, ascending; all of a class that has fewer.

    The draws of one seed are nested: a larger count has the samples of a smaller one, and more.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = [order[labels[order] == label][:count] for label in torch.unique(labels)]
    return torch.cat(chosen).sort().values

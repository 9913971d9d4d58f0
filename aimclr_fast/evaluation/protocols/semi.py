"""Semi-supervised evaluation: few labels, drawn several times, the same number of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aimclr_fast.evaluation.baselines import from_scratch
from aimclr_fast.evaluation.finetuning import FinetuneConfig, finetune
from aimclr_fast.evaluation.heads import LinearConfig, linear_evaluation
from aimclr_fast.evaluation.labeled_data import EvaluationError
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import (
    ALIGNED,
    RAW,
    SUPERVISED,
    UNTRAINED,
    Outcomes,
    Representation,
)
from aimclr_fast.evaluation.request import Request

SUMMARY = "few labels, drawn several times"
TUNES = ("finetune", "linear")
#: Learning rates for standardized features, with labels too few to choose a rate with.
FEW_LABELS_LR = {UNTRAINED: 0.1, RAW: 0.01, ALIGNED: 0.01}


@dataclass(frozen=True)
class Config:
    """How many labels, how they are drawn, and what is trained on them.

    Attributes:
        labels: amounts, each a share of the training samples ("1 %") or a number per class ("5").
        draws: number of random subsets for each amount.
        tune: what is trained: finetune (encoder and classifier) or linear (a classifier on frozen
            features).
        finetune: recipe of fine-tuning.
        linear: recipe of the classifier on frozen features.
    """

    labels: list[int | str] = field(default_factory=lambda: ["1%", "5%", "10%"])
    draws: int = 5
    tune: str = "finetune"
    # Many epochs, because each is only a few steps.
    finetune: FinetuneConfig = field(
        default_factory=lambda: FinetuneConfig(
            epochs=100, batch_size=32, warmup_epochs=5, test_every=10
        )
    )
    linear: LinearConfig = field(default_factory=LinearConfig)


def run(request: Request[Config]) -> Outcomes:
    """An outcome of each representation for each amount of labels and each draw."""
    yield from few_labels(request, request.config)


def few_labels(request: Request[Any], config: Config) -> Outcomes:
    """The outcomes of what a request of any protocol asks for, by a configuration of this one."""
    if config.tune == "finetune":
        request.refuse_frozen("--tune finetune")
    kinds = (SUPERVISED, RAW) if config.tune == "finetune" else (UNTRAINED, SUPERVISED, RAW)
    # A supervised encoder learns from each draw's labels alone.
    for representation in request.representations(kinds=kinds, train_supervised=False):
        for outcome in learn(
            representation, config, seed=request.options.seed, say=request.report.say
        ):
            yield representation, outcome


def learn(
    representation: Representation, config: Config, *, seed: int, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """An outcome for each amount of labels and each draw; seed, seed + 1, ... draw the subsets.

    A supervised encoder is trained from scratch on the draw's labels. Untrained features and raw
    poses are standardized, with learning rates of `FEW_LABELS_LR`.

    Raises:
        EvaluationError: an invalid amount, `tune` or number of draws.
    """
    if config.tune not in TUNES or config.draws < 1:
        raise EvaluationError(
            f"tune is {config.tune!r} and draws {config.draws}: one of {', '.join(TUNES)}, and "
            "at least 1"
        )
    data, name = representation.data, representation.name
    labels = data.labels[data.train]
    amounts = {amount: per_class(amount, labels) for amount in config.labels}
    scratch = name == SUPERVISED
    tuned = representation.encoder is not None and (scratch or config.tune == "finetune")
    recipe = from_scratch(config.finetune) if scratch else config.finetune
    features = None if tuned else representation.features()
    head = config.linear
    if name in FEW_LABELS_LR:
        head = replace(head, standardize=True, lr=FEW_LABELS_LR[name])
    for amount, count in amounts.items():
        for draw in range(config.draws):
            rows = draw_labeled(labels, count, seed=seed + draw)
            share = amount if str(amount).strip().endswith("%") else f"{amount} a class"
            setting = f"{share} ({len(rows)} labels)"  # a share is rounded to whole classes
            say(f"{name}: {setting}, draw {draw + 1}/{config.draws} ...")
            if features is None:
                assert representation.encoder is not None
                outcome, _ = finetune(
                    data,
                    representation.encoder,
                    representation.stream,
                    recipe,
                    seed=seed + draw,
                    rows=rows,
                )
            else:
                at = rows.to(features.train.device)
                few = features._replace(
                    train=features.train[at], train_labels=features.train_labels[at]
                )
                outcome = linear_evaluation(few, head, seed=seed + draw)
            details = {**outcome.details, "labels_per_class": count, "labels": len(rows)}
            yield replace(outcome, details=details, setting=setting, draw=draw)


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


def draw_labeled(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Rows of `count` random samples of each class, ascending; all of a class that has fewer.

    The draws of one seed are nested: a larger count has the samples of a smaller one, and more.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = [order[labels[order] == label][:count] for label in torch.unique(labels)]
    return torch.cat(chosen).sort().values

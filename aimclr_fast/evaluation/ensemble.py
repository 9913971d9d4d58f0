"""Several streams as one classifier: a weighted sum of their logits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .heads import LinearConfig, standardised, train_heads
from .outcome import Outcome, top
from .problem import Features

#: AimCLR, section 4: three-stream fusion.
PUBLISHED = {"joint": 0.6, "bone": 0.6, "motion": 0.4}
WEIGHTS = ("published", "searched")


@dataclass(frozen=True)
class EnsembleConfig:
    """Fusing two or three streams.

    Attributes:
        weights: published (joint 0.6, bone 0.6, motion 0.4), or searched on training folds only.
        linear: recipe of each stream's classifier.
    """

    weights: str = "published"
    linear: LinearConfig = field(default_factory=LinearConfig)


def fuse(logits: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of each stream's logits [Q, C]."""
    return torch.stack([weights[stream] * part for stream, part in logits.items()]).sum(0)


def fused(
    outcomes: Mapping[str, Outcome], weights: Mapping[str, float], labels: Tensor, how: str
) -> Outcome:
    """The outcome of fusing streams; "best" takes each stream at its own best epoch."""
    last, best = {}, {}
    for stream, outcome in outcomes.items():
        assert outcome.logits is not None
        assert outcome.best_logits is not None
        last[stream], best[stream] = outcome.logits, outcome.best_logits
    chosen = any("top1_chosen" in outcome.metrics for outcome in outcomes.values())
    metrics = {
        "top1_last": top(fuse(last, weights), labels),
        "top1_chosen" if chosen else "top1_best": top(fuse(best, weights), labels),
    }
    if len(next(iter(last.values()))[0]) > 5:
        metrics["top5_last"] = top(fuse(last, weights), labels, 5)
    details = {
        "weights": dict(weights),
        "weights_from": how,
        "best_epoch": {stream: one.details["best_epoch"] for stream, one in outcomes.items()},
    }
    return Outcome(metrics, details, logits=fuse(last, weights), best_logits=fuse(best, weights))


def search_weights(
    streams: Mapping[str, Features],
    folds: list[tuple[Tensor, Tensor]],
    recipes: Mapping[str, LinearConfig],
    *,
    seed: int,
) -> dict[str, float]:
    """Weights that classify held-out samples best; no test sample is looked at.

    For each fold a classifier of each stream learns from the rest of the training samples, by that
    stream's recipe (its rate and standardisation; a sweep is over by now), and scores the fold.
    With validation samples it learns from all training samples, and scores those. Weights are
    multiples of 0.1 that sum to one. Ties go to the most even weights.
    """
    held: dict[str, list[Tensor]] = {stream: [] for stream in streams}
    labels = []
    parts = {stream: features.held_out(folds) for stream, features in streams.items()}
    for each in zip(*parts.values(), strict=True):
        for stream, part in zip(parts, each, strict=True):
            if recipes[stream].standardize:
                part = standardised(part)
            trained = train_heads(part, recipes[stream], seed=seed).pick(0)
            held[stream].append(trained.last.logits(part.test))
        labels.append(part.test_labels)
    scores = {stream: torch.cat(parts) for stream, parts in held.items()}
    target = torch.cat(labels)

    def worth(tenths: tuple[int, ...]) -> tuple[float, int]:
        weights = dict(zip(streams, (t / 10 for t in tenths), strict=True))
        return top(fuse(scores, weights), target), -sum(t * t for t in tenths)

    grid = (t for t in itertools.product(range(11), repeat=len(streams)) if sum(t) == 10)
    return dict(zip(streams, (t / 10 for t in max(grid, key=worth)), strict=True))

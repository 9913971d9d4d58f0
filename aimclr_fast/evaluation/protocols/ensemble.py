"""Several streams as one classifier: a weighted sum of their logits, or their mean, trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from aimclr_fast.evaluation.heads import LinearConfig, train_heads
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.outcome import VALIDATION, Outcome, top
from aimclr_fast.evaluation.representation import ALIGNED, RAW, Outcomes, Pretrained, Representation
from aimclr_fast.evaluation.request import Request

from . import linear

SUMMARY = "two or three streams together"

#: AimCLR, section 4: three-stream fusion.
PUBLISHED = {"joint": 0.6, "bone": 0.6, "motion": 0.4}
WEIGHTS = ("published", "searched")
CLASSIFIERS = ("separate", "joint")


@dataclass(frozen=True)
class Config:
    """Fusing two or three streams.

    Attributes:
        weights: published (joint 0.6, bone 0.6, motion 0.4), or searched on training folds.
        classifiers: separate (each is trained by itself, and logits are added with weights) or
            joint (all are trained together on the mean of their logits, as published for
            3s-AimCLR++; there are no weights).
        linear: recipe of the classifiers.
    """

    weights: str = "published"
    classifiers: str = "separate"
    linear: LinearConfig = field(default_factory=LinearConfig)


def run(request: Request[Config]) -> Outcomes:
    """Linear evaluation of each stream, and of all of a run together; with joint classifiers, only
    the latter.
    """
    config, seed = request.config, request.options.seed
    if request.options.side_by_side:
        raise EvaluationError(
            "an ensemble has a classifier for each stream: leave out --side_by_side"
        )
    groups = by_run(request.pretrained)
    for group in groups:
        check_ensemble(config, [one.stream for one in group])
    for group in groups:
        rows: dict[str, list[Representation]] = {}
        for representation in request.representations(group):
            rows.setdefault(representation.name, []).append(representation)
        for raw in rows.pop(RAW, []) + rows.pop(ALIGNED, []):  # they have no streams
            yield raw, linear.classify(raw, raw.features(), config.linear, seed=seed)
        for name, streams in rows.items():
            whole = replace(
                streams[0],
                stream="+".join(one.stream for one in streams),
                files=tuple(file for one in streams for file in one.files),
            )
            if config.classifiers == "joint":
                yield whole, classify_jointly(streams, config.linear, seed=seed)
                continue
            own, together = fuse_streams(streams, config, seed=seed)
            for representation in streams:
                yield representation, own[representation.stream]
            yield whole, together
            weights = together.details["weights"]
            request.report.say(f"weights of {name}, {together.details['weights_from']}: {weights}")


def by_run(pretrained: Sequence[Pretrained]) -> list[list[Pretrained]]:
    """The streams of each run; runs are told apart by file, or else by seed."""
    runs: dict[Any, list[Pretrained]] = {}
    whole = any(a.file.path == b.file.path for a, b in pairwise(pretrained))
    for one in pretrained:
        runs.setdefault(one.file.path if whole else one.run_seed, []).append(one)
    return list(runs.values())


def check_ensemble(config: Config, streams: Sequence[str]) -> None:
    """Refuse what cannot be fused.

    Raises:
        EvaluationError: unknown weights or classifiers, weights of joint classifiers, fewer than
            two streams, or one twice.
    """
    if config.weights not in WEIGHTS:
        raise EvaluationError(
            f"weights is {config.weights!r}, but must be one of {', '.join(WEIGHTS)}"
        )
    if config.classifiers not in CLASSIFIERS:
        raise EvaluationError(
            f"classifiers is {config.classifiers!r}, but must be one of {', '.join(CLASSIFIERS)}"
        )
    if config.classifiers == "joint" and config.weights != "published":
        raise EvaluationError(
            f"weights is {config.weights!r}, but joint classifiers have none: leave it out, or "
            "take --classifiers separate"
        )
    if len(streams) < 2 or len(set(streams)) < len(streams):
        raise EvaluationError(
            "an ensemble needs two or three different streams, in one checkpoint or several of "
            f"one seed; got {', '.join(streams) or 'none'}"
        )


def classify_jointly(
    streams: Sequence[Representation], config: LinearConfig, *, seed: int
) -> Outcome:
    """Linear evaluation of all streams together: a classifier of each, on frozen features, trained
    at once on the mean of their logits.

    Args:
        streams: one representation for each stream, all of one kind. Supervised ones get new
            classifiers, too.
        config: the recipe.
        seed: of the classifiers.
    """
    features = Features.classified_jointly([one.features() for one in streams])
    return linear.classify(streams[0], features, config, seed=seed)


def fuse_streams(
    streams: Sequence[Representation], config: Config, *, seed: int
) -> tuple[dict[str, Outcome], Outcome]:
    """Linear evaluation of each stream, and of all together.

    Args:
        streams: one representation for each stream, all pretrained, all untrained or all
            supervised.
        config: weights, and the recipe of the classifiers.
        seed: of the classifiers.

    Returns:
        Each stream's own outcome, and the fused one.
    """
    features: dict[str, Features] = {}
    own: dict[str, Outcome] = {}
    for one in streams:
        features[one.stream] = found = one.features()
        own[one.stream] = one.own or linear.classify(one, found, config.linear, seed=seed)
    weights, how = {stream: PUBLISHED[stream] for stream in features}, "published"
    if config.weights == "searched" and any(one.own for one in streams):
        how = "published: their encoders learned from every training label, so none can be held out"
    elif config.weights == "searched":
        validated = all(found.val is not None for found in features.values())
        folds = [] if validated else streams[0].data.folds()
        recipes = {  # as `linear` trained what is fused
            stream: replace(
                config.linear,
                lr=outcome.details["lr"],
                standardize=outcome.details["standardized"],
                sweep=False,
            )
            for stream, outcome in own.items()
        }
        weights = search_weights(features, folds, recipes, seed=seed)
        on = VALIDATION if validated else f"{len(folds)} folds of the training samples"
        how = f"searched on {on}; no test sample was used"
    labels = next(iter(features.values())).test_labels
    return own, fused(own, weights, labels, how)


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
    stream's recipe (its rate and standardization; a sweep is over by now), and scores the fold.
    With validation samples it learns from all training samples, and scores those. Weights are
    multiples of 0.1 that sum to one. Ties go to the most even weights.
    """
    held: dict[str, list[Tensor]] = {stream: [] for stream in streams}
    labels = []
    parts = {stream: features.held_out(folds) for stream, features in streams.items()}
    for each in zip(*parts.values(), strict=True):
        for stream, part in zip(parts, each, strict=True):
            if recipes[stream].standardize:
                part = part.scaled("standardize")
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

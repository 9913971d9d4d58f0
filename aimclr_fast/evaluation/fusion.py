"""The ensemble evaluation: streams of one checkpoint, or of several, fused and on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .ensemble import PUBLISHED, WEIGHTS, EnsembleConfig, fused, search_weights
from .outcome import VALIDATION, Outcome
from .problem import EvaluationError, Features, Problem
from .protocols import Subject, linear


def check_ensemble(config: EnsembleConfig, streams: Sequence[str]) -> None:
    """Refuse what cannot be fused.

    Raises:
        EvaluationError: unknown weights, fewer than two streams, or one twice.
    """
    if config.weights not in WEIGHTS:
        raise EvaluationError(
            f"weights is {config.weights!r}, but must be one of {', '.join(WEIGHTS)}"
        )
    if len(streams) < 2 or len(set(streams)) < len(streams):
        raise EvaluationError(
            "an ensemble needs two or three different streams, in one checkpoint or several of "
            f"one seed; got {', '.join(streams) or 'none'}"
        )


def fuse_subjects(
    problems: Sequence[Problem],
    subjects: Sequence[Subject],
    config: EnsembleConfig,
    *,
    seed: int,
) -> tuple[dict[str, Outcome], Outcome]:
    """Linear evaluation of each stream, and of all together.

    Args:
        problems: the data as each subject takes them.
        subjects: one for each stream, all pretrained, all untrained or all supervised.
        config: weights, and the recipe of the classifiers.
        seed: of the classifiers.

    Returns:
        Each stream's own outcome, and the fused one.
    """
    features: dict[str, Features] = {}
    own: dict[str, Outcome] = {}
    for problem, subject in zip(problems, subjects, strict=True):
        found = problem.features(subject.encoder, subject.stream)
        features[subject.stream] = found
        own[subject.stream] = subject.own or linear(
            problem, found, subject, config.linear, seed=seed
        )
    weights, how = {stream: PUBLISHED[stream] for stream in features}, "published"
    if config.weights == "searched" and any(subject.own for subject in subjects):
        how = "published: their encoders learned from every training label, so none can be held out"
    elif config.weights == "searched":
        validated = all(found.val is not None for found in features.values())
        folds = [] if validated else problems[0].folds()
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

"""Linear evaluation, as published."""

from __future__ import annotations

from dataclasses import replace

from aimclr_fast.evaluation.heads import SWEEP, LinearConfig, linear_evaluation
from aimclr_fast.evaluation.labeled_data import Features
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import ALIGNED, RAW, UNTRAINED, Outcomes, Representation
from aimclr_fast.evaluation.request import Request

SUMMARY = "a linear classifier on frozen features (the published recipe)"
Config = LinearConfig
#: Learning rates for the standardized features of baselines.
BASELINE_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def run(request: Request[LinearConfig]) -> Outcomes:
    """Train and score a classifier of each representation; a pretrained encoder's is saved."""
    for representation in request.representations():
        outcome = representation.own or classify(
            representation, representation.features(), request.config, seed=request.options.seed
        )
        if representation.files and not representation.beside:  # load_encoder reads it
            outcome = request.report.keep_head(representation, outcome)
        yield representation, outcome


def classify(
    representation: Representation, features: Features, config: LinearConfig, *, seed: int
) -> Outcome:
    """Linear evaluation of a representation, whose features are given.

    The published learning rate was chosen for pretrained features; what they are compared with gets
    its best: standardized, at the rate that is best on training folds (or on validation samples).
    """
    rates = SWEEP
    if representation.name in (UNTRAINED, RAW, ALIGNED):
        config, rates = replace(config, standardize=True, sweep=True), BASELINE_RATES
    folds = representation.data.folds() if config.sweep and features.val is None else None
    return linear_evaluation(features, config, seed=seed, folds=folds, sweep=rates)

"""The linear probe."""

from __future__ import annotations

import numpy as np

from aimclr_fast.evaluation.probe import linear_probe


def test_linear_probe_learns_a_separable_problem():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    features = np.eye(3)[labels] * 100 + rng.normal(size=(200, 3))
    accuracy = linear_probe(features[:100], labels[:100], features[100:], labels[100:])
    assert accuracy == 1.0
    shuffled = rng.permutation(labels[100:])
    assert linear_probe(features[:100], labels[:100], features[100:], shuffled) < 0.6

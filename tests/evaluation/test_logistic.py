"""The logistic regression of probes: scikit-learn's, with one BLAS thread."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from aimclr_fast.evaluation.logistic import fit_logistic
from aimclr_fast.evaluation.probe import linear_probe, probe_predictions


def blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    labels = np.arange(count) % 3
    return random.standard_normal((count, 5)) + 2.0 * np.eye(3, 5)[labels], labels


def test_it_is_fitted_on_one_blas_thread(monkeypatch):
    seen, fit = [], LogisticRegression.fit

    def watched(model, *arguments):
        seen.append(blas_threads())
        return fit(model, *arguments)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        fit_logistic(*samples(30), strength=1.0, iterations=50)
        assert blas_threads() == before
    assert len(seen) == 1
    assert seen[0]
    assert set(seen[0]) == {1}


def test_it_ends_without_a_warning_where_it_does_not_converge(recwarn):
    model = fit_logistic(*samples(30), strength=100.0, iterations=1)
    assert model.n_iter_.max() == 1
    assert not recwarn.list


def test_the_probe_is_that_of_standardized_features():
    (train, labels), (test, answers) = samples(60), samples(90)
    mean, deviation = train.mean(0), train.std(0)
    wanted = LogisticRegression(max_iter=500).fit((train - mean) / deviation, labels)
    predicted = wanted.predict((test - mean) / deviation)
    # Its own units do not matter.
    np.testing.assert_array_equal(probe_predictions(1e3 * train, labels, 1e3 * test), predicted)
    assert linear_probe(train, labels, test, answers) == (predicted == answers).mean()

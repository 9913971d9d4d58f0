"""Linear probe: a logistic regression on frozen features."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_probe(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Test accuracy of a logistic regression on standardized features [S, F]."""
    return float((probe_predictions(train, train_labels, test) == test_labels).mean())


def probe_predictions(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray
) -> npt.NDArray[np.int64]:
    """What a logistic regression on standardized features [S, F] takes test samples [Q, F] for."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    with warnings.catch_warnings():
        # With separable features the likelihood never converges; the accuracy does, much earlier.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train, train_labels)
    predicted: npt.NDArray[np.int64] = probe.predict(test)
    return predicted

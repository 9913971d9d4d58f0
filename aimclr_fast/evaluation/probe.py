"""Linear probe: a logistic regression on frozen features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from .logistic import fit_logistic


def linear_probe(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Test accuracy of a logistic regression on standardized features [S, F]."""
    return float((probe_predictions(train, train_labels, test) == test_labels).mean())


def probe_predictions(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray
) -> npt.NDArray[np.int64]:
    """What a logistic regression on standardized features [S, F] takes test samples [Q, F] for."""
    scaler = StandardScaler().fit(train)
    probe = fit_logistic(scaler.transform(train), train_labels, strength=1.0, iterations=500)
    predicted: npt.NDArray[np.int64] = probe.predict(scaler.transform(test))
    return predicted

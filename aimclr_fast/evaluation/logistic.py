"""The logistic regression of the linear probe and of few labels."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits


def fit_logistic(
    x: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], strength: float, iterations: int
) -> LogisticRegression:
    """Fit classes to features [S, F].

    Args:
        x: standardized.
        labels: [S].
        strength: inverse of the penalty's weight.
        iterations: at most so many. With separable features the likelihood never converges; the
            accuracy does, much earlier.
    """
    model = LogisticRegression(C=strength, max_iter=iterations)
    # An iteration's products are small. Two BLAS threads that wait for each other and for torch's
    # took four times as long as one with 1,000 samples, and still longer with 40,000.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, labels)

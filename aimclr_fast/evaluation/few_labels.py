"""A classifier from a handful of labels: how good it is, and how sure it may be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from .labeled_data import training_folds
from .scaling import fit_scaling

#: Strengths of regularization that are tried; scikit-learn's C.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
BINS = 10
_NEVER = -1e4  # logit of a class that has no samples


@dataclass(frozen=True)
class Learned:
    """A linear classifier of frozen features.

    Attributes:
        weight: [K, F], for features as the encoder gives them.
        bias: [K].
        strength: of regularization, the best of `STRENGTHS` by cross-validation.
        accuracy: by cross-validation; None without folds.
        error: expected calibration error of the probabilities by cross-validation, with the
            temperature that `weight` and `bias` were divided by; None without folds.
        error_before: likewise, without it.
        temperature: 1 where there were no folds.
        folds: how many.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    accuracy: float | None
    error: float | None
    error_before: float | None
    temperature: float
    folds: int


def learn_classifier(
    features: Tensor, labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_] | None
) -> Learned:
    """A logistic regression on standardized features.

    The strength of regularization is chosen, accuracy and calibration are measured, and the
    temperature (Guo et al., 2017) is fitted on samples that were held out, in folds that part the
    groups where there are some.

    Args:
        features: [S, F].
        labels: classes 0 to K - 1, each of which has a sample, [S].
        groups: [S], such as subjects; None for none.

    Raises:
        ValueError: there is one class only.
    """
    count = int(labels.max()) + 1
    if count < 2:
        raise ValueError("a classifier needs samples of two classes or more")
    x = features.double().cpu().numpy()
    folds = [
        (fit.numpy(), held.numpy())
        for fit, held in training_folds(labels, groups)
        if len(np.unique(labels[fit.numpy()])) > 1
    ]
    logits = {strength: _held_out(x, labels, folds, strength, count) for strength in STRENGTHS}
    rows = np.concatenate([held for _, held in folds]) if folds else np.empty(0, np.int64)
    truth = labels[rows]
    right = {
        strength: float((found.argmax(1) == truth).mean()) if len(rows) else 0.0
        for strength, found in logits.items()
    }
    # Of equally good ones the one whose probabilities are best.
    loss = {one: _loss(*_known(found, truth)) for one, found in logits.items()}
    strength = max(STRENGTHS, key=lambda one: (right[one], -loss[one])) if folds else 0.1
    temperature = _useful_temperature(logits[strength], truth) if folds else 1.0
    weight, bias = _fit(x, labels, strength, count)
    return Learned(
        torch.from_numpy(weight / temperature).float(),
        torch.from_numpy(bias / temperature).float(),
        strength,
        right[strength] if folds else None,
        calibration_error(softmax(logits[strength] / temperature), truth) if folds else None,
        calibration_error(softmax(logits[strength]), truth) if folds else None,
        temperature,
        len(folds),
    )


def _held_out(
    x: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    folds: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    strength: float,
    count: int,
) -> npt.NDArray[np.float64]:
    """Logits of the held-out samples of all folds, one after the other."""
    found = [np.empty((0, count))]
    for fit, held in folds:
        weight, bias = _fit(x[fit], labels[fit], strength, count)
        found.append(x[held] @ weight.T + bias)
    return np.concatenate(found)


def _fit(
    x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], strength: float, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weight [K, F] and bias [K] for features as they are; a class without samples is never
    likely.
    """
    scaling = fit_scaling(torch.from_numpy(x))
    model = LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy converges earlier
        model.fit(scaling(torch.from_numpy(x)).numpy(), labels)
    own, offset = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one logit, of the second class
        own, offset = np.concatenate([0 * own, own]), np.concatenate([0 * offset, offset])
    mean, deviation = (part.numpy() for part in scaling)
    weight, bias = np.zeros((count, x.shape[1])), np.full(count, _NEVER)
    weight[model.classes_] = own / deviation
    bias[model.classes_] = offset - (own / deviation) @ mean
    return weight, bias


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities [S, K] of logits."""
    found: npt.NDArray[np.float64] = torch.from_numpy(logits).softmax(1).numpy()
    return found


def fit_temperature(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """What logits [S, K] are to be divided by, so that the labels are as likely as can be."""
    found = minimize_scalar(
        lambda log_temperature: _loss(logits / np.exp(log_temperature), labels),
        bounds=(-3.0, 5.0),
        method="bounded",
    )
    return float(np.exp(found.x))


def _known(
    logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Without the samples of classes that the other folds did not have."""
    known = logits.max(1) - logits[np.arange(len(labels)), labels] < -_NEVER / 2
    return logits[known], labels[known]


def _loss(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    if not len(labels):
        return 0.0
    return float(
        torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    )


def _useful_temperature(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """The temperature, or 1 where it would not calibrate better, or is not settled by the samples:
    all of them right, or of classes that the other folds did not have.
    """
    logits, labels = _known(logits, labels)
    if (logits.argmax(1) == labels).all():
        return 1.0
    found = fit_temperature(logits, labels)
    errors = [calibration_error(softmax(logits / one), labels) for one in (found, 1.0)]
    return found if errors[0] < errors[1] else 1.0


def calibration_error(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], bins: int = BINS
) -> float:
    """Expected calibration error (Naeini et al., 2015): by how much the probability of the
    likeliest class differs from how often it is right, over bins of equal width.
    """
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    total = 0.0
    for one in range(bins):
        inside = place == one
        if inside.any():
            total += inside.sum() * abs(sure[inside].mean() - right[inside].mean())
    return float(total / len(labels))

"""k-nearest-neighbor classification on frozen features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from aimclr_fast.inference.nearest import nearest


def knn_predict(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    k: int,
    *,
    num_classes: int,
    temperature: float = 0.07,
    block: int = 1024,
) -> Tensor:
    """Classes [Q] of `test` [Q, F] by the `k` most similar of `train` [S, F] under cosine.

    Each neighbor votes with exp(similarity / temperature) (Wu et al., CVPR 2018, section 3.4), so
    k = 1 is the plain nearest neighbor. Works in blocks of queries: no [Q, S] matrix is kept.

    Raises:
        ValueError: k is not in 1..S.
    """
    _check(k, train)
    similarity, neighbor = nearest(test, train, k, block=block)
    return _vote(similarity, train_labels[neighbor], num_classes, temperature)


def knn_accuracies(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    ks: Iterable[int],
    *,
    temperature: float = 0.07,
) -> dict[int, float]:
    """Accuracy of `knn_predict` on the test samples for each k, from one search.

    Raises:
        ValueError: a k is not in 1..S.
    """
    ks = list(ks)
    for k in ks:
        _check(k, train)
    num_classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    similarity, neighbor = nearest(test, train, max(ks))
    right = {}
    for k in ks:
        votes = _vote(similarity[:, :k], train_labels[neighbor[:, :k]], num_classes, temperature)
        right[k] = float((votes == test_labels).double().mean())
    return right


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int
) -> float:
    """Accuracy of `knn_predict` on the test samples."""
    return knn_accuracies(train, train_labels, test, test_labels, [k])[k]


def _check(k: int, train: Tensor) -> None:
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie in 1..{len(train)} (the training samples), got {k}")


def _vote(similarity: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    # Relative to the best vote, so that no exponential overflows.
    votes = torch.exp((similarity - similarity[:, :1]) / temperature)
    scores = votes.new_zeros(len(votes), num_classes)
    return scores.scatter_add_(1, labels, votes).argmax(1)

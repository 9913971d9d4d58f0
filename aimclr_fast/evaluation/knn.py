"""k-nearest-neighbour classification on frozen features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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

    Each neighbour votes with exp(similarity / temperature) (Wu et al., CVPR 2018, section 3.4), so
    k = 1 is the plain nearest neighbour. Works in blocks of queries: no [Q, S] matrix is kept.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k must lie in 1..{len(train)} (the training samples), got {k}")
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    predicted = []
    for queries in test.split(block):
        similarity, neighbor = (queries @ train.T).topk(k, dim=1)
        # Relative to the best vote, so that no exponential overflows.
        votes = torch.exp((similarity - similarity[:, :1]) / temperature)
        scores = votes.new_zeros(len(queries), num_classes)
        scores.scatter_add_(1, train_labels[neighbor], votes)
        predicted.append(scores.argmax(1))
    return torch.cat(predicted) if predicted else train_labels.new_zeros(0)


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int
) -> float:
    """Share of test samples whose class `knn_predict` finds."""
    num_classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    predicted = knn_predict(train, train_labels, test, k, num_classes=num_classes)
    return float((predicted == test_labels).double().mean())

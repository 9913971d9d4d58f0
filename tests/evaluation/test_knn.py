"""kNN against scikit-learn, blocks, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from aimclr_fast.evaluation.knn import knn_accuracy, knn_predict


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(5, 12, generator=generator)
    labels = torch.randint(5, (300,), generator=generator)
    features = centers[labels] + 0.9 * torch.randn(300, 12, generator=generator)
    return features[:200], labels[:200], features[200:], labels[200:]


@pytest.mark.parametrize("k", [1, 7, 20])
@pytest.mark.parametrize("block", [1, 33, 1024])
def test_agrees_with_scikit_learn(problem, k, block):
    train, train_labels, test, _ = problem
    theirs = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train.numpy(), train_labels.numpy())
    ours = knn_predict(train, train_labels, test, k, num_classes=5, block=block)
    assert ours.tolist() == theirs.predict(test.numpy()).tolist()


def test_accuracy_of_a_known_case():
    train = torch.eye(3)
    labels = torch.arange(3)
    test = torch.tensor([[2.0, 0.1, 0], [0, 0, 5.0], [0.1, 0.2, 3.0], [0, 1.0, 0]])
    assert knn_accuracy(train, labels, test, torch.tensor([0, 2, 0, 1]), 1) == 0.75


def test_bad_k_and_no_queries(problem):
    train, train_labels, test, _ = problem
    for k in (0, 201):
        with pytest.raises(ValueError, match=r"k must lie in 1\.\.200"):
            knn_predict(train, train_labels, test, k, num_classes=5)
    assert knn_predict(train, train_labels, test[:0], 1, num_classes=5).shape == (0,)

"""Retrieval and clustering, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.protocols.cluster import Config as ClusterConfig
from aimclr_fast.evaluation.protocols.cluster import cluster, hungarian_accuracy
from aimclr_fast.evaluation.protocols.retrieval import Config as RetrievalConfig
from aimclr_fast.evaluation.protocols.retrieval import average_precision, retrieve


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 6, generator=generator)
    labels = torch.arange(60) % 4
    x = centers[labels] + 0.7 * torch.randn(60, 6, generator=generator)
    return Features(x[:40], labels[:40], x[40:], labels[40:], 4)


def test_average_precision_is_scikit_learns(features):
    precision, first = average_precision(
        features.test, features.test_labels, features.train, features.train_labels, block=6
    )
    unit = [torch.nn.functional.normalize(x, dim=1).numpy() for x in features[0::2][:2]]
    for query, label in enumerate(features.test_labels):
        wanted = (features.train_labels == label).numpy()
        scores = unit[0] @ unit[1][query]
        assert precision[query].item() == pytest.approx(average_precision_score(wanted, scores))
        assert first[query] == 1 + np.flatnonzero(wanted[np.argsort(-scores)])[0]


def test_retrieval_within_the_test_set_and_unanswerable_queries(features):
    alone = features._replace(
        test_labels=torch.cat([torch.tensor([9]), features.test_labels[1:]]), num_classes=10
    )
    outcome = retrieve(alone, RetrievalConfig(k=[1, 19], gallery="test"))
    assert outcome.details == {"queries": 19, "unanswerable": 1, "gallery": 19}
    assert outcome.metrics["recall@19"] == 1.0
    assert 0 < outcome.metrics["mAP"] <= 1
    for config in (RetrievalConfig(k=[20], gallery="test"), RetrievalConfig(gallery="attic")):
        with pytest.raises(EvaluationError, match=r"k is|gallery is"):
            retrieve(alone, config)


def test_a_known_ranking():
    queries, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [1, 0.2], [1, 0.3]])
    precision, first = average_precision(
        queries, torch.tensor([1]), gallery, torch.tensor([0, 1, 1])
    )
    assert precision.item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert first.item() == 2


def test_clusters_that_are_classes(features):
    x = torch.eye(4)[features.test_labels]
    outcome = cluster(features._replace(test=x), ClusterConfig(starts=2), seed=0)
    assert dict(outcome.metrics) == pytest.approx({"accuracy": 1.0, "nmi": 1.0, "ari": 1.0})
    with pytest.raises(EvaluationError, match="clusters is 21"):
        cluster(features, ClusterConfig(clusters=21), seed=0)


def test_hungarian_accuracy_of_a_known_case():
    found, labels = np.array([2, 2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 1, 0])
    # Cluster 2 is class 0 (2 right), cluster 0 is class 1 (2 right), cluster 1 has none left.
    assert hungarian_accuracy(found, labels) == pytest.approx(4 / 6)

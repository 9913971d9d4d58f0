"""Clustering by k-means, compared with the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import Outcomes
from aimclr_fast.evaluation.request import Request

SUMMARY = "k-means: Hungarian accuracy and mutual information"
CHOOSES = False


@dataclass(frozen=True)
class Config:
    """k-means on features of unit length.

    Attributes:
        clusters: number of clusters; 0 takes the number of classes among the test samples.
        starts: number of random starts, of which the one with the least inertia counts.
    """

    clusters: int = 0
    starts: int = 10


def run(request: Request[Config]) -> Outcomes:
    """Cluster the test samples in each representation."""
    for representation in request.representations():
        features = representation.features()
        yield representation, cluster(features, request.config, seed=request.options.seed)


def cluster(features: Features, config: Config, *, seed: int) -> Outcome:
    """Cluster the test samples; Hungarian accuracy, normalized mutual information, adjusted Rand.

    Raises:
        EvaluationError: fewer test samples than clusters.
    """
    labels = features.test_labels.cpu().numpy()
    count = config.clusters or len(np.unique(labels))
    if not 1 <= count <= len(labels) or config.starts < 1:
        raise EvaluationError(
            f"clusters is {count} and starts {config.starts}: 1 to {len(labels)} (the test "
            "samples), and at least 1"
        )
    unit = F.normalize(features.test.to(torch.float32), dim=1).cpu().numpy()
    found = KMeans(count, n_init=config.starts, random_state=seed % 2**32).fit_predict(unit)
    metrics = {
        "accuracy": hungarian_accuracy(found, labels),
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
    }
    return Outcome(metrics, {"clusters": count})


def hungarian_accuracy(found: npt.NDArray[np.int_], labels: npt.NDArray[np.int_]) -> float:
    """Share of samples whose cluster is the one matched to their class, in the best matching of
    clusters with classes, one to one.
    """
    table = np.zeros((found.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(table, (found, labels), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(labels))

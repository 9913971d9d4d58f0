"""Retrieval: test sequences as queries, ranked answers by cosine similarity of their features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import Outcomes
from aimclr_fast.evaluation.request import Request

from .knn import scaled_features

SUMMARY = "ranking by similarity: mAP and recall@k"
CHOOSES = False
GALLERIES = ("train", "test")


@dataclass(frozen=True)
class Config:
    """Retrieval of sequences of the same class.

    Attributes:
        k: ranks at which recall is measured.
        gallery: samples that are ranked for each test sample: train, or test (all others).
        scale: what is done to an encoder's features before, by the training features: none, center
            or standardize.
    """

    k: list[int] = field(default_factory=lambda: [1, 5, 10])
    gallery: str = "train"
    scale: str = "none"


def run(request: Request[Config]) -> Outcomes:
    """Rank the gallery for each test sample, in each representation."""
    for representation in request.representations():
        features = representation.features()
        scaled, setting = scaled_features(representation, features, request.config.scale)
        yield representation, replace(retrieve(scaled, request.config), setting=setting)


def retrieve(features: Features, config: Config) -> Outcome:
    """Mean average precision and recall@k (share of queries with a hit among the first k).

    Queries without any answer of their class in the gallery are left out and counted.

    Raises:
        EvaluationError: an unknown gallery, or a k beyond its size.
    """
    if config.gallery not in GALLERIES:
        raise EvaluationError(f"gallery is {config.gallery!r}, but must be train or test")
    own = config.gallery == "test"
    gallery = features.test if own else features.train
    labels = features.test_labels if own else features.train_labels
    size = len(gallery) - own
    if not config.k or not all(1 <= k <= size for k in config.k):
        raise EvaluationError(f"k is {config.k}, but each must be in 1..{size} (the gallery)")
    precision, first = average_precision(
        features.test, features.test_labels, gallery, labels, exclude_self=own
    )
    answered = first > 0
    count = int(answered.sum())
    if not count:
        raise EvaluationError("no query has an answer of its class in the gallery")
    metrics = {"mAP": float(precision[answered].mean())}
    for k in config.k:
        metrics[f"recall@{k}"] = float((first[answered] <= k).double().mean())
    return Outcome(
        metrics, {"queries": count, "unanswerable": len(features.test) - count, "gallery": size}
    )


def average_precision(
    queries: Tensor,
    labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    exclude_self: bool = False,
    block: int = 256,
) -> tuple[Tensor, Tensor]:
    """Average precision of each query's ranking, and the rank (from 1) of its first hit.

    Args:
        queries: [Q, F].
        labels: [Q].
        gallery: [S, F], ranked by cosine similarity; ties go to the lower row.
        gallery_labels: [S].
        exclude_self: the gallery is the queries, and none answers itself.
        block: queries at a time.

    Returns:
        [Q] float64 and [Q] int64; NaN and 0 where the gallery has nothing of the class.
    """
    queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    rank = torch.arange(1, len(gallery) + 1, device=gallery.device, dtype=torch.float64)
    precisions, firsts = [], []
    for start in range(0, len(queries), block):
        similarity = queries[start : start + block] @ gallery.T
        wanted = labels[start : start + block, None] == gallery_labels
        if exclude_self:  # itself goes last, and is no hit
            itself = torch.arange(start, start + len(similarity), device=gallery.device)[:, None]
            similarity.scatter_(1, itself, -torch.inf)
            wanted = wanted.scatter(1, itself, False)
        order = similarity.argsort(dim=1, descending=True, stable=True)
        hit = wanted.gather(1, order).double()
        precisions.append((hit.cumsum(1) / rank * hit).sum(1) / hit.sum(1))
        firsts.append(torch.where(hit.any(1), hit.argmax(1) + 1, 0))
    return torch.cat(precisions), torch.cat(firsts)

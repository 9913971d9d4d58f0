"""Measuring the representation on the protocol's held-out samples while it is learnt."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from aimclr_fast.evaluation.features import encode, raw_poses
from aimclr_fast.evaluation.knn import knn_accuracy
from aimclr_fast.evaluation.linear import linear_probe
from aimclr_fast.nn import SkeletonEncoder

from .distributed import Ranks

KNN_K = (1, 20)


@dataclass(frozen=True)
class Scores:
    """Test accuracies in 0..1; None where it was not measured."""

    knn_1: float | None = None
    knn_20: float | None = None
    linear: float | None = None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Monitor:
    """Scores encoders on one split.

    Args:
        data: all sequences [S, 3, T, V, M], in metres or int16 millimetres.
        labels: their classes [S].
        train_index: samples the classifiers learn from.
        test_index: samples they are scored on.
        stream: joint, motion or bone.
        batch_size: sequences encoded at once.
        ranks: processes that share the work; all of them call `score` and get the scores.
    """

    def __init__(
        self,
        data: Tensor,
        labels: Tensor,
        train_index: Tensor,
        test_index: Tensor,
        *,
        stream: str,
        batch_size: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._data, self._indices = data, (train_index, test_index)
        self._train_labels, self._test_labels = labels[train_index], labels[test_index]
        self._stream, self._batch_size = stream, batch_size

    def score(self, encoder: SkeletonEncoder, *, linear: bool = False) -> Scores:
        """KNN accuracies of the encoder's features and, if asked for, the linear probe's."""
        train, test = (self._encode(encoder, index) for index in self._indices)
        return self._score_features(train, test, linear=linear)

    def _encode(self, encoder: SkeletonEncoder, index: Tensor) -> Tensor:
        """Features of all samples, each encoded by one of the ranks."""
        most = -(-len(index) // self._ranks.size)
        share = index[self._ranks.rank * most :][:most]
        features = encode(
            encoder, self._data, share, stream=self._stream, batch_size=self._batch_size
        )
        if self._ranks.size == 1:
            return features
        padded = features.new_zeros(most, features.shape[1])
        padded[: len(features)] = features
        return self._ranks.gather(padded)[: len(index)]

    def score_raw_poses(self) -> Scores:
        """The same for the poses themselves, as vectors of coordinates."""
        train, test = (raw_poses(self._data, index) for index in self._indices)
        return self._score_features(train, test, linear=True)

    def _score_features(self, train: Tensor, test: Tensor, *, linear: bool) -> Scores:
        labels = self._train_labels.to(train.device), self._test_labels.to(test.device)
        scores: dict[str, float] = {}
        mine = slice(self._ranks.rank, None, self._ranks.size)  # of the queries
        queries, answers = test[mine], labels[1][mine]
        for k in KNN_K:
            if k <= len(train):
                right = 0.0
                if len(queries):
                    accuracy = knn_accuracy(train, labels[0], queries, answers, k)
                    right = round(accuracy * len(queries))
                scores[f"knn_{k}"] = sum(self._ranks.collect(right)) / len(test)
        if linear and len(torch.unique(labels[0])) > 1:
            arrays: list[np.ndarray] = [
                tensor.cpu().numpy() for tensor in (train, labels[0], test, labels[1])
            ]
            # One solver for all: the others wait without their GPUs.
            found = linear_probe(*arrays) if self._ranks.first else None
            scores["linear"] = self._ranks.from_first(found)
        return Scores(**scores)

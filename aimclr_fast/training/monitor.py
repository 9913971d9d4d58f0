"""Measures the representation during training: on the test samples, for display, and on other
samples, to choose the best checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aimclr_fast.evaluation.knn import knn_accuracies
from aimclr_fast.evaluation.probe import linear_probe
from aimclr_fast.evaluation.scaling import fit_scaling
from aimclr_fast.inference.features import encode, raw_poses
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.readouts import PUBLISHED, parse_readout, split_readouts

from .distributed import Ranks
from .selection import Selection

KNN_K = (1, 20)


@dataclass(frozen=True)
class Scores:
    """Accuracies in 0..1; None if not measured.

    Attributes:
        knn_1: accuracy of kNN with k = 1 on the test samples.
        knn_20: accuracy of kNN with k = 20 on the test samples.
        linear: accuracy of the linear probe on the test samples.
        selection: accuracy that the best checkpoint is chosen by; no test sample is used for it.
    """

    knn_1: float | None = None
    knn_20: float | None = None
    linear: float | None = None
    selection: float | None = None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Monitor:
    """Scores encoders on one split.

    Args:
        data: all sequences [S, 3, T, V, M], in meters or int16 millimeters.
        labels: their classes [S].
        train_index: samples the classifiers learn from.
        test_index: samples they are scored on.
        stream: joint, motion or bone.
        batch_size: sequences encoded at once.
        backend: of the ops that prepare the sequences.
        ranks: processes that share the work; all of them call `score` and get the scores.
        selection: samples that the best checkpoint is chosen on.
        align: the skeleton, if raw poses can be aligned by it.
        pool: a readout that `score_readouts` measures beside the published one.
        scale: how the features of `pool` are scaled before neighbors are looked for.
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
        backend: str = "auto",
        ranks: Ranks | None = None,
        selection: Selection | None = None,
        align: Layout | None = None,
        pool: str | None = None,
        scale: str = "none",
    ) -> None:
        self._ranks = ranks or Ranks()
        self.selection = selection
        self.align = align
        self._pool, self._scale = pool, scale
        self._labels = labels
        self._data, self._indices = data, (train_index, test_index)
        self._train_labels, self._test_labels = labels[train_index], labels[test_index]
        self._stream, self._batch_size, self._backend = stream, batch_size, backend

    def score(self, encoder: SkeletonEncoder, *, linear: bool = False) -> Scores:
        """KNN accuracies of the encoder's features and, if asked for, the linear probe's; by the
        published readout.
        """
        train, test = (self._encode(encoder, index) for index in self._indices)
        scores = self._score_features(train, test, linear=linear)
        return replace(scores, selection=self._select(encoder, train))

    def score_readouts(
        self, encoder: SkeletonEncoder, *, linear: bool = False
    ) -> tuple[Scores, Scores | None]:
        """What `score` gives, and the scores by `pool` and `scale` if there are any, which choose
        nothing. Each sequence is encoded once.
        """
        if self._pool is None:
            return self.score(encoder, linear=linear), None
        names = parse_readout(self._pool)
        both, backbone = "+".join(dict.fromkeys([PUBLISHED, *names])), encoder.backbone
        train, test = (
            split_readouts(
                self._encode(encoder, index, both), both, backbone.features, backbone.layout
            )
            for index in self._indices
        )
        published = [side[PUBLISHED].contiguous() for side in (train, test)]
        scores = self._score_features(*published, linear=linear)
        scores = replace(scores, selection=self._select(encoder, published[0]))
        others = [torch.cat([side[name] for name in names], 1) for side in (train, test)]
        return scores, self._score_features(*others, linear=linear, scale=self._scale)

    def _select(self, encoder: SkeletonEncoder, train: Tensor) -> float | None:
        """KNN accuracy on the samples of the selection, all its folds together."""
        if self.selection is None:
            return None
        k, index = self.selection.k, self.selection.validation
        labels = self._train_labels.to(train.device)
        if index is not None:
            answers = self._labels[index].to(train.device)
            queries = self._encode(encoder, index)
            return self._right(train, labels, queries, answers, [k])[k] / len(index)
        right = sum(
            self._right(train[fit], labels[fit], train[held], labels[held], [k])[k]
            for fit, held in self.selection.folds
        )
        return right / len(train)  # each is held out once

    def _right(
        self, train: Tensor, train_labels: Tensor, queries: Tensor, answers: Tensor, ks: list[int]
    ) -> dict[int, int]:
        """Number of queries that kNN classifies correctly, by k, from one search that the ranks
        share.
        """
        mine = slice(self._ranks.rank, None, self._ranks.size)
        queries, answers = queries[mine], answers[mine]
        right = dict.fromkeys(ks, 0)
        if len(queries):
            found = knn_accuracies(train, train_labels, queries, answers, ks)
            right = {k: round(accuracy * len(queries)) for k, accuracy in found.items()}
        every = self._ranks.collect(right)
        return {k: sum(of[k] for of in every) for k in ks}

    def _encode(self, encoder: SkeletonEncoder, index: Tensor, pool: str = PUBLISHED) -> Tensor:
        """Features of all samples by a readout, each encoded by one of the ranks."""
        most = -(-len(index) // self._ranks.size)
        share = index[self._ranks.rank * most :][:most]
        features = encode(
            encoder,
            self._data,
            share,
            stream=self._stream,
            pool=pool,
            batch_size=self._batch_size,
            backend=self._backend,
        )
        if self._ranks.size == 1:
            return features
        padded = features.new_zeros(most, features.shape[1])
        padded[: len(features)] = features
        return self._ranks.gather(padded)[: len(index)]

    def score_raw_poses(self, *, align: bool = False) -> Scores:
        """The same scores of raw poses, as vectors of coordinates; see `raw_poses`."""
        layout = self.align if align else None
        train, test = (raw_poses(self._data, index, align=layout) for index in self._indices)
        return self._score_features(train, test, linear=True)

    def _score_features(
        self, train: Tensor, test: Tensor, *, linear: bool, scale: str = "none"
    ) -> Scores:
        """Scores of features; scaled for neighbors alone, since the probe standardizes them."""
        near = (train, test)
        if scale != "none":
            fitted = fit_scaling(train, scale)
            near = (fitted(train), fitted(test))
        labels = self._train_labels.to(train.device), self._test_labels.to(test.device)
        scores: dict[str, float] = {}
        ks = [k for k in KNN_K if k <= len(train)]
        for k, right in self._right(near[0], labels[0], near[1], labels[1], ks).items():
            scores[f"knn_{k}"] = right / len(test)
        if linear and len(torch.unique(labels[0])) > 1:
            arrays: list[np.ndarray] = [
                tensor.cpu().numpy() for tensor in (train, labels[0], test, labels[1])
            ]
            # Only the first rank fits it; the others wait.
            found = linear_probe(*arrays) if self._ranks.first else None
            scores["linear"] = self._ranks.from_first(found)
        return Scores(**scores)

"""One trial of a search: a short run on part of the training samples, and how good it is on the
rest. No test sample is here.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import RidgeClassifierCV
from torch import Tensor
from torch.nn import functional as F

from aimclr_fast._errors import Error
from aimclr_fast.config import TrainConfig
from aimclr_fast.data import resolve_store
from aimclr_fast.evaluation.knn import knn_accuracy
from aimclr_fast.evaluation.labeled_data import training_folds
from aimclr_fast.evaluation.scaling import fit_scaling
from aimclr_fast.functional import AugmentConfig, skeleton_augment_streams
from aimclr_fast.inference.features import encode
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import SkeletonEncoder, get_method
from aimclr_fast.nn.readouts import split_readouts
from aimclr_fast.training.distributed import Ranks
from aimclr_fast.training.job import resolve
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place_sequences

POOLS = ("mean", "mean+max", "joints", "parts", "segments")
SCALES = ("none", "standardize")
#: Criteria that need no labels.
CRITERIA = ("rank", "separation", "retrieval")
MOST = 2000  # samples of each part of a fold that are evaluated
_VIEWS = ("query", "key")  # cropped and sheared, as published: the same for all trials
Scores = dict[str, float | str]


class OutOfTimeError(Error):
    """The search's time is over; the trial counts for nothing."""


@dataclass(frozen=True)
class Samples:
    """Training samples of a store, and all that a search knows of them.

    Attributes:
        store: as `resolve_store` takes it.
        rows: of the store that train.
        labels: their classes, [len(rows)]; None for a search without labels.
        groups: their subjects; None where there are not two.
    """

    store: str
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    groups: npt.NDArray[Any] | None


class Bench:
    """Runs trials on the training samples of a store."""

    def __init__(self, samples: Samples) -> None:
        store = resolve_store(samples.store)
        self.layout: Layout = store.layout
        self._classes = store.class_names
        self._positions = np.array(store.positions[samples.rows])
        self._labels = None if samples.labels is None else torch.from_numpy(samples.labels)
        alike = np.zeros(len(samples.rows), np.int64)
        labels = alike if samples.labels is None else samples.labels
        self.folds = training_folds(labels, samples.groups)

    def can(self, config: TrainConfig) -> bool:
        """Whether the method can take these sequences."""
        positions = self._positions[:, :, :: config.data.frame_step or 1]
        try:
            job = resolve(config, Ranks(), samples=len(self.folds[0][0]), frames=len(positions[0]))
            get_method(config.method).check(
                job.config, self.layout, positions.shape[2], job.config.optim.batch_size
            )
        except ValueError:
            return False
        return True

    def run(self, config: TrainConfig, steps: int, fold: int, deadline: float) -> list[Scores]:
        """Train for `steps` on one part of a fold, and score all readouts on the other.

        Raises:
            OutOfTimeError: it has become later than `deadline`, by `time.monotonic`.
        """
        began = time.monotonic()
        if began > deadline:
            raise OutOfTimeError
        fit, held = self.folds[fold % len(self.folds)]
        config.optim.steps = max(steps, 1)
        frames = self._positions.shape[2]
        ranks = Ranks()
        job = resolve(config, ranks, samples=len(fit), frames=frames, classes=self._classes)
        positions = self._positions[:, :, :: job.config.data.frame_step]
        placed = place_sequences(positions, job.device, config.placement)
        training = Pretraining(job, self.layout, placed, fit)
        set_up = time.monotonic()
        try:
            while training.step < steps:
                for _ in training.train_epoch():
                    if time.monotonic() > deadline:
                        raise OutOfTimeError
        finally:
            training.free_graphs()
        encoders = {name: of.models[name].query_encoder for name, of in training.streams.items()}
        trained = time.monotonic() - set_up
        rows: list[Scores] = [
            {"pool": pool, "scale": scale, **scores}
            for pool, scale, scores in self._scores(encoders, placed.data, _some(fit), _some(held))
        ]
        seconds = time.monotonic() - began
        return [{**row, "training_seconds": trained, "seconds": seconds} for row in rows]

    def _scores(
        self, encoders: Mapping[str, SkeletonEncoder], data: Tensor, fit: Tensor, held: Tensor
    ) -> Iterator[tuple[str, str, dict[str, float]]]:
        pools = [pool for pool in POOLS if pool != "parts" or _has_parts(self.layout)]
        atoms = tuple(dict.fromkeys(atom for pool in pools for atom in pool.split("+")))
        train, test = (_features(encoders, data, index, atoms) for index in (fit, held))
        views = _view_features(encoders, data, held, atoms)
        for pool in pools:
            parts = pool.split("+")
            learned, asked, *pair = (
                torch.cat([found[atom] for atom in parts], 1) for found in (train, test, *views)
            )
            linear = {}
            if self._labels is not None:
                labels = self._labels[fit], self._labels[held]
                linear["linear"] = _ridge(learned, labels[0], asked, labels[1])
            for scale in SCALES:
                scaling = fit_scaling(learned, scale)
                scores = dict(linear)
                if self._labels is not None:
                    near = scaling(learned), labels[0].to(learned.device)
                    scores["knn_1"] = knn_accuracy(
                        *near, scaling(asked), labels[1].to(asked.device), 1
                    )
                scores |= unlabeled_scores(scaling(pair[0]), scaling(pair[1]))
                yield pool, scale, scores


def unlabeled_scores(one: Tensor, other: Tensor) -> dict[str, float]:
    """Criteria that need no labels, of features [N, W] of two views of each sequence.

    Returns:
        retrieval: share of the sequences whose other view is the nearest of all, by cosine.
        separation: mean over sequences of the cosine to the own other view, in standard deviations
            from the mean of that to all.
        rank: effective rank of the features, centered (RankMe, Garrido et al., ICML 2023), over
            the largest there could be.
    """
    cosine = F.normalize(one.double(), dim=1) @ F.normalize(other.double(), dim=1).T
    own = cosine.diagonal()
    spread = cosine.std(1).clamp(min=1e-12)
    values = torch.linalg.svdvals((one - one.mean(0)).double())
    share = values / values.sum().clamp(min=1e-12)
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    return {
        "retrieval": float(
            (cosine.argmax(1) == torch.arange(len(own), device=own.device)).double().mean()
        ),
        "separation": float(((own - cosine.mean(1)) / spread).mean()),
        "rank": float(entropy.exp()) / min(one.shape),
    }


def _has_parts(layout: Layout) -> bool:
    try:
        return bool(layout.body_parts)
    except ValueError:
        return False


def _some(index: Tensor) -> Tensor:
    """At most `MOST`, evenly spread."""
    step = max(1, -(-len(index) // MOST))
    return index[::step]


def _by_atom(
    encoders: Mapping[str, SkeletonEncoder], found: Sequence[Tensor], atoms: Sequence[str]
) -> dict[str, Tensor]:
    """Features of each readout, the streams side by side, from those of all readouts by stream."""
    first = next(iter(encoders.values())).backbone
    pool = "+".join(atoms)
    parts = [split_readouts(rows, pool, first.features, first.layout) for rows in found]
    return {atom: torch.cat([each[atom] for each in parts], 1) for atom in atoms}


def _features(
    encoders: Mapping[str, SkeletonEncoder], data: Tensor, index: Tensor, atoms: Sequence[str]
) -> dict[str, Tensor]:
    pool = "+".join(atoms)
    found = [encode(of, data, index, stream=name, pool=pool) for name, of in encoders.items()]
    return _by_atom(encoders, found, atoms)


@torch.no_grad()
def _view_features(
    encoders: Mapping[str, SkeletonEncoder], data: Tensor, index: Tensor, atoms: Sequence[str]
) -> list[dict[str, Tensor]]:
    """Features of two views of each sequence."""
    first = next(iter(encoders.values()))
    index = index.to(data.device)
    views = skeleton_augment_streams(
        data, index, layout=first.backbone.layout, config=AugmentConfig(), seed=0, step=0,
        streams=list(encoders), views=_VIEWS,
    )  # fmt: skip
    pool, sides = "+".join(atoms), []
    for side in _VIEWS:
        found = []
        for encoder, drawn in zip(encoders.values(), views, strict=True):
            encoder.eval()
            rows = getattr(drawn, side).split(256)
            found.append(torch.cat([encoder.features(x, pool).float() for x in rows]))
        sides.append(_by_atom(encoders, found, atoms))
    return sides


def _ridge(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy of a ridge classifier on standardized features: a linear probe in closed form."""
    scaling = fit_scaling(train)
    learned, asked = (scaling(x).cpu().numpy() for x in (train, test))
    answers = train_labels.numpy()
    if len(np.unique(answers)) < 2:
        return float((test_labels == train_labels[0]).double().mean())
    probe = RidgeClassifierCV(alphas=learned.shape[1] * np.array([0.01, 0.1, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        probe.fit(learned, answers)
    return float(probe.score(asked, test_labels.numpy()))

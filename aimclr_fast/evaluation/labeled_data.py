"""What is evaluated on: labeled sequences, a split, and folds of its training samples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor

from aimclr_fast._errors import Error
from aimclr_fast.data import SplitRule, Store, get_split_rule, validation
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.inference.features import encode, raw_poses
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.readouts import PUBLISHED

from .scaling import SCALES, fit_scaling

#: (rows to learn from, rows held out) of the training samples.
Folds: TypeAlias = list[tuple[Tensor, Tensor]]
#: Columns of samples.csv that folds of training samples are parted by, the first that serves.
GROUPS = ("subject", "recording")
SHARE = 0.5  # part of the free GPU memory that sequences may take


class EvaluationError(Error, ValueError):
    """Data, checkpoint and options do not fit each other; the message says which."""


class Features(NamedTuple):
    """Vectors of the training samples [S, F] and the test samples [Q, F], and their classes.

    Attributes:
        val: those of the validation samples, if choices are made on them.
        streams: number of streams, as wide as each other, whose features stand side by side and
            have a classifier each, trained together on the mean of their logits; 1 is a single
            classifier of whatever stands there.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    num_classes: int
    val: Tensor | None = None
    val_labels: Tensor | None = None
    streams: int = 1

    @classmethod
    def side_by_side(cls, streams: Sequence[Features]) -> Features:
        """Several streams of the same samples as one: each sample's vectors after one another."""
        first = streams[0]
        vals = [one.val for one in streams if one.val is not None]
        return first._replace(
            train=torch.cat([one.train for one in streams], 1),
            test=torch.cat([one.test for one in streams], 1),
            val=torch.cat(vals, 1) if vals else None,
        )

    @classmethod
    def classified_jointly(cls, streams: Sequence[Features]) -> Features:
        """Several streams side by side, with classifiers that are trained together.

        Raises:
            EvaluationError: their features differ in width.
        """
        widths = [one.train.shape[1] for one in streams]
        if len(set(widths)) > 1:
            raise EvaluationError(
                f"joint classifiers need features of one width, but the streams have {widths}"
            )
        return cls.side_by_side(streams)._replace(streams=len(streams))

    def held_out(self, folds: Folds) -> list[Features]:
        """What choices are made on: the validation samples, or else folds of the training samples.

        The test samples of each are held-out samples; no test sample is among them.
        """
        if self.val is None or self.val_labels is None:
            device = self.train.device
            return [self.rows(fit.to(device), out.to(device)) for fit, out in folds]
        part = self._replace(test=self.val, test_labels=self.val_labels)
        return [part._replace(val=None, val_labels=None)]

    def scaled(self, scale: str) -> Features:
        """All features centered or standardized, as one of `SCALES` says, by the training
        features.

        Raises:
            EvaluationError: no such scale.
        """
        if scale not in SCALES:
            raise EvaluationError(f"scale is {scale!r}, but must be one of {', '.join(SCALES)}")
        if scale == "none":
            return self
        fitted = fit_scaling(self.train, scale)
        val = None if self.val is None else fitted(self.val)
        return self._replace(train=fitted(self.train), test=fitted(self.test), val=val)

    def rows(self, fit: Tensor, held: Tensor) -> Features:
        """Training samples alone: learn from rows `fit`, test on rows `held`."""
        return self._replace(
            train=self.train[fit],
            train_labels=self.train_labels[fit],
            test=self.train[held],
            test_labels=self.train_labels[held],
            val=None,
            val_labels=None,
        )


@dataclass(frozen=True, eq=False)
class LabeledData:
    """Labeled sequences under one split.

    Attributes:
        sequences: [S, 3, T, V, M], in meters or int16 millimeters.
        labels: classes [S].
        train: indices of the training samples.
        test: indices of the test samples.
        classes: name of each class.
        layout: the skeleton of the sequences.
        groups: for each sample the value (a subject, a camera) that the split is made by.
        device: where encoders and classifiers run.
        batch_size: number of sequences encoded at once.
        backend: backend of the ops.
        val: indices of the validation samples, which choices are made on; None: the best epoch is
            chosen on the test samples, and all else on folds of the training samples.
        preprocessing: what was done to each sequence, if known.
        columns: those of `GROUPS` that there are.
        precision: what frozen encoders compute in, fp32 or bf16.
    """

    sequences: Tensor
    labels: Tensor
    train: Tensor
    test: Tensor
    classes: tuple[str, ...]
    layout: Layout
    groups: npt.NDArray[Any]
    device: torch.device
    batch_size: int = 256
    backend: str = "auto"
    val: Tensor | None = None
    preprocessing: Preprocessing | None = None
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    precision: str = "fp32"

    def features(
        self,
        encoder: SkeletonEncoder | None,
        stream: str,
        pool: str = PUBLISHED,
        *,
        align: bool = False,
    ) -> Features:
        """Frozen features of all samples of the split by a readout; without an encoder, raw
        poses, each sequence turned about y if they are to be aligned.
        """
        if encoder is not None:
            encoder.to(self.device)
            encoder.backend = self.backend

        def part(index: Tensor) -> tuple[Tensor, Tensor]:
            labels = self.labels[index].to(self.device)
            if encoder is None:
                poses = raw_poses(self.sequences, index, align=self.layout if align else None)
                return poses.to(self.device), labels
            found = encode(
                encoder,
                self.sequences,
                index,
                stream=stream,
                pool=pool,
                batch_size=self.batch_size,
                backend=self.backend,
                precision=self.precision,
            )
            return found, labels

        val = (None, None) if self.val is None else part(self.val)
        return Features(*part(self.train), *part(self.test), len(self.classes), *val)

    def folds(self, count: int = 5) -> Folds:
        """Folds of the training samples: (rows to learn from, rows held out), rows of `train`.

        If there are several subjects, recordings or other groups that the split is made by, none
        is in both.

        Raises:
            EvaluationError: fewer than two samples of some class.
        """
        rows = self.train.numpy()
        labels, groups = self.labels[self.train].numpy(), self.groups[rows]
        grouped = 1 < len(np.unique(groups)) < len(labels)
        if not grouped and (others := training_groups(self.columns, rows)):
            grouped, (_, groups) = True, others
        if not grouped:  # each class in each fold
            count = min(count, int(np.unique(labels, return_counts=True)[1].min()))
        parts = training_folds(labels, groups if grouped else None, count)
        if not parts:
            raise EvaluationError("training folds need two or more samples of each class")
        return parts


def open_labeled_data(
    store: Store,
    split: str,
    *,
    frame_step: int = 1,
    device: torch.device | None = None,
    batch_size: int = 256,
    backend: str = "auto",
    choose: str = "test",
    precision: str = "fp32",
) -> LabeledData:
    """The sequences of a store under one of its splits.

    Args:
        store: must have labels.
        split: of the store, or a built-in one.
        frame_step: step between the frames that are taken, as in pretraining.
        device: where encoders and classifiers run; the CPU by default.
        batch_size: sequences encoded at once.
        backend: of the ops.
        choose: "val" for data with the split's validation samples.
        precision: what frozen encoders compute in, fp32 or bf16.

    Raises:
        EvaluationError: no such split, no labels, no validation samples to choose on, or only
            one class to learn.
    """
    if store.labels is None:
        raise EvaluationError(f"{store.path}: has no labels to evaluate with")
    try:
        rule = get_split_rule(split, store)
        train, test = map(torch.from_numpy, rule(store.samples))
        val = rule.validation(store.samples) if choose == "val" else None
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    if choose == "val" and val is None:
        raise EvaluationError(f"{store.path}: {_no_validation(store, rule)}")
    labels = torch.from_numpy(np.array(store.labels))
    if len(torch.unique(labels[train])) < 2:
        raise EvaluationError(f"{store.path}: {split} has one class only in its training samples")
    count = len(store.class_names) or int(labels.max()) + 1
    device = device or torch.device("cpu")
    return LabeledData(
        _resident(store.positions[:, :, ::frame_step], device),
        labels,
        train,
        test,
        store.class_names or tuple(f"class {label}" for label in range(count)),
        store.layout,
        store.samples[rule.column],
        device,
        batch_size,
        backend,
        None if val is None else torch.from_numpy(val),
        store.preprocessing,
        {name: store.samples[name] for name in GROUPS if name in store.samples},
        precision,
    )


def open_unlabeled_data(store: Store, *, frame_step: int = 1) -> LabeledData:
    """All sequences of a store as test samples of one class that has no name.

    Args:
        store: with labels or without.
        frame_step: step between the frames that are taken, as in pretraining.
    """
    device = torch.device("cpu")
    return LabeledData(
        _resident(store.positions[:, :, ::frame_step], device),
        labels=torch.zeros(len(store), dtype=torch.int64),
        train=torch.arange(0),
        test=torch.arange(len(store)),
        classes=("",),
        layout=store.layout,
        groups=store.samples["name"],
        device=device,
        preprocessing=store.preprocessing,
    )


def _no_validation(store: Store, rule: SplitRule) -> str:
    """The refusal of a split without validation samples, with what there is instead."""
    others = [name for name in store.meta["splits"] if validation(store, name) is not None]
    if others:
        there = f"split {', '.join(others)} has"
    else:
        cells = ", ".join(map(str, np.unique(store.samples[rule.column])[:10].tolist()))
        there = f"no split of the store has; column {rule.column} holds {cells}"
    return f"--choose val: split {rule.name} has no validation samples ({there})"


def _resident(positions: npt.NDArray[Any], device: torch.device) -> Tensor:
    """On the GPU if it takes less than half of what is free, otherwise in the file or memory."""
    with warnings.catch_warnings():
        # torch has no read-only tensors; nothing writes to this one.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        data = torch.from_numpy(positions)
    if device.type == "cuda" and data.nbytes < SHARE * torch.cuda.mem_get_info(device)[0]:
        return data.to(device)
    return data


def training_groups(
    samples: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]
) -> tuple[str, npt.NDArray[Any]] | None:
    """What folds of these samples are parted by: the first of the columns subject and recording
    that has several values, fewer than there are samples; its name and values [len(rows)].
    """
    for name in GROUPS:
        if name in samples and 1 < len(np.unique(samples[name][rows])) < len(rows):
            return name, samples[name][rows]
    return None


def training_folds(
    labels: npt.NDArray[Any], groups: npt.NDArray[Any] | None, count: int = 5
) -> list[tuple[Tensor, Tensor]]:
    """Folds of samples, each with about the same share of every class.

    Args:
        labels: classes [S].
        groups: [S], no value of which is in both parts of a fold; None if there are none.
        count: largest number of folds.

    Returns:
        (rows to learn from, rows held out) of each; empty if there are too few samples.
    """
    counts = np.unique(labels, return_counts=True)[1]
    several = len(np.unique(groups)) if groups is not None else counts.max()
    count = min(count, int(several), int(counts.max()))
    if count < 2:
        return []
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        # A class may lie within one subject: that fold then tests what it has.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = splitter(count, shuffle=True, random_state=0).split(labels, labels, groups)
        return [(torch.from_numpy(fit), torch.from_numpy(held)) for fit, held in parts]

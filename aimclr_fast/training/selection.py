"""What best.pt is chosen on: validation samples or held-out training subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aimclr_fast.data import Store, splits
from aimclr_fast.evaluation.labeled_data import training_folds

_SUBJECT = "subject"  # a column of samples.csv


@dataclass(frozen=True)
class Selection:
    """Samples whose kNN accuracy chooses the best checkpoint.

    Attributes:
        validation: samples that the training samples classify; None where there are none.
        folds: otherwise, (rows to classify by, rows held out) of the training samples.
        k: number of nearest neighbors.
        where: what the samples are, for messages.
    """

    validation: Tensor | None
    folds: tuple[tuple[Tensor, Tensor], ...]
    k: int
    where: str


def open_selection(store: Store, split: str, train_index: Tensor) -> Selection | None:
    """The validation samples of a split, or else folds of its training samples, by subject if
    there are subjects; None for a store without labels, or with too few samples for folds.

    Raises:
        ValueError: the split is not valid.
    """
    if store.labels is None:
        return None
    validation = splits.validation(store, split)
    if validation is not None:
        return Selection(
            torch.from_numpy(validation),
            (),
            _k(len(train_index)),
            f"{len(validation)} validation samples",
        )
    rows = train_index.numpy()
    subjects = training_groups(store, rows)
    folds = training_folds(np.asarray(store.labels)[rows], subjects)
    if not folds:
        return None
    parted = "samples" if subjects is None else "subjects"
    where = f"the training samples, in {len(folds)} folds that part the {parted}"
    return Selection(None, tuple(folds), _k(min(len(fit) for fit, _ in folds)), where)


def training_groups(store: Store, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any] | None:
    """Subjects of samples of a store, to part folds by; None where there are not two."""
    if _SUBJECT not in store.samples:
        return None
    subjects = store.samples[_SUBJECT][rows]
    return subjects if len(np.unique(subjects)) > 1 else None


def _k(samples: int) -> int:
    return 20 if samples >= 20 else 1

"""What best.pt is chosen on: validation samples or held-out training subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aimclr_fast.data import Store, splits
from aimclr_fast.evaluation.labeled_data import training_folds, training_groups


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
    """The validation samples of a split, or else folds of its training samples, by subject or
    recording if there are several; None for a store without labels, or with too few samples for
    folds.

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
    parted, groups = training_groups(store.samples, rows) or ("sample", None)
    folds = training_folds(np.asarray(store.labels)[rows], groups)
    if not folds:
        return None
    where = f"the training samples, in {len(folds)} folds that part the {parted}s"
    return Selection(None, tuple(folds), _k(min(len(fit) for fit, _ in folds)), where)


def _k(samples: int) -> int:
    return 20 if samples >= 20 else 1

"""The nearest training sequences of new ones, and when a new one is far from all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from aimclr_fast.data.splits import get_split_rule
from aimclr_fast.data.store import Store
from aimclr_fast.data.timing import RECORDING

from .encoder import Encoder
from .nearest import nearest

_BLOCK = 4096  # sequences in memory at a time


@dataclass(frozen=True)
class Known:
    """What an encoder has learned from.

    Attributes:
        features: of the training sequences, [S, F], each of length 1.
        names: of the sequences.
        classes: of the sequences, where the store has labels.
        groups: their recordings or subjects, [S], no two of which are of one person at one time.
    """

    features: Tensor
    names: list[str]
    classes: list[str] | None
    groups: npt.NDArray[np.str_]

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Index [N] of the nearest training sequence of each row, and its cosine distance [N]."""
        return _first(F.normalize(features.cpu(), dim=1), self.features)

    def threshold(self, share: float) -> float:
        """The distance that is exceeded by this share of training sequences, each compared with
        those of other groups alone: what is further away than that is unlike all that was learned.

        A new sequence that is like those of training exceeds it with about this probability, if
        groups are alike (cross-conformal prediction; Vovk, 2015).

        Raises:
            ValueError: the share is not between 0 and 1, or there are not two groups.
        """
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}")
        groups = np.unique(self.groups)
        if len(groups) < 2:
            raise ValueError("the training sequences are all of one group: nothing to compare with")
        distances = self.features.new_empty(len(self.names))
        for group in groups:
            own = torch.from_numpy(self.groups == group)
            distances[own] = _first(self.features[own], self.features[~own])[1]
        # The (n + 1) share-th largest, so that the promise holds for few sequences.
        rank = int(np.floor((len(distances) + 1) * share))
        if rank < 1:
            return float("inf")
        return float(distances.sort(descending=True).values[rank - 1])


def learn(encoder: Encoder, store: Store, split: str) -> Known:
    """Encode the training sequences of a store.

    Raises:
        ValueError: the store has another layout, or no such split.
    """
    if store.layout != encoder.layout:
        raise ValueError(
            f"{store.path} has layout {store.layout.name}, the encoder {encoder.layout.name}"
        )
    rows = get_split_rule(split, store)(store.samples)[0]
    features = [
        encoder(
            store.as_tensor(some).permute(0, 4, 2, 3, 1), preprocessed=True, batch_size=256
        ).cpu()
        for some in np.array_split(rows, max(1, len(rows) // _BLOCK))
    ]
    column = next((c for c in ("subject", RECORDING) if c in store.samples), "name")
    return Known(
        features=F.normalize(torch.cat(features), dim=1),
        names=[str(name) for name in store.samples["name"][rows]],
        classes=None if store.labels is None else [store.label_of(row) for row in rows],
        groups=store.samples[column][rows].astype(np.str_),
    )


def _first(rows: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest of each of some rows, all of length 1, and its cosine distance."""
    similarity, index = nearest(rows, among, 1, unit=True)
    return index[:, 0], (1 - similarity[:, 0]).clamp(min=0)

"""Which body parts mattered for an answer, and when: occlusion (Zeiler and Fergus, 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimclr_fast.layouts import PARTS

from .encoder import Encoder

WINDOWS = 5  # of a sequence
_ROUNDING = 1e-5  # what probabilities of one sequence differ by from batch to batch, at most


@dataclass(frozen=True)
class Importance:
    """What an answer rests on.

    Attributes:
        drop: [P, W]: by how much the probability of the answer falls where part p stands still
            during window w, as it is on average; without a classifier, the cosine distance of the
            features.
        parts: name of each part, and its joints.
        ends: frames at which windows begin and end, [W + 1].
    """

    drop: npt.NDArray[np.float64]
    parts: tuple[tuple[str, tuple[int, ...]], ...]
    ends: tuple[int, ...]

    @property
    def most(self) -> tuple[str, int] | None:
        """The part and the window that mattered most; None if nothing did, as in a body that stands
        still.
        """
        if self.drop.max() <= _ROUNDING:
            return None
        part, window = np.unravel_index(int(self.drop.argmax()), self.drop.shape)
        return self.parts[int(part)][0], int(window)

    def of_joints(self, joints: int) -> npt.NDArray[np.float64]:
        """[W, V] between 0 and 1: that of a joint's part, of the largest of all; 0 if nothing
        mattered.
        """
        weights = np.zeros((len(self.ends) - 1, joints))
        for (_, own), drop in zip(self.parts, self.drop, strict=True):
            weights[:, list(own)] = np.maximum(drop, 0)[:, None]
        most = weights.max()
        return weights / most if most > _ROUNDING else 0 * weights


def explain(encoder: Encoder, sequence: npt.NDArray[Any], *, windows: int = WINDOWS) -> Importance:
    """Occlude each body part during each of some windows of time, one after the other.

    A part that is occluded keeps the shape of the body: its joints stay where they are on average
    over the sequence. Without body parts in the layout, each joint is one.

    Args:
        encoder: with a classifier, whose answer is asked about, or without.
        sequence: preprocessed, [M, T, V, 3].
        windows: of equal length.

    Raises:
        ValueError: windows is not from 1 to T.
    """
    x = np.asarray(sequence, dtype=np.float32)
    frames = x.shape[1]
    if not 1 <= windows <= frames:
        raise ValueError(f"windows must lie in 1..{frames}, got {windows}")
    ends = tuple(int(end) for end in np.linspace(0, frames, windows + 1).round())
    parts = _parts(encoder)
    still = x.mean(axis=1, keepdims=True)
    occluded = []
    for _, own in parts:
        for start, end in pairwise(ends):
            other = x.copy()
            other[:, start:end, list(own)] = still[:, :, list(own)]
            occluded.append(other)
    batch = np.stack([x, *occluded])
    if encoder.class_names:
        probabilities = encoder.classify(batch, preprocessed=True).probabilities.double().cpu()
        drop = probabilities[0].max() - probabilities[1:, int(probabilities[0].argmax())]
    else:
        features = torch.nn.functional.normalize(
            encoder(batch, preprocessed=True).double().cpu(), dim=1
        )
        drop = 1 - features[1:] @ features[0]
    return Importance(drop.reshape(len(parts), windows).numpy(), parts, ends)


def _parts(encoder: Encoder) -> tuple[tuple[str, tuple[int, ...]], ...]:
    try:
        parts = encoder.layout.body_parts
    except ValueError:  # its joints' names do not tell them
        return tuple((name, (joint,)) for joint, name in enumerate(encoder.layout.joints))
    return tuple((name.replace("_", " "), own) for name, own in zip(PARTS, parts, strict=True))

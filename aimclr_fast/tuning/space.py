"""What the search draws: methods, learning rate, augmentations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aimclr_fast.config import TrainConfig

#: Methods that need no run to start from, the cheapest first.
METHODS = ("skeletonclr", "aimclr++", "aimclr", "skelemixclr", "hiclr")
#: Fields by dotted name, and the values that are tried.
VALUES: Mapping[str, Sequence[Any]] = {
    "optim.lr": (0.01, 0.03, 0.1),
    "model.temperature": (0.07, 0.1, 0.2),
    "augment.crop_ratio": (3, 6, 12),
    "augment.shear_amplitude": (0.1, 0.25, 0.5, 1.0),
    "augment.rotation_main_deg": (15.0, 30.0, 60.0),
    "augment.noise_prob": (0.0, 0.5),
    "augment.blur_prob": (0.0, 0.5),
    "augment.axis_mask_prob": (0.0, 0.5),
    "augment.spatial_flip_prob": (0.0, 0.5),
    "augment.turn_deg": (0.0, 45.0, 180.0),
}
#: What only labels can judge: whether left and right are the same, and which way people face.
_NEEDS_LABELS = ("augment.spatial_flip_prob", "augment.turn_deg")


def draw(number: int, seed: int, methods: Sequence[str], *, labels: bool) -> dict[str, Any]:
    """The method and fields of a trial; a function of its arguments alone. Number 0 is the
    configuration as it is.
    """
    if number == 0:
        return {}
    rng = np.random.default_rng([seed, number])
    drawn: dict[str, Any] = {"method": methods[int(rng.integers(len(methods)))]}
    for name, values in VALUES.items():
        value = values[int(rng.integers(len(values)))]
        if labels or name not in _NEEDS_LABELS:
            drawn[name] = value
    return drawn


def changed(bases: Mapping[str, TrainConfig], drawn: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a trial.

    Args:
        bases: the configuration with each method, and as it is under "".
        drawn: see `draw`.
    """
    config = copy.deepcopy(bases[drawn.get("method", "")])
    for name, value in drawn.items():
        group, _, field = name.partition(".")
        if field:
            setattr(config, group, replace(getattr(config, group), **{field: value}))
    if "augment.spatial_flip_prob" in drawn:
        config.data.sided = False  # which would set it to 0
    return config

"""What a configuration leaves to the data: its fields that are null, chosen here."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from aimclr_fast.config import ActionletConfig, TrainConfig

BATCH = 64
MOST_KEYS = 32768  # as published
ACTCLR_EPOCHS = 350  # of the published second phase
# Words of class names, and the ones that tell sides. Letters alone do as well: "raise arm (L)".
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SIDE = re.compile(r"(left|right)(wards?)?|l|r")


def fitted(
    config: TrainConfig, samples: int, frames: int, split: str, classes: Sequence[str]
) -> tuple[TrainConfig, list[str]]:
    """A copy of a configuration in which nothing is left to the data.

    Args:
        config: its values need not be valid.
        samples: number of training samples.
        frames: of a stored sequence.
        split: the one that was taken.
        classes: names of the classes; empty where there are none.

    Returns:
        The configuration, and what was chosen, for people.
    """
    config = copy.deepcopy(config)
    data, optim = config.data, config.optim
    chosen: list[str] = []

    def choose(name: str, value: object, why: str, *, said: bool = True) -> None:
        group, field = name.split(".")
        if getattr(getattr(config, group), field) is None:
            setattr(getattr(config, group), field, value)
            shown = str(value).lower() if isinstance(value, bool) else value
            chosen.extend([f"{name} {shown}: {why}"] if said else [])

    choose("data.split", split, "the first that the store has")
    step = max(1, min(round(frames / max(data.frames, 1)), frames // 2))
    choose("data.frame_step", step, f"leaves {-(-frames // step)} of {frames} frames")
    choose("data.sided", *_sided(classes))
    if data.sided:
        config.augment = replace(config.augment, spatial_flip_prob=0.0)
    batch = 1 << (max(1, min(BATCH, samples // 2)).bit_length() - 1)
    choose("optim.batch_size", batch, f"there are {samples} training samples")
    batch = max(optim.batch_size, 1)
    keys = max(batch, config.model.topk, min(samples, MOST_KEYS) // batch * batch)
    choose("model.queue_size", keys, f"whole batches within {samples} training samples")
    if optim.steps is not None:
        optim.epochs = max(1, -(-optim.steps // max(1, samples // batch)))
    choose("optim.mining_epoch", optim.epochs // 2 + 1, "the second half of the run")
    published = ActionletConfig()
    stages = [_share(epoch, optim.epochs) for epoch in published.stages]
    acts = config.method == "actclr"
    choose("actionlet.stages", stages, "the same shares of the run as published", said=acts)
    late = max(1, _share(published.late_epoch, optim.epochs))
    choose("actionlet.late_epoch", late, "the same share of the run as published", said=acts)
    votes = max(3 * optim.epochs // 4 + 1, optim.mining_epoch)
    choose("votes.epoch", votes, "the last quarter of the run")
    return config, chosen


def _share(epoch: int, epochs: int) -> int:
    """The epoch of a run that is as far into it as one of ActCLR's published run."""
    return round(epoch * epochs / ACTCLR_EPOCHS)


def _sided(classes: Sequence[str]) -> tuple[bool, str]:
    """Whether classes differ by side, and why."""
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in classes:
        words = tuple(word.lower() for word in _WORD.findall(name))
        same[tuple("*" if _SIDE.fullmatch(word) else word for word in words)].append(name)
    named = [words for words in same if any(not word.isdigit() for word in words)]
    if not named:
        return True, "no names of classes tell whether they differ by side"
    for words in named:
        if "*" in words and len(same[words]) > 1:
            one, other = same[words][:2]
            return True, f"classes {one!r} and {other!r} differ by side"
    return False, "no two classes differ by side, as far as their names tell"

"""What ActCLR's second phase draws: views, whose augmentations change with the epoch, and mixes.

All draws come from Philox, keyed by the run's seed and counted by the epoch, or by the step and the
place in the global batch. So a resumed run goes on exactly, and the device changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast.functional import AugmentConfig
from aimclr_fast.reference.actclr import ActMix, resample, scale_bones
from aimclr_fast.reference.philox import bounded, uniform
from aimclr_fast.reference.skelemix import draw_mixes
from aimclr_fast.reference.skeleton_augment import to_stream

from .contrast import Blocks, mix_config
from .masking import random_words
from .methods import Recipe, Sampled, Views, draw_views

# The fields that turn an augmentation of AimCLR's off.
_OFF: dict[str, dict[str, Any]] = {
    "flip": {"spatial_flip_prob": 0.0},
    "rotate": {"rotation_main_deg": 0.0, "rotation_minor_deg": 0.0},
    "noise": {"noise_prob": 0.0},
    "blur": {"blur_prob": 0.0},
    "axis mask": {"axis_mask_prob": 0.0},
}
OF_QUERY = tuple(_OFF)
OF_EXTREME = (*OF_QUERY, "resample", "bone scale")
#: How many augmentations of the query and of the extreme view are drawn for each epoch of a stage.
#: After the last stage nothing is augmented.
STAGES = ((5, 7), (3, 5), (1, 3))
AMOUNTS = ("all", "most", "few", "none")  # of the augmentations, for people
RESAMPLED = 0.5  # probability of `resample`, where it is among the augmentations
EXTREME_NOISE = 5.0  # the extreme view's noise, in the query's
LATE_PARTS, LATE_BLOCKS = (1, 2), (1, 3)  # of the smaller mixes in the blend
PUBLISHED_BLOCKS = Blocks(3, 5, of=13)


class Draw(IntEnum):
    """What a random number is for; part of the random counter, apart from those of other draws."""

    OF_QUERY = 0x30000
    OF_EXTREME = 0x30001
    RESAMPLE = 0x30002
    BONES = 0x30003
    MIXES = 0x30004


class Augmentations(NamedTuple):
    """The augmentations that an epoch has, besides crop, turn and shear."""

    of_query: tuple[str, ...]
    of_extreme: tuple[str, ...]


class ActDraws(NamedTuple):
    """What the second phase draws for a batch besides its views.

    Attributes:
        swap_shift: bones take the lengths of those of row (i + swap_shift) mod N.
        blended: the mix that is blended with the sequence it was made of.
        whole: the mix that is encoded as it is.
    """

    swap_shift: Tensor
    blended: ActMix
    whole: ActMix


def draw_augmentations(recipe: Recipe, epoch: int) -> Augmentations | None:
    """Those of an epoch, counted from 1; none where nothing is augmented, not even by a crop."""
    for last, (of_query, of_extreme) in zip(recipe.actionlet.stages, STAGES, strict=True):
        if epoch <= last:
            return Augmentations(
                _subset(OF_QUERY, of_query, Draw.OF_QUERY, recipe.seed, epoch),
                _subset(OF_EXTREME, of_extreme, Draw.OF_EXTREME, recipe.seed, epoch),
            )
    return None


def describe_epochs(recipe: Recipe) -> str:
    """How views change over a run, for people."""
    epochs = recipe.optim.epochs
    ends = (*recipe.actionlet.stages, epochs)
    own = [
        (amount, end)
        for amount, before, end in zip(AMOUNTS, (0, *ends[:-1]), ends, strict=True)
        if before < min(end, epochs)
    ]
    amount = own[-1][0]
    if len(own) == 1:
        text = f"{'no' if amount == 'none' else amount} augmentations"
    else:
        parts = [*(f"{each} to {end}" for each, end in own[:-1]), f"{amount} after"]
        text = ", ".join(parts).replace(" to ", " augmentations to epoch ", 1)
    if mixes_are_late(recipe, epochs):
        text += f"; smaller mixes from epoch {recipe.actionlet.late_epoch}"
    return text


def mixes_are_late(recipe: Recipe, epoch: int) -> bool:
    """Whether an epoch, counted from 1, blends with smaller mixes."""
    return bool(0 < recipe.actionlet.late_epoch <= epoch)


def _subset(names: Sequence[str], size: int, draw: Draw, seed: int, epoch: int) -> tuple[str, ...]:
    words = random_words(draw, seed, epoch, torch.zeros(1, dtype=torch.int64), len(names))[0]
    kept = words.argsort(stable=True)[:size].tolist()
    return tuple(name for place, name in enumerate(names) if place in kept)


def draw_act_views(recipe: Recipe, batch: Sampled) -> Views:
    """By stream: `extreme`, `query` (milder), `weak` and `key` (cropped and sheared), and `draws`.

    Views are [N, 3, T, V, M]; the draws are the same in all streams.
    """
    joints = batch._replace(streams=("joint",))

    def drawn(config: AugmentConfig, *names: str) -> list[Tensor]:
        return list(draw_views(recipe, joints, names, config)["joint"].values())

    augment: AugmentConfig = recipe.augment
    chosen = draw_augmentations(recipe, batch.epoch)
    if chosen is None:
        still = replace(augment, crop_ratio=2**31 - 1, shear_amplitude=0.0, turn_deg=0.0)
        views = drawn(still, "query") * 4
    else:
        mild = _only(augment, chosen.of_query)
        loud = replace(augment, noise_std=EXTREME_NOISE * augment.noise_std)
        # The op's strong view has the same augmentations as its extreme one, with other draws.
        (extreme,) = drawn(_only(loud, chosen.of_extreme), "extreme")
        extreme = _more(extreme, chosen.of_extreme, recipe.seed, batch)
        views = [extreme, *drawn(mild, "strong"), *drawn(augment, "query", "key")]
    parents = _table(batch.layout.parents, batch.index.device)
    draws = draw_for_batch(recipe, batch, frames=views[0].shape[2])
    names = ("extreme", "query", "weak", "key")
    found: Any = {
        stream: {name: to_stream(x, stream, parents) for name, x in zip(names, views, strict=True)}
        for stream in batch.streams
    }
    for own in found.values():
        own["draws"] = draws
    return found  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=8)
def _table(joints: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept, because a step that a GPU captures must not copy from the host."""
    return torch.tensor(joints, device=device)


def _only(config: AugmentConfig, names: Sequence[str]) -> AugmentConfig:
    off = {
        field: value for name in _OFF if name not in names for field, value in _OFF[name].items()
    }
    return replace(config, **off)


def _more(x: Tensor, names: Sequence[str], seed: int, batch: Sampled) -> Tensor:
    """The augmentations that AimCLR does not have, of the extreme view."""
    places = batch.offset + torch.arange(len(x), device=x.device)
    if "resample" in names:
        words = uniform(random_words(Draw.RESAMPLE, seed, batch.step, places, 2))
        speeds = words[:, 1].where(words[:, 0] < RESAMPLED, 0.5)  # at a half nothing changes
        x = resample(x, speeds)
    if "bone scale" in names:
        draws = uniform(random_words(Draw.BONES, seed, batch.step, places, x.shape[3]))
        x = scale_bones(x, draws, _table(batch.layout.parents, x.device))
    return x


def draw_for_batch(recipe: Recipe, batch: Sampled, *, frames: int) -> ActDraws:
    """Bone swap and mixes; all sequences of a batch share them."""
    samples, device = len(batch.index), batch.index.device
    words = random_words(Draw.MIXES, recipe.seed, batch.step, torch.arange(2, device=device), 3)
    early = mix_config(recipe, 2, frames, PUBLISHED_BLOCKS)
    late = replace(
        early,
        parts_min=LATE_PARTS[0],
        parts_max=min(LATE_PARTS[1], early.parts_max),
        blocks_min=LATE_BLOCKS[0],
        blocks_max=min(LATE_BLOCKS[1], early.blocks_max),
    )
    mixes = []
    blended = late if mixes_are_late(recipe, batch.epoch) else early
    for place, config in enumerate((blended, early)):
        of = draw_mixes(
            config, samples=samples, frames=frames, seed=recipe.seed, step=batch.step,
            like=batch.index,
        )  # fmt: skip
        kind, weight = uniform(words[place, :2])
        mixes.append(
            ActMix(
                # A half, a quarter and a quarter of the draws.
                kind=(kind <= 0.5).long() + (kind <= 0.25).long(),
                shift=of.shift[place],
                parts=of.parts[place],
                first_block=of.first_block[place],
                blocks=of.blocks[place],
                weight=weight,
            )
        )
    return ActDraws(1 + bounded(words[0, 2], samples - 2), *mixes)

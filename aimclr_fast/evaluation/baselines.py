"""Baselines that a pretrained encoder is compared with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from aimclr_fast.inference.checkpoints import fresh_encoder
from aimclr_fast.inference.features import can_be_aligned

from .finetuning import FinetuneConfig, finetune
from .representation import ALIGNED, RAW, SUPERVISED, UNTRAINED, Pretrained, Representation

BASELINES = (UNTRAINED, SUPERVISED, RAW)


def baselines(
    pretrained: Pretrained,
    kinds: Collection[str],
    scratch: FinetuneConfig | None,
    *,
    seen: set[tuple[Any, ...]],
    say: Callable[[str], None],
) -> Iterator[Representation]:
    """Baselines of a pretrained encoder, on the same data and stream.

    The same encoder untrained, with the weights that the run's seed gives; the same encoder trained
    from scratch with all training labels, unless streams are side by side; the raw poses and,
    where preprocessing did not turn them, the raw poses aligned (`raw_poses`).

    Args:
        pretrained: the encoder, and the data.
        kinds: those of `BASELINES` that are wanted.
        scratch: recipe of training from scratch; None: the encoder stays untrained.
        seen: baselines of other checkpoints, which are reused; new ones are added.
        say: called with a message before long work.
    """
    loaded, data, seed = pretrained.file.loaded, pretrained.data, pretrained.run_seed
    model, stream = loaded.config["model"], pretrained.stream

    def new(name: str, *what: Any) -> bool:
        key = (name, data.sequences.shape, *what)
        return name in kinds and key not in seen and not seen.add(key)  # type: ignore[func-returns-value]

    raw = Representation(RAW, None, "", data, run_config=loaded.config)
    about = (stream, seed, repr(sorted(model.items())))
    if new(UNTRAINED, *about):
        yield untrained(pretrained)
    # A supervised encoder is trained with a classifier on the published readout, and so measured.
    if not pretrained.beside and new(SUPERVISED, *about):
        encoder, own = fresh_encoder(model, loaded.layout, seed=seed), None
        if scratch is not None:
            say(f"training from scratch, {stream} stream, {scratch.epochs} epochs ...")
            own, encoder = finetune(data, encoder, stream, scratch, seed=seed)
        yield replace(raw, name=SUPERVISED, encoder=encoder, stream=stream, own=own, run_seed=seed)
    if new(RAW):
        yield raw
        if can_be_aligned(data.layout, data.preprocessing):
            yield replace(raw, name=ALIGNED)


def untrained(pretrained: Pretrained) -> Representation:
    """The encoder with the weights that its run started from, and the same readout."""
    encoders = [
        fresh_encoder(file.loaded.config["model"], file.loaded.layout, seed=pretrained.run_seed)
        for file in (pretrained.file, *pretrained.beside)
    ]
    return pretrained.of_encoders(UNTRAINED, encoders)


def from_scratch(recipe: FinetuneConfig) -> FinetuneConfig:
    """Fine-tuning with the encoder at the classifier's learning rate."""
    return replace(recipe, lr_encoder=recipe.lr)

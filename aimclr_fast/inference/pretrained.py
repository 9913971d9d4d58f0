"""Encoders that come with the package, each a file of weights and a card that says what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aimclr_fast._checkpoint import CheckpointError, load_checkpoint
from aimclr_fast.data import Store, StoreError, resolve_store

_FOLDER = Path(__file__).parent / "shipped"
#: Names that :func:`aimclr_fast.load_encoder` takes in place of a path.
PRETRAINED = ("ui_prmd",)


def pretrained_file(name: str | os.PathLike[str]) -> Path | None:
    """The weights of an encoder that comes with the package; None for any other name or path."""
    return _FOLDER / f"{name}.safetensors" if name in PRETRAINED else None


def encoder_card(name: str) -> dict[str, Any]:
    """What an encoder that comes with the package is: its data, recipe, scores and checksum.

    Args:
        name: "ui_prmd": ten rehabilitation exercises, each done correctly and incorrectly, on
            UI-PRMD's skeleton of 22 joints, with a classifier of these 20 classes.

    Raises:
        ValueError: no such encoder.
    """
    if name not in PRETRAINED:
        raise ValueError(f"no encoder {name!r} comes with this package: {', '.join(PRETRAINED)}")
    card: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return card


def training_store(encoder: str | os.PathLike[str]) -> tuple[Store, str | None]:
    """The store that an encoder was trained on, and the split, where its file names one.

    Args:
        encoder: as :func:`aimclr_fast.load_encoder` takes it.

    Raises:
        StoreError: its file does not say (it was exported, or is the AimCLR authors'), or the store
            cannot be opened.
    """
    try:
        if encoder in PRETRAINED:
            data = encoder_card(str(encoder))["data"]
        else:
            data = load_checkpoint(Path(encoder))["config"]["data"]
        name = data["store"]
    except (CheckpointError, LookupError, TypeError):
        name = None
    if not name:
        raise StoreError("the encoder does not say what it was trained on")
    try:
        return resolve_store(name), data.get("split")
    except ValueError as error:
        raise StoreError(f"what the encoder was trained on cannot be opened: {error}") from error

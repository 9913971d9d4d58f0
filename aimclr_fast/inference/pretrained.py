"""Encoders that come with the package, each a file of weights and a card that says what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aimclr_fast._checkpoint import CheckpointError, load_checkpoint

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


def trained_on(encoder: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Store and split of an encoder's training, as far as its file says.

    Args:
        encoder: as :func:`aimclr_fast.load_encoder` takes it.
    """
    if encoder in PRETRAINED:
        data = encoder_card(str(encoder))["data"]
    else:
        try:
            data = load_checkpoint(Path(encoder))["config"]["data"]
        except (CheckpointError, LookupError, TypeError):  # exported, or the authors'
            return None, None
    return data.get("store"), data.get("split")

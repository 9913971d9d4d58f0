"""Reading checkpoints: what training writes and evaluation and users read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

FORMAT = 2


class CheckpointError(ValueError):
    """A file is not one of our checkpoints, or cannot be read; the message names it."""


def read_file(path: str | Path, map_location: str = "cpu") -> Any:
    """What torch saved in a file, admitting only tensors and plain containers.

    Raises:
        CheckpointError: no such file, or not readable as such.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error


def check_format(path: str | Path, state: Any) -> dict[str, Any]:
    """`state`, if it is one of our checkpoints.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of aimclr_fast (format {FORMAT})")
    return state


def load_checkpoint(path: str | Path, map_location: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, admitting only tensors and plain containers.

    Raises:
        CheckpointError: no such file, not readable as such, or not in our format.
    """
    return check_format(path, read_file(path, map_location))

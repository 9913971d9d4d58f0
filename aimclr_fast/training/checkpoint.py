"""Checkpoints: models, optimisers and place in training, in plain containers and tensors."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import aimclr_fast

from .config import TrainConfig

FORMAT = 2


class CheckpointError(ValueError):
    """A file is not one of our checkpoints, or cannot be read; the message names it."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes the name only when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; outputs get the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(
    path: Path,
    *,
    models: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    config: TrainConfig,
    layout: dict[str, Any],
    data: dict[str, Any],
    epoch: int,
    step: int,
) -> None:
    """Write models and optimisers by stream, place in training, configuration, skeleton and
    what an encoder must know of its data (`Store.traits`).
    """
    state = {
        "format": FORMAT,
        "package": aimclr_fast.__version__,
        "models": {stream: model.state_dict() for stream, model in models.items()},
        "optimizers": {stream: one.state_dict() for stream, one in optimizers.items()},
        "config": dataclasses.asdict(config),
        "layout": layout,
        "data": data,
        "epoch": epoch,
        "step": step,
        "torch_rng": torch.get_rng_state(),
    }
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: str | Path, map_location: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, admitting only tensors and plain containers.

    Raises:
        CheckpointError: no such file, not readable as such, or not in our format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of aimclr_fast (format {FORMAT})")
    return state

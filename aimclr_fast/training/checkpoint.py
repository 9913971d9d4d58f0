"""Checkpoints: models, optimizers and place in training, in plain containers and tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import aimclr_fast
from aimclr_fast._checkpoint import (
    FORMAT,
    CheckpointError,
    digest,
    load_checkpoint,
    write_file,
)
from aimclr_fast._files import written_whole
from aimclr_fast.config import TrainConfig

__all__ = ["CheckpointError", "digest", "load_checkpoint", "save_checkpoint", "written_whole"]


def save_checkpoint(
    path: Path,
    *,
    models: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    config: TrainConfig,
    layout: dict[str, Any],
    epoch: int,
    step: int,
    data: Mapping[str, Any] | None = None,
    place: Mapping[str, Any] | None = None,
) -> None:
    """Write models and optimizers by stream, place in training, configuration and skeleton.

    Args:
        path: of the file, which appears whole or not at all.
        models: by stream; each holds both encoders, the queue and its pointer.
        optimizers: by stream.
        config: of the run.
        layout: of the skeleton.
        epoch: the epoch that the last step belongs to, from 1.
        step: steps taken.
        data: what tells this data set from another, and what an encoder must know of it.
        place: all else that a run needs to go on as if it had never stopped.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    state: dict[str, Any] = {
        "format": FORMAT,
        "package": aimclr_fast.__version__,
        "models": {stream: model.state_dict() for stream, model in models.items()},
        "optimizers": {stream: one.state_dict() for stream, one in optimizers.items()},
        "config": dataclasses.asdict(config),
        "layout": layout,
        "epoch": epoch,
        "step": step,
        "data": dict(data or {}),
        "place": dict(place or {}),
        "torch_rng": torch.get_rng_state(),
    }
    state["sha256"] = digest(state)
    write_file(path, state)

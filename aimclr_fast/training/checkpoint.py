"""Checkpoints: models, optimizers and training state, in plain containers and tensors."""

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
    """Write models and optimizers by stream, training state, configuration and skeleton.

    Args:
        path: of the file, which appears whole or not at all.
        models: by stream; each holds both encoders, the queue and its pointer.
        optimizers: by stream.
        config: of the run.
        layout: of the skeleton.
        epoch: the epoch that the last step belongs to, from 1.
        step: steps taken.
        data: identity of the data set, and its traits that an encoder needs.
        place: what else a run needs to resume exactly.

    Raises:
        OSError: the file cannot be written; an existing one is untouched.
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

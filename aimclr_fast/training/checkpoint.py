"""Checkpoints: models, optimisers and place in training, in plain containers and tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import aimclr_fast
from aimclr_fast._checkpoint import FORMAT, CheckpointError, load_checkpoint
from aimclr_fast._files import written_whole

from .config import TrainConfig

__all__ = ["CheckpointError", "load_checkpoint", "save_checkpoint", "written_whole"]


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

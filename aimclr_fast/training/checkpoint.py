"""Checkpoints: models, optimisers and place in training, in plain containers and tensors."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aimclr_fast

from .config import TrainConfig

FORMAT = 3


class CheckpointError(ValueError):
    """A file is not one of our checkpoints, or cannot be read; the message names it."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes the name only when all went well.

    By then its content is on the disk: a crash of the machine leaves the old file or the new one.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; outputs get the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # not every file system knows this for folders
            _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
    """Write models and optimisers by stream, place in training, configuration and skeleton.

    Args:
        path: of the file, which appears whole or not at all.
        models: by stream; each holds both encoders, the queue and its pointer.
        optimizers: by stream.
        config: of the run.
        layout: of the skeleton.
        epoch: the epoch that the last step belongs to, from 1.
        step: steps taken.
        data: what tells this data set from another.
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
    # By way of memory: torch's own writer answers a full disk with an abort.
    content = io.BytesIO()
    torch.save(state, content)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: str | Path, map_location: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, admitting only tensors and plain containers.

    Raises:
        CheckpointError: no such file, not readable as such, not in our format, or damaged.
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
    if state.pop("sha256", None) != digest(state):
        raise CheckpointError(f"{path}: damaged: its content differs from its checksum")
    return state


def digest(content: object) -> str:
    """Checksum of nested mappings, sequences, tensors and plain values, in hexadecimal."""
    hasher = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, Tensor):
            hasher.update(f"tensor {value.dtype} {list(value.shape)};".encode())
            content = value.detach().cpu().flatten().view(torch.uint8)
            hasher.update(content.numpy().data)
        elif isinstance(value, Mapping):
            hasher.update(f"mapping {len(value)};".encode())
            for key, item in value.items():
                feed(key)
                feed(item)
        elif isinstance(value, list | tuple):
            hasher.update(f"sequence {len(value)};".encode())
            for item in value:
                feed(item)
        else:
            hasher.update(f"{value!r};".encode())

    feed(content)
    return hasher.hexdigest()

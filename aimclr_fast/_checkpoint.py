"""Reading checkpoints: what training writes and evaluation and users read."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._errors import Error
from ._files import written_whole
from ._renamed import with_new_names

FORMAT = 3


class CheckpointError(Error, ValueError):
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
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_reason(error)})") from error
    try:
        _check_sizes(state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from error
    return state


def _reason(error: Exception) -> str:
    """Why torch cannot read a file, without its advice to read it in an unsafe way."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+)", text):
        return (
            f"it holds {found[1]}, and only tensors and plain containers are read, since "
            "others can run code; have the state dict saved by itself"
        )
    if "PytorchStreamReader" in text:
        return "an archive that is damaged or incomplete"
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "there is not enough memory for it"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is no file that torch.save wrote, or is damaged"


def check_finite(weights: Mapping[str, Any]) -> None:
    """Refuse weights that would make every feature NaN.

    Raises:
        CheckpointError: with the parameter's name.
    """
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        if not torch.isfinite(tensor.float()).all():
            raise CheckpointError(
                f"{name} holds values that are not finite: training diverged, or the file is "
                "damaged"
            )


def _check_sizes(value: object) -> None:
    """Refuse tensors that claim more elements than the file holds, by strides of 0."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {list(value.shape)} is not stored as such")
    elif isinstance(value, Mapping | list | tuple | set):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_sizes(item)


def write_file(path: Path, content: object) -> None:
    """Write what `read_file` reads; the file appears whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    # From memory: torch's own writer aborts on a full disk.
    memory = io.BytesIO()
    torch.save(content, memory)
    with written_whole(path) as temporary:
        temporary.write_bytes(memory.getbuffer())


def check_format(path: str | Path, state: Any) -> dict[str, Any]:
    """`state`, if it is one of our checkpoints and as it was written.

    Raises:
        CheckpointError: it is something else, or damaged.
    """
    form = state.get("format") if isinstance(state, dict) else None
    # The truth value of a tensor is ambiguous.
    if not isinstance(state, dict) or type(form) is not int or form != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of aimclr_fast (format {FORMAT})")
    try:
        found = digest({name: value for name, value in state.items() if name != "sha256"})
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:  # none of ours
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"{path}: damaged: it has no checksum ({reason})") from error
    if state.pop("sha256", None) != found:
        raise CheckpointError(f"{path}: damaged: its content differs from its checksum")
    if "config" in state:
        state["config"] = with_new_names(state["config"])
    return state


def load_checkpoint(path: str | Path, map_location: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, admitting only tensors and plain containers.

    Raises:
        CheckpointError: no such file, not readable as such, not in our format, or damaged.
    """
    return check_format(path, read_file(path, map_location))


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

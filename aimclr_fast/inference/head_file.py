"""A linear classifier as a file: what `evaluate linear` writes and `load_encoder` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from aimclr_fast._checkpoint import CheckpointError, read_file, write_file

FORMAT = "linear head 1"


def save_head(
    path: Path,
    tensors: Mapping[str, Tensor],
    classes: Sequence[str],
    *,
    stream: str,
    checkpoint_sha256: str,
) -> None:
    """Write a classifier of one checkpoint's features.

    Args:
        path: of the file, which appears whole or not at all.
        tensors: weight [K, F] and bias [K], for features as the encoder gives them: a
            standardization they were trained with is part of them.
        classes: K names.
        stream: of the encoder.
        checkpoint_sha256: of the encoder's file.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "classes": list(classes),
        "stream": stream,
        "checkpoint_sha256": checkpoint_sha256,
        **{name: tensor.cpu() for name, tensor in tensors.items()},
    }
    write_file(path, content)


def read_head(
    path: Path, *, stream: str, checkpoint_sha256: str
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Weight [K, F], bias [K] and K class names.

    Raises:
        CheckpointError: not such a file, or of another stream or checkpoint; the message names it.
    """
    content = read_file(path)
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(form, str) or form != FORMAT:
        raise CheckpointError(f"{path}: not a classifier that `evaluate linear` saved ({FORMAT})")
    if content.get("stream") != stream:
        raise CheckpointError(f"{path}: is for the {content.get('stream')} stream, not {stream}")
    if content.get("checkpoint_sha256") != checkpoint_sha256:
        raise CheckpointError(f"{path}: was trained on the features of another checkpoint")
    weight, bias, names = (content.get(name) for name in ("weight", "bias", "classes"))
    tensors = isinstance(weight, Tensor) and isinstance(bias, Tensor)
    if not tensors or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise CheckpointError(f"{path}: damaged: it lacks weight, bias or names of classes")
    return weight, bias, tuple(names)

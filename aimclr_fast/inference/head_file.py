"""A linear classifier as a file: what `evaluate linear` writes and `load_encoder` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from aimclr_fast._checkpoint import CheckpointError, read_file, write_file
from aimclr_fast.nn.readouts import PUBLISHED

FORMAT = "linear head 1"
FORMAT_READOUT = "linear head 2"  # names the readout, which is not the published mean


class LinearHead(NamedTuple):
    """Weight [K, F], bias [K] and K class names of a classifier, and the readout that it takes."""

    weight: Tensor
    bias: Tensor
    classes: tuple[str, ...]
    pool: str


def save_head(
    path: Path,
    tensors: Mapping[str, Tensor],
    classes: Sequence[str],
    *,
    stream: str,
    checkpoint_sha256: str,
    pool: str = PUBLISHED,
) -> None:
    """Write a classifier of one checkpoint's features.

    Args:
        path: of the file, which appears whole or not at all.
        tensors: weight [K, F] and bias [K], for features as the encoder gives them: a
            standardization they were trained with is part of them.
        classes: K names.
        stream: of the encoder.
        checkpoint_sha256: of the encoder's file.
        pool: readout that the features are from.

    Raises:
        OSError: it cannot be written.
    """
    content = {
        "format": FORMAT if pool == PUBLISHED else FORMAT_READOUT,
        "pool": pool,
        "classes": list(classes),
        "stream": stream,
        "checkpoint_sha256": checkpoint_sha256,
        **{name: tensor.cpu() for name, tensor in tensors.items()},
    }
    write_file(path, content)


def read_head(
    path: Path, *, stream: str, checkpoint_sha256: str, pool: str | None = None
) -> LinearHead:
    """The classifier in a file.

    Args:
        path: of the file.
        stream: that it must be for.
        checkpoint_sha256: likewise.
        pool: likewise; None takes the file's.

    Raises:
        CheckpointError: not such a file, or of another stream, checkpoint or readout; the message
            names it.
    """
    content = read_file(path)
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(form, str) or form not in (FORMAT, FORMAT_READOUT):
        raise CheckpointError(f"{path}: not a classifier that `evaluate linear` saved ({FORMAT})")
    if content.get("stream") != stream:
        raise CheckpointError(f"{path}: is for the {content.get('stream')} stream, not {stream}")
    if content.get("checkpoint_sha256") != checkpoint_sha256:
        raise CheckpointError(f"{path}: was trained on the features of another checkpoint")
    own = content.get("pool", PUBLISHED)
    if pool not in (None, own):
        raise CheckpointError(f"{path}: is for the readout {own}, not {pool}")
    weight, bias, names = (content.get(name) for name in ("weight", "bias", "classes"))
    tensors = isinstance(weight, Tensor) and isinstance(bias, Tensor) and isinstance(own, str)
    if not tensors or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise CheckpointError(f"{path}: damaged: it lacks weight, bias or names of classes")
    return LinearHead(weight, bias, tuple(names), own)

"""What a run starts from: the query encoders of another run, if they fit this one's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from aimclr_fast._checkpoint import CheckpointError, check_format, read_file
from aimclr_fast.config import ConfigError
from aimclr_fast.inference.checkpoints import LoadedEncoder, encoder_from
from aimclr_fast.layouts import Layout, same_skeleton
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.official import holds_encoders
from aimclr_fast.nn.stgcn import RowNorm

from .job import Job
from .run_folder import NEWEST

EXPORTED = (".safetensors", ".onnx", ".pt2")
#: Fields of the group model that the shapes or the graph of an encoder's weights depend on, and
#: what those are that 0.1.0 did not have.
SIZES = ("channels", "features", "embedding", "temporal_kernel", "graph")
NOT_SAID = {"graph": "spatial"}
WANTED = "give the checkpoint.pt of a run, or its folder"


def starting_encoders(
    given: str, job: Job, layout: Layout, encoders: Mapping[str, SkeletonEncoder]
) -> dict[str, SkeletonEncoder]:
    """The encoders of a checkpoint by stream, each with the names, shapes and graph of the run's.

    Args:
        given: a checkpoint, or the folder of a run that has one.
        job: of the run that is to start.
        layout: of its skeleton.
        encoders: its own, by stream.

    Raises:
        ConfigError: the file cannot be read or is no checkpoint of a run, lacks a stream, or does
            not fit; the message says what would do.
    """
    path = Path(given)
    try:
        if path.is_dir():
            path = _checkpoint_in(path)
        state = _read(path)
        _check_streams(path, state, job)
        loaded = {name: encoder_from(state, name) for name in encoders}
    except (CheckpointError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"start: {path}: {str(reason).removeprefix(f'{path}: ')}") from error
    for name, theirs in loaded.items():
        _check_layout(path, theirs.layout, layout)
        _check_sizes(path, theirs.config["model"], job)
        _check_head(path, theirs, encoders[name].head, job)
    return {name: theirs.encoder for name, theirs in loaded.items()}


def _checkpoint_in(folder: Path) -> Path:
    path = folder / NEWEST
    if not path.exists():
        others = ", ".join(sorted(file.name for file in folder.glob("*.pt")))
        holds = f"; it holds {others}, and --start takes any of a run's" if others else ""
        raise CheckpointError(f"the folder has no {NEWEST}{holds}")
    return path


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint of training.

    Raises:
        CheckpointError: it is none; the message says what it is, where that can be told.
    """
    if path.suffix in EXPORTED and path.exists():
        raise CheckpointError(f"an exported encoder, which has no projection head; {WANTED}")
    state = read_file(path)
    form = state.get("format") if isinstance(state, dict) else None
    if isinstance(form, str) and form.startswith("linear head"):
        raise CheckpointError(f"a classifier, which has no encoder; {WANTED}")
    if form is None and holds_encoders(state):
        raise CheckpointError(f"a checkpoint of the authors' program, not of a run; {WANTED}")
    try:
        return check_format(path, state)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {WANTED}") from error


def _check_streams(path: Path, state: Mapping[str, Any], job: Job) -> None:
    held, streams = state.get("models"), job.config.data.streams
    if not isinstance(held, Mapping):  # which `encoder_from` refuses
        return
    if missing := [name for name in streams if name not in held]:
        shared = [name for name in streams if name in held] or list(map(str, held))
        word = "stream" if len(missing) == 1 else "streams"
        raise ConfigError(
            f"start: {path} has no {', '.join(missing)} {word}; it holds "
            f"{', '.join(map(str, held))}: give --streams {','.join(shared)}"
        )


def _check_layout(path: Path, theirs: Layout, own: Layout) -> None:
    if same_skeleton(theirs, own):
        return
    there, here = (f"{each.name!r} ({each.num_joints} joints)" for each in (theirs, own))
    same = ""
    if (theirs.name, theirs.num_joints) == (own.name, own.num_joints):
        same = ", whose joints, edges or swap differ"
    raise ConfigError(
        f"start: {path} has encoders of layout {there}, but the data have layout {here}{same}: "
        f"give --data a store of layout {theirs.name!r}, or --start a run on layout {own.name!r}"
    )


def _check_sizes(path: Path, theirs: Mapping[str, Any], job: Job) -> None:
    there = {**NOT_SAID, **theirs}
    own = {name: getattr(job.config.model, name) for name in SIZES}
    if differing := [name for name in SIZES if there[name] != own[name]]:
        listed = "; ".join(
            f"model.{name} is {there[name]!r} there and {own[name]!r} here" for name in differing
        )
        flags = " ".join(f"--model.{name} {there[name]}" for name in differing)
        raise ConfigError(f"start: {path} does not fit: {listed}: give {flags}")


def _check_head(path: Path, theirs: LoadedEncoder, own: nn.Module, job: Job) -> None:
    there, here = theirs.encoder.head, own
    if _shapes(there) == _shapes(here):
        return
    raise ConfigError(
        f"start: {path} does not fit: the head of the {theirs.stream} stream is {_layers(there)} "
        f"there and {_layers(here)} here: {_way_out(there, here, job)}"
    )


def _shapes(head: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}


def _way_out(there: nn.Module, here: nn.Module, job: Job) -> str:
    """What would make the heads equal: a flag of this run, or else of the one to start from."""
    of_norm, of_sharing = ((has(there), has(here)) for has in (_has_norm, _ends_in_a_head))
    if of_norm[0] != of_norm[1]:
        flag, settable = "norm_head", job.method.parts is not None
        wanted = of_norm
    elif of_sharing[0] != of_sharing[1]:
        flag, settable = "share_head", job.method.joins(job.config)
        wanted = of_sharing
    else:
        return "start from a run of this method"
    if settable:
        return f"give --model.{flag} {str(wanted[0]).lower()}"
    return f"start from a run with --model.{flag} {str(wanted[1]).lower()}"


def _has_norm(head: nn.Module) -> bool:
    return any(isinstance(layer, RowNorm) for layer in head.modules())


def _ends_in_a_head(head: nn.Module) -> bool:
    """Streams that learn together may share what their heads end in."""
    return any(isinstance(layer, nn.Sequential) for layer in head.children())


def _layers(head: nn.Module) -> str:
    """The layers of a head, for people."""
    if isinstance(head, nn.Linear):
        return f"linear {head.in_features} to {head.out_features}"
    if isinstance(head, nn.Sequential):
        return f"({', '.join(map(_layers, head))})"
    return "batch norm" if isinstance(head, RowNorm) else "ReLU"

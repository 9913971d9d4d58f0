"""Load a pretrained encoder: ours, an exported one, or the authors'."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aimclr_fast._checkpoint import (
    FORMAT,
    CheckpointError,
    check_finite,
    check_format,
    read_file,
)
from aimclr_fast._devices import usable_device
from aimclr_fast.data.duration import Duration
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.readers import NTU, PKU
from aimclr_fast.data.store import sha256
from aimclr_fast.functional import STREAMS
from aimclr_fast.layouts import Layout, get_layout, layout_from_dict
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.official import build_encoder, holds_encoders, official_encoder
from aimclr_fast.nn.precision import check_precision
from aimclr_fast.nn.readouts import readout_width

from .checkpoints import encoder_from
from .encoder import EmbeddingModel, Encoder, Traits, with_classifier
from .head_file import read_head
from .pretrained import pretrained_file

SAFETENSORS = ".safetensors"
METADATA = "aimclr_fast"  # the key of our description in a safetensors file
#: Types that a folded encoder can compute in.
FOLDED = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Names of the classes that the authors' linear checkpoints tell apart, by their number.
OFFICIAL_CLASSES = {60: NTU[:60], 120: NTU, 51: PKU}


def load_encoder(
    path: str | os.PathLike[str],
    *,
    head: str | os.PathLike[str] | None = None,
    stream: str | None = None,
    pool: str | None = None,
    layout: str | Layout | None = None,
    preprocessing: Preprocessing | None = None,
    bodies: int | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    backend: str = "auto",
    precision: str = "fp32",
    folded: str | None = None,
) -> Encoder:
    """A frozen encoder, ready for recorded sequences.

    The file is one that comes with the package (`"ui_prmd"`, see
    `aimclr_fast.inference.pretrained.encoder_card`), a checkpoint of training, what
    `python -m aimclr_fast.export --format safetensors` made of one, or a checkpoint with the names
    that the authors of AimCLR gave (pretraining or linear evaluation; also of several streams,
    under `DataParallel` or `torch.compile`, or within another dict). It is read without running
    code from it.

    Args:
        path: the file, or the name of an encoder that comes with the package; a name goes first:
            `./ui_prmd` is a file that is called so.
        head: a linear classifier of this checkpoint's features, as `python -m aimclr_fast.evaluate
            linear` saves it (head-STREAM-HASH.pt); gives class probabilities.
        stream: which encoder of a checkpoint with several, or several of them with + between, such
            as joint+bone: their features stand side by side in that order, without classifiers that
            are in the file. The authors' files of one encoder do not say theirs: where it is left
            out, "joint", or with a warning what the encoder's name says.
        pool: readout of the feature map: mean (published), max, joints, parts, segments, or several
            with + between, such as mean+max. Left out, that of the classifier or exported file,
            otherwise mean.
        layout: skeleton of one of the authors' files; left out, the built-in layout that has the
            graph in the file. Other files carry theirs.
        preprocessing: instead of what the file says was done to the training data; the authors'
            data were resized to 50 frames and turned in the published way.
        bodies: instead of what the file says; the authors' data had 2.
        class_names: of a linear checkpoint's classes; left out, those of NTU RGB+D (60 or 120
            classes) or PKU-MMD (51), or else numbers.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        backend: of the ops.
        precision: "fp32", or "bf16" to compute feature maps in bfloat16, on GPUs and on CPUs with
            AVX512-BF16 or AMX. Features are float32 either way.
        folded: "fp32" or "bf16" to fold batch norms into the weights and compute in that type, by
            PyTorch's own operations laid out for a GPU. Features are float32 either way, and the
            encoder cannot be exported. On a CPU, `backend` is the faster way.

    Raises:
        CheckpointError: the file cannot be read, does not hold such an encoder, or does not fit the
            arguments; the message names it.
        ValueError: an argument has a value that cannot work.

    Example:
        >>> encoder = load_encoder("checkpoint.pt")
        >>> features = encoder([walk, run])  # [T, V, 3] arrays in meters, each of any length
        >>> features.shape
        torch.Size([2, 256])
    """
    file = pretrained_file(path) or Path(path)
    if folded not in (None, *FOLDED):
        raise ValueError(f"folded must be one of {', '.join(FOLDED)}, or None, got {folded!r}")
    where = usable_device(device)
    _check_precision(precision, where, folded)
    try:
        encoder, traits, beside = _load_streams(
            file, stream, None if layout is None else get_layout(layout)
        )
        if head is not None:
            encoder, traits = _with_head(encoder, traits, Path(head), file, pool)
        elif pool is not None:
            traits = _with_pool(encoder, traits, pool)
        for one in (encoder, *beside):
            check_finite(one.state_dict())
            one.backend = backend
        if class_names is not None:
            if len(class_names) != len(traits.class_names):
                has = f"has {len(traits.class_names)} classes" if traits.class_names else "has none"
                raise CheckpointError(f"{len(class_names)} class names, but the encoder {has}")
            traits = replace(traits, class_names=tuple(class_names))
    except CheckpointError as error:
        message = str(error)
        named = message.startswith(tuple(str(Path(p)) for p in (path, head) if p is not None))
        raise CheckpointError(message if named else f"{file}: {message}") from error
    if preprocessing is not None:
        frames = preprocessing.frames or traits.frames
        traits = replace(traits, preprocessing=preprocessing, frames=frames)
    if bodies is not None:
        traits = replace(traits, bodies=bodies)
    model = EmbeddingModel(encoder, traits, beside)
    model.backend, model.precision = backend, precision
    return Encoder(model if folded is None else model.eval().folded(FOLDED[folded]), where)


def _check_precision(name: str, device: torch.device, folded: str | None) -> None:
    check_precision(name, device)
    if folded is not None and name != "fp32":
        raise ValueError(f"precision is {name!r}, but folded={folded!r} says what is computed in")


def _load_streams(
    file: Path, stream: str | None, layout: Layout | None
) -> tuple[SkeletonEncoder, Traits, list[SkeletonEncoder]]:
    """The encoder of a stream; or of the first of several, and those of the others."""
    if stream is None or "+" not in stream:
        return *_load(file, _read(file), stream, layout), []
    names = stream.split("+")
    if len(set(names)) < len(names) or not set(names) <= set(STREAMS):
        raise CheckpointError(
            f"stream is {stream!r}: expected different ones of {', '.join(STREAMS)} with + between"
        )
    state = _read(file)
    (encoder, traits), *others = (_load(file, state, name, layout) for name in names)
    if any(traits.stream == one.stream or _same(encoder, other) for other, one in others):
        raise CheckpointError(f"it has one encoder, which cannot be both of {stream}")
    beside = [one for one, _ in others]
    widths = [one.backbone.features for one in (encoder, *beside)]
    if len(set(widths)) > 1:
        raise CheckpointError(f"its encoders of {stream} differ in width: {widths}")
    return _without_head(encoder), replace(traits, stream=stream, class_names=()), beside


def _same(one: SkeletonEncoder, other: SkeletonEncoder) -> bool:
    """Whether encoders have the same weights: an authors' file of one does not say its stream."""
    theirs = other.state_dict()
    return all(
        name in theirs and tensor.equal(theirs[name]) for name, tensor in one.state_dict().items()
    )


def _read(file: Path) -> Any:
    """The content of a checkpoint, ours or the authors'; None of an exported file."""
    if file.suffix == SAFETENSORS:
        return None
    state = read_file(file)
    if holds_encoders(state):
        return state
    if not (isinstance(state, dict) and "format" in state):
        raise CheckpointError(_of_neither(state))
    return check_format(file, state)


def _load(
    file: Path, state: Any, stream: str | None, layout: Layout | None
) -> tuple[SkeletonEncoder, Traits]:
    """The encoder of one stream of a file with this content."""
    if state is None:
        weights, traits, own = _read_safetensors(file)
        _check_layout(layout, own)
        _check_stream(stream, traits.stream)
        return build_encoder(weights, own), traits
    if holds_encoders(state):
        return _official(state, stream, layout)
    loaded = encoder_from(state, stream)
    _check_layout(layout, loaded.layout)
    return _without_head(loaded.encoder), _traits_of(state, loaded.config, loaded.stream)


def _of_neither(state: Any) -> str:
    """The refusal of a file that is neither ours nor has the authors' names."""
    content = type(state).__name__
    if isinstance(state, dict):
        some = ", ".join(map(str, list(state)[:5])) or "nothing"
        content = some + (f" and {len(state) - 5} more" if len(state) > 5 else "")
    return (
        f"not a checkpoint of aimclr_fast (format {FORMAT}), nor one with the names of the AimCLR "
        f"authors (encoder_q.st_gcn_networks...); it holds {content}"
    )


def _with_head(
    encoder: SkeletonEncoder, traits: Traits, head: Path, file: Path, pool: str | None
) -> tuple[SkeletonEncoder, Traits]:
    """With the classifier in `head`, which must have been trained on the features of `file`."""
    found = read_head(head, stream=traits.stream, checkpoint_sha256=sha256(file), pool=pool)
    try:
        traits = _with_pool(encoder, replace(traits, class_names=()), found.pool)
        return with_classifier(encoder, traits, found.weight, found.bias, found.classes)
    except ValueError as error:
        raise CheckpointError(f"{head}: does not fit the encoder: {error}") from error


def _with_pool(encoder: SkeletonEncoder, traits: Traits, pool: str) -> Traits:
    """With a readout, which must fit the skeleton and the classifier."""
    if traits.class_names and pool != traits.pool:
        raise CheckpointError(f"its classifier is for the readout {traits.pool}, not {pool}")
    readout_width(pool, encoder.backbone.features, encoder.backbone.layout)
    return replace(traits, pool=pool)


def _official(
    state: Mapping[str, Any], stream: str | None, layout: Layout | None
) -> tuple[SkeletonEncoder, Traits]:
    try:
        found = official_encoder(state, stream)
        encoder = build_encoder(found.weights, layout)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    traits = Traits(stream=found.stream or stream or "joint")
    if not found.is_linear:
        return _without_head(encoder), traits
    count = int(encoder.head.out_features)  # type: ignore[arg-type]
    numbers = tuple(map(str, range(count)))
    return encoder, replace(traits, class_names=OFFICIAL_CLASSES.get(count, numbers))


def _traits_of(state: Mapping[str, Any], config: Mapping[str, Any], stream: str) -> Traits:
    try:
        data = state["data"]
        steps = data["preprocessing"]
        duration = data.get("duration")  # not in files of older versions
        return Traits(
            stream=stream,
            preprocessing=None if steps is None else Preprocessing.from_dict(steps),
            frames=data["frames"],
            bodies=data["bodies"],
            frame_step=config["data"]["frame_step"],
            duration=None if duration is None else Duration.from_dict(duration),
        )
    except (LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"does not say what its data were like ({reason})") from error


def _without_head(encoder: SkeletonEncoder) -> SkeletonEncoder:
    """The projection head serves pretraining alone."""
    encoder.head = nn.Identity()
    return encoder


def _check_layout(asked: Layout | None, own: Layout) -> None:
    if asked is not None and asked != own:
        raise CheckpointError(f"is for layout {own.name!r}, not {asked.name!r}")


def _check_stream(asked: str | None, own: str) -> None:
    if asked not in (None, own):
        raise CheckpointError(f"has no {asked} stream; it holds {own}")


# --- safetensors ---------------------------------------------------------------------------------


def describe(model: EmbeddingModel) -> str:
    """What the weights alone do not say, as JSON: the skeleton, and how sequences are prepared."""
    layout = model.encoder.backbone.layout.to_dict()
    return json.dumps({"format": FORMAT, "layout": layout, "traits": model.traits.to_dict()})


def write_safetensors(model: EmbeddingModel, file: Path) -> None:
    """The weights, with `describe` as metadata, so that `load_encoder` reads them back."""
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in model.encoder.state_dict().items()}
    save_file(weights, file, {METADATA: describe(model)})


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], Traits, Layout]:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise CheckpointError("no such file")
    try:
        with safe_open(file, framework="pt") as opened:
            description = json.loads((opened.metadata() or {})[METADATA])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        traits = Traits.from_dict(description["traits"])
        layout = layout_from_dict(description["layout"], source="layout")
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"not an encoder that this package exported ({reason})") from error
    if len(traits.streams) > 1:
        raise CheckpointError(f"says that it holds the streams {traits.stream}, but holds one")
    return weights, traits, layout

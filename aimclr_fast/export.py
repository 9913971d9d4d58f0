"""Write a pretrained encoder for use elsewhere: python -m aimclr_fast.export CHECKPOINT."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import copy
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental import _config as tracing

from ._errors import Error
from ._files import written_whole
from .cli import Parser, UserError, check_utf8, run
from .encoder_cli import open_encoder
from .inference.encoder import EmbeddingModel, Encoder
from .inference.from_recordings import FromRecordings
from .inference.loading import describe, load_encoder, write_safetensors
from .inference.pretrained import training_store
from .nn.readouts import PUBLISHED

PROGRAM = "python -m aimclr_fast.export"
INPUT, OUTPUTS = "positions", ("features", "probabilities")
TOLERANCE = 1e-3  # of the largest value: rounding is far smaller, a wrong graph is far larger
MOST_FRAMES = 100_000  # of one sequence, in a graph
STACK_TRACE = "stack_trace"  # what exporters note with each node: paths of this machine
FREE = hasattr(tracing, "backed_size_oblivious")  # torch 2.7 and later
#: What each format's file is called, and what writing and checking it needs.
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
NEEDS: dict[str, tuple[str, ...]] = {
    "safetensors": ("safetensors",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch": (),
}

Forward = Callable[[Tensor], list[Tensor]]


class ExportError(Error, RuntimeError):
    """What was written does not compute what the encoder computes."""


def export(encoder: Encoder, file: Path, form: str, *, recordings: bool = False) -> float:
    """Write an encoder and check the file against it; the file appears only if they agree.

    Args:
        encoder: from `load_encoder`, on the CPU.
        file: where to.
        form: "safetensors" (the weights, and what `load_encoder` needs to read them back), "onnx"
            or "torch" (a `torch.export` program that runs without this package). The last two have
            the batch norms folded into the weights (`nn.folded`). They map preprocessed positions
            [N, 3, T, V, M] to features [N, F] and, with a classifier, class probabilities [N, K],
            for any N and any T above the frame step.
        recordings: put the preprocessing into the graph as well: it takes complete recordings in
            meters, of any T from 2 on.

    Returns:
        The largest difference of an output, relative to the largest value.

    Raises:
        ExportError: outputs differ by more than rounding, or this torch cannot export the encoder.
        UserError: a package that the format needs is not installed, `file` is a folder, or the
            format does not hold several streams.
    """
    if file.is_dir():
        raise UserError(f"{file}: is a folder")
    if form == "safetensors" and len(encoder.traits.streams) > 1:
        raise UserError(
            f"--format safetensors holds one stream, not {encoder.traits.stream}: write a file for "
            "each, or take another format"
        )
    for package in NEEDS[form]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"--format {form} needs {package}: pip install 'aimclr_fast[export]'"
            ) from error
    if encoder.model.is_folded:
        raise UserError("a folded encoder cannot be exported: load it without folded=")
    if recordings and (form == "safetensors" or encoder.traits.preprocessing is None):
        reason = (
            "the file holds weights; load_encoder preprocesses by itself"
            if form == "safetensors"
            else "how the encoder's training data were preprocessed is not known"
        )
        raise UserError(f"--recordings: {reason}")
    # Tracing takes PyTorch's own operations; the caller's encoder keeps its backend.
    model = copy.deepcopy(encoder.model)
    model.backend, model.precision = "reference", "fp32"
    for one in (model.encoder, *model.beside):
        one.backend = "reference"
    with written_whole(file) as temporary:
        with quiet(), _told(f"torch {torch.__version__} cannot write it as {form}"):
            forward = _WRITERS[form](model, temporary, recordings)
        return _difference(forward, model, encoder if recordings else None)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise ExportError for any of the many exceptions of exporters and runtimes."""
    try:
        yield
    except OSError:
        raise  # of the disk
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:3])
        raise ExportError(f"{what}: {type(error).__name__}: {reason}") from error


def _difference(forward: Forward, model: EmbeddingModel, encoder: Encoder | None) -> float:
    """Compare on other batches and lengths than the file was made with; recordings with what
    `encoder` makes of them.
    """
    traits = model.traits
    joints = model.encoder.backbone.layout.num_joints
    largest = 0.0
    own, least = traits.frames, _least(model, encoder is not None)
    for batch, frames in ((1, own), (5, own), (3, 2 * own + 1), (2, least), (1, least)):
        shape = (batch, 3, frames, joints, traits.bodies)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(batch)) * 0.3
        wanted = _as_list(model(x) if encoder is None else _of_recordings(encoder, x))
        with _told(f"the file does not run for input {list(shape)}"):
            found = forward(x)
        if [list(f.shape) for f in found] != [list(w.shape) for w in wanted]:
            raise ExportError(f"outputs differ in shape for input {list(shape)}")
        for f, w in zip(found, wanted, strict=True):
            off = float((f - w).abs().max() / w.abs().max().clamp(min=1e-30))
            largest = max(largest, off)
            if not off <= TOLERANCE:
                raise ExportError(f"outputs differ by {off:.1e} of the largest for {list(shape)}")
    return largest


def _least(model: EmbeddingModel, recordings: bool) -> int:
    """Frames that an input must have. Recordings are resized first, but torch's export tells one
    frame from several.
    """
    steps = model.traits.preprocessing
    resized = recordings and steps is not None and steps.frames is not None
    return 2 if resized else model.traits.frame_step + 1


def _of_recordings(encoder: Encoder, x: Tensor) -> Any:
    sequences = x.permute(0, 4, 2, 3, 1)
    if not encoder.class_names:
        return encoder(sequences).cpu()
    found = encoder.classify(sequences)
    return found.features.cpu(), found.probabilities.cpu()


# --- Formats: each writes a file, and returns how to run it ---------------------------------------


def _safetensors(model: EmbeddingModel, file: Path, recordings: bool) -> Forward:
    write_safetensors(model, file)
    again = load_encoder(file, device="cpu").model
    return lambda x: _as_list(again(x))


def _torch(model: EmbeddingModel, file: Path, recordings: bool) -> Forward:
    example, dynamic = _example(model, recordings)
    graph = _graph(model, recordings)
    with _sizes_free():
        program = torch.export.export(graph, example, dynamic_shapes=dynamic)
    for node in program.graph.nodes:
        node.meta.pop(STACK_TRACE, None)
    memory = io.BytesIO()  # torch's own writer aborts on a full disk
    torch.export.save(program, memory, extra_files={"aimclr_fast.json": describe(model)})
    file.write_bytes(memory.getbuffer())
    again = torch.export.load(file).module()
    return lambda x: _as_list(again(x))


def _onnx(model: EmbeddingModel, file: Path, recordings: bool) -> Forward:
    import onnxruntime

    example, dynamic = _example(model, recordings)
    graph = _graph(model, recordings)
    with _sizes_free():
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=OUTPUTS[: 2 if model.traits.class_names else 1],
            dynamic_shapes=dynamic,
        )
    assert program is not None
    program.model.metadata_props["aimclr_fast"] = describe(model)
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop(f"pkg.torch.onnx.{STACK_TRACE}", None)
    program.save(file, external_data=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def forward(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(out)) for out in session.run(None, {INPUT: x.numpy()})]

    return forward


def _graph(model: EmbeddingModel, recordings: bool) -> torch.nn.Module:
    folded = model.folded(channels_last=False)
    return FromRecordings(folded) if recordings else folded


_WRITERS = {"safetensors": _safetensors, "torch": _torch, "onnx": _onnx}


@contextmanager
def _sizes_free() -> Iterator[None]:
    """Trace a graph that also holds for sizes of one: strides may leave a single frame."""
    patch: Any = getattr(tracing, "patch", None)
    with patch(backed_size_oblivious=True) if FREE else nullcontext():
        yield


def _example(model: EmbeddingModel, recordings: bool) -> tuple[tuple[Tensor], dict[str, Any]]:
    """What tracing needs: an input, and the axes that may have any size.

    The input may be longer than the store's sequences: two frames must be left after all strides,
    so that no size is a special case.
    """
    traits = model.traits
    long = 8 * traits.frame_step
    least = _least(model, recordings) if FREE else long
    axes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("frames", min=least, max=MOST_FRAMES),
    }
    frames = max(traits.frames, long)
    shape = (2, 3, frames, model.encoder.backbone.layout.num_joints, traits.bodies)
    return (torch.zeros(shape),), {INPUT: axes}


def _as_list(outputs: Any) -> list[Tensor]:
    with torch.inference_mode():
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters say about packages and functions that are not ours."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def parser() -> Parser:
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s CHECKPOINT [options]",
        description="Write a pretrained encoder for use elsewhere, and check that the file "
        "computes the same. CHECKPOINT is anything that aimclr_fast.load_encoder reads.",
    )
    add = command.add_argument
    add("checkpoint", type=str, help="a checkpoint of training, or one of the authors'")
    add("--head", type=str, default=None, help="its classifier, of `evaluate linear`")
    add("--format", type=str, default="safetensors", help=", ".join(SUFFIXES))
    add("--out", type=str, default=None, help="file to write; default: beside the checkpoint")
    add(
        "--stream",
        type=str,
        default=None,
        help="which one, of a checkpoint with several, or several side by side, as joint+bone",
    )
    add("--pool", type=str, default=None, help="readout, such as mean+max; see load_encoder")
    add("--layout", type=str, default=None, help="skeleton of one of the authors' checkpoints")
    add(
        "--recordings",
        action="store_true",
        help="onnx, torch: put centering, turning and resampling into the graph, which then takes "
        "complete recordings in meters",
    )
    add(
        "--int8",
        action="store_true",
        help="onnx, without --recordings: weights as 8-bit integers, a third of the size; prints "
        "what that changes",
    )
    add("--overwrite", action="store_true", help="replace a file that is there")
    return command


def quantize(file: Path) -> None:
    """Weights of an ONNX file as 8-bit integers, a scale for each channel; activations are
    quantized as they come.

    Raises:
        ExportError: ONNX Runtime cannot.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger, level = logging.getLogger(), logging.getLogger().level
    with written_whole(file) as temporary:
        logger.setLevel(logging.ERROR)  # it advises what was done already
        try:
            with _told("ONNX Runtime cannot quantize it"):
                quantize_dynamic(file, temporary, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logger.setLevel(level)


def beside(encoder: Encoder, name: str, file: Path) -> str:
    """What a quantized graph gives beside its encoder, in words: on test samples of the store that
    the encoder was trained on where that is there, otherwise on random positions.
    """
    import onnxruntime

    x, truth, what = _samples(encoder, name)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {INPUT: one.numpy()}) for one in x.split(128)]
    found = [torch.from_numpy(np.concatenate(some)) for some in zip(*parts, strict=True)]
    own = [_as_list(encoder.model(one.to(encoder.device))) for one in x.split(128)]
    wanted = [torch.cat([out.cpu() for out in some]) for some in zip(*own, strict=True)]
    cosine = torch.nn.functional.cosine_similarity(found[0], wanted[0]).mean()
    text = f"int8: on {what}, features have a cosine of {cosine:.4f} with those in float32"
    if len(wanted) > 1:
        answers = [probabilities.argmax(1) for probabilities in (found[1], wanted[1])]
        text += f"; {(answers[0] == answers[1]).float().mean():.1%} of the answers are the same"
        if truth is not None:
            right = [float((one == truth).float().mean()) for one in answers]
            text += f", {right[0]:.1%} are right and {right[1]:.1%} in float32"
    return text


def _samples(encoder: Encoder, name: str) -> tuple[Tensor, Tensor | None, str]:
    """Sequences, their labels in the classifier's order, and what they are."""
    from .data import StoreError, split

    traits, joints = encoder.traits, encoder.layout.num_joints
    try:
        store, rule = training_store(name)
        rows = split(store, rule or "xsub")[1]
        if store.layout != encoder.layout:
            raise StoreError("of another layout")
    except ValueError:
        shape = (64, 3, traits.frames, joints, traits.bodies)
        x = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return x, None, "random positions"
    truth = None
    if store.labels is not None and store.class_names == encoder.class_names:
        truth = torch.from_numpy(np.array(store.labels[rows]))
    return store.as_tensor(rows), truth, f"{len(rows):,} test samples of {store.path.name}"


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    if given.format not in SUFFIXES:
        raise UserError(f"--format {given.format}: choose from {', '.join(SUFFIXES)}")
    source = Path(given.checkpoint)
    out = Path(given.out) if given.out else source.with_suffix(SUFFIXES[given.format])
    if out.suffix != SUFFIXES[given.format]:
        raise UserError(f"--out {out}: a {given.format} file ends in {SUFFIXES[given.format]}")
    check_utf8("--out", out)
    if out.exists() and not given.overwrite:
        raise UserError(f"{out}: exists already (--overwrite replaces it)")
    encoder = open_encoder(
        given.checkpoint,  # a name is not a path
        head=given.head,
        stream=given.stream,
        pool=given.pool,
        layout=given.layout,
        device="cpu",
    )
    if given.int8 and given.format != "onnx":
        raise UserError("--int8: only with --format onnx")
    if given.int8 and given.recordings:
        raise UserError("--int8: not together with --recordings")
    off = export(encoder, out, given.format, recordings=given.recordings)
    traits, layout = encoder.traits, encoder.layout
    how = "" if traits.pool == PUBLISHED else f" (readout {traits.pool})"
    classes = f", {len(traits.class_names)} classes" if traits.class_names else ""
    print(
        f"{out}: {encoder.num_features} features{how} of the {traits.stream} stream, {layout.name} "
        f"({layout.num_joints} joints){classes}; {out.stat().st_size / 1e6:.2f} MB\n"
        f"checked: outputs within {off:.0e} of the largest"
    )
    if given.int8:
        quantize(out)
        print(beside(encoder, given.checkpoint, out))
        print(f"{out}: {out.stat().st_size / 1e6:.2f} MB in int8")


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

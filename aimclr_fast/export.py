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

from ._checkpoint import CheckpointError
from ._errors import Error
from ._files import written_whole
from .cli import Parser, UserError, check_utf8, run
from .inference.encoder import EmbeddingModel, Encoder
from .inference.loading import describe, load_encoder, write_safetensors
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


def export(encoder: Encoder, file: Path, form: str) -> float:
    """Write an encoder and check the file against it; the file appears only if they agree.

    Args:
        encoder: from `load_encoder`, on the CPU.
        file: where to.
        form: "safetensors" (the weights, and what `load_encoder` needs to read them back), "onnx"
            or "torch" (a `torch.export` program that runs without this package). The last two have
            the batch norms folded into the weights (`nn.folded`). They map preprocessed positions
            [N, 3, T, V, M] to features [N, F] and, with a classifier, class probabilities [N, K],
            for any N and any T above the frame step.

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
    # Tracing takes PyTorch's own operations; the caller's encoder keeps its backend.
    model = copy.deepcopy(encoder.model)
    model.backend = "reference"
    for one in (model.encoder, *model.beside):
        one.backend = "reference"
    with written_whole(file) as temporary:
        with quiet(), _told(f"torch {torch.__version__} cannot write it as {form}"):
            forward = _WRITERS[form](model, temporary)
        return _difference(forward, model)


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


def _difference(forward: Forward, model: EmbeddingModel) -> float:
    """Compare on other batches and lengths than the file was made with."""
    traits = model.traits
    joints = model.encoder.backbone.layout.num_joints
    largest = 0.0
    own, least = traits.frames, traits.frame_step + 1
    for batch, frames in ((1, own), (5, own), (3, 2 * own + 1), (2, least), (1, least)):
        shape = (batch, 3, frames, joints, traits.bodies)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(batch)) * 0.3
        with torch.inference_mode():
            expected = model(x)
        wanted = [expected] if isinstance(expected, Tensor) else list(expected)
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


# --- Formats: each writes a file, and returns how to run it ---------------------------------------


def _safetensors(model: EmbeddingModel, file: Path) -> Forward:
    write_safetensors(model, file)
    again = load_encoder(file, device="cpu").model
    return lambda x: _as_list(again(x))


def _torch(model: EmbeddingModel, file: Path) -> Forward:
    example, dynamic = _example(model)
    model = model.folded(channels_last=False)
    with _sizes_free():
        program = torch.export.export(model, example, dynamic_shapes=dynamic)
    for node in program.graph.nodes:
        node.meta.pop(STACK_TRACE, None)
    memory = io.BytesIO()  # torch's own writer aborts on a full disk
    torch.export.save(program, memory, extra_files={"aimclr_fast.json": describe(model)})
    file.write_bytes(memory.getbuffer())
    again = torch.export.load(file).module()
    return lambda x: _as_list(again(x))


def _onnx(model: EmbeddingModel, file: Path) -> Forward:
    import onnxruntime

    example, dynamic = _example(model)
    model = model.folded(channels_last=False)
    with _sizes_free():
        program = torch.onnx.export(
            model,
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


_WRITERS = {"safetensors": _safetensors, "torch": _torch, "onnx": _onnx}


@contextmanager
def _sizes_free() -> Iterator[None]:
    """Trace a graph that also holds for sizes of one: strides may leave a single frame."""
    patch: Any = getattr(tracing, "patch", None)
    with patch(backed_size_oblivious=True) if FREE else nullcontext():
        yield


def _example(model: EmbeddingModel) -> tuple[tuple[Tensor], dict[str, Any]]:
    """What tracing needs: an input, and the axes that may have any size.

    The input may be longer than the store's sequences: two frames must be left after all strides,
    so that no size is a special case.
    """
    traits = model.traits
    long = 8 * traits.frame_step
    axes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("frames", min=traits.frame_step + 1 if FREE else long, max=MOST_FRAMES),
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
    add("--overwrite", action="store_true", help="replace a file that is there")
    return command


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
    try:
        encoder = load_encoder(
            source,
            head=given.head,
            stream=given.stream,
            pool=given.pool,
            layout=given.layout,
            device="cpu",
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    off = export(encoder, out, given.format)
    traits, layout = encoder.traits, encoder.layout
    how = "" if traits.pool == PUBLISHED else f" (readout {traits.pool})"
    classes = f", {len(traits.class_names)} classes" if traits.class_names else ""
    print(
        f"{out}: {encoder.num_features} features{how} of the {traits.stream} stream, {layout.name} "
        f"({layout.num_joints} joints){classes}; {out.stat().st_size / 1e6:.2f} MB\n"
        f"checked: outputs within {off:.0e} of the largest"
    )


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

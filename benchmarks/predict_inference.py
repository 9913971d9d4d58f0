"""Features a second that an encoder in evaluation makes on a GPU, predicted without one.

    python benchmarks/predict_inference.py --csv benchmarks/results/predict_inference.csv

Sequences of two bodies, 50 frames and 25 joints are on the GPU as float32; the encoder is the
published one. What a kernel takes, and what is left out: see predict.py, whose model this is. So a
forward pass is a CUDA graph: for one sequence, eager launches by Python take several times longer.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_type_hints

import torch
from gpus import GPUS, Gpu, gpu_named
from predict import ROOT, grouped, predict, total
from pretend_gpu import CUDA, Launch, Walk, pretend_gpu
from step_walk import SHAPE

from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.nn.folded import fold

#: The blocks that a GPU gets by itself, the same with norms folded, and Triton's, not folded.
ENCODERS = ("default", "folded", "triton")
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
SEQUENCES = (1, 4096)


class Rate(NamedTuple):
    """What one forward pass takes.

    Attributes:
        gpu: name in `GPUS`.
        encoder: one of `ENCODERS`.
        precision: of maps and products; of float32 ones products are in TF32.
        sequences: of the batch.
        kernels: that are launched.
        gigabytes: read and written, each tensor once a kernel.
        gigaflop: products that are wanted.
        ms: predicted.
        reuse_ms: likewise, where what is left in the second-level cache is read from there.
        per_second: sequences, by `ms`.
        reuse_per_second: likewise, by `reuse_ms`.
        commit, versions: what was predicted, and with what.
    """

    gpu: str
    encoder: str
    precision: str
    sequences: int
    kernels: int
    gigabytes: float
    gigaflop: float
    ms: float
    reuse_ms: float
    per_second: int
    reuse_per_second: int
    commit: str
    versions: str


def walk_inference(encoder: str, precision: str, sequences: int, gpu: Gpu) -> list[Launch]:
    """The launches of one forward pass, from sequences to features."""
    model = SkeletonEncoder(STGCN("ntu-rgb+d"), 128, projection=False).eval().requires_grad_(False)
    if encoder == "folded":
        model.backbone = fold(model.backbone, DTYPES[precision])  # type: ignore[assignment]
    else:
        model.backend = "auto" if encoder == "default" else encoder
    narrow = precision == "bf16" and encoder != "folded"
    walk = Walk()
    with pretend_gpu(walk, gpu), torch.no_grad():
        model.to(CUDA)
        x = torch.zeros(sequences, *SHAPE, device=CUDA)
        walk.launches.clear()  # of setting up
        walk.phase = "forward"
        with torch.autocast("cuda", torch.bfloat16, enabled=narrow):
            model.features(x)
    return [_in_evaluation(launch) for launch in walk.launches]


def _in_evaluation(launch: Launch) -> Launch:
    """Batch norm in evaluation is one pass; under this name predict.py takes it for one."""
    if launch.name != "aten.native_batch_norm":
        return launch
    written = launch.written[:1]
    return replace(
        launch,
        name="aten.batch_norm in evaluation",
        written=written,
        bytes_written=written[0].bytes,
    )


def rate(gpu: str, encoder: str, precision: str, sequences: int, made: tuple[str, str]) -> Rate:
    """The prediction; `made` is (commit, versions)."""
    launches = walk_inference(encoder, precision, sequences, gpu_named(gpu))
    found = total(grouped(predict(gpu, encoder, launches)))
    commit, versions = made
    return Rate(
        gpu, encoder, precision, sequences, found.kernels, round(found.gigabytes, 4),
        round(found.gigaflop, 4), round(found.ms, 4), round(found.reuse_ms, 4),
        round(1e3 * sequences / found.ms), round(1e3 * sequences / found.reuse_ms),
        commit, versions,
    )  # fmt: skip


def read(path: Path) -> list[Rate]:
    kinds = get_type_hints(Rate)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Rate(**{name: kind(row[name]) for name, kind in kinds.items()}) for row in rows]


def show(rates: Iterable[Rate]) -> None:
    line = "{:<8} {:<9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>11} {:>11}".format
    print(
        line(
            "encoder", "precision", "sequences", "kernels", "GB", "ms", "reuse ms", "per s", "reuse"
        )
    )
    for one in rates:
        print(line(*one[1:6], *one[7:11]))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--gpu", default="h100", help=f"one of {', '.join(GPUS)}")
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--csv", type=Path, help="where each row is written")
    options = parser.parse_args(words)
    import results
    import triton

    versions = f"torch {torch.__version__}, triton {triton.__version__}"
    made = (results.this_machine().commit, versions)
    sys.path.append(str(ROOT / "tests"))  # triton_aot.py
    try:
        rates = [
            rate(options.gpu, encoder, precision, sequences, made)
            for sequences in SEQUENCES
            for precision in DTYPES
            for encoder in options.encoder
        ]
    except ValueError as error:
        parser.error(str(error))
    show(rates)
    if options.csv:
        results.write_cells(options.csv, (one._asdict() for one in rates), Rate._fields)


if __name__ == "__main__":
    main()

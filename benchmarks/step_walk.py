"""The published training step on a GPU, operation by operation, on a machine without one.

    python benchmarks/step_walk.py            # what it launches and moves, by phase and operation
    python benchmarks/step_walk.py --write    # also to benchmarks/results/step_walk.csv

It is the training loop's own step: 128 sequences of two bodies, 50 frames, 25 joints, 16 channels,
bf16, mining. How launches and bytes are counted: see pretend_gpu.py.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import results
import torch
from gpus import Gpu
from pretend_gpu import CUDA, H100, Launch, Operand, Walk, pretend_gpu

from aimclr_fast._sections import timing
from aimclr_fast.config import ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn.stgcn import STGCNBlock
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place_sequences

RESULTS = Path(__file__).parent / "results" / "step_walk.csv"
SHAPE = (3, 50, 25, 2)
ENCODERS = ("default", "triton")
BETWEEN = "between"  # sections


class Walked(NamedTuple):
    """One step.

    Attributes:
        launches: in order.
        block_inputs: of each block of each pass through an encoder, in order.
        training: after the step.
    """

    launches: list[Launch]
    block_inputs: list[Operand]
    training: Pretraining


def walk_step(
    encoder: str = "default", sequences: int = 128, precision: str = "bf16", gpu: Gpu = H100
) -> Walked:
    """Walk a training step.

    Args:
        encoder: "default" for the blocks that a GPU gets by itself, or a backend's name.
        sequences: batch size N.
        precision: as in `TrainConfig`.
        gpu: that is pretended: some launches are as large as it.

    Raises:
        HostWaitError: the step asks the GPU for a value, or gives it one from ordinary memory.
    """
    config = TrainConfig(
        model=ModelConfig(topk=1),
        optim=OptimConfig(batch_size=sequences, mining_epoch=1),
        precision=precision,
        cuda_graph=False,
        encoder_backend=None if encoder == "default" else encoder,
    )
    data = np.zeros((2 * sequences, *SHAPE), np.float32)
    index = torch.arange(len(data))
    inputs: list[Operand] = []
    walk = Walk()
    with pretend_gpu(walk, gpu):
        placed = place_sequences(data, CUDA, "device")
        training = Pretraining(Job(config, CUDA), get_layout("ntu-rgb+d"), placed, index)
        for stream in training.streams.values():
            for block in _blocks(stream.model):
                block.register_forward_pre_hook(lambda _, args: inputs.append(Operand.of(args[0])))
        walk.launches.clear()  # of setting up
        walk.phase = BETWEEN
        with timing(walk):  # type: ignore[arg-type]
            next(training.train_epoch())
    return Walked(walk.launches, inputs, training)


def _blocks(model: torch.nn.Module) -> Iterable[torch.nn.Module]:
    return (module for module in model.modules() if isinstance(module, STGCNBlock))


class Row(NamedTuple):
    """Launches of one operation in one phase of a step."""

    encoder: str
    phase: str
    operation: str
    launches: int
    bytes_read: int
    bytes_written: int


def rows(encoder: str, launches: Iterable[Launch]) -> list[Row]:
    """By phase and operation, in the order in which they come."""
    found: dict[tuple[str, str], list[int]] = {}
    for launch in launches:
        total = found.setdefault((launch.phase, launch.name), [0, 0, 0])
        for i, number in enumerate((1, launch.bytes_read, launch.bytes_written)):
            total[i] += number
    return [Row(encoder, *key, *total) for key, total in found.items()]


def totals(rows: Iterable[Row]) -> tuple[int, int, int]:
    """Launches, bytes read, bytes written."""
    launches, read, written = (sum(column) for column in list(zip(*rows, strict=True))[3:])
    return launches, read, written


def read(path: Path = RESULTS) -> list[Row]:
    with path.open(newline="") as file:
        return [
            Row(encoder, phase, name, *map(int, numbers))
            for encoder, phase, name, *numbers in list(csv.reader(file))[1:]
        ]


def show(rows: list[Row]) -> None:
    line = "{:<22} {:<38} {:>8} {:>10} {:>10}".format
    print(line("phase", "operation", "launches", "read MB", "written MB"))
    for row in [*rows, Row("", "all", "", *totals(rows))]:
        megabytes = (f"{number / 1e6:.1f}" for number in row[4:])
        print(line(*row[1:4], *megabytes))


def main(words: list[str]) -> None:
    found = []
    for encoder in ENCODERS:
        each = rows(encoder, walk_step(encoder).launches)
        print(f"\n{encoder} encoder")
        show(each)
        found += each
    if words == ["--write"]:
        results.write_cells(RESULTS, (row._asdict() for row in found), Row._fields)


if __name__ == "__main__":
    main(sys.argv[1:])

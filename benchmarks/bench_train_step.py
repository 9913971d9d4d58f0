"""A whole training step with mining, from the sequences to the updated queue.

The baseline is fed by a DataLoader with a worker per core and reads its loss in each step, as
training scripts do; this package runs its own training loop, which reads losses now and then.
Published recipe: 16 channels, 256 features, K=32768, top-1. With bf16 both run their encoders
under autocast; on the CPU `package_bf16` and `baseline_bf16` do so in cases of fp32. `triton` is
this package with the encoder's blocks in Triton, `reference` with the blocks that a GPU ran by
default before. With S=3 joint, motion and bone stream are trained in one step; the baseline trains
them one after the other. The limit is that of the encoder's products. `step.py` shows it by the
sequence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from baseline.augment import AugmentedViews, batches
from baseline.model import AimCLR as BaselineModel
from baseline.model import Training
from bench_skeleton_augment import LAYOUT, SHAPE, WORKERS
from bench_stgcn_block import forward_flop
from harness import BASELINE, Bench, Case, cases, in_bf16
from limits import Work
from measure import Step, Unavailable

from aimclr_fast.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.functional import STREAMS
from aimclr_fast.ops import stgcn_block
from aimclr_fast.ops._dispatch import REFERENCE, explain
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place_sequences

SEQUENCES = 1024
TOPK = 1
# The baseline takes over a second a step.
CPU_SIZES = [{"N": 16, "S": 1}, {"N": 64, "S": 1}, {"N": 16, "S": 3}]
GPU_SIZES = [{"N": n, "S": 1} for n in (128, 32, 512, 1024)] + [{"N": 128, "S": 3}]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        random = np.random.default_rng(0)
        self.data = random.standard_normal((SEQUENCES, *SHAPE)).astype(np.float32)
        torch.manual_seed(0)


def streams(case: Case) -> tuple[str, ...]:
    return STREAMS[: case["S"]]


def baseline(inputs: Inputs) -> Step:
    case = inputs.case
    runs = [
        (
            batches(AugmentedViews(inputs.data, LAYOUT, stream=name), case["N"], WORKERS, WORKERS),
            Training(BaselineModel(), case.device, half=case.precision == "bf16"),
        )
        for name in streams(case)
    ]

    def run() -> None:
        for loader, training in runs:
            for _ in range(WORKERS):
                training.step(next(loader), TOPK)

    return Step(run, calls=WORKERS, host=True, workers=True)


def pretraining(inputs: Inputs, encoder_backend: str | None = None) -> Pretraining:
    """This package's training loop, on sequences that are on the device."""
    case = inputs.case
    device = torch.device(case.device)
    config = TrainConfig(
        data=DataConfig(stream=",".join(streams(case))),
        model=ModelConfig(topk=TOPK),
        optim=OptimConfig(batch_size=case["N"], mining_epoch=1),
        precision=case.precision,
        encoder_backend=encoder_backend,
    )
    return training_loop(inputs.data, config, device)


def training_loop(data: np.ndarray, config: TrainConfig, device: torch.device) -> Pretraining:
    """A run of a configuration on sequences that are on the device, before its first step."""
    placed = place_sequences(data, device, "auto")
    return Pretraining(Job(config, device), LAYOUT, placed, torch.arange(len(data)))


def package(inputs: Inputs, encoder_backend: str | None = None) -> Step:
    if encoder_backend is not None:
        where = torch.empty(0, device=inputs.case.device)
        reason = explain(stgcn_block.BACKENDS, where)[encoder_backend]
        if reason is not None:
            raise Unavailable(reason)
    return steps_of(pretraining(inputs, encoder_backend))


def steps_of(training: Pretraining) -> Step:
    """As many steps as the baseline takes."""

    def steps() -> Iterator[object]:
        while True:
            yield from training.train_epoch()

    losses = steps()

    def run() -> None:
        for _ in range(WORKERS):
            next(losses)

    def eager() -> None:
        if training.graph_why_not is not None:
            warnings.warn(f"no CUDA graph: {training.graph_why_not}", stacklevel=1)
        training.use_graphs = False
        next(losses)
        training.use_graphs = True

    warmup = -(-5 // WORKERS)  # on a GPU it is captured then
    return Step(run, calls=WORKERS, host=True, warmup=warmup, eager=eager)


def work(case: Case) -> Work:
    # Three views forward; gradients of maps and weights of two of them.
    return Work(
        flop=7.0 * case["S"] * forward_flop(case["N"]),
        precision=case.precision,
    )


BENCH = Bench(
    op="train_step",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32", "tf32"),
    inputs=Inputs,
    work=work,
    providers={
        "package": package,
        "triton": partial(package, encoder_backend="triton"),
        BASELINE: baseline,
        REFERENCE: partial(package, encoder_backend=REFERENCE),
        **in_bf16(baseline=baseline, package=package),
    },
    package=("package", "triton", "package_bf16"),
)


@BENCH.parametrize()
def test_train_step(compare, case, provider):
    compare(BENCH, case, provider)

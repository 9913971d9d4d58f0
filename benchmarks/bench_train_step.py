"""A whole training step with mining, from the sequences to the updated queue.

The baseline is fed by a DataLoader with a worker per core; this package by its own training loop.
Published recipe: 16 channels, 256 features, K=32768, top-1. With bf16 both run their encoders
under autocast.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from baseline.augment import AugmentedViews, batches
from baseline.model import AimCLR as BaselineModel
from baseline.model import Training
from bench_skeleton_augment import LAYOUT, SHAPE, WORKERS
from harness import BASELINE, Bench, Case, cases
from limits import Work
from measure import Step

from aimclr_fast.training.config import ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place

SEQUENCES = 1024
TOPK = 1
CPU_SIZES = [{"N": 16}]  # the baseline takes 1.5 s a step
GPU_SIZES = [{"N": 128}]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        random = np.random.default_rng(0)
        self.data = random.standard_normal((SEQUENCES, *SHAPE)).astype(np.float32)
        torch.manual_seed(0)


def baseline(inputs: Inputs) -> Step:
    case = inputs.case
    loader = batches(AugmentedViews(inputs.data, LAYOUT), case["N"], WORKERS, WORKERS)
    training = Training(BaselineModel(), case.device, half=case.precision == "bf16")

    def run() -> None:
        for _ in range(WORKERS):
            training.step(next(loader), TOPK)

    return Step(run, calls=WORKERS, host=True, workers=True)


def package(inputs: Inputs) -> Step:
    case = inputs.case
    device = torch.device(case.device)
    config = TrainConfig(
        model=ModelConfig(topk=TOPK),
        optim=OptimConfig(batch_size=case["N"], mining_epoch=1),
        precision=case.precision,
    )
    store: Any = SimpleNamespace(layout=LAYOUT)  # all that the loop asks of a store
    placed = place(inputs.data, device, "auto")
    training = Pretraining(config, store, placed, torch.arange(SEQUENCES), device)

    def steps() -> Iterator[torch.Tensor]:
        while True:
            yield from training.train_epoch()

    losses = steps()
    return Step(lambda: next(losses), host=True, warmup=5)  # captured by then, on a GPU


BENCH = Bench(
    op="train_step",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "fp32", "tf32", "bf16"),
    inputs=Inputs,
    work=lambda case: Work(),
    providers={BASELINE: baseline, "package": package},
    package=("package",),
)


@BENCH.parametrize()
def test_train_step(compare, case, provider):
    compare(BENCH, case, provider)

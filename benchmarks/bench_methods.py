"""A whole CPU step of each method beside AimCLR's: views, forward, backward, SGD, enqueue.

The baseline is AimCLR's step, timed in turns with the method's, each at its published sizes. P is
how often the encoder passes over a batch: a forward pass counts 1, its backward pass 2. The limit
is that of the encoder's products, so that methods have the same share of it where nothing but the
encoder costs. `methods.py` shows it as time a pass.
"""

from __future__ import annotations

from functools import partial

import torch
from bench_stgcn_block import forward_flop
from bench_train_step import Inputs, steps_of, training_loop
from harness import BASELINE, Bench, Case
from limits import Work
from measure import Step

from aimclr_fast.config import TrainConfig
from aimclr_fast.nn import get_method
from aimclr_fast.training.job import published_config

SAMPLES = 16
AIMCLR = "aimclr"
#: Of a step of one stream. The average sequence that ActCLR encodes is one of 17, and left out.
PASSES = {
    "skeletonclr": 4,
    AIMCLR: 7,
    "aimclr++": 7,
    "skelemixclr": 7,
    "hiclr": 10,
    "actclr": 12,
    "skelemixclr+": 13,
}
CASES = [Case(f"N{SAMPLES}-P{p}-{name}", {"N": SAMPLES, "P": p}) for name, p in PASSES.items()]


def config_of(method: str) -> TrainConfig:
    """The published one, in the phase in which it mines, if it does."""
    parts = get_method(method).parts
    mines = parts is not None and parts.nnm
    return published_config(
        method,
        optim={"batch_size": SAMPLES, "mining_epoch": int(mines)},
        start="the encoders of another run",  # which ActCLR asks for; it is not read here
    )


def step(inputs: Inputs, method: str | None = None) -> Step:
    config = config_of(method or inputs.case.name.rpartition("-")[2])
    return steps_of(training_loop(inputs.data, config, torch.device("cpu")))


def work(case: Case) -> Work:
    return Work(flop=case["P"] * forward_flop(case["N"]), precision=case.precision)


BENCH = Bench(
    op="methods",
    cases=CASES,
    inputs=Inputs,
    work=work,
    providers={"package": step, BASELINE: partial(step, method=AIMCLR)},
    package=("package",),
)


@BENCH.parametrize()
def test_methods(compare, case, provider):
    compare(BENCH, case, provider)

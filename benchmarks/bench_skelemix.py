"""skelemix: R mixes of a batch of sequences of 64 frames, in S streams.

SkeleMixCLR takes one mix of a stream, SkeleMixCLR+ three. The baseline copies the batch and writes
what is pasted into it, in every mix the same: it draws nothing. The floor reads the batch once and
writes all views. The reference draws with integer tensors, which takes long to compile: it is not.
"""

from __future__ import annotations

import math

import torch
from baseline import skelemix as plain
from bench_skeleton_augment import LAYOUT
from harness import BASELINE, COMPILED, FLOOR, Bench, Case, backends, cases, package_names
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.functional import STREAMS, MixConfig, skelemix
from aimclr_fast.ops import skelemix as op

SHAPE = (3, 64, 25, 2)
#: Shift, body parts, first and last frame of each mix of the baseline: two parts in nine blocks.
MIXES = [(1, (0, 1), 12, 48), (5, (2, 3), 0, 36), (9, (1, 4), 28, 64)]
KINDS = ({"R": 1, "S": 1}, {"R": 3, "S": 1}, {"R": 3, "S": 3})
CPU_SIZES = [{"N": n, **kind} for kind in KINDS for n in (128, 32)]
GPU_SIZES = [{"N": n, **kind} for n in (128, 32, 512) for kind in KINDS]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        shape = (case["N"], *SHAPE)
        query = torch.randn(shape, device=case.device, generator=case.generator())
        self.query = query.to(case.dtype)
        self.streams = STREAMS[: case["S"]]
        self.step = 0


def forward(inputs: Inputs, backend: str) -> op.Mixed:
    inputs.step += 1
    return skelemix(
        inputs.query,
        layout=LAYOUT,
        config=MixConfig(count=inputs.case["R"]),
        seed=0,
        step=inputs.step,
        streams=inputs.streams,
        backend=backend,
    )


def mixes(count: int, device: str = "cpu") -> list[tuple[int, Tensor, int, int]]:
    """The first of MIXES as the baseline takes them, with the joints of the parts."""
    found = []
    for shift, parts, begin, end in MIXES[:count]:
        joints = [joint for part in parts for joint in LAYOUT.body_parts[part]]
        found.append((shift, torch.tensor(joints, device=device), begin, end))
    return found


def baseline(inputs: Inputs) -> Step:
    device = inputs.case.device
    draws, parents = mixes(inputs.case["R"], device), torch.tensor(LAYOUT.parents, device=device)
    return Step(lambda: plain.skelemix(inputs.query, draws, inputs.streams, parents))


def floor(inputs: Inputs) -> Step:
    case, source = inputs.case, inputs.query
    target = source.new_empty(case["R"] * case["S"], *source.shape)
    return Step(lambda: target.copy_(source.expand_as(target)))


def work(case: Case) -> Work:
    sequences = case["N"] * (1 + case["R"] * case["S"])
    return Work(bytes=sequences * math.prod(SHAPE) * case.dtype.itemsize)


# The reference draws from tables that it makes on the host, so no graph can capture it.
OURS = backends(op.BACKENDS, lambda inputs: inputs.query, forward, reference_graph=False)
del OURS[COMPILED]
BENCH = Bench(
    op="skelemix",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, **OURS, FLOOR: floor},
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_skelemix(compare, case, provider):
    compare(BENCH, case, provider)

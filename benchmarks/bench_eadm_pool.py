"""eadm_pool, forward and backward, on the encoder's last map [2N, 256, 13, 25].

The floor copies the map: it reads once and writes once, as the forward pass must read the map and
the backward pass must write its gradient.
"""

from __future__ import annotations

import math

import torch
from baseline import eadm
from harness import BASELINE, FLOOR, Bench, Case, backends, cases, compiled_once, package_names
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.functional import eadm_pool
from aimclr_fast.ops import eadm_pool as op

SHAPE = (256, 13, 25)  # channels, frames, joints
BODIES = 2
CPU_SIZES = [{"N": n} for n in (32, 128)]  # 512 takes the baseline 3 s a round and 5 GB
GPU_SIZES = [{"N": n} for n in (128, 32, 512, 4096)]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        shape = (case["N"] * BODIES, *SHAPE)
        x = torch.randn(shape, device=case.device, generator=case.generator())
        self.x = x.to(case.dtype).requires_grad_()
        self.gradients = torch.randn(2, *shape[:2], device=case.device)


def forward(inputs: Inputs, backend: str) -> tuple[Tensor, Tensor]:
    return eadm_pool(inputs.x, backend=backend)


def backward(inputs: Inputs, pooled: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    gradients = [g.to(p.dtype) for g, p in zip(inputs.gradients, pooled, strict=True)]
    return torch.autograd.grad(pooled, inputs.x, gradients)


def baseline(inputs: Inputs) -> Step:
    return Step(lambda: backward(inputs, eadm.eadm_pool(inputs.x)))


def floor(inputs: Inputs) -> Step:
    source = inputs.x.detach()
    target = torch.empty_like(source)
    return Step(lambda: target.copy_(source))


def work(case: Case) -> Work:
    return Work(bytes=2 * case["N"] * BODIES * math.prod(SHAPE) * case.dtype.itemsize)


OURS = compiled_once(backends(op.BACKENDS, lambda inputs: inputs.x, forward, backward), {"N": 128})
BENCH = Bench(
    op="eadm_pool",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, **OURS, FLOOR: floor},
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_eadm_pool(compare, case, provider):
    compare(BENCH, case, provider)

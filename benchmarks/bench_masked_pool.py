"""masked_pool, forward and backward, on the encoder's last map [2N, 256, 16, 25].

The baseline weights the map with the mask and its complement, each in a pass of its own. The floor
copies the map, as the forward pass must read it and the backward pass must write its gradient.
"""

from __future__ import annotations

import math

import torch
from harness import BASELINE, FLOOR, Bench, Case, backends, cases, compiled_once, package_names
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.functional import masked_pool
from aimclr_fast.ops import masked_pool as op

SHAPE = (256, 16, 25)  # channels, frames, joints: sequences of 64 frames
BODIES = 2
CPU_SIZES = [{"N": n} for n in (32, 128)]
GPU_SIZES = [{"N": n} for n in (128, 32, 512, 4096)]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        shape = (case["N"] * BODIES, *SHAPE)
        x = torch.randn(shape, device=case.device, generator=case.generator())
        self.x = x.to(case.dtype).requires_grad_()
        self.gradients = torch.randn(2, *shape[:2], device=case.device)
        self.mask = torch.zeros(SHAPE[1:], dtype=torch.bool, device=case.device)
        self.mask[3:12, 4:14] = True  # two body parts in nine blocks


def forward(inputs: Inputs, backend: str) -> tuple[Tensor, Tensor]:
    return masked_pool(inputs.x, inputs.mask, backend)


def backward(inputs: Inputs, pooled: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    gradients = [g.to(p.dtype) for g, p in zip(inputs.gradients, pooled, strict=True)]
    return torch.autograd.grad(pooled, inputs.x, gradients)


def weighted(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    inside, outside = mask.to(x.dtype), (~mask).to(x.dtype)
    means = ((x * side).sum((2, 3)) / side.sum() for side in (inside, outside))
    return next(means), next(means)


def baseline(inputs: Inputs) -> Step:
    return Step(lambda: backward(inputs, weighted(inputs.x, inputs.mask)))


def floor(inputs: Inputs) -> Step:
    source = inputs.x.detach()
    target = torch.empty_like(source)
    return Step(lambda: target.copy_(source))


def work(case: Case) -> Work:
    return Work(bytes=2 * case["N"] * BODIES * math.prod(SHAPE) * case.dtype.itemsize)


OURS = compiled_once(backends(op.BACKENDS, lambda inputs: inputs.x, forward, backward), {"N": 128})
BENCH = Bench(
    op="masked_pool",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, **OURS, FLOOR: floor},
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_masked_pool(compare, case, provider):
    compare(BENCH, case, provider)

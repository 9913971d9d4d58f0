"""What the benchmarks of pooling the encoder's last map share: the map, its gradient, the floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import (
    BASELINE,
    FLOOR,
    Bench,
    Case,
    Factory,
    backends,
    cases,
    compiled_once,
    package_names,
)
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.ops._dispatch import Backend

BODIES = 2
CPU_SIZES = [
    {"N": n} for n in (32, 128)
]  # 512 takes the baseline of eadm_pool 3 s a round and 5 GB
GPU_SIZES = [{"N": n} for n in (128, 32, 512, 4096)]


class Map:
    """A map [2N, *shape] that needs a gradient, and gradients of its two means [2N, C]."""

    def __init__(self, case: Case, shape: Sequence[int]) -> None:
        self.case = case
        size = (case["N"] * BODIES, *shape)
        x = torch.randn(size, device=case.device, generator=case.generator())
        self.x = x.to(case.dtype).requires_grad_()
        self.gradients = torch.randn(2, *size[:2], device=case.device)


def backward(inputs: Map, pooled: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    gradients = [g.to(p.dtype) for g, p in zip(inputs.gradients, pooled, strict=True)]
    return torch.autograd.grad(pooled, inputs.x, gradients)


def floor(inputs: Map) -> Step:
    """Copies the map: the forward pass must read it, the backward pass write its gradient."""
    source = inputs.x.detach()
    target = torch.empty_like(source)
    return Step(lambda: target.copy_(source))


def work_of(shape: Sequence[int]) -> Callable[[Case], Work]:
    return lambda case: Work(bytes=2 * case["N"] * BODIES * math.prod(shape) * case.dtype.itemsize)


def bench_of(
    op: str,
    registered: Sequence[Backend],
    shape: Sequence[int],
    inputs: Callable[[Case], Map],
    forward: Callable[[Any, str], Any],
    baseline: Factory,
) -> Bench:
    """The benchmark of an op that makes two means of a map."""
    ours = backends(registered, lambda made: made.x, forward, backward)
    return Bench(
        op=op,
        cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32"),
        inputs=inputs,
        work=work_of(shape),
        providers={BASELINE: baseline, **compiled_once(ours, {"N": 128}), FLOOR: floor},
        package=package_names(registered),
    )

"""skeleton_augment: extreme, query and key view of a batch of NTU-sized sequences.

The baseline is a DataLoader with a worker per core. `pinned` is the cuda backend with the data set
in pinned host memory. The floor copies as many bytes as any of them must move: it reads each
sequence once and writes three views. The reference is not compiled: it draws with integer tensors,
and Inductor was still simplifying their indices after ten minutes.

skeleton_augment_streams makes the views of joint, motion and bone stream at once; `apart` makes
them one stream after the other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from baseline.augment import AugmentedViews, batches
from harness import (
    BASELINE,
    COMPILED,
    FLOOR,
    Bench,
    Case,
    Factory,
    backends,
    capped,
    cases,
    package_names,
)
from limits import Work
from measure import Step, Unavailable

from aimclr_fast.functional import (
    STREAMS,
    AugmentConfig,
    skeleton_augment,
    skeleton_augment_streams,
)
from aimclr_fast.layouts import get_layout
from aimclr_fast.ops import skeleton_augment as op

LAYOUT = get_layout("ntu-rgb+d")
SHAPE = (3, 50, 25, 2)
SEQUENCES = 4096
WORKERS = len(os.sched_getaffinity(0))
CONFIG = AugmentConfig()
SIZES = [{"N": n} for n in (128, 32, 512, 4096)]


class Inputs:
    """A resident data set and the batches of an epoch."""

    def __init__(self, case: Case) -> None:
        self.case = case
        generator = case.generator()
        self.data = torch.randn(SEQUENCES, *SHAPE, device=case.device, generator=generator)
        order = torch.randperm(SEQUENCES, device=case.device, generator=generator)
        self.batches = order.split(case["N"])
        self.step = 0

    @property
    def index(self) -> torch.Tensor:
        """Another batch at each step."""
        return self.batches[self.step % len(self.batches)]


def forward(
    inputs: Inputs, backend: str, data: torch.Tensor | None = None, stream: str = "joint"
) -> op.Views | op.SomeViews:
    inputs.step += 1
    return skeleton_augment(
        inputs.data if data is None else data,
        inputs.index,
        layout=LAYOUT,
        config=CONFIG,
        seed=0,
        step=inputs.step,
        stream=stream,
        dtype=inputs.case.dtype,
        backend=backend,
    )


def loading(inputs: Inputs, calls: int) -> Callable[[], list[torch.Tensor]]:
    """Takes the next batch of a DataLoader with WORKERS workers; `calls` make an epoch."""
    case = inputs.case
    data = inputs.data.cpu().numpy()
    loader = batches(AugmentedViews(data, LAYOUT, CONFIG), case["N"], WORKERS, calls)
    return lambda: [view.to(case.device, case.dtype, non_blocking=True) for view in next(loader)]


def baseline(inputs: Inputs) -> Step:
    calls = len(inputs.batches)
    load = loading(inputs, calls)

    def run() -> None:
        for _ in range(calls):
            load()

    return Step(run, calls=calls, host=True, workers=True)


def pinned(inputs: Inputs) -> Step:
    if not inputs.index.is_cuda:
        raise Unavailable("pinned memory is for a CUDA device")
    data = inputs.data.cpu().pin_memory()
    return Step(lambda: forward(inputs, "cuda", data))


def floor(inputs: Inputs) -> Step:
    # A copy reads and writes, so half of the bytes are copied.
    elements = int(work(inputs.case).bytes) // 2 // torch.float32.itemsize
    source = torch.randn(elements, device=inputs.case.device)
    target = torch.empty_like(source)
    return Step(lambda: target.copy_(source))


def work(case: Case) -> Work:
    elements = case["N"] * math.prod(SHAPE)
    return Work(bytes=elements * (torch.float32.itemsize + 3 * case.dtype.itemsize))


def moderate(inputs: Inputs) -> bool:
    return bool(inputs.case["N"] <= 512)


def tensor(inputs: Inputs) -> torch.Tensor:
    return inputs.index


def as_many(factory: Factory) -> Factory:
    """`factory`, timed on the CPU over an epoch, within which the baseline's workers work ahead."""

    def make(inputs: Inputs) -> Step:
        step = factory(inputs)
        if inputs.index.is_cuda:
            return step
        calls = len(inputs.batches)

        def run() -> None:
            for _ in range(calls):
                step.run()

        return replace(step, run=run, calls=calls)

    return make


def providers() -> dict[str, Factory]:
    # The reference draws from tables that it makes on the host, so no graph can capture it.
    ours = backends(op.BACKENDS, tensor, forward, reference_graph=False)
    del ours[COMPILED]
    ours = {name: as_many(factory) for name, factory in ours.items()}
    slow = "linear in N, and takes seconds at this one"
    found: dict[str, Any] = {
        BASELINE: capped(baseline, slow, moderate),
        **ours,
        FLOOR: as_many(floor),
    }
    found["reference"] = capped(
        ours["reference"], slow, lambda inputs: inputs.index.is_cuda or moderate(inputs)
    )
    if "cuda" in ours:
        found["pinned"] = pinned
    return found


BENCH = Bench(
    op="skeleton_augment",
    cases=cases(SIZES, "cpu", "fp32") + cases(SIZES, "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=work,
    providers=providers(),
    package=(*package_names(op.BACKENDS), "pinned"),
)


def forward_streams(inputs: Inputs, backend: str) -> tuple[op.Views | op.SomeViews, ...]:
    inputs.step += 1
    return skeleton_augment_streams(
        inputs.data,
        inputs.index,
        layout=LAYOUT,
        config=CONFIG,
        seed=0,
        step=inputs.step,
        dtype=inputs.case.dtype,
        backend=backend,
    )


def apart(inputs: Inputs) -> Step:
    def run() -> None:
        for stream in STREAMS:
            forward(inputs, "auto", stream=stream)

    return Step(run)


def streams_work(case: Case) -> Work:
    elements = case["N"] * math.prod(SHAPE)
    written = 3 * len(STREAMS) * case.dtype.itemsize
    return Work(bytes=elements * (torch.float32.itemsize + written))


def streams_providers() -> dict[str, Factory]:
    ours = backends(op.BACKENDS, tensor, forward_streams, reference_graph=False)
    del ours[COMPILED]
    ours["apart"] = apart
    return {name: as_many(factory) for name, factory in ours.items()}


STREAMS_BENCH = Bench(
    op="skeleton_augment_streams",
    cases=cases([{"N": 128}], "cpu", "fp32") + cases([{"N": 128}], "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=streams_work,
    providers=streams_providers(),
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_skeleton_augment(compare, case, provider):
    compare(BENCH, case, provider)


@STREAMS_BENCH.parametrize()
def test_skeleton_augment_streams(compare, case, provider):
    compare(STREAMS_BENCH, case, provider)

"""stgcn_block, ten of them: the published encoder, forward and backward, batch statistics.

NTU-sized sequences, two bodies, 16 to 256 channels, no dropout. FLOP are those of direct
convolution with the adjacency first, so what saves products (temporal convolution over frequencies)
may pass the limit. On the CPU `cpp_bf16` and `baseline_bf16` are the same under bf16 autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from baseline.encoder import Encoder as BaselineEncoder
from bench_skeleton_augment import LAYOUT, SHAPE
from harness import (
    BASELINE,
    Bench,
    Case,
    backends,
    cases,
    compiled_once,
    in_bf16,
    package_names,
)
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.ops import stgcn_block as op

EMBEDDING = 128
CPU_SIZES = [{"N": 16}, {"N": 64}]  # the baseline takes half a second, and two
GPU_SIZES = [{"N": 128}]


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        torch.manual_seed(0)
        self.x = torch.randn(case["N"], *SHAPE, device=case.device, generator=case.generator())
        self.gradient = torch.ones(case["N"], EMBEDDING, device=case.device)
        self.encoder = SkeletonEncoder(STGCN(LAYOUT, dropout=0.0), EMBEDDING).to(case.device)

    def train(self, encoder: torch.nn.Module) -> Tensor:
        encoder.zero_grad(set_to_none=True)
        half = self.case.precision == "bf16"
        with torch.autocast(self.case.device, dtype=torch.bfloat16, enabled=half):
            return encoder(self.x)


def forward(inputs: Inputs, backend: str) -> Tensor:
    inputs.encoder.backend = backend
    return inputs.train(inputs.encoder)


def backward(inputs: Inputs, out: Tensor) -> None:
    out.backward(inputs.gradient.to(out.dtype))


def baseline(inputs: Inputs) -> Step:
    encoder = BaselineEncoder(LAYOUT, dropout=0.0).to(inputs.case.device)
    return Step(lambda: backward(inputs, inputs.train(encoder)))


def forward_flop(samples: int) -> float:
    """Of the encoder's convolutions, over `samples` sequences."""
    _, frames, joints, bodies = SHAPE
    total = 0
    block: Any
    for block in STGCN(LAYOUT).blocks:
        spatial, temporal = block.spatial.conv, block.temporal
        total += frames * spatial.weight.numel()
        frames = -(-frames // block.stride)
        total += frames * temporal.weight.numel()
    return 2.0 * samples * bodies * joints * total


def work(case: Case) -> Work:
    # Forward, and the gradients of maps and of weights.
    return Work(flop=3 * forward_flop(case["N"]), precision=case.precision)


OURS = compiled_once(backends(op.BACKENDS, lambda inputs: inputs.x, forward, backward), {"N": 128})
BF16 = in_bf16(baseline=baseline, cpp=OURS["cpp"])
BENCH = Bench(
    op="stgcn_block",
    cases=cases(CPU_SIZES, "cpu", "fp32") + cases(GPU_SIZES, "cuda", "bf16", "fp32", "tf32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, **OURS, **BF16},
    package=(*package_names(op.BACKENDS), "cpp_bf16"),
)


@BENCH.parametrize()
def test_stgcn_block(compare, case, provider):
    compare(BENCH, case, provider)

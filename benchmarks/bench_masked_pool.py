"""masked_pool, forward and backward, on the encoder's last map [2N, 256, 16, 25].

The baseline weights the map with the mask and its complement, each in a pass of its own.
"""

from __future__ import annotations

import torch
from harness import Case
from measure import Step
from pooling import Map, backward, bench_of, work_of
from torch import Tensor

from aimclr_fast.functional import masked_pool
from aimclr_fast.ops import masked_pool as op

SHAPE = (256, 16, 25)  # channels, frames, joints: sequences of 64 frames

work = work_of(SHAPE)


class Inputs(Map):
    def __init__(self, case: Case) -> None:
        super().__init__(case, SHAPE)
        self.mask = torch.zeros(SHAPE[1:], dtype=torch.bool, device=case.device)
        self.mask[3:12, 4:14] = True  # two body parts in nine blocks


def forward(inputs: Inputs, backend: str) -> tuple[Tensor, Tensor]:
    return masked_pool(inputs.x, inputs.mask, backend)


def weighted(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    inside, outside = mask.to(x.dtype), (~mask).to(x.dtype)
    means = ((x * side).sum((2, 3)) / side.sum() for side in (inside, outside))
    return next(means), next(means)


def baseline(inputs: Inputs) -> Step:
    return Step(lambda: backward(inputs, weighted(inputs.x, inputs.mask)))


BENCH = bench_of("masked_pool", op.BACKENDS, SHAPE, Inputs, forward, baseline)


@BENCH.parametrize()
def test_masked_pool(compare, case, provider):
    compare(BENCH, case, provider)

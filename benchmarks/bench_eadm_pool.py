"""eadm_pool, forward and backward, on the encoder's last map [2N, 256, 13, 25]."""

from __future__ import annotations

from functools import partial

from baseline import eadm
from measure import Step
from pooling import Map, backward, bench_of, work_of
from torch import Tensor

from aimclr_fast.functional import eadm_pool
from aimclr_fast.ops import eadm_pool as op

SHAPE = (256, 13, 25)  # channels, frames, joints

Inputs = partial(Map, shape=SHAPE)
work = work_of(SHAPE)


def forward(inputs: Map, backend: str) -> tuple[Tensor, Tensor]:
    return eadm_pool(inputs.x, backend=backend)


def baseline(inputs: Map) -> Step:
    return Step(lambda: backward(inputs, eadm.eadm_pool(inputs.x)))


BENCH = bench_of("eadm_pool", op.BACKENDS, SHAPE, Inputs, forward, baseline)


@BENCH.parametrize()
def test_eadm_pool(compare, case, provider):
    compare(BENCH, case, provider)

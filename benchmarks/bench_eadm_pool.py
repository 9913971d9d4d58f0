"""eadm_pool, forward and backward, on the encoder's last map [2N, 256, 13, 25]."""

from __future__ import annotations

from functools import partial

from baseline import eadm
from harness import BASELINE, FLOOR, Bench, backends, cases, compiled_once, package_names
from measure import Step
from pooling import CPU_SIZES, GPU_SIZES, Map, backward, floor, work_of
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

"""All three ops of a step, one after the other: three views, EADM of the feature map, the losses.

Sizes are those of the published recipe (K=32768, top-1 mining); the encoder is left out. The
limit is the sum of the ops' own.
"""

from __future__ import annotations

from typing import Any

import bench_eadm_pool as eadm
import bench_queue_contrast as contrast
import bench_skeleton_augment as augment
from harness import BASELINE, Bench, Case, cases
from limits import Work
from measure import Step

OPS = (augment, eadm, contrast)
SIZES = {"K": 32768, "topk": 1}


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.of = [op.Inputs(case) for op in OPS]


def baseline(inputs: Inputs) -> Step:
    loader, *others = (
        op.baseline(each) for op, each in zip(OPS, inputs.of, strict=True)
    )

    def run() -> None:
        # The loader's workers are ahead of the device, as far as they can be.
        loader.run()
        for _ in range(loader.calls):
            for other in others:
                other.run()

    return Step(run, calls=loader.calls, host=True, workers=True)


def package(inputs: Inputs) -> Step:
    def run() -> Any:
        views = augment.forward(inputs.of[0], "auto")
        pooled = eadm.backward(inputs.of[1], eadm.forward(inputs.of[1], "auto"))
        return views, pooled, contrast.backward(inputs.of[2], contrast.forward(inputs.of[2], "auto"))

    return Step(run, host=inputs.case.device == "cuda")


def work(case: Case) -> Work:
    each = [op.work(case) for op in OPS]
    return Work(
        bytes=sum(w.bytes for w in each), flop=sum(w.flop for w in each), precision=case.precision
    )


BENCH = Bench(
    op="all_ops",
    cases=cases([{"N": 32, **SIZES}, {"N": 128, **SIZES}], "cpu", "fp32")
    + cases([{"N": n, **SIZES} for n in (32, 128, 512)], "cuda", "fp32", "bf16"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, "package": package},
    package=("package",),
)


@BENCH.parametrize()
def test_all_ops(compare, case, provider):
    compare(BENCH, case, provider)

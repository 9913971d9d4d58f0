"""All three ops of a step, one after the other: three views, EADM of the feature map, the losses.

Sizes are those of the published recipe (K=32768, top-1 mining); the encoder is left out. The
limit is the sum of the ops' own.
"""

from __future__ import annotations

import bench_eadm_pool as eadm
import bench_queue_contrast as contrast
import bench_skeleton_augment as augment
from harness import BASELINE, Bench, Case, cases
from limits import Work
from measure import Step

OPS = (augment, eadm, contrast)
SIZES = {"K": 32768, "topk": 1}
CALLS = 2 * augment.WORKERS  # timed together: the baseline's workers start and stop within


class Inputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.of = [op.Inputs(case) for op in OPS]


def baseline(inputs: Inputs) -> Step:
    """The loader's workers augment while the device computes."""
    load = augment.loading(inputs.of[0], CALLS)
    pool, contrast_losses = eadm.baseline(inputs.of[1]), contrast.baseline(inputs.of[2])

    def run() -> None:
        for _ in range(CALLS):
            load()
            pool.run()
            contrast_losses.run()

    return Step(run, calls=CALLS, host=True, workers=True)


def package(inputs: Inputs) -> Step:
    of_augment, of_eadm, of_contrast = inputs.of

    def run() -> None:
        for _ in range(CALLS):
            augment.forward(of_augment, "auto")
            eadm.backward(of_eadm, eadm.forward(of_eadm, "auto"))
            contrast.backward(of_contrast, contrast.forward(of_contrast, "auto"))

    return Step(run, calls=CALLS, host=True)  # as the baseline must be


def work(case: Case) -> Work:
    each = [op.work(case) for op in OPS]
    return Work(
        bytes=sum(w.bytes for w in each), flop=sum(w.flop for w in each), precision=case.precision
    )


BENCH = Bench(
    op="all_ops",
    cases=cases([{"N": 32, **SIZES}, {"N": 128, **SIZES}], "cpu", "fp32")
    + cases([{"N": n, **SIZES} for n in (128, 32, 512)], "cuda", "bf16", "fp32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, "package": package},
    package=("package",),
)


@BENCH.parametrize()
def test_all_ops(compare, case, provider):
    compare(BENCH, case, provider)

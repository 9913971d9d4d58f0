"""The ops of a step one after the other, the encoder left out.

all_ops: those of AimCLR, which are three views, EADM of the feature map, the losses.
mix_ops: what SkeleMixCLR+ adds or has instead, which is three mixes of the query view, two means of
the feature map of each, the losses of seven sets of rows.

Sizes are those of the published recipes (K=32768, top-1 mining in AimCLR). The limit is the sum of
the ops' own.
"""

from __future__ import annotations

import bench_eadm_pool as eadm
import bench_masked_pool as masked
import bench_queue_contrast as contrast
import bench_queue_losses as losses
import bench_skelemix as mixing
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
    return together(case, [op.work(case) for op in OPS])


def together(case: Case, each: list[Work]) -> Work:
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


PLUS = losses.METHODS["skelemixclr+"]
MIXES = 3
MIX_SIZES = {"K": 32768, "R": MIXES, "S": 1}


class MixInputs:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.mixing, self.pooled = mixing.Inputs(case), masked.Inputs(case)
        self.losses = losses.Inputs(case, PLUS)


def mix_baseline(inputs: MixInputs) -> Step:
    mix, pool = mixing.baseline(inputs.mixing), masked.baseline(inputs.pooled)
    steps = [mix, *[pool] * MIXES, losses.baseline(inputs.losses)]

    def run() -> None:
        for step in steps:
            step.run()

    return Step(run)


def mix_package(inputs: MixInputs) -> Step:
    def run() -> None:
        mixing.forward(inputs.mixing, "auto")
        for _ in range(MIXES):
            masked.backward(inputs.pooled, masked.forward(inputs.pooled, "auto"))
        losses.backward(inputs.losses, losses.forward(inputs.losses, "auto"))

    return Step(run)


def mix_work(case: Case) -> Work:
    pools = [masked.work(case)] * MIXES
    return together(case, [mixing.work(case), *pools, losses.work(case, PLUS)])


MIX_BENCH = Bench(
    op="mix_ops",
    cases=cases([{"N": 32, **MIX_SIZES}, {"N": 128, **MIX_SIZES}], "cpu", "fp32")
    + cases([{"N": n, **MIX_SIZES} for n in (128, 32, 512)], "cuda", "bf16", "fp32"),
    inputs=MixInputs,
    work=mix_work,
    providers={BASELINE: mix_baseline, "package": mix_package},
    package=("package",),
)


@BENCH.parametrize()
def test_all_ops(compare, case, provider):
    compare(BENCH, case, provider)


@MIX_BENCH.parametrize()
def test_mix_ops(compare, case, provider):
    compare(MIX_BENCH, case, provider)

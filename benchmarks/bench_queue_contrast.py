"""queue_contrast, forward and backward, rows of 128 against a queue.

Besides the usual providers, `attention` is torch's scaled_dot_product_attention with keys = values
= queue, whose output holds the gradients, and torch.topk of the similarities. It yields neither
loss nor gradient; what it lacks is small beside what it does. The floor is the matrix products
alone, and they take one read of the queue at least.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from baseline import contrast
from harness import (
    BASELINE,
    FLOOR,
    Bench,
    Case,
    Factory,
    backends,
    capped,
    cases,
    compiled_once,
    package_names,
)
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.functional import ContrastLosses, queue_contrast
from aimclr_fast.ops import queue_contrast as op

TEMPERATURE = 0.07
WIDTH = 128
USUAL = {"N": 128, "K": 32768}  # the published recipe
PAIRS = ((128, 32768), (32, 32768), (512, 32768), (128, 131072))
LARGE = ((4096, 32768), (4096, 131072))  # on a GPU; the baseline needs 11 and 43 GB
REFERENCE_LIMIT = {"cpu": 128 * 32768, "cuda": 512 * 32768}  # rows x keys
MINING = [{"N": n, "K": k, "topk": 1} for n, k in PAIRS]
GPU_MINING = [{"N": n, "K": k, "topk": 1} for n, k in PAIRS + LARGE]
PLAIN = [{**USUAL, "topk": 0}]


class Inputs:
    """Three views that need gradients, their keys, and a queue, all of unit length."""

    def __init__(self, case: Case) -> None:
        generator = case.generator()

        def unit_rows(size: int) -> Tensor:
            rows = torch.randn(size, WIDTH, device=case.device, generator=generator)
            return F.normalize(rows, dim=1)

        self.case = case
        self.topk = case["topk"]
        self.views = [unit_rows(case["N"]).to(case.dtype).requires_grad_() for _ in range(3)]
        self.key, self.queue = (unit_rows(case[size]).to(case.dtype) for size in "NK")


def forward(inputs: Inputs, backend: str) -> ContrastLosses:
    query, extreme, dropped = inputs.views
    keys = inputs.key, inputs.queue
    return queue_contrast(query, extreme, dropped, *keys, TEMPERATURE, inputs.topk, backend=backend)


def backward(inputs: Inputs, losses: ContrastLosses | contrast.Losses) -> tuple[Tensor, ...]:
    return torch.autograd.grad(losses.loss, inputs.views)


def baseline(inputs: Inputs) -> Step:
    """With bf16 under autocast, from rows in float32: it would lose the losses otherwise."""
    case = inputs.case
    inputs.views = [view.detach().float().requires_grad_() for view in inputs.views]
    query, extreme, dropped = inputs.views
    key, queue = inputs.key.float(), inputs.queue.float().T.contiguous()

    def run() -> tuple[Tensor, ...]:
        half = case.precision == "bf16"
        with torch.autocast(case.device, torch.bfloat16, enabled=half, cache_enabled=False):
            losses = contrast.losses(query, extreme, dropped, key, queue, TEMPERATURE, inputs.topk)
        return backward(inputs, losses)

    return Step(run)


def attention(inputs: Inputs) -> Step:
    rows, queue = torch.cat(inputs.views).detach()[None, None], inputs.queue[None, None]

    def run() -> None:
        F.scaled_dot_product_attention(rows, queue, queue, scale=1 / TEMPERATURE)
        if inputs.topk:
            (rows @ queue.mT).topk(inputs.topk)

    return Step(run)


def floor(inputs: Inputs) -> Step:
    rows = torch.cat(inputs.views).detach()
    return Step(lambda: rows @ inputs.queue.T @ inputs.queue)


def work(case: Case) -> Work:
    n, k = case["N"], case["K"]
    return Work(
        bytes=(k + 7 * n) * WIDTH * case.dtype.itemsize,
        flop=12.0 * n * k * WIDTH,
        precision=case.precision,
    )


OURS = compiled_once(
    backends(op.BACKENDS, lambda inputs: inputs.views[0], forward, backward), USUAL
)
PROVIDERS: dict[str, Factory] = {
    BASELINE: baseline,
    **OURS,
    "attention": attention,
    FLOOR: floor,
}
# The reference sorts every row of similarities.
PROVIDERS["reference"] = capped(
    PROVIDERS["reference"],
    "takes seconds to sort all similarities",
    lambda inputs: inputs.case["N"] * inputs.case["K"] <= REFERENCE_LIMIT[inputs.case.device],
)
BENCH = Bench(
    op="queue_contrast",
    cases=cases(MINING + PLAIN, "cpu", "fp32")
    + cases(GPU_MINING + PLAIN, "cuda", "bf16", "fp32")
    + cases([{**USUAL, "topk": 1}], "cuda", "tf32"),
    inputs=Inputs,
    work=work,
    providers=PROVIDERS,
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_queue_contrast(compare, case, provider):
    compare(BENCH, case, provider)

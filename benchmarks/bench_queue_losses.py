"""queue_losses beyond AimCLR's case, forward and backward, rows of 128 against queues.

hiclr: query, extreme and masked rows, each taught by the one before. skelemixclr+: the query and
six more sets, with keys of their own and the other half of their mix as one more negative.
aimclr++: two sets in each of three streams, which vote for common positives. The floor is the
matrix products alone, and they take one read of each queue at least.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from baseline import contrast
from bench_queue_contrast import TEMPERATURE, WIDTH
from harness import (
    BASELINE,
    COMPILED,
    FLOOR,
    Bench,
    Case,
    backends,
    capped,
    package_names,
)
from limits import Work
from measure import Step
from torch import Tensor

from aimclr_fast.config import VotesConfig
from aimclr_fast.functional import QueueLosses, Term, queue_losses
from aimclr_fast.nn import get_method
from aimclr_fast.nn.contrast import terms_of
from aimclr_fast.ops import queue_contrast as op

QUEUE = 32768


class Asked(NamedTuple):
    """What a method asks of a step: of each stream the same."""

    terms: list[Term]
    streams: int = 1
    topk: int = 1
    votes: int = 0

    @property
    def keys(self) -> int:
        return 1 + max(term.key or 0 for term in self.terms)


def terms(method: str) -> list[Term]:
    parts = get_method(method).parts
    assert parts is not None
    return [term for _, term in terms_of(parts)]


METHODS = {
    "hiclr": Asked(terms("hiclr")),
    "skelemixclr+": Asked(terms("skelemixclr+"), topk=0),
    "aimclr++": Asked(terms("aimclr++"), streams=3, topk=VotesConfig.topk, votes=VotesConfig.least),
}


def cases(samples: tuple[int, ...], device: str, *precisions: str) -> list[Case]:
    return [
        Case(f"N{n}-K{QUEUE}-{method}", {"N": n, "K": QUEUE}, device, precision)
        for precision in precisions
        for n in samples
        for method in METHODS
    ]


def asked_by(case: Case) -> Asked:
    return METHODS[case.name.rpartition("-")[2]]


class Inputs:
    """Sets of rows that need gradients, keys and queues of each stream, all of unit length."""

    def __init__(self, case: Case, asked: Asked | None = None) -> None:
        self.case, self.asked = case, asked or asked_by(case)
        generator = case.generator()

        def unit_rows(size: int) -> Tensor:
            rows = torch.randn(size, WIDTH, device=case.device, generator=generator)
            return F.normalize(rows, dim=1).to(case.dtype)

        def sets(count: int) -> list[list[Tensor]]:
            each = range(self.asked.streams)
            return [[unit_rows(case["N"]) for _ in range(count)] for _ in each]

        self.rows = [[row.requires_grad_() for row in of] for of in sets(len(self.asked.terms))]
        self.keys = sets(self.asked.keys)
        self.queues = [unit_rows(case["K"]) for _ in range(self.asked.streams)]

    @property
    def all_rows(self) -> list[Tensor]:
        return [row for of_stream in self.rows for row in of_stream]


def forward(inputs: Inputs, backend: str) -> QueueLosses:
    asked = inputs.asked
    return queue_losses(
        inputs.rows,
        inputs.keys,
        inputs.queues,
        asked.terms,
        temperature=TEMPERATURE,
        topk=asked.topk,
        votes=asked.votes,
        backend=backend,
    )


def backward(inputs: Inputs, found: QueueLosses) -> tuple[Tensor, ...]:
    return torch.autograd.grad(found.losses.sum(), inputs.all_rows)


def baseline(inputs: Inputs) -> Step:
    """With bf16 under autocast, from rows in float32: it would lose the losses otherwise."""
    case, asked = inputs.case, inputs.asked
    rows = [[row.detach().float().requires_grad_() for row in of] for of in inputs.rows]
    keys = [[key.float() for key in of] for of in inputs.keys]
    queues = [queue.float().T.contiguous() for queue in inputs.queues]
    flat = [row for of in rows for row in of]

    def run() -> tuple[Tensor, ...]:
        half = case.precision == "bf16"
        with torch.autocast(case.device, torch.bfloat16, enabled=half, cache_enabled=False):
            losses = contrast.losses_of_sets(
                rows, keys, queues, asked.terms, TEMPERATURE, asked.topk, asked.votes
            )
        return torch.autograd.grad(torch.stack(losses).sum(), flat)

    return Step(run)


def floor(inputs: Inputs) -> Step:
    rows = [torch.cat(of).detach() for of in inputs.rows]
    return Step(lambda: [x @ q.T @ q for x, q in zip(rows, inputs.queues, strict=True)])


def work(case: Case, asked: Asked | None = None) -> Work:
    n, k = case["N"], case["K"]
    wanted = asked or asked_by(case)
    sets = len(wanted.terms)
    return Work(
        bytes=wanted.streams * (k + (2 * sets + wanted.keys) * n) * WIDTH * case.dtype.itemsize,
        flop=4.0 * wanted.streams * sets * n * k * WIDTH,
        precision=case.precision,
    )


OURS = backends(op.BACKENDS, lambda inputs: inputs.queues[0], forward, backward)
OURS[COMPILED] = capped(
    OURS[COMPILED],
    "compiled for hiclr and N=128 alone",
    lambda inputs: inputs.case["N"] == 128 and inputs.asked is METHODS["hiclr"],
)
BENCH = Bench(
    op="queue_losses",
    cases=cases((128, 32), "cpu", "fp32")
    + cases((128, 32, 512), "cuda", "bf16", "fp32")
    + cases((128,), "cuda", "tf32"),
    inputs=Inputs,
    work=work,
    providers={BASELINE: baseline, **OURS, FLOOR: floor},
    package=package_names(op.BACKENDS),
)


@BENCH.parametrize()
def test_queue_losses(compare, case, provider):
    compare(BENCH, case, provider)

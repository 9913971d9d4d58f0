"""Every backend of queue_contrast against the reference, in losses, gradients and neighbors.

Keys whose similarity lies within rounding of the last neighbor's may be mined or not; all others
must be mined exactly, and losses are compared with those that the backend's own neighbors imply.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_near
from torch import Tensor
from triton_published import SIZES

from aimclr_fast import functional
from aimclr_fast.ops import queue_contrast as op
from aimclr_fast.reference import queue_contrast as reference

ROWS = ("query", "extreme", "dropped")
# The row of tests/tolerances.py for each way to multiply; tf32 has the mantissa of float16.
ACCURACY = {
    "ieee": torch.float32,
    "tf32": torch.float16,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "double": torch.float64,
}
# How far rounding may move a similarity of unit rows.
BAND = {
    torch.float64: 1e-14,
    torch.float32: 1e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}
CPP = [(torch.float32, "ieee"), (torch.float64, "double"), (torch.bfloat16, "ieee")]
TRITON = [
    (torch.float32, "ieee"),
    (torch.float32, "tf32"),
    (torch.float32, "bf16"),
    (torch.bfloat16, "bf16"),
    (torch.float16, "fp16"),
]


class Place(NamedTuple):
    """Where a backend runs, on which numbers, and how it multiplies them."""

    backend: str
    device: str
    dtype: torch.dtype
    precision: str

    @property
    def accuracy(self) -> torch.dtype:
        return ACCURACY[self.precision]

    @property
    def argument(self) -> str | None:
        return self.precision if self.backend == "triton" else None


def places() -> list:
    found = []
    for backend, device, kinds in (
        ("cpp", "cpu", CPP),
        ("triton", "cpu", TRITON),
        ("triton", "cuda", TRITON),
    ):
        for dtype, precision in kinds:
            name = f"{backend}-{device}-{str(dtype).removeprefix('torch.')}-{precision}"
            marks = [pytest.mark.cuda] if device == "cuda" else []
            place = Place(backend, device, dtype, precision)
            found.append(pytest.param(place, id=name, marks=marks))
    return found


def usable(place: Place) -> Place:
    if place[:2] == ("triton", "cpu") and torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    return place


@pytest.fixture(params=places())
def place(request) -> Place:
    return usable(request.param)


@pytest.fixture(params=[p for p in places() if p.values[0][2:] == (torch.float32, "ieee")])
def exact(request) -> Place:
    """The backends on float32 numbers, multiplied exactly."""
    return usable(request.param)


class Inputs(NamedTuple):
    query: Tensor
    extreme: Tensor
    dropped: Tensor
    key: Tensor
    queue: Tensor

    def to(self, *args) -> Inputs:
        return Inputs(*(x.to(*args) for x in self))


def unit_rows(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def random_inputs(n: int, k: int, d: int, seed: int = 0) -> Inputs:
    torch.manual_seed(seed)
    return Inputs(*(unit_rows(n, d) for _ in range(4)), unit_rows(k, d))


class Result(NamedTuple):
    losses: Tensor
    neighbors: Tensor
    gradients: Tensor


def run(place: Place, inputs: Inputs, temperature: float, topk: int) -> Result:
    """Losses, neighbors, and the gradient of each loss by its own rows."""
    rows = [x.detach().requires_grad_() for x in inputs[:3]]
    _, *losses, neighbors = op.queue_contrast(
        *rows, *inputs[3:], temperature, topk, place.backend, precision=place.argument
    )
    gradients = [
        torch.autograd.grad(loss, row, retain_graph=True)[0]
        for loss, row in zip(losses, rows, strict=True)
    ]
    for row, gradient in zip(rows, gradients, strict=True):
        assert gradient.dtype == row.dtype
    return Result(torch.stack(losses).detach(), neighbors, torch.stack(gradients))


def implied(inputs: Inputs, temperature: float, neighbors: Tensor) -> Result:
    """The reference's answer in float64, given the neighbors."""
    rows = [x.double().detach().requires_grad_() for x in inputs[:3]]
    key, queue = inputs.key.double(), inputs.queue.double()
    info_nce, d3m_extreme, d3m_dropped, _ = reference.queue_contrast(*rows, key, queue, temperature)
    if neighbors.numel():
        logits = torch.cat([(rows[0] * key).sum(1, keepdim=True), rows[0] @ queue.T], 1)
        positives = reference.positive_mask(neighbors, len(queue)).double()
        log_p = torch.log_softmax(logits / temperature, 1)
        info_nce = -((log_p * positives).sum(1) / positives.sum(1)).mean()
    losses = torch.stack([info_nce, d3m_extreme, d3m_dropped])
    gradients = torch.autograd.grad(losses.sum(), rows)
    return Result(losses.detach(), neighbors, torch.stack(gradients))


def assert_mined(inputs: Inputs, neighbors: Tensor, topk: int, band: float) -> None:
    """The topk nearest keys in descending order, but for similarities within `band`."""
    n, k = len(inputs.query), len(inputs.queue)
    assert neighbors.shape == (n, 3, topk)
    assert neighbors.dtype == torch.int64
    if topk == 0:
        return
    rows = torch.stack(inputs[:3], 1).double()
    similarity = rows @ inputs.queue.double().T  # [N, 3, K]
    mined = similarity.gather(2, neighbors)
    assert (mined.diff(dim=2) <= band).all(), "not in descending order"
    last = similarity.topk(topk, dim=2).values[..., -1:]
    assert (mined >= last - band).all(), "a mined key is too far"
    chosen = torch.zeros(n, 3, k, dtype=torch.bool, device=neighbors.device)
    chosen.scatter_(2, neighbors, True)
    assert (chosen.sum(2) == topk).all(), "a key was mined twice"
    assert chosen[similarity > last + band].all(), "a nearer key was left out"


def check(place: Place, inputs: Inputs, temperature: float, topk: int) -> Result:
    inputs = inputs.to(place.device, place.dtype)
    got = run(place, inputs, temperature, topk)
    assert_mined(inputs, got.neighbors, topk, BAND[place.accuracy])
    want = implied(inputs, temperature, got.neighbors)
    assert_near(got.losses, want.losses, dtype=place.accuracy, what="losses")
    # Half-precision rows get half-precision gradients.
    coarser = max(place.accuracy, place.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    for name, have, wish in zip(ROWS, got.gradients, want.gradients, strict=True):
        assert_near(have, wish, gradient=True, dtype=coarser, what=name)
    return got


@pytest.mark.parametrize(
    ("n", "k", "d", "topk"),
    [
        (5, 131, 32, 1),
        (3, 67, 48, 5),  # a width between powers of two
        (23, 64, 16, 0),  # more rows than a block holds
        (2, 70, 64, 33),
        (2, 7, 16, 7),  # every key is mined
        (1, 1, 16, 1),
        (2, 0, 16, 0),  # no queue
    ],
)
def test_is_the_reference(place, n, k, d, topk):
    check(place, random_inputs(n, k, d), 0.07, topk)


@pytest.mark.parametrize(
    ("n", "k", "d", "topk"),
    [(7, 4099, 8, 32), (130, 1500, 20, 3), (37, 2053, 1, 2), (2, 300, 257, 1), (3, 10, 0, 2)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cpp_takes_any_size(dtype, n, k, d, topk):
    precision = "ieee" if dtype == torch.float32 else "double"
    check(Place("cpp", "cpu", dtype, precision), random_inputs(n, k, d), 0.2, topk)


@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "precision"), TRITON)
@pytest.mark.parametrize(
    ("n", "k", "d", "topk"),
    [pytest.param(*size, marks=[pytest.mark.published][: size[0] == 128]) for size in SIZES],
)
def test_real_sizes(dtype, precision, n, k, d, topk):
    check(Place("triton", "cuda", dtype, precision), random_inputs(n, k, d), 0.07, topk)


@pytest.mark.parametrize("topk", [0, 1, 5])
@pytest.mark.smoke
def test_the_authors_numbers(exact, golden, topk):
    g = golden("contrast").tree(f"topk{topk}/")
    inputs = Inputs(*(g[name] for name in (*ROWS, "key", "queue"))).to(exact.device)
    rows = [x.requires_grad_() for x in inputs[:3]]
    out = functional.queue_contrast(*inputs, 0.07, topk, exact.backend)
    losses = torch.stack([out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped])
    assert_near(losses, g["loss"].to(exact.device))
    out.loss.backward()
    for name, row in zip(ROWS, rows, strict=True):
        assert_near(row.grad, g[f"d_{name}"].to(exact.device), gradient=True, what=name)
    if topk:
        mask = reference.positive_mask(out.neighbors, len(inputs.queue))
        assert torch.equal(mask, g["pos_mask"].to(exact.device))


def test_ties_go_to_the_lower_index(exact):
    """Equal keys in one tile, in several tiles, and in parts of the queue that merge later."""
    torch.manual_seed(3)
    row = unit_rows(1, 16)
    queue = -row.expand(200, 16).clone()
    for index in (199, 140, 77, 70, 5):
        queue[index] = row[0]
    queue[131] = 2 * row[0]
    inputs = Inputs(*[row.expand(2, 16)] * 4, queue).to(exact.device, exact.dtype)
    got = run(exact, inputs, 0.5, 4)
    assert got.neighbors.tolist() == [[[131, 5, 70, 77]] * 3] * 2


def test_ties_across_the_parts_of_a_long_queue():
    row = torch.eye(1, 8)
    queue = -row.expand(40000, 8).clone()
    queue[[39999, 25000, 24999, 9000]] = row
    inputs = Inputs(*[row] * 4, queue)
    got = run(Place("cpp", "cpu", torch.float32, "ieee"), inputs, 0.5, 6)
    assert got.neighbors[0, 0].tolist() == [9000, 24999, 25000, 39999, 0, 1]


def test_inputs_of_any_layout_and_mixed_dtypes(exact):
    inputs = random_inputs(4, 70, 32).to(exact.device, exact.dtype)
    want = run(exact, inputs, 0.07, 2)
    strided = Inputs(*(x.T.contiguous().T for x in inputs))
    assert not strided.queue.is_contiguous()
    for have, wish in zip(run(exact, strided, 0.07, 2), want, strict=True):
        assert torch.equal(have, wish)
    mixed = Inputs(*inputs[:3], inputs.key.bfloat16(), inputs.queue.bfloat16())
    widened = Inputs(*inputs[:3], mixed.key.float(), mixed.queue.float())
    assert_near(run(exact, mixed, 0.07, 2).losses, run(exact, widened, 0.07, 2).losses)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, True, True)]
)
def test_gradients_of_some_rows_and_weights_of_losses(exact, wanted):
    inputs = random_inputs(3, 65, 16).to(exact.device, exact.dtype)
    full = run(exact, inputs, 0.1, 1).gradients
    rows = [x.clone().requires_grad_(w) for x, w in zip(inputs[:3], wanted, strict=True)]
    out = functional.queue_contrast(*rows, *inputs[3:], 0.1, 1, exact.backend)
    (2.0 * out.info_nce - 0.5 * out.d3m_extreme + 3.0 * out.d3m_dropped).backward()
    for row, weight, gradient in zip(rows, (2.0, -0.5, 3.0), full, strict=True):
        if row.requires_grad:
            assert_near(row.grad, weight * gradient)
        else:
            assert row.grad is None


def test_teacher_keys_and_queue_get_no_gradient(exact):
    inputs = random_inputs(3, 65, 16).to(exact.device, exact.dtype)
    inputs = Inputs(*(x.requires_grad_() for x in inputs))
    out = functional.queue_contrast(*inputs, 0.1, 1, exact.backend)
    assert not out.neighbors.requires_grad
    (out.d3m_extreme + out.d3m_dropped).backward(retain_graph=True)
    assert not inputs.query.grad.any()
    out.loss.backward()
    assert inputs.query.grad.any()
    assert inputs.key.grad is None
    assert inputs.queue.grad is None


def test_large_logits(exact):
    """Similarities of 1e8 over a temperature of 0.07: far beyond what exp can take."""
    inputs = random_inputs(3, 65, 16).to(exact.device, exact.dtype)
    inputs = Inputs(*(1e4 * x for x in inputs))
    got = run(exact, inputs, 0.07, 1)
    assert_near(got.losses, implied(inputs, 0.07, got.neighbors).losses)
    assert torch.isfinite(got.gradients).all()


@pytest.mark.parametrize("where", ["query", "key", "queue"])
def test_nan_is_not_hidden(exact, where):
    inputs = random_inputs(3, 65, 16).to(exact.device, exact.dtype)
    getattr(inputs, where)[1, 3] = math.nan
    got = run(exact, inputs, 0.07, 2)
    assert got.losses.isnan().all()
    assert ((got.neighbors >= 0) & (got.neighbors < 65)).all()


def test_runs_give_the_same_bits(exact):
    inputs = random_inputs(7, 500, 32).to(exact.device, exact.dtype)
    for first, second in zip(*(run(exact, inputs, 0.07, 3) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


def test_gradcheck():
    inputs = random_inputs(3, 140, 8)
    rows = [x.requires_grad_() for x in inputs[:3]]
    one_by_one = [
        lambda q: op.queue_contrast(q, *inputs[1:], 0.3, 0, "cpp")[1],
        lambda e: op.queue_contrast(inputs[0], e, *inputs[2:], 0.3, 2, "cpp")[2],
        lambda d: op.queue_contrast(*inputs[:2], d, *inputs[3:], 0.3, 2, "cpp")[3],
    ]
    for function, row in zip(one_by_one, rows, strict=True):
        assert torch.autograd.gradcheck(function, (row,))

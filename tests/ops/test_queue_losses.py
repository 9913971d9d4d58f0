"""queue_losses: every backend against the reference, over streams, sets and what they learn.

As in test_queue_contrast.py, a backend's losses are compared with those that its own neighbors
imply, since rounding may change places of nearly equal keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ops.test_queue_contrast import BAND, Place, places, usable
from tolerances import assert_near
from torch import Tensor

from aimclr_fast.functional import QueueLosses, Term, queue_contrast, queue_losses
from aimclr_fast.ops import queue_contrast as op
from aimclr_fast.reference import queue_contrast as reference

MINES = Term(mines=True)
TAUGHT = Term(teacher=0, mines=True)
#: HiCLR's: each set learns from the one before.
CHAIN = [MINES, Term(teacher=0), Term(teacher=1, mines=True), Term(teacher=2)]
#: SkeleMixCLR's: a query, then pairs of rows of one sample, the first with its partner's key.
PAIRS = [
    Term(key=0, mines=True),
    *(Term(negative=at + 1 - 2 * (at % 2 == 0), key=at % 2) for at in range(1, 7)),
]
#: Of all kinds, a teacher after its student and two that teach each other.
MIXED = [
    Term(teacher=2, key=1),
    Term(negative=0, positives=False, key=0),
    Term(teacher=0, mines=True, key=1),
    Term(positives=False, key=2, mines=True),
    Term(negative=2, key=2),
]


@dataclass
class Case:
    """Sizes and terms; the same number of keys in each stream's queue if there is one of them."""

    terms: list[Term]
    n: int
    sizes: tuple[int, ...]
    d: int
    topk: int = 0
    votes: int = 0
    temperature: float = 0.07
    rows: list[list[Tensor]] = field(init=False)
    keys: list[list[Tensor]] = field(init=False)
    queues: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def unit_rows(near: Tensor | None, *shape: int) -> Tensor:
            rows = torch.randn(*shape, dtype=torch.float64, generator=generator)
            rows = F.normalize(rows, dim=-1)
            return rows if near is None else F.normalize(near + 0.3 * rows, dim=-1)

        # Rows of a sample are alike, also in different streams, so that these agree on neighbors.
        own = unit_rows(None, self.n, self.d)
        queue = unit_rows(None, max(self.sizes), self.d)
        keys = 1 + max(term.key or 0 for term in self.terms)
        self.rows = [[unit_rows(own, self.n, self.d) for _ in self.terms] for _ in self.sizes]
        self.keys = [[unit_rows(own, self.n, self.d) for _ in range(keys)] for _ in self.sizes]
        self.queues = [unit_rows(queue[:size], size, self.d) for size in self.sizes]

    def to(self, *args: Any) -> Case:
        moved = Case(self.terms, self.n, self.sizes, self.d, self.topk, self.votes)
        moved.temperature = self.temperature
        for name in ("rows", "keys"):
            setattr(moved, name, [[x.to(*args) for x in sets] for sets in getattr(self, name)])
        moved.queues = [queue.to(*args) for queue in self.queues]
        return moved

    def __str__(self) -> str:
        sizes = ",".join(map(str, self.sizes))
        return f"R{len(self.terms)}-N{self.n}-K{sizes}-D{self.d}-top{self.topk}-votes{self.votes}"


def call(case: Case, backend: str, precision: str | None = None) -> QueueLosses:
    return queue_losses(
        case.rows,
        case.keys,
        case.queues,
        case.terms,
        temperature=case.temperature,
        topk=case.topk,
        votes=case.votes,
        backend=backend,
        precision=precision,
    )


def with_gradients(case: Case) -> list[Tensor]:
    """The rows of all sets, which want gradients from now on."""
    case.rows = [[row.detach().clone().requires_grad_() for row in sets] for sets in case.rows]
    return [row for sets in case.rows for row in sets]


def assert_mined(case: Case, neighbors: Tensor, band: float) -> None:
    """The topk nearest keys in descending order, but for similarities within `band`."""
    miners = [at for at, term in enumerate(case.terms) if term.mines]
    assert neighbors.shape == (len(case.sizes), case.n, len(miners), case.topk)
    assert neighbors.dtype == torch.int64
    for rows, queue, found in zip(case.rows, case.queues, neighbors, strict=True):
        for place, at in enumerate(miners if case.topk else []):
            similarity = (rows[at].double() @ queue.double().T).detach()
            mined = similarity.gather(1, found[:, place])
            assert (mined.diff(dim=1) <= band).all(), "not in descending order"
            chosen = torch.zeros_like(similarity, dtype=torch.bool).scatter_(
                1, found[:, place], True
            )
            assert (chosen.sum(1) == case.topk).all(), "a key was mined twice"
            last = similarity.topk(case.topk, dim=1).values[:, -1:]
            assert chosen[similarity > last + band].all(), "a nearer key was left out"
            assert not chosen[similarity < last - band].any(), "a mined key is too far"


def check(place: Place, case: Case) -> QueueLosses:
    case = case.to(place.device, place.dtype)
    rows = with_gradients(case)
    found = call(case, place.backend, place.argument)
    assert_mined(case, found.neighbors, BAND[place.accuracy])
    exact = case.to(torch.float64)
    wanted = with_gradients(exact)
    masks = reference.positive_masks(found.neighbors, case.sizes, case.votes)
    assert torch.equal(found.positives, torch.stack([mask.sum(1).long() for mask in masks]))
    losses = [
        reference.losses_of(torch.stack(rows), torch.stack(keys), *rest, mask.double(), 0.07)
        for rows, keys, *rest, mask in zip(
            exact.rows, exact.keys, exact.queues, [case.terms] * len(case.sizes), masks, strict=True
        )
    ]
    assert_near(found.losses, torch.stack(losses), dtype=place.accuracy, what="losses")
    # Half-precision rows get half-precision gradients.
    coarser = max(place.accuracy, place.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    weights = torch.arange(1.0, 1 + found.losses.numel(), device=place.device)
    weights = (weights / weights.numel()).view_as(found.losses)
    gradients = torch.autograd.grad((found.losses * weights).sum(), rows)
    expected = torch.autograd.grad((torch.stack(losses) * weights).sum(), wanted)
    for row, have, want in zip(rows, gradients, expected, strict=True):
        assert have.dtype == row.dtype
        assert_near(have, want, gradient=True, dtype=coarser, what="gradients")
    return found


ALL = [
    Case([MINES], 5, (131,), 32),
    Case([MINES, TAUGHT], 3, (67,), 48, topk=4),
    Case([MINES, TAUGHT], 2, (60, 60, 60), 16, topk=20, votes=2),
    Case([MINES, MINES], 3, (33, 33), 16, topk=4, votes=1),
    Case(CHAIN, 3, (35, 70), 16, topk=1),
    Case(PAIRS, 3, (65,), 16, topk=4),
    Case(MIXED, 2, (40, 40, 40), 16, topk=9, votes=3),
    Case(PAIRS, 1, (0,), 16),  # no queue, but one more negative
]
LARGER = [
    Case([MINES], 1, (1,), 1, topk=1),
    Case([MINES, TAUGHT], 131, (1500, 1500, 1500), 20, topk=20, votes=2),
    Case([MINES, TAUGHT, TAUGHT], 37, (2053,), 129, topk=3),
    Case(CHAIN, 7, (4099, 0, 3), 8),
    Case(PAIRS, 101, (700, 701, 33), 257, topk=20),
    Case(MIXED, 13, (300, 300), 33, topk=150, votes=1),
    Case([MINES] * 16, 30, (60,) * 8, 5, topk=15, votes=3),
    Case(MIXED, 4, (9,), 0, topk=9),
    Case([Term(), Term(teacher=0)], 3, (9,), 4, topk=2),  # which no set mines
]


CPP = [place for place in places() if place.values[0].backend == "cpp"]


@pytest.fixture(params=CPP)
def cpp(request) -> Place:
    return request.param


@pytest.fixture(params=[p for p in places() if p.values[0][2:] == (torch.float32, "ieee")])
def exact(request) -> Place:
    """The backends on float32 numbers, multiplied exactly."""
    return usable(request.param)


@pytest.mark.parametrize("case", ALL + LARGER, ids=str)
def test_cpp_is_the_reference(cpp, case):
    check(cpp, case)


# The interpreter takes its time.
@pytest.mark.parametrize("case", [ALL[2], ALL[4], ALL[6], ALL[7]], ids=str)
@pytest.mark.parametrize("place", [p for p in places() if "triton" in p.id and "32-ieee" in p.id])
def test_triton_is_the_reference(place, case):
    check(usable(place), case)


@pytest.mark.parametrize("place", [p for p in places() if "triton" in p.id and "-ieee" not in p.id])
def test_other_precisions_of_triton(place):
    check(usable(place), Case(PAIRS[:3], 2, (20,), 16, topk=2))


def test_streams_agree_on_some_positives_and_not_on_all():
    """Or the cases with votes would show nothing."""
    for case in ALL + LARGER:
        counts = call(case, "reference").positives
        if case.votes:
            assert (counts == counts[0]).all(), str(case)
            assert 1 < counts.max() <= len(case.sizes) * case.topk, str(case)


@pytest.mark.parametrize(
    ("terms", "votes"), [([MINES, TAUGHT], 0), (CHAIN, 1), (PAIRS[:3], 0), (MIXED, 2)]
)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_gradcheck(terms, votes, backend):
    case = Case(terms, 2, (30, 30), 5, topk=2, votes=votes, temperature=0.3)
    for stream in range(2):
        for at in range(len(terms)):
            # The losses of other sets depend on these rows, too, and have no gradient for it.
            def loss(row: Tensor, stream: int = stream, at: int = at) -> Tensor:
                case.rows[stream][at] = row
                return call(case, backend).losses[stream, at]

            row = case.rows[stream][at]
            assert torch.autograd.gradcheck(loss, (row.clone().requires_grad_(),))
            case.rows[stream][at] = row


def test_ties_go_to_the_lower_index(exact):
    """Also those of keys in different tiles, and of zeros of both signs."""
    queue = -torch.eye(1, 16).expand(200, 16).clone()
    queue[[5, 70, 77, 140, 199]] = torch.eye(1, 16)
    other = queue.flip(0)
    other[131] = -0.0 * other[131]
    other[132] = 0.0 * other[132]
    row = torch.eye(1, 16)
    case = Case([MINES, TAUGHT], 1, (200, 200), 16, topk=7, votes=1)
    case.rows, case.keys, case.queues = [[row, row]] * 2, [[row]] * 2, [queue, other]
    found = call(case.to(exact.device), exact.backend, exact.argument)
    assert found.neighbors[:, 0, 0].tolist() == [[5, 70, 77, 140, 199, 0, 1],
                                                 [0, 59, 122, 129, 194, 131, 132]]  # fmt: skip
    assert torch.equal(found.neighbors[:, :, 0], found.neighbors[:, :, 1])
    # Each stream votes for 7 keys, of which key 0 is on both lists.
    assert found.positives.tolist() == [[14], [14]]
    case.votes = 2
    found = call(case.to(exact.device), exact.backend, exact.argument)
    assert found.positives.tolist() == [[2], [2]]


def test_a_confident_row_keeps_its_digits(exact):
    """Its loss and gradient are small differences of large logits."""
    case = Case(PAIRS[:3], 3, (65,), 16, temperature=0.02)
    case.keys = [[case.rows[0][0], case.rows[0][1]]]
    case.rows[0][2] = case.rows[0][0].clone()
    case = case.to(torch.float32).to(exact.device)
    exactly = case.to(torch.float64)
    rows, wanted_rows = with_gradients(case), with_gradients(exactly)
    found, wanted = call(case, exact.backend, exact.argument), call(exactly, "reference")
    assert float(wanted.losses.max()) < 0.1
    if exact.backend == "cpp":  # float32 has no logarithm of 1 + 1e-9
        for have, want in zip(found.losses.flatten(), wanted.losses.flatten(), strict=True):
            assert_near(have, want)
    gradients = torch.autograd.grad(found.losses.sum(), rows)
    expected = torch.autograd.grad(wanted.losses.sum(), wanted_rows)
    for have, want in zip(gradients, expected, strict=True):
        assert_near(have, want, gradient=True)


def test_queue_contrast_is_a_caller_of_it(exact):
    case = Case([MINES, TAUGHT, TAUGHT], 5, (70,), 16, topk=3).to(exact.dtype).to(exact.device)
    rows, again = with_gradients(case), [row.clone().requires_grad_() for row in case.rows[0]]
    losses = call(case, exact.backend)
    plain = queue_contrast(*again, case.keys[0][0], case.queues[0], 0.07, 3, exact.backend)
    assert torch.equal(losses.losses[0], torch.stack(plain[1:4]))
    assert torch.equal(losses.neighbors[0], plain.neighbors)
    pairs = zip(
        torch.autograd.grad(losses.losses.sum(), rows),
        torch.autograd.grad(sum(plain[1:4]), again),
        strict=True,
    )
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_whole_tensors_are_as_good_as_sequences(backend):
    case = Case(PAIRS[:3], 3, (40, 41), 16, topk=2)
    wanted = call(case, backend)
    case.rows, case.keys = (
        torch.stack([torch.stack(sets) for sets in nested]) for nested in (case.rows, case.keys)
    )
    case.rows.requires_grad_()
    found = call(case, backend)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    found.losses.sum().backward()
    assert case.rows.grad.flatten(0, 1).flatten(1).any(1).all()


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_teachers_negatives_keys_and_queues_get_no_gradient(backend):
    case = Case(MIXED, 3, (30,), 8, topk=2)
    rows = with_gradients(case)
    case.keys = [[key.requires_grad_() for key in case.keys[0]]]
    case.queues = [case.queues[0].requires_grad_()]
    losses = call(case, backend).losses[0]
    for at, loss in enumerate(losses):
        found = torch.autograd.grad(loss, rows, retain_graph=True, allow_unused=True)
        for other, gradient in enumerate(found):
            assert (gradient is not None and bool(gradient.any())) == (other == at)
    losses.sum().backward()
    assert all(tensor.grad is None for tensor in (*case.keys[0], *case.queues))


def test_rows_of_several_dtypes_and_some_without_gradients(exact):
    case = Case(CHAIN, 3, (35,), 16, topk=1).to(torch.float32).to(exact.device)
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
    case.rows = [[row.to(dtype) for row, dtype in zip(case.rows[0], dtypes, strict=True)]]
    case.keys, case.queues = [[case.keys[0][0].bfloat16()]], [case.queues[0].double()]
    exactly = case.to(torch.float64)
    for rows in (case.rows[0], exactly.rows[0]):
        for at in (0, 1, 3):
            rows[at].requires_grad_()
    found, wanted = call(case, exact.backend, exact.argument), call(exactly, "reference")
    assert found.losses.dtype == torch.float32
    assert_near(found.losses, wanted.losses)
    found.losses.sum().backward()
    wanted.losses.sum().backward()
    assert case.rows[0][2].grad is None
    for at, dtype in ((0, torch.float32), (1, torch.bfloat16), (3, torch.float16)):
        gradient = case.rows[0][at].grad
        assert gradient.dtype == dtype
        assert_near(gradient, exactly.rows[0][at].grad, gradient=True, dtype=dtype)


@pytest.mark.parametrize("threads", [2, 7])
def test_threads_do_not_change_a_bit(threads):
    case = Case(MIXED, 70, (3000, 3000), 24, topk=9, votes=1).to(torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            rows = with_gradients(case)
            found = call(case, "cpp")
            results.append([*found, *torch.autograd.grad(found.losses.sum(), rows)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


# --- The torch op --------------------------------------------------------------------------------


OPERATORS = [
    pytest.param(("cpp", "cpu"), id="cpp"),
    pytest.param(("triton", "cuda"), id="triton-cuda", marks=pytest.mark.cuda),
]


@pytest.fixture(params=OPERATORS)
def operator(request) -> tuple[str, str]:
    """A backend, and the device of its tensors."""
    return request.param


@pytest.mark.parametrize("terms", [CHAIN[:2], PAIRS[:3]])
def test_opcheck(operator, terms):
    backend, device = operator
    case = Case(terms, 2, (20, 20), 16, topk=1, votes=1).to(torch.float32).to(device)
    rows, keys = with_gradients(case), [key for keys in case.keys for key in keys]
    numbers = op._numbers(terms, len(case.keys[0]))
    arguments = rows, keys, case.queues, *numbers, 0.07, 1, 1, backend, None
    torch.library.opcheck(torch.ops.aimclr_fast.queue_contrast, arguments)


def test_compiles_without_a_graph_break(operator):
    backend, device = operator
    case = Case(PAIRS[:3], 2, (20, 20), 16, topk=1).to(torch.float32).to(device)
    rows = with_gradients(case)

    def losses() -> Tensor:
        return call(case, backend).losses

    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    pairs = zip(
        *(torch.autograd.grad(found.sum(), rows) for found in (compiled(), losses())), strict=True
    )
    for have, want in pairs:
        assert_near(have, want)


# --- Arguments that cannot be --------------------------------------------------------------------

ROWS = torch.eye(4, 8)


def spoilt(**changes: Any) -> QueueLosses:
    arguments = {
        "rows": [[ROWS, ROWS]],
        "keys": [[ROWS]],
        "queues": [ROWS],
        "terms": [MINES, TAUGHT],
    } | changes
    return queue_losses(**arguments)


TWO = {"rows": [[ROWS, ROWS]] * 2, "keys": [[ROWS]] * 2, "queues": [ROWS, ROWS]}


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (TypeError, "rows must be a tensor .* got int", {"rows": 3}),
        (TypeError, r"rows\[0\] must be a sequence", {"rows": [ROWS]}),
        (TypeError, r"rows\[0\]\[1\] must be a tensor", {"rows": [[ROWS, 3]]}),
        (ValueError, r"rows\[0\]\[1\] must have shape \[4, 8\]", {"rows": [[ROWS, ROWS[:3]]]}),
        (ValueError, "rows must be 2 tensors, 2 sets .* got 1", {"rows": [[ROWS]]}),
        (ValueError, "rows must be of 1 streams, as the queues", {"rows": [[ROWS, ROWS]] * 2}),
        (ValueError, "rows must be as many in each stream", {**TWO, "rows": [[ROWS] * 2, [ROWS]]}),
        (ValueError, r"rows must have shape \[1, sets, N, D\]", {"rows": ROWS}),
        (ValueError, "rows has no tensors", {"rows": [[]]}),
        (ValueError, "rows must be of at most 16 sets, got 1099511627776",
         {"rows": torch.zeros(1, 1, 4, 1).expand(1, 2**40, 4, 1)}),
        (ValueError, "rows has no rows", {"rows": [[ROWS[:0]] * 2], "keys": [[ROWS[:0]]]}),
        (TypeError, r"rows\[0\]\[0\] must be of dtype", {"rows": [[ROWS.int(), ROWS]]}),
        (ValueError, r"keys\[0\]\[0\] must have shape \[4, 8\]", {"keys": [[ROWS[:2]]]}),
        (ValueError, "keys must be one a stream or 2, one a set, got 3", {"keys": [[ROWS] * 3]}),
        (TypeError, "queues must be a sequence", {"queues": ROWS}),
        (ValueError, r"queues\[0\] must have shape \[K, 8\]", {"queues": [ROWS[:, :4]]}),
        (ValueError, "queues must be of 1 to 8 streams, got 9",
         {"rows": [[ROWS] * 2] * 9, "keys": [[ROWS]] * 9, "queues": [ROWS] * 9}),
        (ValueError, "terms must be of 1 to 16 sets of rows, got 17",
         {"rows": [[ROWS] * 17], "terms": [MINES] * 17}),
        (TypeError, r"terms\[1\] must be a Term", {"terms": [MINES, None]}),
        (TypeError, r"terms\[1\].teacher must be an integer", {"terms": [MINES, Term("query")]}),
        (ValueError, r"terms\[1\].teacher must be None or", {"terms": [MINES, Term(-1)]}),
        (ValueError, r"terms\[1\].teacher must be another one of 2 sets, got 2",
         {"terms": [MINES, Term(2)]}),
        (ValueError, r"terms\[0\].teacher must be another one", {"terms": [TAUGHT, TAUGHT]}),
        (ValueError, r"terms\[0\].negative must be another one", {"terms": [Term(None, 0)] * 2}),
        (ValueError, r"terms\[1\].key must be one of 1 keys", {"terms": [MINES, Term(key=1)]}),
        (ValueError, "the sets have the keys 1 and 0", {"keys": [[ROWS, ROWS]]}),
        (ValueError, r"terms\[0\] has a negative", {"terms": [Term(negative=1), TAUGHT]}),
        (ValueError, r"terms\[1\] has a negative", {"terms": [MINES, Term(0, negative=0)]}),
        (ValueError, "temperature must be positive and finite", {"temperature": 0.0}),
        (ValueError, r"topk must lie in 0\.\.4", {"topk": 5}),
        (ValueError, r"topk must lie in 0\.\.2", {**TWO, "queues": [ROWS, ROWS[:2]], "topk": 3}),
        (ValueError, r"votes must lie in 0\.\.1", {"votes": 2}),
        (ValueError, "votes is 1, but no set mines", {"votes": 1, "terms": [Term(), Term()]}),
        (ValueError, r"votes need queues of one size, got \[4, 2\]",
         {**TWO, "queues": [ROWS, ROWS[:2]], "votes": 1}),
        (ValueError, "precision must be one of", {"precision": "fp8"}),
        (TypeError, "precision must be a name", {"precision": 3}),
        (ValueError, "unknown backend 'gpu'", {"backend": "gpu"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_bad_arguments_are_named(error, message, changes, backend):
    with pytest.raises(error, match=message):
        spoilt(**{"backend": backend, **changes})


@pytest.mark.parametrize("name", ["rows", "keys", "queues"])
@pytest.mark.parametrize("backend", ["cpp", "triton"])
def test_a_tensor_whose_memory_was_freed_is_refused(name, backend):
    freed = torch.randn(4, 16)
    freed.untyped_storage().resize_(0)
    row = torch.randn(4, 16)
    arguments = {"rows": [[row, row]], "keys": [[row]], "queues": [row]}
    arguments[name] = [freed] if name == "queues" else [[freed, row][: len(arguments[name][0])]]
    with pytest.raises(ValueError, match="its storage was freed"):
        spoilt(**arguments, backend=backend)


def test_the_op_refuses_what_the_function_cannot_be_given():
    numbers = [-1, 0], [-1, -1], [True, True], [True, True], [0, 0]
    for at in range(1, 5):
        short = [*numbers[:at], numbers[at][:1], *numbers[at + 1 :]]
        with pytest.raises(ValueError, match="must have one item for each of 2 sets, got 1"):
            torch.ops.aimclr_fast.queue_contrast(
                [ROWS, ROWS], [ROWS], [ROWS], *short, 0.07, 0, 0, "cpp", None
            )
    with pytest.raises(ValueError, match="keys must be as many in each of 2 streams, got 3"):
        torch.ops.aimclr_fast.queue_contrast(
            [ROWS] * 4, [ROWS] * 3, [ROWS] * 2, *numbers, 0.07, 0, 0, "cpp", None
        )

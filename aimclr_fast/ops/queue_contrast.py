"""queue_contrast: contrastive losses with mined positives, and distribution matching (D3M).

A compiled backend finds losses, gradients and neighbors in one pass over the queue, so the backward
pass only scales what the forward pass saved.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aimclr_fast import native
from aimclr_fast.reference import queue_contrast as reference
from aimclr_fast.reference.queue_contrast import Term

from ._checks import (
    FLOATS,
    check_dense,
    check_dtype,
    check_integer,
    check_number,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend
from ._native import SUFFIXES, cpp_why_not
from ._op import Op, gradients
from ._triton import product_precision, triton_why_not

# How the triton backend multiplies; the others always do so exactly in the rows' precision.
PRECISIONS = ("ieee", "tf32", "bf16", "fp16")
MAX_TRITON_WIDTH = 256
MAX_STREAMS, MAX_SETS = 8, 16  # as in csrc/cpu/queue_contrast/queue_contrast.h


class ContrastLosses(NamedTuple):
    """Scalars of `queue_contrast` and the mined neighbors [N, 3, topk] (int64)."""

    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor
    neighbors: Tensor


class QueueLosses(NamedTuple):
    """Losses of R sets of rows in each of S streams.

    Attributes:
        losses: [S, R], means over rows.
        neighbors: [S, N, miners, topk] (int64), what the sets that mine found, in the order of the
            sets: indices into the stream's queue, nearest first.
        positives: [S, N] (int64), how many positives a row has, its key included.
    """

    losses: Tensor
    neighbors: Tensor
    positives: Tensor


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `queue_losses`.

    Tensors are those of the first stream, then of the next. The sequences `teacher` to `own_key`
    have an item for each of a stream's R sets.

    Attributes:
        rows: S * R tensors [N, D].
        keys: S * P tensors [N, D].
        queues: S tensors [K, D].
        teacher: index of the set that teaches it, -1 for InfoNCE.
        negative: index of the set of its negatives, -1 for none.
        mines: whether its neighbors join the positives.
        positives: whether its InfoNCE is over these.
        own_key: index of its key, 0 to P - 1.
    """

    rows: list[Tensor]
    keys: list[Tensor]
    queues: list[Tensor]
    teacher: Sequence[int]
    negative: Sequence[int]
    mines: Sequence[bool]
    positives: Sequence[bool]
    own_key: Sequence[int]
    temperature: float
    topk: int
    votes: int
    backend: str
    precision: str | None

    @property
    def miners(self) -> list[int]:
        """Indices of the sets that mine."""
        return [at for at, mines in enumerate(self.mines) if mines]

    @property
    def terms(self) -> list[Term]:
        """What the sets learn, as the reference takes it."""
        numbers = self.teacher, self.negative, self.mines, self.positives, self.own_key
        return [
            Term(None if t < 0 else t, None if n < 0 else n, mines, positives, key)
            for t, n, mines, positives, key in zip(*numbers, strict=True)
        ]

    def stacked(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """The rows [S, R, N, D] or the keys [S, P, N, D]."""
        tensors: list[Tensor] = getattr(self, name)
        wanted = [tensor.to(dtype or tensor.dtype) for tensor in tensors]
        stack = torch.stack(wanted) if len(wanted) > 1 else wanted[0].contiguous()
        each = len(tensors) // len(self.queues)
        return stack.view(len(self.queues), each, *tensors[0].shape)


class Outputs(NamedTuple):
    """What a compiled backend computes.

    Attributes:
        losses: [S, R], means over rows.
        neighbors: [S, N, miners, topk].
        counts: [S, N], numbers of positives.
        gradients: [S, R, N, D], of each loss by its rows.
    """

    losses: Tensor
    neighbors: Tensor
    counts: Tensor
    gradients: Tensor


def _check_tensors(call: Call) -> None:
    streams, sets = len(call.queues), len(call.teacher)
    if not 0 < streams <= MAX_STREAMS:
        raise ValueError(f"queues must be of 1 to {MAX_STREAMS} streams, got {streams}")
    if not 0 < sets <= MAX_SETS:
        raise ValueError(f"terms must be of 1 to {MAX_SETS} sets of rows, got {sets}")
    if len(call.rows) != streams * sets:
        raise ValueError(
            f"rows must be {streams * sets} tensors, {sets} sets in each of {streams} streams, "
            f"got {len(call.rows)}"
        )
    if not call.keys or len(call.keys) % streams:
        raise ValueError(f"keys must be as many in each of {streams} streams, got {len(call.keys)}")
    keys = len(call.keys) // streams
    named = {f"rows[{i // sets}][{i % sets}]": x for i, x in enumerate(call.rows)}
    named |= {f"keys[{i // keys}][{i % keys}]": x for i, x in enumerate(call.keys)}
    first = call.rows[0]
    check_shape("rows[0][0]", first, "N", "D")
    for name, tensor in named.items():
        check_shape(name, tensor, *first.shape)
    queues = {f"queues[{i}]": x for i, x in enumerate(call.queues)}
    for name, queue in queues.items():
        check_shape(name, queue, "K", first.shape[1])
    for name, tensor in (named | queues).items():
        check_dtype(name, tensor, *FLOATS)
    check_same_device(**named, **queues)
    if first.shape[0] == 0:
        raise ValueError("rows has no rows, so the mean over rows is not defined")


def _check_terms(call: Call) -> None:
    sets, keys = len(call.teacher), len(call.keys) // len(call.queues)
    for name in ("negative", "mines", "positives", "own_key"):
        count = len(getattr(call, name))
        if count != sets:
            raise ValueError(f"{name} must have one item for each of {sets} sets, got {count}")
    for at, (teacher, key) in enumerate(zip(call.teacher, call.own_key, strict=True)):
        for name, other in (("teacher", teacher), ("negative", call.negative[at])):
            if not -1 <= other < sets or other == at:
                raise ValueError(
                    f"terms[{at}].{name} must be another one of {sets} sets, got {other}"
                )
        if not 0 <= key < keys:
            raise ValueError(f"terms[{at}].key must be one of {keys} keys, got {key}")
        if teacher < 0:
            continue
        why = f"terms[{at}].teacher cannot be {teacher}: distributions over different keys"
        if key != call.own_key[teacher]:
            raise ValueError(f"{why}; the sets have the keys {key} and {call.own_key[teacher]}")
        for one in (teacher, at):
            if call.negative[one] >= 0:
                raise ValueError(f"{why}; terms[{one}] has a negative")


def _check(call: Call) -> None:
    _check_tensors(call)
    _check_terms(call)
    if not 0.0 < call.temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {call.temperature}")
    sizes, streams = [queue.shape[0] for queue in call.queues], len(call.queues)
    if not 0 <= call.topk <= min(sizes):
        raise ValueError(f"topk must lie in 0..{min(sizes)} (the queue's size), got {call.topk}")
    if not 0 <= call.votes <= streams:
        raise ValueError(f"votes must lie in 0..{streams} (the streams), got {call.votes}")
    if call.votes and not any(call.mines):
        raise ValueError(f"votes is {call.votes}, but no set mines")
    if call.votes and any(size != sizes[0] for size in sizes):
        raise ValueError(f"votes need queues of one size, got {sizes}")
    if call.precision is not None and call.precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}, got {call.precision!r}"
        )


def _compute_dtype(rows: Tensor) -> torch.dtype:
    """Half-precision rows are widened."""
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


def _prepare(call: Call) -> Outputs:
    _check(call)
    first, streams, sets = call.rows[0], len(call.queues), len(call.teacher)
    _OP.check_backend(call.backend, first)
    n, d = first.shape
    dtype = _compute_dtype(first)
    return Outputs(
        first.new_empty((streams, sets), dtype=dtype),
        first.new_empty((streams, n, len(call.miners), call.topk), dtype=torch.int64),
        first.new_empty((streams, n), dtype=torch.int64),
        first.new_empty((streams, sets, n, d), dtype=dtype),
    )


# --- Backends ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _workspace_bytes(
    shape: tuple[tuple[str, int | tuple[int, ...]], ...], element_bytes: int, threads: int
) -> int:
    size: int = native.load().queue_contrast_workspace_cpu(
        **dict(shape), element_bytes=element_bytes, threads=threads
    )
    return size


def _padded(values: Sequence[int], size: int) -> tuple[int, ...]:
    """As an array of the native call, which reads the first ones."""
    return (*values, *[type(values[0])()] * (size - len(values)))


def _cpp(call: Call, out: Outputs) -> None:
    dtype = out.losses.dtype
    # Held here for their addresses.
    tensors = {name: call.stacked(name, dtype) for name in ("rows", "keys")}
    queues = [queue.to(dtype).contiguous() for queue in call.queues]
    streams, sets, n, d = tensors["rows"].shape
    shape = {
        "streams": streams,
        "sets": sets,
        "key_sets": tensors["keys"].shape[1],
        "n": n,
        "d": d,
        "k": _padded([queue.shape[0] for queue in queues], MAX_STREAMS),
        "topk": call.topk if call.miners else 0,
    }
    threads = torch.get_num_threads()
    size = _workspace_bytes(tuple(shape.items()), dtype.itemsize, threads)
    tensors |= out._asdict() | {"workspace": torch.empty(size, dtype=torch.uint8)}
    terms = ("teacher", "negative", "mines", "positives", "own_key")
    run = getattr(native.load(), f"queue_contrast_{SUFFIXES[dtype]}_cpu")
    run(
        shape=shape,
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        queues=_padded([queue.data_ptr() for queue in queues], MAX_STREAMS),
        **{name: _padded(getattr(call, name), MAX_SETS) for name in terms},
        temperature=call.temperature,
        votes=call.votes,
        threads=threads,
    )


def default_precision(*tensors: Tensor) -> str:
    """The precision of the triton backend's products of rows and keys, if the caller gives none."""
    dtypes = [tensor.dtype for tensor in tensors]
    return product_precision(functools.reduce(torch.promote_types, dtypes))


def _triton_why_not(row: Tensor) -> str | None:
    width = row.shape[-1] if row.dim() else 0
    if width % 16 or not 0 < width <= MAX_TRITON_WIDTH:
        return f"rows must be a multiple of 16 wide, up to {MAX_TRITON_WIDTH}, got {width}"
    return triton_why_not(row)


def _triton(call: Call, out: Outputs) -> None:
    from aimclr_fast.triton_kernels import queue_contrast as kernels

    dtypes = {row.dtype for row in call.rows}
    # The rows share a dtype in the kernels, which have no float64.
    rows = call.stacked("rows", None if len(dtypes) == 1 else torch.float32)
    keys = call.stacked("keys", out.gradients.dtype)
    queues = [q.float() if q.dtype == torch.float64 else q for q in call.queues]
    learned = zip(call.positives, call.teacher, strict=True)
    terms = kernels.Terms(
        tuple(call.teacher),
        tuple(call.negative),
        tuple(int(over and teacher < 0) for over, teacher in learned),
        tuple(call.own_key),
        tuple(call.miners),
    )
    row_losses = out.gradients.new_empty(out.gradients.shape[:3])
    processors = 4
    if rows.device.type == "cuda":
        processors = torch.cuda.get_device_properties(rows.device).multi_processor_count
    with torch.cuda.device_of(rows):
        kernels.queue_contrast(
            rows,
            keys,
            [queue.contiguous() for queue in queues],
            terms,
            call.temperature,
            call.votes,
            call.precision or default_precision(rows, *queues),
            processors,
            (row_losses, out.neighbors, out.counts, out.gradients),
        )
        torch.mean(row_losses, 2, out=out.losses)


def _reference(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    _check(call)
    rows = call.stacked("rows", _compute_dtype(call.rows[0]))
    rest = call.queues, call.terms, call.temperature, call.topk, call.votes
    return reference.queue_losses(rows, call.stacked("keys", rows.dtype), *rest)


BACKENDS = [
    Backend("cpp", None, cpp_why_not, _cpp),
    Backend("triton", None, _triton_why_not, _triton),
    Backend(REFERENCE, _reference),
]


# --- The torch op and its gradient ---------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call, out = Call(*inputs), Outputs(*output)
    ctx.mark_non_differentiable(out.neighbors, out.counts, out.gradients)
    ctx.set_materialize_grads(False)  # zeros for all that has none are a launch each
    ctx.save_for_backward(out.gradients)
    ctx.dtypes = [row.dtype for row in call.rows]
    ctx.others = [None] * len(call.keys), [None] * len(call.queues)


@once_differentiable
def _scaled(ctx: Any, grad_losses: Tensor) -> Tensor:
    (saved,) = ctx.saved_tensors
    scaled: Tensor = saved * grad_losses[..., None, None]
    return scaled


def _gradient(ctx: Any, grad_losses: Tensor | None, *_: Any) -> tuple[Any, ...]:
    keys, queues = ctx.others
    if grad_losses is None:
        return gradients(Call, rows=[None] * len(ctx.dtypes), keys=keys, queues=queues)
    scaled = _scaled(ctx, grad_losses).flatten(0, 1).unbind()
    rows = [
        gradient.to(dtype) if needed else None
        for gradient, dtype, needed in zip(scaled, ctx.dtypes, ctx.needs_input_grad[0], strict=True)
    ]
    return gradients(Call, rows=rows, keys=keys, queues=queues)


_OP = Op("queue_contrast", BACKENDS)
_OP.define(Call, Outputs, _prepare, lambda call, out: _OP.forward(call, out))
_OP.differentiate(_save, _gradient)


# --- The queue -----------------------------------------------------------------------------------


@torch.no_grad()
def enqueue(
    queue: Tensor,
    pointer: Tensor,
    keys: Tensor,
    accept: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Overwrite the oldest keys of a queue in place: see `reference.queue_contrast.enqueue`.

    On a GPU it is two launches instead of nine, which take longer than what they do.

    Args:
        queue: [K, D].
        pointer: [1] int64, where the oldest key is; moved on.
        keys: [N, D], N at most K; converted to the queue's dtype.
        accept: a boolean of one element; false leaves queue and pointer as they are.
        backend: as `queue_losses` has it; all but triton leave this to PyTorch's operations.

    Raises:
        ValueError: keys and queue are not matrices of one width, there are more keys than the queue
            holds, or `pointer` is not one int64.
    """
    if queue.dim() != 2 or keys.dim() != 2 or keys.shape[1] != queue.shape[1]:
        raise ValueError(
            f"keys {list(keys.shape)} do not fit the queue {list(queue.shape)}: [N, D] and [K, D]"
        )
    if len(keys) > len(queue):
        raise ValueError(f"{len(keys)} keys, but the queue holds {len(queue)}")
    if pointer.dtype != torch.int64 or pointer.numel() != 1:
        raise ValueError(f"pointer must be one int64, got {pointer.dtype} {list(pointer.shape)}")
    by_triton = _OP.route(backend, queue).name == "triton" and _triton_why_not(queue) is None
    if not (by_triton and queue.is_contiguous()):
        reference.enqueue(queue, pointer, keys, accept)
        return
    from aimclr_fast.triton_kernels import queue_contrast as kernels

    with torch.cuda.device_of(queue):
        pointer.copy_(kernels.enqueue(queue, pointer, keys.contiguous(), accept))
    torch.autograd.graph.increment_version(queue)


# --- The functions -------------------------------------------------------------------------------


def _run(call: Call) -> QueueLosses:
    chosen = _OP.route(call.backend, call.rows[0])
    if chosen.run is not None:
        return QueueLosses(*chosen.run(call))
    call = call._replace(backend=chosen.name)
    return QueueLosses(*torch.ops.aimclr_fast.queue_contrast(*call)[:3])


def _flat(name: str, value: Any, streams: int) -> list[Tensor]:
    """The tensors of a tensor [S, n, N, D], or of S sequences of n tensors [N, D]."""
    if isinstance(value, Tensor):
        check_dense(name, value)
        check_shape(name, value, streams, "sets", "N", "D")
        if value.shape[1] > MAX_SETS:  # with a stride of 0 it could claim any number
            raise ValueError(f"{name} must be of at most {MAX_SETS} sets, got {value.shape[1]}")
        return [tensor for one in value.unbind() for tensor in one.unbind()]
    words = "a tensor [S, n, N, D], or for each stream a sequence of tensors [N, D]"
    check_type(name, value, list | tuple, words)
    for at, one in enumerate(value):
        check_type(f"{name}[{at}]", one, list | tuple, "a sequence of tensors [N, D]")
        if len(one) != len(value[0]):
            raise ValueError(
                f"{name} must be as many in each stream, got {len(value[0])} and {len(one)}"
            )
        for i, tensor in enumerate(one):
            check_dense(f"{name}[{at}][{i}]", tensor)
    if len(value) != streams:
        raise ValueError(f"{name} must be of {streams} streams, as the queues, got {len(value)}")
    flat = [tensor for one in value for tensor in one]
    if not flat:
        raise ValueError(f"{name} has no tensors")
    return flat


def _index(name: str, value: Any) -> int:
    """The op's word for an index: -1 for None."""
    if value is None:
        return -1
    index = check_integer(name, value)
    if index < 0:
        raise ValueError(f"{name} must be None or an index from 0, got {index}")
    return index


_Numbers = tuple[list[int], list[int], list[bool], list[bool], list[int]]


def _numbers(terms: Sequence[Term], keys: int) -> _Numbers:
    """The op's words for terms whose streams have `keys` keys: `Call.teacher` to `Call.own_key`."""
    at = range(len(terms))
    return (
        [_index(f"terms[{i}].teacher", terms[i].teacher) for i in at],
        [_index(f"terms[{i}].negative", terms[i].negative) for i in at],
        [bool(term.mines) for term in terms],
        [bool(term.positives) for term in terms],
        [
            _index(f"terms[{i}].key", key)
            for i, key in enumerate(reference.key_indices(terms, keys))
        ],
    )


AIMCLR = _numbers(reference.AIMCLR, 1)


def _check_precision(precision: Any) -> None:
    check_type("precision", precision, str | None, "a name")


def queue_losses(
    rows: Tensor | Sequence[Sequence[Tensor]],
    keys: Tensor | Sequence[Sequence[Tensor]],
    queues: Sequence[Tensor],
    terms: Sequence[Term],
    *,
    temperature: float = 0.07,
    topk: int = 0,
    votes: int = 0,
    backend: str = "auto",
    precision: str | None = None,
) -> QueueLosses:
    """Losses of several sets of rows over a queue of keys, in one or more streams.

    A row's logits are its similarities with its own key and with the queue's keys, divided by the
    temperature. There is a set of rows for each view that was encoded, and a term says what a set
    learns: InfoNCE over its key and the positives, or the softmax of another set (D3M). The
    positives of a sample are the key and, with `topk` > 0, the union of the keys in the stream's
    queue that are nearest to its rows of the sets that mine (NNM).

    With `votes` the positives are the same in all streams, whose queues must hold the same samples
    in the same order: a stream votes for what *all* its miners find, and the key and what has at
    least `votes` votes are the positives (3s-AimCLR++).

    Teachers, negatives, keys and queues get no gradient. Ties among neighbors go to the lower
    index. AimCLR's three sets are `queue_contrast`.

    Args:
        rows: of S streams and R sets, [S, R, N, D], or sequences rows[s][r] of tensors [N, D].
        keys: of S streams, [S, P, N, D], or sequences keys[s][p] of tensors [N, D]; P is 1, one key
            for all sets, or R, one for each. For another P each term names its `key`.
        queues: keys of earlier batches, a tensor [K, D] for each stream.
        terms: what each of the R sets learns. A teacher and the set that it teaches must have the
            same key and no `negative`.
        temperature: divides every similarity.
        topk: neighbors mined per row, 0 for none.
        votes: streams that must agree on a positive, 0 for the union within each stream.
        backend: "auto" for the fastest that can run, or a name.
        precision: how the triton backend multiplies: "ieee", "tf32", "bf16" or "fp16"; None
            follows the dtype and, for float32, torch's setting.

    Returns:
        QueueLosses.

    Raises:
        ValueError: shapes or numbers disagree, N is 0, a teacher has another key, the temperature
            is not positive, topk exceeds K, or votes the streams; there is no such backend or
            precision.
        TypeError: a tensor is not floating point, or a term is no Term.
        BackendError: the backend cannot run.
    """
    _check_precision(precision)
    check_type("queues", queues, list | tuple, "a sequence of tensors")
    for at, queue in enumerate(queues):
        check_dense(f"queues[{at}]", queue)
    check_type("terms", terms, list | tuple, "a sequence of Terms")
    for at, term in enumerate(terms):
        check_type(f"terms[{at}]", term, Term, "a Term")
    key_list = _flat("keys", keys, len(queues))
    return _run(
        Call(
            _flat("rows", rows, len(queues)),
            key_list,
            list(queues),
            *_numbers(terms, len(key_list) // max(len(queues), 1)),
            check_number("temperature", temperature),
            check_integer("topk", topk),
            check_integer("votes", votes),
            backend,
            precision,
        )
    )


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
    backend: str = "auto",
    *,
    precision: str | None = None,
) -> ContrastLosses:
    """InfoNCE with mined positives and the two distribution-matching losses over a queue.

    The positives of a row are its key and, with `topk` > 0, the union of the queue's keys nearest
    to the query, the extreme and the dropped row (NNM, section 3.5). The query's softmax over
    [key, queue] teaches those of the extreme and the dropped row (D3M, section 3.4) and is
    detached. loss = info_nce + (d3m_extreme + d3m_dropped) / 2, each a mean over rows. Keys and
    queue get no gradient. Ties among neighbors go to the lower index.

    Args:
        query: rows [N, D] of the normal view.
        extreme: rows [N, D] of the extreme view.
        dropped: rows [N, D] of the extreme view after dropping.
        key: rows [N, D] of the key view.
        queue: [K, D] keys of earlier batches.
        temperature: divides every similarity.
        topk: neighbors mined per row, 0 for none.
        backend: "auto" for the fastest that can run, or a name.
        precision: how the triton backend multiplies: "ieee", "tf32", "bf16" or "fp16"; None
            follows the dtype and, for float32, torch's setting.

    Returns:
        ContrastLosses; neighbors are [N, 3, topk] in the order query, extreme, dropped.

    Raises:
        ValueError: shapes disagree, N is 0, the temperature is not positive, or topk exceeds K;
            there is no such backend or precision.
        TypeError: a tensor is not floating point.
        BackendError: the backend cannot run.
    """
    _check_precision(precision)
    rows = {"query": query, "extreme": extreme, "dropped": dropped, "key": key}
    for name, tensor in (rows | {"queue": queue}).items():
        check_dense(name, tensor)
    call = Call(
        [query, extreme, dropped],
        [key],
        [queue],
        *AIMCLR,
        check_number("temperature", temperature),
        check_integer("topk", topk),
        0,
        backend,
        precision,
    )
    # The op would give them other names.
    check_shape("query", query, "N", "D")
    for name, row in rows.items():
        check_shape(name, row, *query.shape)
        check_dtype(name, row, *FLOATS)
    check_shape("queue", queue, "K", query.shape[1])
    check_dtype("queue", queue, *FLOATS)
    check_same_device(**rows, queue=queue)
    if query.shape[0] == 0:
        raise ValueError("query has no rows, so the mean over rows is not defined")
    losses, neighbors, _ = _run(call)
    info_nce, d3m_extreme, d3m_dropped = losses[0].unbind()
    loss = info_nce + (d3m_extreme + d3m_dropped) / 2
    return ContrastLosses(loss, info_nce, d3m_extreme, d3m_dropped, neighbors[0])

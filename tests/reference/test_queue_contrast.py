"""The losses against the authors' numbers, and their algebra."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_near

from aimclr_fast.functional import queue_contrast
from aimclr_fast.reference import queue_contrast as reference

ROWS = ("query", "extreme", "dropped")


@pytest.mark.parametrize("topk", [0, 1, 5])
def test_losses_gradients_and_positives_are_the_authors(golden, topk):
    g = golden("contrast").tree(f"topk{topk}/")
    rows = [g[name].requires_grad_() for name in ROWS]
    out = queue_contrast(*rows, g["key"], g["queue"], 0.07, topk)
    assert_near(torch.stack([out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped]), g["loss"])
    out.loss.backward()
    for name, row in zip(ROWS, rows, strict=True):
        assert_near(row.grad, g[f"d_{name}"], gradient=True, what=name)
    if topk:
        mask = reference.positive_mask(out.neighbors, len(g["queue"]))
        assert torch.equal(mask, g["pos_mask"])


def unit_rows(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


@pytest.mark.parametrize("topk", [0, 3])
def test_gradients_have_the_closed_form(topk):
    """The gradients DESIGN's fast kernels use: softmax-weighted key sums, no N x K matrix."""
    torch.manual_seed(0)
    n, k, d, temperature = 5, 23, 8, 0.1
    query, extreme, dropped = (unit_rows(n, d).requires_grad_() for _ in range(3))
    key, queue = unit_rows(n, d), unit_rows(k, d)
    out = queue_contrast(query, extreme, dropped, key, queue, temperature, topk)
    grads = torch.autograd.grad(
        out.info_nce + out.d3m_extreme + out.d3m_dropped, (query, extreme, dropped)
    )
    keys = torch.cat([key[:, None], queue.expand(n, k, d)], 1)  # [N, 1+K, D]

    def key_sum(row):
        logits = torch.einsum("nd,nkd->nk", row, keys) / temperature
        return torch.einsum("nk,nkd->nd", logits.softmax(1), keys)

    a, ae, ad = map(key_sum, (query, extreme, dropped))
    positives = reference.positive_mask(out.neighbors, k).double()
    mean_positive = torch.einsum("nk,nkd->nd", positives, keys) / positives.sum(1, keepdim=True)
    wanted = [(a - mean_positive), (ae - a), (ad - a)]
    for got, want in zip(grads, wanted, strict=True):
        assert_near(got, want / temperature / n, gradient=True, dtype=torch.float64)


def test_gradcheck():
    torch.manual_seed(1)
    key, queue = unit_rows(3, 6), unit_rows(11, 6)
    teacher = unit_rows(3, 6)
    # The teacher is detached, so each loss is checked for the row that carries its gradient.
    assert torch.autograd.gradcheck(
        lambda q: queue_contrast(q, teacher, teacher, key, queue, 0.2).info_nce,
        (unit_rows(3, 6).requires_grad_(),),
    )
    assert torch.autograd.gradcheck(
        lambda e, d: queue_contrast(teacher, e, d, key, queue, 0.2, 2)[2:4],
        (unit_rows(3, 6).requires_grad_(), unit_rows(3, 6).requires_grad_()),
    )


def test_teacher_keys_and_queue_get_no_gradient():
    query, extreme, dropped, key = (unit_rows(4, 8).requires_grad_() for _ in range(4))
    queue = unit_rows(16, 8).requires_grad_()
    out = queue_contrast(query, extreme, dropped, key, queue, topk=2)
    (out.d3m_extreme + out.d3m_dropped).backward(retain_graph=True)
    assert query.grad is None or (query.grad == 0).all()
    out.loss.backward()
    assert key.grad is None
    assert queue.grad is None
    assert query.grad.abs().max() > 0


def test_ties_go_to_the_lower_index():
    key = unit_rows(2, 4)
    queue = torch.cat([-key[:1], key[:1], key[:1], key[:1]])
    row = key[:1].expand(2, 4)
    out = queue_contrast(row, row, row, key, queue, topk=2)
    assert out.neighbors.tolist() == [[[1, 2]] * 3] * 2


def test_union_counts_a_shared_neighbor_once():
    row = unit_rows(1, 4)
    queue = torch.cat([row, -row, unit_rows(3, 4)])
    out = queue_contrast(row, row, row, row, queue, 1.0, 1)
    logits = torch.cat([torch.ones(1, 1, dtype=torch.float64), row @ queue.T], 1)
    log_p = logits.log_softmax(1)
    assert_near(out.info_nce, -(log_p[0, 0] + log_p[0, 1]) / 2, dtype=torch.float64)


def test_no_queue_and_extreme_logits():
    rows = unit_rows(3, 4, dtype=torch.float32)
    empty = queue_contrast(rows, rows, rows, rows, rows[:0])
    assert float(empty.loss) == 0.0
    huge = [1e4 * unit_rows(3, 4, dtype=torch.float32) for _ in range(4)]
    assert math.isfinite(queue_contrast(*huge, 1e4 * rows, 0.07, 1).loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows(dtype):
    parts = [unit_rows(8, 16, dtype=torch.float32).to(dtype) for _ in range(4)]
    queue = unit_rows(32, 16, dtype=torch.float32).to(dtype)
    out = queue_contrast(*parts, queue, topk=1)
    full = queue_contrast(*(p.float() for p in parts), queue.float(), topk=1)
    assert_near(out.loss, full.loss)
    assert out.loss.dtype == torch.float32

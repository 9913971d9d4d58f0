"""Few labels: balanced, seeded, nested."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.evaluation.labeled_data import EvaluationError
from aimclr_fast.evaluation.protocols.semi import draw_labeled, per_class

LABELS = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)


@pytest.mark.parametrize(
    ("amount", "count"), [("10%", 3), ("1 %", 1), ("5", 5), (20, 20), ("100%", 33)]
)
def test_amounts(amount, count):
    assert per_class(amount, LABELS) == count


@pytest.mark.parametrize("amount", ["0%", "101%", "ten", "0", "-3", "2.5", "%", "nan%"])
def test_what_is_no_amount(amount):
    with pytest.raises(EvaluationError, match="neither a share"):
        per_class(amount, LABELS)


def test_more_than_a_class_has():
    with pytest.raises(EvaluationError, match="one class has only 20"):
        per_class("21", LABELS)


def test_draws_are_balanced_seeded_and_nested():
    rows = draw_labeled(LABELS, 7, seed=1)
    assert torch.bincount(LABELS[rows]).tolist() == [7, 7, 0, 7]
    assert torch.equal(rows, draw_labeled(LABELS, 7, seed=1))
    assert not torch.equal(rows, draw_labeled(LABELS, 7, seed=2))
    assert set(draw_labeled(LABELS, 3, seed=1).tolist()) < set(rows.tolist())
    assert torch.bincount(LABELS[draw_labeled(LABELS, 25, seed=0)]).tolist() == [25, 25, 0, 20]

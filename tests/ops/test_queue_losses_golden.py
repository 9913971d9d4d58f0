"""queue_losses against the numbers of the authors' programs, with every backend."""

from __future__ import annotations

import golden_contrast
import pytest
import torch
from tolerances import assert_near

from aimclr_fast.functional import queue_losses
from aimclr_fast.reference import queue_contrast as reference

PLACES = [
    pytest.param(("reference", "cpu", torch.float64), id="reference"),
    pytest.param(("cpp", "cpu", torch.float64), id="cpp"),
    pytest.param(("cpp", "cpu", torch.float32), id="cpp-float32"),
    pytest.param(("triton", "cpu", torch.float32), id="triton-interpreter"),
    pytest.param(("triton", "cuda", torch.float32), id="triton-cuda", marks=pytest.mark.cuda),
]  # fmt: skip


def check(step: golden_contrast.Step, backend: str, device: str, dtype: torch.dtype) -> None:
    if backend == "triton" and device == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")

    def moved(tensors: list) -> list:
        return [x.to(device, dtype) if isinstance(x, torch.Tensor) else moved(x) for x in tensors]

    embeddings = [[x.requires_grad_() for x in sets] for sets in moved(step.embeddings)]
    found = queue_losses(
        step.rows(embeddings),
        moved(step.keys),
        moved(step.queues),
        step.terms,
        temperature=step.temperature,
        topk=step.topk,
        votes=step.votes,
        backend=backend,
        precision="ieee",
    )
    assert_near(found.losses, step.losses, dtype=dtype, what="losses")
    total = (found.losses * found.losses.new_tensor(step.weights)).sum()
    assert_near(total, step.total, dtype=dtype, what="total")
    total.backward()
    for have, want in zip(embeddings, step.gradients, strict=True):
        for row, gradient in zip(have, want, strict=True):
            # In float64 rounding is no excuse.
            assert_near(row.grad, gradient, gradient=dtype == torch.float32, dtype=dtype)
    sizes = [len(queue) for queue in step.queues]
    masks = reference.positive_masks(found.neighbors.cpu(), sizes, step.votes)
    for mask, want in zip(masks, step.mask, strict=False):
        assert torch.equal(mask.bool(), want)
    assert torch.equal(found.positives.cpu(), torch.stack([mask.sum(1).long() for mask in masks]))


def check_logits(step: golden_contrast.Step) -> None:
    rows = step.rows(step.embeddings)
    own = reference.key_indices(step.terms, len(step.keys[0]))
    for (s, r), want in (step.logits | step.softmax).items():
        negative = step.terms[r].negative
        other = None if negative is None else rows[s][negative]
        found = reference.logits(
            rows[s][r], step.keys[s][own[r]], step.queues[s], step.temperature, other
        )
        if (s, r) in step.logits:
            assert_near(found, step.logits[s, r], dtype=torch.float64)
        if (s, r) in step.softmax:
            assert_near(found.softmax(1), step.softmax[s, r], dtype=torch.float64)
        assert want.shape == found.shape
    # Where the file has a mask, one with mined positives tells whether these were found.
    assert step.mask or not step.topk


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", golden_contrast.files("aimclrpp"))
def test_golden_aimclrpp_losses(name, place):
    check(golden_contrast.aimclrpp(name), *place)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", golden_contrast.files("hiclr"))
def test_golden_hiclr_losses(name, place):
    check(golden_contrast.hiclr(name), *place)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", golden_contrast.files("skelemixclr"))
def test_golden_skelemixclr_losses(name, place):
    check(golden_contrast.skelemixclr(name), *place)


@pytest.mark.parametrize("name", golden_contrast.files("aimclrpp"))
def test_golden_aimclrpp_logits(name):
    check_logits(golden_contrast.aimclrpp(name))


@pytest.mark.parametrize("name", golden_contrast.files("hiclr"))
def test_golden_hiclr_logits(name):
    check_logits(golden_contrast.hiclr(name))


@pytest.mark.parametrize("name", golden_contrast.files("skelemixclr"))
def test_golden_skelemixclr_logits(name):
    check_logits(golden_contrast.skelemixclr(name))

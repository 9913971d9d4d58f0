"""Methods and parts against their losses written out, a batch x queue matrix and all."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_near
from torch import Tensor

from aimclr_fast.nn import STGCN, AimCLR, Parts, SkeletonEncoder, get_method, stgcn
from aimclr_fast.ops.stgcn_block import packed_block

TEMPERATURE, KEEP_PROB, WEIGHT, TOPK = 0.2, 0.6, 0.3, 2
VALID = [
    Parts(extreme, eadm, d3m, nnm)
    for extreme, eadm, d3m, nnm in product((False, True), repeat=4)
    if extreme or not (eadm or d3m)
]


def model_of(parts: Parts) -> AimCLR:
    torch.manual_seed(0)
    backbone = STGCN("ui-prmd", channels=4, features=8, dropout=0.0)
    return AimCLR(
        SkeletonEncoder(backbone, 6),
        embedding=6,
        queue_size=12,
        temperature=TEMPERATURE,
        keep_prob=KEEP_PROB,
        d3m_weight=WEIGHT,
        parts=parts,
    ).double()


def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(5, 3, 12, 22, 1, dtype=torch.float64, generator=generator) for _ in range(3)
    ]


def written_out(model: AimCLR, parts: Parts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss, InfoNCE, extreme, dropped) of the parts, each from its definition."""
    extreme, query, key = views()
    rows = [model.query_encoder(query)]
    if parts.eadm:
        rows += model.query_encoder.forward_with_drop(extreme, KEEP_PROB)
    elif parts.extreme:
        rows.append(model.query_encoder(extreme))
    with torch.no_grad():
        model.update_key_encoder()
        keys = F.normalize(model.key_encoder(key), dim=1)
    rows = [F.normalize(row, dim=1) for row in rows]
    similar = [row @ model.queue.T for row in rows]
    positives = torch.zeros(len(keys), 1 + len(model.queue), dtype=torch.float64)
    positives[:, 0] = 1.0
    if parts.nnm:
        for matrix in similar:
            positives.scatter_(1, 1 + matrix.topk(TOPK).indices, 1.0)
    logits = [
        torch.cat([(row * keys).sum(1, keepdim=True), matrix], 1) / TEMPERATURE
        for row, matrix in zip(rows, similar, strict=True)
    ]
    log_p = [F.log_softmax(x, dim=1) for x in logits]
    hard = positives / positives.sum(1, keepdim=True)
    soft = log_p[0].detach().exp()
    losses = [-(hard * log_p[0]).sum(1).mean()]
    losses += [-((soft if parts.d3m else hard) * x).sum(1).mean() for x in log_p[1:]]
    losses += [torch.zeros((), dtype=torch.float64)] * (3 - len(losses))
    return (losses[0] + WEIGHT * (losses[1] + losses[2]), *losses)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("parts", VALID, ids=str)
def test_parts_add_up_to_their_losses(parts, backend):
    model, expected = model_of(parts), model_of(parts)
    model.backend, expected.backend = backend, "reference"
    out, losses = model(*views(), topk=TOPK), written_out(expected, parts)
    torch.testing.assert_close(
        (out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped), losses, rtol=1e-9, atol=1e-12
    )
    rows = 1 + parts.extreme + parts.eadm
    assert out.neighbors.shape == (5, rows, TOPK if parts.nnm else 0)
    for mined, count in zip(out.neighbors, out.positives.tolist(), strict=True):
        assert count == 1 + len(mined.unique())
    out.loss.backward()
    losses[0].backward()
    for (name, actual), wanted in zip(model.named_parameters(), expected.parameters(), strict=True):
        if wanted.grad is not None:
            torch.testing.assert_close(
                actual.grad, wanted.grad, rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_skeletonclr_encodes_two_views():
    model = model_of(get_method("skeletonclr").parts)
    _, query, key = views()
    shapes = []
    for encoder in (model.query_encoder, model.key_encoder):
        encoder.backbone.register_forward_hook(lambda _, x, __: shapes.append(x[0].shape))
    before = copy.deepcopy(model)
    out = model(None, query, key)
    assert len(shapes) == 2
    assert not any((out.d3m_extreme, out.d3m_dropped, out.trimmed))
    # MoCo's own words: a classification among the key and the queue, the key being right.
    rows = F.normalize(before.query_encoder(query), dim=1)
    logits = torch.cat([(rows * out.keys).sum(1, keepdim=True), rows @ before.queue.T], 1)
    expected = F.cross_entropy(logits / TEMPERATURE, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(out.loss, expected)


def test_the_full_method_is_the_default():
    assert get_method("aimclr").parts == Parts() == Parts(True, True, True, True)


@pytest.mark.parametrize("part", ["eadm", "d3m"])
def test_parts_of_the_extreme_view_need_it(part):
    with pytest.raises(ValueError, match=f"{part} is on, but extreme is off"):
        Parts(**{"extreme": False, "eadm": False, "d3m": False, part: True})


@pytest.mark.parametrize("parts", [Parts(), Parts(extreme=True, eadm=False), Parts(masked=True)])
def test_views_in_one_pass_are_the_same_step(parts, monkeypatch):
    """The Triton blocks take all views at once: each keeps its own statistics."""
    apart, together = (model_of(parts).float() for _ in range(2))
    together.load_state_dict(apart.state_dict())
    together.query_encoder.backend = "triton"
    monkeypatch.setattr(  # in their place, or the interpreter would take a minute
        stgcn, "packed_block", lambda *a, **b: packed_block(*a, **b | {"backend": "cpp"})
    )
    extreme, query, key = (view[:, :, :5].float() for view in views())
    hidden = torch.rand(query.shape, generator=torch.Generator().manual_seed(2)) < 0.1
    more = {"strong": extreme.flip(0), "hidden": hidden} if parts.masked else {}
    calls = []
    hook = together.query_encoder.backbone.register_forward_hook(
        lambda _, arguments, __: calls.append(arguments[0].shape[0])
    )
    losses = []
    for model in (apart, together):
        output = model(extreme, query, key, 2, **more)
        output.loss.backward()
        losses.append(output.loss)
    hook.remove()
    assert calls == [5 * (3 if parts.masked else 2)]
    assert_near(losses[1], losses[0])
    for (name, one), other in zip(
        apart.query_encoder.named_parameters(), together.query_encoder.parameters(), strict=True
    ):
        if one.grad.abs().max() > 1e-6:  # norms subtract some biases again
            assert_near(other.grad, one.grad, gradient=True, what=name)
    for (name, one), other in zip(
        apart.query_encoder.named_buffers(), together.query_encoder.buffers(), strict=True
    ):
        assert_near(other, one, what=name)


@pytest.mark.parametrize("norm_head", [False, True])
def test_heads_together_are_heads_one_after_the_other(norm_head):
    """With a batch norm, each batch keeps statistics of its own."""
    torch.manual_seed(0)
    backbone = STGCN("coco", channels=2, features=5)
    apart = SkeletonEncoder(backbone, 4, norm_head=norm_head)
    together = copy.deepcopy(apart)
    x = torch.zeros(3, 3, 4, 17, 2)
    pooled = [torch.randn(6, 5) for _ in range(3)]
    got = together._embed_together(pooled, x)
    wanted = [apart._embed(rows, x) for rows in pooled]
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(together.state_dict(), apart.state_dict())

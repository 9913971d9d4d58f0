"""Blocks that are prepared together, by Triton's interpreter: the same as each by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from aimclr_fast.nn import STGCN, stgcn
from aimclr_fast.nn import _prepared as module
from aimclr_fast.nn.stgcn import Found, track
from aimclr_fast.ops.stgcn_block import words_of

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="Triton's interpreter is for machines without a GPU"
)


def encoder(backend: str = "triton") -> STGCN:
    """Of three blocks, one for each kind of residual."""
    torch.manual_seed(0)
    model = STGCN("coco", channels=3, features=7, temporal_kernel=3, dropout=0.3)
    model.blocks = nn.ModuleList(model.blocks[i] for i in (0, 1, 4))
    model.edge_importance = model.edge_importance[:3]
    for name, parameter in model.named_parameters():
        low = 0.5 if "norm" in name or "edge" in name else -0.5
        nn.init.uniform_(parameter, low, low + 1)
    model.backend = backend
    return model


def by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STGCN, "_to_prepare", lambda self: False)


def trained(model: STGCN, x: Tensor) -> dict[str, Tensor]:
    """What a pass of two views yields and changes."""
    torch.manual_seed(1)
    output = model(x, 2)
    output.square().mean().backward()
    found = {"output": output.detach()}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return found | {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_prepared_blocks_learn_the_same(monkeypatch):
    model, views = encoder(), torch.randn(2, 3, 4, 17, 1)
    other = copy.deepcopy(model)
    calls = []
    plain = module.pack_weights
    monkeypatch.setattr(module, "pack_weights", lambda *a: calls.append(a) or plain(*a))
    got = trained(model, views)
    assert len(calls) == 1
    by_themselves(monkeypatch)
    wanted = trained(other, views)
    assert len(calls) == 1
    assert all(got[f"gradient of edge_importance.{i}"].abs().sum() > 0 for i in range(3))
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_one_view_without_a_gradient(training, monkeypatch):
    model = encoder().train(training)
    other, x = copy.deepcopy(model), torch.randn(1, 3, 4, 17, 1)
    for buffer in model.buffers():
        if buffer.dim() == 1:
            buffer.uniform_(0.5, 1.5)
    other.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    got = model(x)
    by_themselves(monkeypatch)
    torch.manual_seed(1)
    assert torch.equal(got, other(x))
    for (name, buffer), wanted in zip(model.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, wanted), name


def test_all_blocks_draw_their_dropout_at_once(monkeypatch):
    """Each gets bits of its own, as many as it has elements, and computes with these."""
    model, views = encoder(), torch.randn(2, 3, 4, 17, 1)
    for block in model.blocks[1:]:
        block.dropout.p = 0.5
    drawn, plain, given, taken = [], module.draw_words, [], stgcn.packed_block
    monkeypatch.setattr(module, "draw_words", lambda *a: drawn.append(plain(*a)) or drawn[-1])
    monkeypatch.setattr(stgcn, "packed_block", lambda *a, **k: given.append(k) or taken(*a, **k))
    with torch.no_grad():
        model(views, 2)
    keep = [each["keep"] for each in given]
    assert len(drawn) == 1
    assert keep[0] is None
    # 2 views of 4 frames of 17 joints, of 3 channels; half as many frames of 6.
    sizes = [words_of(2 * 4 * 17 * 3), words_of(2 * 2 * 17 * 6)]
    assert [len(words) for words in keep[1:]] == sizes
    first, second = ((each.data_ptr() - drawn[0].data_ptr()) // 8 for each in keep[1:])
    assert first == 0
    assert second >= sizes[0]
    assert second % 16 == 0


def test_a_step_between_passes_is_seen():
    model, x = encoder().eval(), torch.randn(1, 3, 4, 17, 1)
    first = model(x).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    again = model(x).detach()
    assert not torch.allclose(first, again)
    model.backend = "reference"
    torch.testing.assert_close(again, model(x), rtol=1e-3, atol=1e-4)


def test_frozen_parameters_get_no_gradient():
    model = encoder()
    model.edge_importance[1].requires_grad_(False)
    model.blocks[2].spatial_norm.requires_grad_(False)
    model(torch.randn(1, 3, 4, 17, 1)).square().mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    of_norm = {f"blocks.2.spatial_norm.{name}" for name in ("weight", "bias")}
    assert without == {"edge_importance.1", *of_norm}


@torch.no_grad()
@pytest.mark.parametrize("views", [1, 2])
def test_a_block_in_evaluation_mode_among_others_keeps_its_statistics(views, monkeypatch):
    model, x = encoder(), torch.randn(views, 3, 4, 17, 1)
    model.blocks[0].eval()
    before = copy.deepcopy(model.blocks[0].state_dict())
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    got = model(x, views)
    by_themselves(monkeypatch)
    torch.manual_seed(1)
    assert torch.equal(got, other(x, views))
    torch.testing.assert_close(model.blocks[0].state_dict(), before, rtol=0, atol=0)


def test_other_backends_are_not_prepared(monkeypatch):
    monkeypatch.setattr(module, "_stacked", None)
    encoder("torch")(torch.randn(1, 3, 4, 17, 1)).sum().backward()


@pytest.mark.parametrize("momenta", [(0.1, 0.1, 0.1), (0.1, 0.0, 0.3)])
def test_statistics_move_as_those_of_a_batch_norm(momenta):
    pairs = list(zip((3, 3, 5), momenta, strict=True))
    norms, expected = ([nn.BatchNorm2d(n, momentum=m) for n, m in pairs] for _ in range(2))
    found = []
    for norm, batch in zip(expected, (4, 3, 1), strict=True):
        x = torch.randn(batch, norm.num_features, 2, 3)
        norm(x)
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        at, count = len(found), batch * 6
        statistics = torch.stack([mean, variance])[None]
        found.append(Found([norms[at]], [statistics], (count,) * 3))
    track(found)
    for norm, wanted in zip(norms, expected, strict=True):
        torch.testing.assert_close(norm.state_dict(), wanted.state_dict())

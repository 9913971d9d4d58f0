"""The momentum pair, the queue, and encoders of other skeletons."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.layouts import LAYOUTS, get_layout
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder, momentum


def small(layout="ui-prmd", **options) -> AimCLR:
    backbone = STGCN(layout, channels=4, features=8, dropout=0.0)
    return AimCLR(SkeletonEncoder(backbone, 6), embedding=6, **{"queue_size": 10} | options)


def test_key_encoder_starts_as_a_copy_and_follows():
    model = small(momentum=0.9)
    pairs = list(zip(model.query_encoder.parameters(), model.key_encoder.parameters(), strict=True))
    assert all(torch.equal(query, key) for query, key in pairs)
    assert not any(key.requires_grad for _, key in pairs)
    old = [key.clone() for _, key in pairs]
    with torch.no_grad():
        for query, _ in pairs:
            query.add_(1.0)
    model.update_key_encoder()
    for (query, key), was in zip(pairs, old, strict=True):
        torch.testing.assert_close(key, 0.9 * was + 0.1 * query)


def test_official_init_parts_the_encoders_but_not_their_heads():
    model = small(init="official")
    query, key = model.query_encoder, model.key_encoder
    weights = [encoder.backbone.blocks[3].temporal.weight for encoder in (query, key)]
    assert not torch.equal(*weights)
    assert torch.equal(query.head[0].weight, key.head[0].weight)
    for weight in weights:
        assert abs(float(weight.detach().std()) - 0.02) < 0.008
    with pytest.raises(ValueError, match="init must be"):
        small(init="other")


def test_queue_is_a_ring():
    model = small(queue_size=10)
    before = model.queue.clone()
    keys = torch.arange(7 * 6, dtype=torch.float32).view(7, 6)
    model.enqueue(keys)
    assert torch.equal(model.queue[:7], keys)
    assert torch.equal(model.queue[7:], before[7:])
    model.enqueue(keys + 100)
    assert torch.equal(model.queue[7:], keys[:3] + 100)
    assert torch.equal(model.queue[:4], keys[3:] + 100)
    assert model.queue_ptr.tolist() == [4]
    with pytest.raises(ValueError, match="11 keys"):
        model.enqueue(torch.zeros(11, 6))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("bodies", "frames"), [(1, 13), (2, 50), (3, 1)])
def test_any_skeleton_any_bodies(layout, bodies, frames):
    model = small(layout)
    joints = get_layout(layout).num_joints
    views = [torch.randn(4, 3, frames, joints, bodies) for _ in range(3)]
    out = model(*views, topk=2)
    out.loss.backward()
    assert torch.isfinite(out.loss)
    assert out.neighbors.shape == (4, 3, 2)
    assert out.keys.shape == (4, 6)
    assert model.query_encoder.features(views[0]).shape == (4, 8)


def test_bodies_and_samples_do_not_mix():
    model = small().query_encoder.eval()
    x = torch.randn(3, 3, 20, 22, 2)
    with torch.no_grad():
        whole = model.features(x)
        torch.testing.assert_close(whole[1:2], model.features(x[1:2]))
        each = [model.features(x[..., body : body + 1]) for body in range(2)]
    torch.testing.assert_close(whole, (each[0] + each[1]) / 2)


def test_wrong_shape_names_layout_and_shape():
    with pytest.raises(ValueError, match=r"22, M\] of layout 'ui-prmd', got \[2, 3, 10, 25, 1\]"):
        small().query_encoder(torch.zeros(2, 3, 10, 25, 1))
    with pytest.raises(ValueError, match="temporal_kernel"):
        STGCN(temporal_kernel=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_rows_made_unit_together_are_those_made_alone(dtype):
    torch.manual_seed(0)
    sets = [torch.randn(5, 8).to(dtype).requires_grad_() for _ in range(3)]
    with torch.no_grad():
        sets[1][2] = 0  # has no direction
        sets[2][1] *= 1e-14  # is too short
    weights = torch.randn(3, 5, 8)
    found = []
    for rows in (momentum.units(sets), momentum.units_together(sets)):
        assert all(of.dtype == torch.promote_types(dtype, torch.float32) for of in rows)
        loss = (torch.stack(rows) * weights).sum()
        found.append([*rows, *torch.autograd.grad(loss, sets)])
    for alone, together in zip(*found, strict=True):
        torch.testing.assert_close(together, alone)

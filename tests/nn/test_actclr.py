"""ActCLR's second phase beside its golden steps: what it draws, and its model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from aimclr_fast.config import ActionletConfig, MixConfig, ModelConfig, TrainConfig
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder, actclr
from aimclr_fast.nn.actclr import ActCLR
from aimclr_fast.nn.actclr_views import (
    OF_EXTREME,
    OF_QUERY,
    Augmentations,
    draw_act_views,
    draw_augmentations,
    draw_for_batch,
    mixes_are_late,
)
from aimclr_fast.nn.methods import Sampled, Views
from aimclr_fast.reference.actclr import Kind
from aimclr_fast.reference.actionlet import actionlet
from aimclr_fast.reference.skeleton_augment import to_stream
from aimclr_fast.training.checkpoint import digest

LAYOUT = get_layout("ui-prmd")
RECIPE = TrainConfig(method="actclr", mix=MixConfig(blocks_min=3, blocks_max=5), seed=7)
LATE_EPOCH = RECIPE.actionlet.late_epoch
STREAMS = ("joint", "motion", "bone")


def sampled(samples: int = 5, *, epoch: int = 1, step: int = 0, offset: int = 0) -> Sampled:
    data = torch.randn(6, 3, 24, LAYOUT.num_joints, 1, generator=torch.Generator().manual_seed(0))
    index = torch.arange(offset, offset + samples)
    return Sampled(data, index, LAYOUT, STREAMS, epoch, step, offset)


def encoder(dropout: float = 0.0) -> SkeletonEncoder:
    return SkeletonEncoder(STGCN(LAYOUT, channels=2, features=8, dropout=dropout), 6)


def test_the_augmentations_of_an_epoch():
    own, other = (replace(RECIPE, seed=seed) for seed in (3, 4))
    for epoch in (1, 100):
        assert draw_augmentations(own, epoch) == Augmentations(OF_QUERY, OF_EXTREME)
    for first, last, of_query, of_extreme in ((101, 200, 3, 5), (201, 300, 1, 3)):
        epochs = range(first, last + 1, 2)
        drawn = [draw_augmentations(own, epoch) for epoch in epochs]
        for place, (names, size) in enumerate(((OF_QUERY, of_query), (OF_EXTREME, of_extreme))):
            sets = [one[place] for one in drawn]
            assert all(len(one) == size for one in sets)
            assert all(one == tuple(name for name in names if name in one) for one in sets)
            counts = Counter(name for one in sets for name in one)
            share = size / len(names)
            assert all(abs(counts[name] / len(epochs) - share) < 0.2 for name in names)
        assert drawn[:5] == [draw_augmentations(own, epoch) for epoch in epochs[:5]]
        assert drawn[:5] != [draw_augmentations(other, epoch) for epoch in epochs[:5]]
    assert draw_augmentations(own, 301) is None


def test_the_epochs_of_the_stages_can_be_set():
    short = replace(RECIPE, actionlet=ActionletConfig(stages=[0, 2, 3], late_epoch=2))
    drawn = [draw_augmentations(short, epoch) for epoch in (1, 2, 3, 4)]
    assert [one and (len(one.of_query), len(one.of_extreme)) for one in drawn] == [
        (3, 5), (3, 5), (1, 3), None,
    ]  # fmt: skip
    assert [mixes_are_late(short, epoch) for epoch in (1, 2, 3)] == [False, True, True]
    never = replace(short, actionlet=ActionletConfig(late_epoch=0))
    assert not any(mixes_are_late(never, epoch) for epoch in (1, 200, 350))


@pytest.mark.parametrize(
    ("epochs", "stages", "late", "expected"),
    [
        (
            350, [100, 200, 300], 200,
            "all augmentations to epoch 100, most to 200, few to 300, none after; "
            "smaller mixes from epoch 200",
        ),
        (
            300, [100, 200, 300], 0,
            "all augmentations to epoch 100, most to 200, few after",
        ),
        (199, [100, 200, 300], 200, "all augmentations to epoch 100, most after"),
        (100, [100, 200, 300], 200, "all augmentations"),
        (3, [0, 0, 2], 1, "few augmentations to epoch 2, none after; smaller mixes from epoch 1"),
        (9, [0, 0, 0], 0, "no augmentations"),
        (9, [4, 4, 9], 0, "all augmentations to epoch 4, few after"),
    ],
)  # fmt: skip
def test_a_run_tells_the_epochs_of_its_views(epochs, stages, late, expected):
    """And they are those that views are drawn by."""
    own = replace(
        RECIPE,
        optim=replace(RECIPE.optim, epochs=epochs),
        actionlet=ActionletConfig(stages=stages, late_epoch=late),
    )
    assert actclr.METHOD.phases(own) == expected
    sizes = [
        drawn and len(drawn.of_query)
        for drawn in (draw_augmentations(own, epoch) for epoch in range(1, epochs + 1))
    ]
    amounts = {5: "all", 3: "most", 1: "few", None: "no"}
    for size in set(sizes):
        assert amounts[size] in expected
    assert ("smaller" in expected) == any(mixes_are_late(own, epoch) for epoch in range(epochs + 1))


@pytest.mark.parametrize(("form", "across"), [("cosine", True), ("released", False)])
def test_form_and_neighbors_are_those_of_the_recipe(form, across):
    chosen = ActionletConfig(form=form, neighbors_share=0.26)
    sizes = ModelConfig(channels=2, features=4, embedding=4, queue_size=50)
    model = actclr.METHOD.build(LAYOUT, replace(RECIPE, actionlet=chosen, model=sizes))
    assert (model.across_channels, model.neighbors) == (across, 13)


@pytest.mark.parametrize(
    ("frames", "blocks"), [(4, (1, 1)), (16, (1, 1)), (24, (1, 2)), (50, (3, 5)), (300, (3, 5))]
)
def test_blocks_that_are_left_out_shrink_with_the_sequences(frames, blocks):
    """Published for 50 frames; shorter ones once were refused."""
    recipe = replace(RECIPE, mix=MixConfig(), start="first.pt")
    actclr.METHOD.check(recipe, LAYOUT, frames, samples=8)
    drawn = [
        draw_for_batch(recipe, sampled(step=step), frames=frames).whole.blocks for step in range(40)
    ]
    assert {int(one) for one in drawn} == set(range(blocks[0], blocks[1] + 1))
    late = draw_for_batch(recipe, sampled(epoch=LATE_EPOCH), frames=frames).blended.blocks
    assert 1 <= late <= min(3, blocks[1])


def test_each_view_has_the_augmentations_of_its_epoch(monkeypatch):
    """With one augmentation at a time, what it leaves in the view."""
    batch, quiet = sampled(), replace(RECIPE.augment, crop_ratio=2**31 - 1, shear_amplitude=0.0)
    certain = {f"{name}_prob": 1.0 for name in ("spatial_flip", "noise", "blur", "axis_mask")}
    recipe = replace(RECIPE, augment=replace(quiet, **certain))
    x = batch.data[batch.index]

    def views(of_query: tuple[str, ...], of_extreme: tuple[str, ...]) -> dict[str, torch.Tensor]:
        chosen = Augmentations(of_query, of_extreme)
        monkeypatch.setattr("aimclr_fast.nn.actclr_views.draw_augmentations", lambda *_: chosen)
        found = draw_act_views(recipe, batch)["joint"]
        assert torch.equal(found["weak"], x)
        assert torch.equal(found["key"], x)
        return found

    none = views((), ())
    assert torch.equal(none["query"], x)
    assert torch.equal(none["extreme"], x)
    swap = torch.tensor(LAYOUT.swap)
    flipped = views(("flip",), ("flip",))
    assert torch.equal(flipped["query"], x[:, :, :, swap])
    assert torch.equal(flipped["extreme"], x[:, :, :, swap])
    turned = views(("rotate",), ())["query"]
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))
    assert not torch.equal(turned, x)
    noisy = views(("noise",), ("noise",))
    deviations = [(noisy[name] - x).std().item() for name in ("query", "extreme")]
    assert deviations == pytest.approx([0.01, 0.05], rel=0.05)
    masked = views(("axis mask",), ())["query"]
    assert ((masked == 0).all(dim=(2, 3, 4)).sum(1) == 1).all()
    assert not torch.equal(views(("blur",), ())["query"], x)
    shortened = to_stream(
        views((), ("bone scale",))["extreme"], "bone", torch.tensor(LAYOUT.parents)
    )
    bones = to_stream(x, "bone", torch.tensor(LAYOUT.parents)).norm(dim=1)
    moved = [joint for joint in range(LAYOUT.num_joints) if joint != LAYOUT.center]
    ratio = (shortened.norm(dim=1) / bones)[:, :, moved]
    assert ratio.max() < 0.5
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-2, atol=1e-3)
    at_speeds = views((), ("resample",))["extreme"]
    still = (at_speeds == x).all(dim=(1, 2, 3, 4))
    assert still.any()
    assert not still.all()


@pytest.mark.parametrize("turn", [0.0, 180.0])
def test_late_epochs_have_no_augmentation(turn):
    batch = sampled(epoch=301)
    recipe = replace(RECIPE, augment=replace(RECIPE.augment, turn_deg=turn))
    views = draw_act_views(recipe, batch)
    parents = torch.tensor(LAYOUT.parents)
    for stream in STREAMS:
        expected = to_stream(batch.data[batch.index], stream, parents)
        for name in ("extreme", "query", "weak", "key"):
            assert torch.equal(views[stream][name], expected)


def test_views_do_not_depend_on_the_split_of_the_batch():
    whole = draw_act_views(RECIPE, sampled(6))
    parts = [draw_act_views(RECIPE, sampled(3, offset=at)) for at in (0, 3)]
    for stream in STREAMS:
        for name in ("extreme", "query", "weak", "key"):
            joined = torch.cat([part[stream][name] for part in parts])
            torch.testing.assert_close(whole[stream][name], joined, rtol=0, atol=1e-6)
    other = draw_act_views(RECIPE, sampled(6, step=1))
    assert not torch.equal(whole["joint"]["extreme"], other["joint"]["extreme"])


@pytest.mark.parametrize(
    ("epoch", "parts", "blocks"),
    [(LATE_EPOCH - 1, (2, 3), (3, 5)), (LATE_EPOCH, (1, 2), (1, 3))],
)
def test_mixes_are_drawn_in_their_ranges(epoch, parts, blocks):
    drawn = [
        draw_for_batch(RECIPE, sampled(epoch=epoch, step=step), frames=24) for step in range(100)
    ]
    assert {int(one.swap_shift) for one in drawn} == {1, 2, 3}
    ranges = {"blended": (parts, blocks), "whole": ((2, 3), (3, 5))}
    for name, (of_parts, of_blocks) in ranges.items():
        mixes = [getattr(one, name) for one in drawn]
        kinds = Counter(int(mix.kind) for mix in mixes)
        for kind, share in ((Kind.SWAP, 0.5), (Kind.RESAMPLED, 0.25), (Kind.MIXTURE, 0.25)):
            assert abs(kinds[kind] / len(mixes) - share) < 0.12
        assert {int(mix.shift) for mix in mixes} == {1, 2, 3}
        counts = {int(mix.parts.sum()) for mix in mixes}
        assert counts == set(range(of_parts[0], of_parts[1] + 1))
        assert {int(mix.blocks) for mix in mixes} == set(range(of_blocks[0], of_blocks[1] + 1))
        assert all(0 <= mix.first_block <= 6 - mix.blocks for mix in mixes)
        assert 0.4 < sum(float(mix.weight) for mix in mixes) / len(mixes) < 0.6
    assert any(int(one.blended.shift) != int(one.whole.shift) for one in drawn)


def test_bone_swap_and_mixes_are_those_of_the_stream():
    """In the joint stream the mix sees swapped bones, in others it does not, as released."""
    views: Views = draw_act_views(RECIPE, sampled())
    torch.manual_seed(0)
    model = ActCLR(encoder(), embedding=6, queue_size=20, neighbors=9)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for stream in STREAMS:
        own = views[stream]
        no_mix = own["draws"].whole._replace(parts=torch.zeros(5, dtype=torch.bool))
        draws = own["draws"]._replace(whole=no_mix._replace(kind=torch.tensor(int(Kind.SWAP))))
        inputs = []
        hook = model.query_encoder.backbone.register_forward_hook(
            lambda _, arguments, __, inputs=inputs: inputs.append(arguments[0])
        )
        model.load_state_dict(state)
        out = model(**own | {"draws": draws}, stream=stream)
        hook.remove()
        assert torch.equal(inputs[-1], own["weak"]) == (stream != "joint")
        assert out.loss > 0
        torch.testing.assert_close(out.loss, out.query + out.transformed + out.mixed)


def test_both_encoders_start_alike_and_only_one_is_trained():
    own = encoder()
    model = ActCLR(own, embedding=6, queue_size=20, neighbors=9)
    assert model.query_encoder is own
    assert digest(model.query_encoder.state_dict()) == digest(model.key_encoder.state_dict())
    assert not any(parameter.requires_grad for parameter in model.key_encoder.parameters())
    torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(20))
    with pytest.raises(ValueError, match=r"neighbors must lie in 1\.\.20, .* got 21"):
        ActCLR(own, embedding=6, queue_size=20, neighbors=21)


def test_in_half_precision_actionlets_are_found_in_float32(monkeypatch):
    views = draw_act_views(RECIPE, sampled())["joint"]
    model = ActCLR(encoder(), embedding=6, queue_size=20, neighbors=9)
    calls = []

    def recorded(*arguments, **options):
        calls.append((arguments, options, actionlet(*arguments, **options)))
        return calls[-1][-1]

    monkeypatch.setattr(actclr, "actionlet", recorded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(**views)
    assert len(calls) == 3
    for (features, *others), options, found in calls:
        assert features.dtype == torch.bfloat16
        assert torch.equal(found, actionlet(features.float(), *others, **options))
    assert out.loss.dtype == torch.float32
    out.loss.backward()
    missing = [name for name, p in model.query_encoder.named_parameters() if p.grad is None]
    assert not missing

"""Occlusion finds what an answer rests on, and nothing where weights are random."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimclr_fast import load_encoder
from aimclr_fast.data import resolve_store, split
from aimclr_fast.inference.importance import explain
from aimclr_fast.layouts import PARTS


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("ui_prmd", device="cpu")


@pytest.fixture(scope="module")
def sequences():
    """Test sequences [M, T, V, 3] of each class, by class."""
    store = resolve_store("ui_prmd_unaligned")
    test = split(store, "xsub")[1]
    x = {}
    for label, name in enumerate(store.class_names):
        rows = test[store.labels[test] == label][:10]
        x[name] = store.as_tensor(rows).permute(0, 4, 2, 3, 1).numpy()
    return x


def test_each_number_is_that_of_an_occluded_sequence(encoder, sequences):
    x = sequences["deep squat, correct"][0]
    found = explain(encoder, x)
    assert found.ends == (0, 10, 20, 30, 40, 50)
    assert [name for name, _ in found.parts] == [name.replace("_", " ") for name in PARTS]
    legs = list(dict(found.parts)["left leg"])
    other = x.copy()
    other[:, 20:30, legs] = x.mean(axis=1, keepdims=True)[:, :, legs]
    before, after = (
        encoder.classify(one[None], preprocessed=True).probabilities[0] for one in (x, other)
    )
    expected = float(before.max() - after[before.argmax()])
    assert found.drop[4, 2] == pytest.approx(expected, abs=1e-4)  # rounding by batch
    part, window = found.most
    assert found.drop.max() == found.drop[[name for name, _ in found.parts].index(part), window]


def test_what_stands_still_matters_to_nothing(encoder, sequences):
    x = sequences["side lunge, correct"][0].copy()
    x[:] = x.mean(axis=1, keepdims=True)
    found = explain(encoder, x)
    assert np.abs(found.drop).max() < 1e-6
    assert found.most is None
    assert not found.of_joints(22).any()


def test_legs_matter_for_squats_and_arms_for_shoulders(encoder, sequences):
    """Over the right answers of ten sequences each."""
    limbs = {}
    for name in ("deep squat, correct", "standing shoulder abduction, correct"):
        drops = []
        for x in sequences[name]:
            if encoder.classify(x[None], preprocessed=True).names == [name]:
                found = explain(encoder, x)
                drops.append(dict(zip([p for p, _ in found.parts], found.drop.sum(1), strict=True)))
        assert len(drops) >= 4
        limbs[name] = {
            limb: np.mean([one[f"left {limb}"] + one[f"right {limb}"] for one in drops])
            for limb in ("arm", "leg")
        }
    squat, shoulder = limbs.values()
    assert squat["leg"] / squat["arm"] > 2 * shoulder["leg"] / shoulder["arm"]


def test_random_weights_change_it(encoder, sequences):
    """The sanity check of Adebayo et al. (2018): it is of the model and not of the motion alone."""
    random = load_encoder("ui_prmd", device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in random.model.parameters():
            parameter.copy_(
                parameter.flatten()[torch.randperm(parameter.numel(), generator=generator)].view_as(
                    parameter
                )
            )
    alike = []
    for some in sequences.values():
        one, other = (explain(model, some[0]).drop.ravel() for model in (encoder, random))
        if one.std() > 1e-6 and other.std() > 1e-6:
            alike.append(np.corrcoef(one, other)[0, 1])
    assert len(alike) >= 10
    assert abs(np.mean(alike)) < 0.3


def test_joints_have_their_parts_share_of_the_largest(encoder, sequences):
    found = explain(encoder, sequences["deep squat, correct"][0], windows=3)
    weights = found.of_joints(22)
    assert weights.shape == (3, 22)
    assert weights.max() == 1
    for (_, own), drop in zip(found.parts, found.drop, strict=True):
        expected = np.maximum(drop, 0) / found.drop.max()
        np.testing.assert_allclose(weights[:, list(own)], expected[:, None].repeat(len(own), 1))
    for wrong in (0, 51):
        with pytest.raises(ValueError, match=r"windows must lie in 1\.\.50"):
            explain(encoder, sequences["deep squat, correct"][0], windows=wrong)

"""The published preprocessing against the authors' numbers, and each step on its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aimclr_fast.data.preprocessing import (
    Preprocessing,
    center,
    count_frames,
    preprocess,
    resize_time,
    rotate_about_y,
)
from aimclr_fast.layouts import Layout, get_layout

GOLDEN = Path(__file__).parents[1] / "golden"
NTU = get_layout("ntu-rgb+d")


def golden_cases():
    for file in ("ntu_prep.npz", "pku_prep.npz"):
        with np.load(GOLDEN / file) as data:
            for index, name in enumerate(data["names"]):
                yield pytest.param(data[f"raw/{name}"], data["position50"][index], id=str(name))


@pytest.mark.parametrize(("raw", "expected"), list(golden_cases()))
def test_matches_the_published_preprocessing(raw, expected):
    result = preprocess(raw, NTU)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_golden_cases_include_frames_without_a_body_and_bodies_that_come_late():
    with np.load(GOLDEN / "ntu_prep.npz") as data:
        raws = [data[f"raw/{name}"] for name in data["names"]]
    assert any(0 < count_frames(raw) < raw.shape[1] for raw in raws)
    seen = [raw[..., 1].any(axis=(0, 2)) for raw in raws]
    assert any(body.any() and not body[0] for body in seen)


def sequence(*leading, frames=7, joints=25, bodies=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(*leading, 3, frames, joints, bodies))


def test_center_moves_the_joint_to_the_origin_and_leaves_absent_bodies():
    x = sequence(4)
    x[..., 1] = 0
    result = center(x, 20)
    assert not result[..., 20, :].any()
    assert not result[..., 1].any()
    np.testing.assert_allclose(result[..., 3, 0], x[..., 3, 0] - x[..., 20, 0])


@pytest.mark.parametrize("frames", [1, 7, 23, 50])
def test_resize_time_is_what_torch_interpolates(frames):
    x = sequence()
    flat = torch.from_numpy(x).permute(0, 2, 3, 1).reshape(1, -1, 7)
    expected = torch.nn.functional.interpolate(flat, frames, mode="linear", align_corners=False)
    result = resize_time(x, frames)
    assert result.shape == (3, frames, 25, 2)
    np.testing.assert_allclose(
        result.transpose(0, 2, 3, 1).reshape(-1, frames), expected[0].numpy(), atol=1e-12
    )


def test_resize_time_to_its_own_length_changes_nothing():
    x = sequence(2)
    np.testing.assert_array_equal(resize_time(x, 7), x)


@pytest.mark.parametrize(("length", "frames"), [(0, 5), (5, 0)])
def test_resize_time_needs_frames(length, frames):
    with pytest.raises(ValueError, match=f"{length} frames to {frames}"):
        resize_time(sequence(frames=length), frames)


def test_exact_rotation_puts_the_shoulders_on_x():
    x = sequence(3)
    result = rotate_about_y(x, (4, 8), exact=True)
    across = result[..., 8, :] - result[..., 4, :]
    np.testing.assert_allclose(across[:, 2], 0, atol=1e-12)
    assert (across[:, 0] > 0).all()
    np.testing.assert_array_equal(result[:, 1], x[:, 1])
    np.testing.assert_allclose(
        np.linalg.norm(result, axis=1), np.linalg.norm(x, axis=1), rtol=1e-12
    )


def test_published_rotation_turns_a_whole_sequence_one_way():
    # Shoulders 0.3 m apart, at +10 and at -5 degrees: the mean z is positive, so the second frame
    # is turned as if it were at +5, and ends at -10.
    degrees = np.array([10.0, -5.0])
    x = np.zeros((3, 2, 25, 1))
    x[0, :, 8, 0] = 0.3 * np.cos(np.radians(degrees))
    x[2, :, 8, 0] = 0.3 * np.sin(np.radians(degrees))
    result = rotate_about_y(x, (4, 8))[:, :, 8, 0]
    turned = np.degrees(np.arctan2(result[2], result[0]))
    # arccos(dx / (length + 1e-4)) is off by up to 0.3 degrees at these angles
    np.testing.assert_allclose(turned, [0, -10], atol=0.3)
    assert abs(turned[0]) > 0.05


def test_rotation_leaves_absent_bodies():
    assert not rotate_about_y(np.zeros((3, 4, 25, 2)), (4, 8)).any()
    assert not rotate_about_y(np.zeros((3, 4, 25, 2)), (4, 8), exact=True).any()


def test_batched_steps_equal_single_ones():
    x = sequence(5)
    for step in (
        lambda y: center(y, 20),
        lambda y: resize_time(y, 11),
        lambda y: rotate_about_y(y, (4, 8)),
    ):
        np.testing.assert_array_equal(step(x), np.stack([step(one) for one in x]))


def test_preprocess_without_shoulders_and_with_any_skeleton():
    layout = Layout("rod", ("a", "b", "c"), ((1, 0), (2, 1)), 0, (0, 1, 2))
    x = sequence(joints=3, bodies=1)
    expected = resize_time(center(x, 0), 9).astype(np.float32)
    np.testing.assert_array_equal(preprocess(x, layout, frames=9), expected)


def test_preprocess_leaves_its_input_alone():
    x = sequence().astype(np.float32)
    before = x.copy()
    preprocess(x, NTU)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 5, 25)), r"\[3, T, V, M\], got shape \[3, 5, 25\]"),
        (np.zeros((2, 3, 5, 25, 1)), r"\[3, T, V, M\]"),
        (np.zeros((2, 5, 25, 1)), r"\[3, T, V, M\]"),
        (np.zeros((3, 5, 24, 1)), r"24 joints, but layout 'ntu-rgb\+d' has 25"),
        (np.full((3, 5, 25, 1), np.inf), "finite"),
        (np.zeros((3, 5, 25, 1)), "body 0 is in no frame"),
    ],
)
def test_preprocess_refuses(x, message):
    with pytest.raises(ValueError, match=message):
        preprocess(x, NTU)


def group(frames=60, seed=3):
    """Two NTU bodies ``[3, frames, 25, 2]`` that walk and turn; the second comes at frame 10."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 1, 25, 2)) + rng.normal(scale=0.02, size=(3, frames, 25, 2)).cumsum(1)
    x[..., 1] += 1.5
    x[:, :10, :, 1] = 0
    return x


def by_sequence(x, **fields):
    return Preprocessing(**{"frames": None, "rotate": "exact", "normalize": "sequence"} | fields)(
        x, NTU
    )


def test_a_sequence_is_moved_and_turned_as_a_whole():
    x = group()
    out = by_sequence(x)
    there = x.any(axis=(0, 2))
    np.testing.assert_array_equal(out.any(axis=(0, 2)), there)  # who is absent stays zero

    def distances(y):
        points = y.transpose(1, 3, 2, 0)[there]  # of all frames and both bodies
        points = points.reshape(-1, 3)[::17]
        return np.linalg.norm(points[:, None] - points[None], axis=2)

    np.testing.assert_allclose(distances(out), distances(x), atol=1e-5)
    np.testing.assert_array_equal(out[:, 0, NTU.center, 0], 0)
    left, right = NTU.shoulders
    across = out[:, 0, right, 0] - out[:, 0, left, 0]
    assert across[0] > 0
    assert abs(across[2]) < 1e-6
    # y is only moved, and the trajectory is kept.
    np.testing.assert_allclose(out[1, :, :, 0], x[1, :, :, 0] - x[1, 0, NTU.center, 0], atol=1e-6)
    assert np.abs(out[:, 30:, NTU.center]).max() > 0.05


def test_where_the_sensor_stood_does_not_matter_to_a_sequence():
    x = group()
    there = x.any(axis=(0, 2))[None, :, None]
    angle = 2.0
    turned = x.copy()
    turned[0] = np.cos(angle) * x[0] + np.sin(angle) * x[2] + 3
    turned[2] = np.cos(angle) * x[2] - np.sin(angle) * x[0] - 4
    turned = np.where(there, turned, 0)
    for frames in (None, 50):
        same = by_sequence(turned, frames=frames)
        np.testing.assert_allclose(same, by_sequence(x, frames=frames), atol=1e-5)
        not_turned = by_sequence(x, frames=frames, rotate="none")
        assert np.abs(not_turned - by_sequence(turned, frames=frames, rotate="none")).max() > 0.1


def test_a_sequence_begins_where_its_first_center_and_shoulders_are():
    x = group()
    left, right = NTU.shoulders
    x[:, :4, NTU.center, 0] = np.nan
    x[:, :7, left, 0] = np.nan
    out = by_sequence(x, gaps="keep")
    assert not out[:, :4, NTU.center, 0].any()  # missing still
    assert not out[:, 4, NTU.center, 0].any()  # the origin
    assert out[:, 5, NTU.center, 0].all()
    across = out[:, 7, right, 0] - out[:, 7, left, 0]
    assert across[0] > 0
    assert abs(across[2]) < 1e-6
    # Filled, a joint that is missing at the beginning is where it was first seen.
    assert not by_sequence(x, gaps="fill")[:, :5, NTU.center, 0].any()
    # The second body may lack its center; the first may not.
    second = group()
    second[:, :, NTU.center, 1] = np.nan
    assert not by_sequence(second, gaps="keep")[:, :, NTU.center, 1].any()
    second[:, :, NTU.center, 0] = np.nan
    with pytest.raises(ValueError, match=r"spine_shoulder is in no frame \(body 0\)"):
        by_sequence(second, gaps="keep")


def test_a_sequence_whose_first_body_never_has_both_shoulders_is_not_turned():
    x = group()
    x[:, :, NTU.shoulders[0], 0] = np.nan
    np.testing.assert_array_equal(
        by_sequence(x, gaps="keep"), by_sequence(x, gaps="keep", rotate="none")
    )


def test_normalization_in_files():
    steps = Preprocessing(50, "exact", normalize="sequence")
    assert Preprocessing.from_dict(steps.to_dict()) == steps
    old = {"frames": 50, "rotate": "exact", "gaps": "fill"}
    assert Preprocessing.from_dict(old).normalize == "frame"
    assert Preprocessing(50, "exact").to_dict() == old
    for fields, message in (
        ({"rotate": "exact", "normalize": "clip"}, "normalize must be one of frame, sequence"),
        ({"rotate": "published", "normalize": "sequence"}, "rotate exact, or none"),
    ):
        with pytest.raises(ValueError, match=message):
            Preprocessing(**fields)
    with pytest.raises(ValueError, match="frames, rotate, gaps and normalize"):
        Preprocessing.from_dict(old | {"norm": "frame"})

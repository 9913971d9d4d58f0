"""Frames and joints that were not seen: what is cut, what is interpolated and what is left."""

import numpy as np
import pytest

from aimclr_fast.data.gaps import LONGEST, Gaps, close, count_frames, last_frame

FRAMES, JOINTS = 60, 5


def walk(frames=FRAMES, bodies=1):
    """``[3, T, V, M]``: joints spread over a body that goes along x at an even pace."""
    x = np.random.default_rng(0).normal(size=(3, 1, JOINTS, bodies)) * 0.5 + 2
    x = np.repeat(x, frames, axis=1)
    x[0] += 0.02 * np.arange(frames)[:, None, None]
    return x


def test_a_whole_recording_stays_as_it_is():
    x = walk(bodies=2)
    for rule in ("fill", "keep", "published"):
        found, gaps = close(x, rule)
        assert np.shares_memory(found, x)
        np.testing.assert_array_equal(found, x)
        assert gaps == Gaps(FRAMES)


def test_a_lost_joint_is_no_lost_frame():
    x = walk()
    x[:, 10:40, 0] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_allclose(found, walk(), atol=1e-12)
    assert gaps == Gaps(FRAMES, joints=30, longest=30, filled=30)
    assert not x[:, 10:40, 0].any()  # the input is left alone


def test_a_joint_lost_at_the_ends_is_held():
    x = walk()
    x[:, :3, 1] = x[:, -2:, 2] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_array_equal(found[:, :4, 1], np.repeat(x[:, [3], 1], 4, axis=1))
    np.testing.assert_array_equal(found[:, -3:, 2], np.repeat(x[:, [-3], 2], 3, axis=1))
    assert (gaps.joints, gaps.filled, gaps.longest) == (5, 5, 3)


@pytest.mark.parametrize("length", [1, LONGEST, LONGEST + 20])
def test_a_gap_of_everybody_is_interpolated_however_long(length):
    x = walk(bodies=2)
    x[:, 5 : 5 + length] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_allclose(found, walk(bodies=2), atol=1e-12)
    assert gaps == Gaps(FRAMES, frames=length, longest=length, filled=length)


def test_empty_ends_are_cut():
    x = np.zeros((3, 80, JOINTS, 2))
    x[:, 7:67, :, 1] = walk()[..., 0]  # body 0 never comes
    found, gaps = close(x, "fill")
    np.testing.assert_array_equal(found[..., 1], walk()[..., 0])
    assert gaps == Gaps(FRAMES, cut=20)


def test_a_body_that_comes_late_or_leaves_is_not_made_up():
    x = walk(bodies=2)
    x[:, :20, :, 1] = x[:, 50:, :, 1] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_array_equal(found, x)
    assert gaps == Gaps(FRAMES)


@pytest.mark.parametrize(("length", "filled"), [(LONGEST, True), (LONGEST + 1, False)])
def test_one_of_two_bodies_may_have_left_for_a_while(length, filled):
    x = walk(bodies=2)
    x[:, 20 : 20 + length, :, 1] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_allclose(found, walk(bodies=2) if filled else x, atol=1e-12)
    assert gaps.frames == (length if filled else 0)


def test_a_frame_with_nobody_does_not_bring_back_a_body_that_left():
    x = walk(bodies=2)
    x[:, 10:50, :, 1] = 0
    x[:, 30, :, 0] = 0
    found, gaps = close(x, "fill")
    np.testing.assert_allclose(found[..., 0], walk(bodies=2)[..., 0], atol=1e-12)
    np.testing.assert_array_equal(found[..., 1], x[..., 1])
    assert gaps == Gaps(FRAMES, frames=1, longest=1, filled=1)


def test_a_joint_at_the_origin_in_every_frame_is_a_center():
    x = walk() - walk()[:, :, :1]
    found, gaps = close(x, "fill")
    np.testing.assert_array_equal(found, x)
    assert gaps == Gaps(FRAMES)
    x[:, 20:30] = 0
    found, gaps = close(x, "fill")
    assert not found[:, :, 0].any()
    np.testing.assert_allclose(found, walk() - walk()[:, :, :1], atol=1e-12)
    assert (gaps.frames, gaps.joints) == (10, 0)


def test_a_joint_may_start_at_the_origin():
    x = walk() - walk()[:, :1, :1]  # the origin is where joint 0 was in the first frame
    found, gaps = close(x, "fill")
    np.testing.assert_array_equal(found, x)
    assert gaps == Gaps(FRAMES)


def test_keep_keeps_everything():
    x = walk()
    x[:, :5] = x[:, 30:40] = x[:, -5:] = 0
    found, gaps = close(x, "keep")
    np.testing.assert_array_equal(found, x)
    assert gaps == Gaps(FRAMES)


def test_published_counts_the_frames_with_body_0():
    x = walk(bodies=2)
    x[:, 10:30, :, 0] = 0
    found, gaps = close(x, "published")
    np.testing.assert_array_equal(found, x[:, :40])
    assert gaps == Gaps(40)
    centered = walk() - walk()[:, :, :1]
    assert count_frames(centered) == FRAMES
    x[..., 0] = 0
    with pytest.raises(ValueError, match="body 0 is in no frame"):
        close(x, "published")


@pytest.mark.parametrize("rule", ["fill", "keep"])
def test_nobody(rule):
    with pytest.raises(ValueError, match="body 0 is in no frame, and neither is any other"):
        close(np.zeros((3, 9, JOINTS, 2)), rule)


def test_last_frame():
    x = walk(bodies=2)
    assert last_frame(x) == FRAMES
    x[:, 50:, :, 0] = x[:, 40:, :, 1] = 0
    assert last_frame(x) == 50
    assert last_frame(x * 0) == 0

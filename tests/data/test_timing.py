"""Recordings at one rate, and windows of long ones."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers.bvh_files import bvh_text

from aimclr_fast.data import open_store, split
from aimclr_fast.data.readers import Problem, ReadError, Recording
from aimclr_fast.data.timing import resampled, windows
from aimclr_fast.prepare import command_line


def recording(frames: int, rate: float | None) -> Recording:
    """A joint that moves 3 m a second along x and swings along y."""
    time = np.arange(frames) / (rate or 1)
    x = np.stack([3 * time, np.sin(2 * time), np.ones(frames)])[:, :, None, None]
    return Recording("a", x, {"subject": 1}, "a.bvh", rate)


@pytest.mark.parametrize("rate", [15, 24, 30, 29.97, 30.00003, 60, 100, 120, 240])
@pytest.mark.parametrize("fps", [10, 30, 50])
def test_at_one_rate_the_same_motion_looks_alike(rate, fps):
    found = resampled(recording(int(rate * 4), rate), fps)
    assert found.rate == fps
    frames = found.positions.shape[1]
    assert (frames - 1) / fps <= 4 < (frames + 2) / fps + 1 / rate
    expected = recording(frames, fps).positions
    np.testing.assert_allclose(found.positions[0], expected[0], atol=5e-3)
    np.testing.assert_allclose(found.positions[1], expected[1], atol=6e-3)
    assert (found.name, found.columns, found.where) == ("a", {"subject": 1}, "a.bvh")


def test_every_fourth_frame_of_120_is_a_frame_of_30():
    whole = recording(121, 120.0)
    np.testing.assert_allclose(resampled(whole, 30).positions, whole.positions[:, ::4], atol=1e-12)
    same = recording(99, 1 / 0.0333333)
    assert resampled(same, 30).positions is same.positions


@pytest.mark.parametrize("absent", [0.0, np.nan])
def test_a_missing_joint_is_blended_with_nothing(absent):
    x = np.full((3, 4, 2, 1), 2.0)
    x[:, 1, 0] = absent
    found = resampled(Recording("a", x, rate=10.0), 30).positions[0, :, 0, 0]
    missing = np.isnan(found) if np.isnan(absent) else found == 0
    assert missing.tolist() == [False, False, True, True, True, False, False, False, False, False]
    assert (found[~missing] == 2).all()


def test_windows_are_cut_by_time():
    whole = recording(300, 1 / 0.0333333)
    found = list(windows(whole, 4, 2))
    assert [window.name for window in found] == ["a@0s", "a@2s", "a@4s", "a@6s"]
    for start, window in zip((0, 60, 120, 180), found, strict=True):
        np.testing.assert_array_equal(window.positions, whole.positions[:, start : start + 120])
        assert window.columns == {"recording": "a", "subject": 1}
    assert [window.name for window in windows(recording(60, 24.0), 1, 0.75)] == [
        "a@0s",
        "a@0.75s",
        "a@1.5s",
    ]
    uneven = list(windows(recording(1000, 29.97), 1, 1))
    assert len(uneven) == 33
    assert {window.positions.shape[1] for window in uneven} == {30}


def test_what_cannot_be_cut_is_said():
    (short,) = windows(recording(119, 30.0), 4, 2)
    assert short == Problem("a.bvh", "shorter than a window of 4 s")
    with pytest.raises(ReadError, match=r"at 30 frames per second, a window needs two frames"):
        list(windows(recording(90, 30.0), 0.03, 0.03))
    with pytest.raises(ReadError, match="a hop one"):
        list(windows(recording(90, 30.0), 1, 0.01))
    for cut in (lambda r: resampled(r, 30), lambda r: list(windows(r, 1, 1))):
        with pytest.raises(ReadError, match="does not say its frame rate"):
            cut(recording(90, None))


def test_prepare_cuts_windows_that_remember_their_recording(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for n, time in enumerate(("0.0333333", "0.00833333")):
        text = bvh_text(seed=n, frames=(91, 361)[n], time=time)
        (tmp_path / "in" / f"{n}.bvh").write_text(text)
    (tmp_path / "in" / "2.bvh").write_text(bvh_text(frames=10))
    (tmp_path / "in" / "labels.csv").write_text(
        "name,label,split\n0,walk,train\n1,wave,test\n2,walk,test\n"
    )
    command_line(
        ["bvh", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1", "--frames=original",
         "--fps=30", "--window=1s", "--hop=0.5s"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "time: resampled to 30 frames per second" in said
    assert "time: windows of 1 s, one every 0.5 s" in said
    assert "1 x shorter than a window of 1 s (first: " in said
    store = open_store(tmp_path / "out")
    assert store.samples["name"].tolist()[:2] == ["0@0s", "0@0.5s"]
    assert store.samples["recording"].tolist() == [0] * 5 + [1] * 5
    assert set(store.samples["frames"].tolist()) == {30}
    sides = [set(store.samples["recording"][side].tolist()) for side in split(store, "split")]
    assert sides == [{0}, {1}]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hop=1s"], "--hop: only with --window"),
        (["--window=4"], "--window 4: expected seconds"),
        (["--window=0s"], "--window 0s: expected seconds"),
        (["--window=1e3s"], "expected seconds"),
        (["--window=4s", "--hop=-1s"], "--hop -1s: expected seconds"),
        (["--fps=0"], "--fps 0: must be from 0.1 to 1000"),
        (["--fps=1001"], "--fps 1001: must be from 0.1 to 1000"),
    ],
)
def test_wrong_times_are_refused(flags, message, tmp_path, capsys):
    (tmp_path / "a.bvh").write_text(bvh_text())
    with pytest.raises(SystemExit) as caught:
        command_line(["bvh", str(tmp_path / "a.bvh"), str(tmp_path / "out"), *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err

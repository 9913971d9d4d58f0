"""Recordings at one rate, and windows of long ones."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers import test_mediapipe, test_openpose
from data.readers.bvh_files import bvh_text
from data.readers.recordings import NTU_RAW, motion
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store, split
from aimclr_fast.data.readers import Problem, ReadError, Recording
from aimclr_fast.data.readers._counting import rate_of, time_places
from aimclr_fast.data.timing import Timing, resampled, timed, windows
from aimclr_fast.layouts import get_layout
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


def table_with_times(file, rate: float, scale: float, frames: int = 61, heading="time") -> None:
    """Of a person, its times rounded to milliseconds, with every 20th frame dropped."""
    x = motion(0, frames=50)[np.arange(frames) % 50].reshape(frames, -1)
    names = ",".join(f"{joint}_{axis}" for joint in get_layout("ui-prmd").joints for axis in "xyz")
    rows = [f"{heading},{names}"]
    for t in range(frames):
        if t % 20 != 19:
            time = round(t / rate, 3) * scale
            rows.append(",".join(map(repr, [time, *x[t].tolist()])))
    file.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(("scale", "heading"), [(1, "time"), (1e3, "timestamp_ms"), (1e6, "time")])
@pytest.mark.parametrize("rate", [15, 30, 60, 150])
def test_tables_with_times_know_their_rate(scale, heading, rate, tmp_path):
    table_with_times(tmp_path / "a.csv", rate, scale, heading=heading)
    plan, (found,) = read_all("folder", tmp_path, layout="ui-prmd")
    assert plan.timed
    assert found.rate == pytest.approx(rate, rel=0.02)


def test_times_that_tell_no_rate():
    assert rate_of(np.array([3.0])) is None
    assert rate_of(np.array([0.0, 0.0, 0.0, 1.0])) is None
    assert rate_of(np.array([0.0, np.nan, 0.04, 0.08])) == pytest.approx(25)
    assert rate_of(np.arange(9) * 33_366_700.0) == pytest.approx(29.97, rel=1e-4)
    assert rate_of(np.arange(9) * 20.0, 1.0) is None


def test_the_rate_of_files_that_do_not_say_it(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", motion(0, frames=50))
    arguments = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1"]
    arguments += ["--layout=ui-prmd", "--frames=original"]
    for flag in ("--fps=15", "--window=1s"):
        with pytest.raises(SystemExit) as caught:
            command_line([*arguments, flag])
        assert caught.value.code == 2
        assert "do not say their frame rate: say it with --rate" in capsys.readouterr().err
    command_line([*arguments, "--rate=30", "--fps=15", "--window=1s"])
    assert "recordings have 30 frames per second, as --rate says" in capsys.readouterr().out
    assert open_store(tmp_path / "out").samples["name"].tolist() == ["a@0s"]
    assert open_store(tmp_path / "out").positions.shape[2] == 15
    with pytest.raises(SystemExit):
        command_line([*arguments, "--overwrite", "--rate=0", "--fps=3"])
    assert "--rate 0: must be from 0.1 to 1000" in capsys.readouterr().err


def test_the_rate_holds_for_those_that_do_not_say_theirs(tmp_path):
    table_with_times(tmp_path / "a.csv", 60, 1)
    np.save(tmp_path / "b.npy", motion(0, frames=50))
    plan = read_all("folder", tmp_path, layout="ui-prmd")[0]
    read = timed(plan, Timing(fps=10, rate=20)).read
    assert [next(iter(read(unit))).positions.shape[1] for unit in plan.units] == [11, 25]
    with pytest.raises(ReadError, match=r"b\.npy: does not say its frame rate: --rate does"):
        list(timed(plan, Timing(fps=10)).read(plan.units[1]))


@pytest.mark.parametrize("form", ["ntu120", "openpose"])
def test_other_formats_take_a_rate(form, tmp_path, capsys):
    source = NTU_RAW
    if form == "openpose":
        source = tmp_path / "in"
        test_openpose.write(source)
    flags = ["--jobs=1", "--rate=30", "--fps=10", "--frames=original"]
    command_line([form, str(source), str(tmp_path / "out"), *flags])
    _, found = read_all(form, source)
    length = open_store(tmp_path / "out").positions.shape[2]
    assert length <= 1 + max(one.positions.shape[1] for one in found) // 3


def test_a_rate_that_no_file_needs_is_refused_or_said(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    table_with_times(tmp_path / "in" / "a.csv", 60, 1)
    arguments = ["folder", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1"]
    arguments += ["--layout=ui-prmd", "--rate=20", "--fps=10"]
    with pytest.raises(SystemExit) as caught:
        command_line(arguments)
    assert caught.value.code == 2
    assert "--rate 20.0: the recordings say their frame rate" in capsys.readouterr().err
    np.save(tmp_path / "in" / "b.npy", motion(0, frames=50))
    command_line(arguments)
    said = capsys.readouterr().out
    assert "--rate 20: was used for 1 of 2 samples; the files of the others say" in said


def test_a_rate_that_only_reading_finds_not_needed_is_said(tmp_path, capsys):
    """The first of these files alone is looked at before all are read."""
    (tmp_path / "in").mkdir()
    for name, frames in (("a", test_mediapipe.POSES), ("b", test_mediapipe.POSES)):
        test_mediapipe.save(tmp_path / "in" / f"{name}.json", {"frames": frames, "fps": 30})
    command_line(["mediapipe", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1", "--rate=20"])
    assert "--rate 20: was used for 0 of 2 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "times",
    [
        lambda t: t / 30,
        lambda t: round(t / 30, 2),
        lambda t: round(t / 120, 3),
        lambda t: 5 + t / 30 + 0.003 * (t % 3),
        lambda t: round(1e6 + t * 1000 / 30),
    ],
)
@pytest.mark.parametrize("form", ["time", "", "frame,time", None, "long"])
def test_times_that_skip_frames_place_the_others(times, form, tmp_path):
    """As frame numbers do; with consecutive numbers, too, which count lines."""
    x = motion(0, frames=50).reshape(50, -1)
    kept = [*range(20), *range(26, 40), 41, *range(43, 50)]
    joints = get_layout("ui-prmd").joints
    if form == "long":
        rows = ["time,joint,x,y,z"]
        for t in kept:
            for joint, point in zip(joints, x[t].reshape(22, 3).tolist(), strict=True):
                rows.append(",".join([repr(times(t)), joint, *map(repr, point)]))
    else:
        counted = form == "frame,time"
        rows = [
            ",".join(map(repr, [*[n][: int(counted)], times(t), *x[t].tolist()]))
            for n, t in enumerate(kept)
        ]
        if form is not None:
            rows.insert(0, ",".join([form, *(f"{j}_{axis}" for j in joints for axis in "xyz")]))
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    plan, (found,) = read_all("folder", tmp_path, layout="ui-prmd")
    assert any("frames that the times skip" in note for note in plan.notes)
    assert found.positions.shape[1] == 50
    np.testing.assert_allclose(
        found.positions[..., 0][:, kept], x[kept].reshape(-1, 22, 3).transpose(2, 0, 1)
    )
    assert np.isnan(found.positions[:, np.setdiff1d(range(50), kept)]).all()


def test_places_of_coarse_clocks():
    """Steps of 10 and 20 ms are one frame of 60 a second; 33 and 34 ms do not add up to another."""
    kept = np.delete(np.arange(1000), np.r_[300:360, 700])
    for times in (np.round(kept / 60, 2), np.rint(kept * 1000 / 30), kept / 29.97):
        np.testing.assert_array_equal(time_places(times), kept)
    assert time_places(np.array([0, 1, 1, 3, 4, 4, 6])) is None


def test_times_of_a_variable_rate_place_nothing(tmp_path):
    steps = np.random.default_rng(0).uniform(0.01, 0.09, 50)
    x = motion(0, frames=50).reshape(50, -1)
    names = [f"{joint}_{axis}" for joint in get_layout("ui-prmd").joints for axis in "xyz"]
    rows = [",".join(map(repr, row)) for row in np.c_[steps.cumsum(), x].tolist()]
    (tmp_path / "a.csv").write_text("\n".join([",".join(["time", *names]), *rows]) + "\n")
    _, (found,) = read_all("folder", tmp_path, layout="ui-prmd")
    assert found.positions.shape[1] == 50


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        (lambda t: t / 30, 30),
        (lambda t: 12.5 + t / 120, 120),
        (lambda t: t * 1000 / 60 + 0.25, 60),
        (lambda t: round(t * 1000 / 30), 30),
        (lambda t: float(t), None),
        (lambda t: 3 * t + 7, None),
        (lambda t: 40 * t, None),
    ],
)
@pytest.mark.parametrize("heading", [False, True])
def test_times_without_a_heading(times, rate, heading, tmp_path):
    """A first column that rises by fractions, or by uneven steps, does not count frames."""
    x = motion(0, frames=50).reshape(50, -1)
    rows = [",".join(map(repr, [times(t), *row])) for t, row in enumerate(x.tolist())]
    names = [f"{joint}_{axis}" for joint in get_layout("ui-prmd").joints for axis in "xyz"]
    rows = [",".join(["", *names]), *rows] if heading else rows
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    plan, (found,) = read_all("folder", tmp_path, layout="ui-prmd")
    assert plan.timed == (rate is not None)
    assert plan.untimed == (rate is None)
    assert found.rate == (None if rate is None else pytest.approx(rate, rel=0.02))
    said = any("taken for times (1 files)" in note for note in plan.notes)
    assert said == (rate is not None)
    np.testing.assert_allclose(
        found.positions[:, :50, :, 0], x.reshape(50, 22, 3).transpose(2, 0, 1)
    )

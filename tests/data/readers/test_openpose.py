"""OpenPose's JSON, one file a frame or a video."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import ReadError, Recording
from aimclr_fast.data.readers._counting import frame_places
from aimclr_fast.prepare import command_line

FRAMES = 9
PIXELS = motion(5, 18, FRAMES)[..., :2] * [200, -200] + 500


def person(points, confidence: float = 0.9) -> dict:
    values = np.column_stack([points, np.full(len(points), confidence)]).ravel().tolist()
    return {"person_id": [-1], "pose_keypoints_2d": values, "face_keypoints_2d": []}


def write(folder: Path, clip="clip", numbers=range(FRAMES), people=None, joints=18) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for t, number in enumerate(numbers):
        found = [person(PIXELS[t, :joints])] if people is None else people[t]
        text = json.dumps({"version": 1.3, "people": found})
        (folder / f"{clip}_{number:012}_keypoints.json").write_text(text)


def test_clips_by_folder_and_by_name(tmp_path):
    write(tmp_path / "wave", "wave")
    write(tmp_path / "two", "left")
    write(tmp_path / "two", "right")
    write(tmp_path, "top")
    plan, found = read_all("openpose", tmp_path)
    assert [r.name for r in found] == ["top", "two/left", "two/right", "wave"]
    assert plan.layout.name == "openpose"
    assert not plan.rotate
    expected = (PIXELS * [1, -1]).transpose(2, 0, 1)
    for recording in found:
        assert recording.positions.shape == (3, FRAMES, 18, 1)
        steps = np.diff(recording.positions[:2, ..., 0], axis=1)
        wanted = np.diff(expected, axis=1)
        scale = np.abs(steps).sum() / np.abs(wanted).sum()
        np.testing.assert_allclose(steps, wanted * scale, atol=1e-9)


def test_numbers_alone_are_named_after_what_is_around_them(tmp_path):
    (tmp_path / "wave").mkdir()
    with zipfile.ZipFile(tmp_path / "jump.zip", "w") as archive:
        for t, points in enumerate(PIXELS):
            text = json.dumps({"people": [person(points)]})
            (tmp_path / "wave" / f"{t:012}_keypoints.json").write_text(text)
            archive.writestr(f"{t:012}_keypoints.json", text)
    for source, name in (("wave", "wave"), ("jump.zip", "jump")):
        assert [r.name for r in read_all("openpose", tmp_path / source)[1]] == [name]


def test_labels_and_splits(tmp_path):
    write(tmp_path / "a", "a")
    write(tmp_path / "b", "b")
    (tmp_path / "labels.csv").write_text("name,label,split\na,wave,train\nb,jump,test\nc,x,test\n")
    plan, found = read_all("openpose", tmp_path)
    assert [(r.name, r.columns["label"]) for r in found] == [("a", 1), ("b", 0)]
    assert plan.splits["split"]["column"] == "split"
    assert "there is no sequence c" in plan.left_out[0].reason


def test_folder_hands_over(tmp_path, capsys):
    write(tmp_path / "in" / "clip0", "clip0")
    arguments = [str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1"]
    command_line(["folder", *arguments])
    shown = capsys.readouterr().out
    assert "OpenPose: 1 clips, layout openpose" in shown
    assert "1 sequences" in shown
    np.save(tmp_path / "in" / "own.npy", motion(0, 18, 5))
    plan, found = read_all("folder", tmp_path / "in", layout="openpose", pose="3d")
    assert [r.name for r in found] == ["own"]
    assert "ignored: 9 OpenPose files" in " ".join(plan.notes)


def test_archives_and_noise(tmp_path):
    write(tmp_path / "clips" / "a", "a")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted((tmp_path / "clips").rglob("*.json")):
            path = file.relative_to(tmp_path)
            archive.write(file, path)
            archive.writestr(f"__MACOSX/{path.parent}/._{path.name}", b"\0")
    for name in ("openpose", "folder"):
        plan, found = read_all(name, tmp_path / "x.zip")
        assert [r.name for r in found] == ["a"]
        assert not plan.left_out


def test_frames_are_put_in_order_with_gaps(tmp_path):
    write(tmp_path / "a", "a", numbers=[3, 4, 5, 8, 9, 10, 11, 12, 13])
    write(tmp_path / "steps", "steps", numbers=range(100, 145, 5))
    with_gap, steps = read_all("openpose", tmp_path)[1]
    assert with_gap.positions.shape[1] == 11
    assert not with_gap.positions[:, 3:5].any()
    assert with_gap.positions[:, [0, 2, 5, 10]].any(axis=(0, 2, 3)).all()
    assert steps.positions.shape[1] == FRAMES


def test_frames_are_placed_as_those_of_a_table():
    def placed(*numbers):
        return frame_places(np.array(numbers, dtype=np.int64)).tolist()

    assert placed(7) == [0]
    assert placed(7, 7) == [0, 0]
    assert placed(3, 4, 5, 8) == [0, 1, 2, 5]
    assert placed(100, 105, 120) == [0, 1, 4]


def test_frames_without_anybody(tmp_path):
    people = [[person(PIXELS[t])] for t in range(FRAMES)]
    people[0] = people[4] = []
    write(tmp_path, people=people)
    recording = read_all("openpose", tmp_path)[1][0]
    empty = ~recording.positions.any(axis=(0, 2, 3))
    assert np.flatnonzero(empty).tolist() == [0, 4]


def test_several_people_are_refused_unless_one_is_asked_for(tmp_path):
    people = [[person(PIXELS[t])] for t in range(FRAMES)]
    people[2] = [person(PIXELS[0] + 900, 0.2), person(PIXELS[2])]
    write(tmp_path / "two", people=people)
    _, found = read_all("openpose", tmp_path / "two")
    assert "2 people in a frame: say how many to keep with --max-bodies" in found[0].reason
    assert found[0].where.endswith("000002_keypoints.json")
    recording = read_all("openpose", tmp_path / "two", max_bodies=1)[1][0]
    write(tmp_path / "one")
    alone = read_all("openpose", tmp_path / "one")[1][0]
    np.testing.assert_array_equal(recording.positions, alone.positions)
    both = read_all("openpose", tmp_path / "two", max_bodies=2)[1][0]
    assert both.positions.shape[3] == 2
    assert np.flatnonzero(both.positions[..., 1].any(axis=(0, 2))).tolist() == [2]


def crossing(ids: bool, frames: int = 24):
    """Two people who pass each other, in changing order; of each, the joints in pixels."""
    rng = np.random.default_rng(0)
    tracks = []
    for index, way in ((5, 1), (700, -1)):
        x = motion(index, 18, frames)[..., :2] * [200, -200] + 500
        x[..., 0] += way * (600 - 50 * np.arange(frames))[:, None]
        tracks.append(x)
    people = []
    for t in range(frames):
        own = [person(tracks[n][t], 0.9 - 0.1 * n) for n in (0, 1)]
        for n, one in enumerate(own):
            one["person_id"] = [7 + n] if ids else [-1]
        people.append([own[n] for n in rng.permutation(2)])
    return tracks, people


@pytest.mark.parametrize("ids", [False, True])
def test_people_are_followed(ids, tmp_path):
    tracks, people = crossing(ids)
    write(tmp_path, numbers=range(24), people=people)
    recording = read_all("openpose", tmp_path, max_bodies=2)[1][0]
    got = np.diff(recording.positions[:2], axis=1)
    wanted = np.stack([np.diff(x * [1, -1], axis=0).transpose(2, 0, 1) for x in tracks], axis=-1)
    np.testing.assert_allclose(got, wanted * np.abs(got).sum() / np.abs(wanted).sum(), atol=1e-9)


def test_ids_that_cannot_be(tmp_path):
    _, people = crossing(True)
    people[3][0]["person_id"] = people[3][1]["person_id"]
    write(tmp_path / "twice", numbers=range(24), people=people)
    found = read_all("openpose", tmp_path / "twice", max_bodies=2)[1][0]
    assert "is in one frame twice" in found.reason
    assert "000003_keypoints.json" in found.where
    people[3][0]["person_id"] = [-1]
    write(tmp_path / "some", numbers=range(24), people=people)
    found = read_all("openpose", tmp_path / "some", max_bodies=2)[1][0]
    assert "a person without an id, while others have one" in found.reason


def frame(t: int, **more) -> dict:
    return {"people": [person(PIXELS[t])], **more}


@pytest.mark.parametrize(
    "video",
    [
        [frame(t) for t in range(FRAMES)],
        {"version": 1.3, "frames": [frame(t, frame=3 + 2 * t) for t in range(FRAMES)], "fps": 25},
        {f"{t}.jpg": frame(t) for t in reversed(range(FRAMES))},
    ],
    ids=["list", "frames", "by image"],
)
def test_one_file_a_video(video, tmp_path):
    write(tmp_path / "in" / "b", "b")
    (tmp_path / "in" / "a.json").write_text(json.dumps(video))
    plan, (one, other) = read_all("folder", tmp_path / "in")
    assert plan.reader == "openpose"
    assert (one.name, other.name) == ("a", "b")
    np.testing.assert_array_equal(one.positions, other.positions)
    assert one.rate == (25 if "fps" in video else None)


def test_an_image_size_settles_shares(tmp_path):
    shares = [{"people": [person(points / [1920, 1080])]} for points in PIXELS]
    (tmp_path / "a.json").write_text(json.dumps(shares))
    assert "--aspect" in read_all("openpose", tmp_path)[1][0].reason
    sized = {"frames": shares, "width": 1920, "height": 1080}
    (tmp_path / "a.json").write_text(json.dumps(sized))
    assert isinstance(read_all("openpose", tmp_path)[1][0], Recording)


def test_hands_and_faces_are_counted(tmp_path):
    people = [[{**person(points), "hand_left_keypoints_2d": [1, 2, 0.5]}] for points in PIXELS]
    write(tmp_path, people=people)
    assert "not read: hand_left (9 frames)" in read_all("openpose", tmp_path)[0].notes


def test_the_older_name_of_the_key_points(tmp_path):
    people = [[{"pose_keypoints": person(PIXELS[t])["pose_keypoints_2d"]}] for t in range(FRAMES)]
    write(tmp_path, people=people)
    assert isinstance(read_all("openpose", tmp_path)[1][0], Recording)


def test_layouts(tmp_path):
    write(tmp_path / "own", joints=17)
    with pytest.raises(ReadError, match="17 joints: name their layout with --layout"):
        read_all("openpose", tmp_path / "own")
    assert isinstance(read_all("openpose", tmp_path / "own", layout="coco")[1][0], Recording)
    with pytest.raises(ReadError, match="17 joints, but layout openpose has 18"):
        read_all("openpose", tmp_path / "own", layout="openpose")
    with pytest.raises(ReadError, match="--pose 3d"):
        read_all("openpose", tmp_path / "own", pose="3d")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "an object with people"),
        ('{"people": 3}', "an object with people"),
        ('{"people": [{}]}', "of each joint"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "of each joint"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, "x"]}]}', "not a list of numbers"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, NaN]}]}', "some of its coordinates only"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, Infinity]}]}', "of each joint"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 0.5]}]}', "1 joints, and layout openpose"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_damaged_frames(tmp_path, text, reason):
    write(tmp_path)
    (tmp_path / "clip_000000000003_keypoints.json").write_text(text)
    found = read_all("openpose", tmp_path)[1]
    assert reason in found[0].reason
    assert "000003_keypoints.json" in found[0].where


def test_nobody_at_all_and_no_files(tmp_path):
    with pytest.raises(ReadError, match="holds no files named like"):
        read_all("openpose", tmp_path)
    write(tmp_path, people=[[]] * FRAMES)
    with pytest.raises(ReadError, match="no body is in any frame"):
        read_all("openpose", tmp_path)


def test_a_frame_twice_and_a_number_far_off(tmp_path):
    write(tmp_path)
    (tmp_path / "clip_3_keypoints.json").write_text('{"people": []}')
    plan, _ = read_all("openpose", tmp_path)
    assert "is frame 3 again" in plan.left_out[0].reason
    (tmp_path / "clip_999999999999_keypoints.json").write_text('{"people": []}')
    assert (
        "the numbers count 1,000,000,000,000 frames of 10 files"
        in read_all("openpose", tmp_path)[1][0].reason
    )


@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_hands_without_a_body_are_nobody(tmp_path, key):
    hands = {key: [], "hand_left_keypoints_2d": [1, 2, 0.5]}
    people = [[person(points)] for points in PIXELS]
    write(tmp_path / "gap", people=[[], *people[1:]])
    write(tmp_path / "hands", people=[[hands], [hands, *people[1]], *people[2:]])
    plan, (gap, found) = read_all("openpose", tmp_path)
    assert not plan.left_out
    np.testing.assert_array_equal(found.positions, gap.positions)


def test_a_recording():
    """Two frames of Pose2Sim's demonstration, whose names lack OpenPose's ending."""
    folder = Path(__file__).parent / "pose2sim" / "cam1_json"
    plan, (found,) = read_all("folder", folder, max_bodies=2)
    assert plan.reader == "openpose"
    assert plan.layout.name == "openpose-25"
    assert (found.name, found.positions.shape) == ("cam01", (3, 2, 25, 2))
    people = [json.loads(file.read_text())["people"] for file in sorted(folder.iterdir())]
    points = np.array([[one["pose_keypoints_2d"] for one in frame] for frame in people])
    points = points.reshape(2, 2, 25, 3)  # frames, people
    got = found.positions.transpose(1, 3, 2, 0)[..., :2]
    lost = points[..., 2] <= 0.05
    assert np.isnan(got[lost]).all()
    across, seen = points[..., :2][~lost] * [1, -1], got[~lost]
    scale = np.ptp(seen[:, 0]) / np.ptp(across[:, 0])
    np.testing.assert_allclose(np.diff(seen, axis=0), np.diff(across, axis=0) * scale, atol=1e-9)
    (problem,) = read_all("openpose", folder)[1]
    assert "2 people" in problem.reason


@pytest.mark.parametrize("name", ["{:06}", "walk_{:06}", "walk.{:04}", "walk-{}", "walk {}"])
def test_frames_named_without_the_ending(name, tmp_path):
    """As by rtmlib's and Pose2Sim's writers."""
    (tmp_path / "clip").mkdir()
    for t, points in enumerate(PIXELS):
        text = json.dumps({"version": 1.3, "people": [person(points)] if t != 4 else []})
        (tmp_path / "clip" / f"{name.format(t)}.json").write_text(text)
    for reader in ("openpose", "folder"):
        (found,) = read_all(reader, tmp_path / "clip")[1]
        assert found.positions.shape == (3, FRAMES, 18, 1)
        there = np.abs(found.positions).sum(axis=(0, 2, 3)) > 0
        assert np.flatnonzero(~there).tolist() == [4]


def test_numbered_videos_stay_videos(tmp_path):
    """Files with a number each, which hold all frames of a video."""
    for n in range(3):
        frames = [{"people": [person(points)]} for points in PIXELS[: 5 + n]]
        (tmp_path / f"walk{n}.json").write_text(json.dumps(frames))
    (tmp_path / "pose7.json").write_text(json.dumps({"people": [person(PIXELS[0])]}))
    found = read_all("openpose", tmp_path)[1]
    assert [(r.name, r.positions.shape[1]) for r in found] == [
        ("pose7", 1), ("walk0", 5), ("walk1", 6), ("walk2", 7),
    ]  # fmt: skip


def test_files_of_another_program():
    """Three frames of HALPE's 26 points, by Pose2Sim's writer."""
    folder = Path(__file__).parent / "pose2sim" / "halpe_26_json"
    plan, (found,) = read_all("folder", folder)
    assert plan.reader == "openpose"
    assert plan.layout.name == "halpe-26"
    expected = (np.round(motion(5, 26, 3)[..., :2] * [200, -200] + 500, 2) * [1, -1]).T
    steps = np.diff(found.positions[:2, ..., 0], axis=1)
    wanted = np.diff(expected.swapaxes(1, 2), axis=1)
    scale = np.abs(steps).sum() / np.abs(wanted).sum()
    np.testing.assert_allclose(steps, wanted * scale, atol=1e-9)

"""MediaPipe's landmarks, in the forms in which people save them."""

from __future__ import annotations

import contextlib
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.readers.bvh_files import bvh_text
from data.readers.recordings import motion
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store
from aimclr_fast.data.readers import Options, Problem, ReadError, Recording, get_reader
from aimclr_fast.data.readers._landmarks import LAYOUT
from aimclr_fast.prepare import command_line

BY_MEDIAPIPE = Path(__file__).parent / "mediapipe"
EXPECTED = np.load(BY_MEDIAPIPE / "expected.npz")
FRAMES = 9
HIPS = [LAYOUT.joints.index(f"{side}_hip") for side in ("left", "right")]


def body(index: int = 3, frames: int = FRAMES) -> np.ndarray:
    """World landmarks ``[T, 33, 3]``."""
    x = motion(index, 33, frames) * [1, -1, -1]
    return x - x[:, HIPS].mean(axis=1, keepdims=True)


def in_image(world: np.ndarray, right: float = 0.0) -> np.ndarray:
    """Image landmarks of an image of 16:9, whose height is 4 m."""
    return world / [4 * 16 / 9, 4, 4 * 16 / 9] + [0.5 + right, 0.5, 0]


def landmarks(points: np.ndarray, visibility: float | None = 0.9) -> list:
    more = {} if visibility is None else {"visibility": visibility}
    return [{"x": x, "y": y, "z": z, **more} for x, y, z in points.tolist()]


def save(file: Path, data: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))
    return file


def turned_up(world: np.ndarray) -> np.ndarray:
    return (world * [1, -1, -1]).transpose(2, 0, 1)


def only(source: Path, **options):
    plan, found = read_all("mediapipe", source, **options)
    assert len(found) == 1
    return plan, found[0]


def refused(source: Path, **options) -> str:
    """Why a source, or its one sequence, cannot be read."""
    try:
        _, found = only(source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


# Files that MediaPipe's own classes and serializers made.


def test_message_to_dict():
    """Landmark lists of version 0.10.14, by protobuf's MessageToDict: a video of both kinds."""
    plan, found = only(BY_MEDIAPIPE / "message_to_dict.json")
    np.testing.assert_allclose(found.positions[..., 0], turned_up(EXPECTED["world"]), atol=1e-6)
    assert plan.layout is LAYOUT
    assert found.rate is None
    assert "world landmarks: meters" in "\n".join(plan.notes)


def test_results_of_tasks():
    """PoseLandmarkerResult of version 1.2.3, as a dict: two people, times in milliseconds."""
    file = BY_MEDIAPIPE / "tasks.json"
    assert "2 people in a frame: say how many to keep with --max-bodies" in refused(file)
    plan, found = only(file, max_bodies=2)
    world = EXPECTED["world"]
    for person, factor in enumerate((1.0, 0.9)):
        expected = turned_up(factor * world)
        np.testing.assert_allclose(found.positions[..., person], expected, atol=1e-6)
    assert plan.timed
    assert found.rate == pytest.approx(25)
    flat, found = only(file, max_bodies=1, pose="2d")
    assert not flat.rotate
    steps = np.diff(EXPECTED["image"][..., :2] * [16 / 9, -1], axis=0).transpose(2, 0, 1)
    got = np.diff(found.positions[:2, ..., 0], axis=1)
    np.testing.assert_allclose(got, steps * np.abs(got).sum() / np.abs(steps).sum(), atol=1e-6)


# Forms.

WORLD = body()
POSES = [landmarks(points) for points in WORLD]
NAMED = [
    {name.upper(): point for name, point in zip(LAYOUT.joints, pose, strict=True)} for pose in POSES
]
FORMS = {
    "poses": POSES,
    "lists of numbers": WORLD.tolist(),
    "with visibility": np.concatenate([WORLD, np.full((FRAMES, 33, 1), 0.9)], axis=2).tolist(),
    "of people": [[pose] for pose in POSES],
    "messages": [{"landmark": pose} for pose in POSES],
    "by name": NAMED,
    "objects": [{"pose_world_landmarks": pose} for pose in POSES],
    "of JavaScript": {"results": [{"worldLandmarks": [pose]} for pose in POSES]},
    "holistic": [{"poseWorldLandmarks": pose, "faceLandmarks": pose} for pose in POSES],
    "by number": {str(t): pose for t, pose in enumerate(POSES)},
    "by file": {f"frame_{t:03}.png": {"landmarks": pose} for t, pose in enumerate(POSES)},
    "plain": {"frames": [{"frame": 7 + t, "landmarks": pose} for t, pose in enumerate(POSES)]},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_file_a_video(form, tmp_path):
    _, found = only(save(tmp_path / "walk.json", FORMS[form]))
    assert found.name == "walk"
    np.testing.assert_allclose(found.positions[..., 0], turned_up(WORLD), atol=1e-12)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pose: pose,
        lambda pose: {"pose_world_landmarks": [pose], "timestamp_ms": 3},
        lambda pose: {"landmark": pose},
        lambda pose: {"world_landmarks": pose},
    ],
)
def test_one_file_a_frame(wrap, tmp_path):
    for t, pose in enumerate(POSES):
        save(tmp_path / "in" / "walk" / f"walk_{t + 3:05}.json", wrap(pose))
        save(tmp_path / "in" / "run" / f"{t}_landmarks.json", wrap(pose))
    _, found = read_all("mediapipe", tmp_path / "in")
    assert [recording.name for recording in found] == ["run", "walk"]
    for recording in found:
        np.testing.assert_allclose(recording.positions[..., 0], turned_up(WORLD), atol=1e-12)


def test_numbered_videos_are_videos(tmp_path):
    for n in (1, 2, 3):
        save(tmp_path / f"video{n}.json", {"frames": POSES})
    found = read_all("mediapipe", tmp_path)[1]
    assert [recording.name for recording in found] == ["video1", "video2", "video3"]
    for n in (1, 2, 3):
        save(tmp_path / f"video{n}.json", POSES)
    assert "a list of 9 poses: of people in one frame, or of frames?" in refused(tmp_path)


def test_frames_that_are_skipped_are_gaps(tmp_path):
    numbers = [0, 1, 2, 5, 6, 7, 8, 9, 10]
    frames = [{"frame": n, "landmarks": pose} for n, pose in zip(numbers, POSES, strict=True)]
    _, found = only(save(tmp_path / "a.json", frames))
    assert np.flatnonzero(~found.positions.any(axis=(0, 2, 3))).tolist() == [3, 4]
    frames = [{"time": n / 30, "landmarks": pose} for n, pose in zip(numbers, POSES, strict=True)]
    _, timed = only(save(tmp_path / "a.json", {"frames": frames}))
    np.testing.assert_array_equal(timed.positions, found.positions)
    assert timed.rate == pytest.approx(30)
    frames[4] = None
    frames[5] = {"landmarks": [], "time": 7 / 30}
    _, gap = only(save(tmp_path / "a.json", {"frames": frames, "fps": 24}))
    assert gap.rate == 24
    assert np.flatnonzero(~gap.positions.any(axis=(0, 2, 3))).tolist() == [4, 5]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1.0), ("ms", 1e3), ("us", 1e6)])
def test_units_of_plain_times_are_told_by_the_step(unit, scale, tmp_path):
    frames = [{"timestamp": t / 50 * scale, "landmarks": pose} for t, pose in enumerate(POSES)]
    assert only(save(tmp_path / "a.json", frames))[1].rate == pytest.approx(50), unit


def test_what_is_not_read_is_counted(tmp_path):
    frames = [{"pose_world_landmarks": p, "left_hand_landmarks": p[:21]} for p in POSES]
    plan, _ = only(save(tmp_path / "a.json", [*frames, {"right_hand_landmarks": POSES[0]}]))
    said = "\n".join(plan.notes)
    assert "not read: lefthand (9 frames)" in said
    assert "not read: righthand (1 frames)" in said


# Image landmarks.


def test_image_landmarks_are_2d_and_need_the_aspect(tmp_path, capsys):
    frames = [{"pose_landmarks": landmarks(points)} for points in in_image(WORLD)]
    file = save(tmp_path / "a.json", frames)
    assert "give its --aspect, such as 16:9" in refused(file)
    assert "--pose 3d, but these are image landmarks" in refused(file, pose="3d")
    plan, found = only(file, aspect=16 / 9)
    assert plan.scores
    assert not plan.rotate
    x = found.positions[:2, ..., 0]
    upright = (WORLD[..., :2] * [1, -1]).transpose(2, 0, 1)
    scale = np.ptp(x[1]) / np.ptp(upright[1])
    np.testing.assert_allclose(np.diff(x, axis=1), scale * np.diff(upright, axis=1), atol=1e-9)
    known = save(tmp_path / "b.json", {"frames": frames, "width": 1920, "height": 1080})
    np.testing.assert_allclose(only(known)[1].positions, found.positions, atol=1e-12)
    command_line(["mediapipe", str(file), str(tmp_path / "st"), "--aspect=16:9", "--jobs=1"])
    assert "up: y, in 100%" in capsys.readouterr().out
    for points in (frame["pose_landmarks"] for frame in frames[:3]):
        points[20]["visibility"] = 0.01
    low = only(save(tmp_path / "c.json", frames), aspect=16 / 9)[1].positions
    assert np.isnan(low[:, :3, 20]).all()
    assert np.isnan(low).sum() == 9


def test_plain_landmarks_are_told_by_their_numbers(tmp_path):
    shares = save(tmp_path / "shares.json", [landmarks(points) for points in in_image(WORLD)])
    assert "--aspect" in refused(shares)
    pixels = in_image(WORLD) * [1920, 1080, 1920]
    plan, _ = only(save(tmp_path / "pixels.json", [landmarks(points) for points in pixels]))
    assert not plan.rotate
    assert "--pose 2d, but these are world landmarks" in refused(
        save(tmp_path / "world.json", POSES), pose="2d"
    )


def test_two_kinds_are_refused(tmp_path):
    save(tmp_path / "a.json", [{"pose_world_landmarks": pose} for pose in POSES])
    save(tmp_path / "b.json", [{"pose_landmarks": pose} for pose in POSES])
    _, (_, other) = read_all("mediapipe", tmp_path)
    assert "image landmarks alone, while other sequences have world landmarks" in other.reason


# People.


def crossing(frames: int = 20):
    """Two people who pass each other, listed in changing order; world landmarks and images."""
    rng = random.Random(1)
    out = []
    for t in range(frames):
        people = []
        for index, way in ((3, 1), (700, -1)):
            world = body(index, frames)[t]
            people.append((world, in_image(world, way * (0.3 - 0.03 * t))))
        rng.shuffle(people)
        out.append(
            {
                "pose_world_landmarks": [landmarks(world) for world, _ in people],
                "pose_landmarks": [landmarks(image) for _, image in people],
            }
        )
    return out


def test_people_are_followed_by_their_place_in_the_image(tmp_path):
    _, found = only(save(tmp_path / "a.json", crossing()), max_bodies=2)
    expected = np.stack([turned_up(body(i, 20)) for i in (3, 700)], axis=-1)
    if np.abs(found.positions[:, 0, :, 0] - expected[:, 0, :, 0]).max() > 1e-9:
        expected = expected[..., ::-1]
    np.testing.assert_allclose(found.positions, expected, atol=1e-12)


def test_a_crowd_is_refused(tmp_path):
    frames = [{"pose_landmarks": [pose] * 11} for pose in POSES]
    assert "11 poses are not of one frame" in refused(save(tmp_path / "a.json", frames))


# Tables and arrays.


def table(file: Path, points: np.ndarray, heading: str = "") -> Path:
    rows = [",".join(map(repr, row)) for row in points.reshape(len(points), -1).tolist()]
    file.write_text("\n".join([heading, *rows] if heading else rows) + "\n")
    return file


SEEN = np.concatenate([WORLD, np.full((FRAMES, 33, 1), 0.9)], axis=2)


@pytest.mark.parametrize(
    ("heading", "points"),
    [
        ([f"{name}_{axis}" for name in LAYOUT.joints for axis in "xyz"], WORLD),
        ([f"{n.upper()}_{a}" for n in LAYOUT.joints for a in ("x", "y", "z", "visibility")], SEEN),
        ([f"{axis}{n}" for n in range(1, 34) for axis in "xyzv"], SEEN),
        ([f"landmark_{n}_{axis}" for n in range(33) for axis in "xyz"], WORLD),
        ([], WORLD),
        ([], SEEN),
    ],
)  # fmt: skip
def test_tables(heading, points, tmp_path):
    plan, found = only(table(tmp_path / "a.csv", points, ",".join(heading)))
    np.testing.assert_allclose(found.positions[..., 0], turned_up(WORLD), atol=1e-12)
    assert plan.tables


@pytest.mark.parametrize("axes", [3, 4, 5])
def test_arrays(axes, tmp_path):
    array = np.concatenate([SEEN, SEEN[..., 3:]], axis=2)[..., :axes]
    np.save(tmp_path / "a.npy", array)
    _, found = only(tmp_path / "a.npy")
    np.testing.assert_allclose(found.positions[..., 0], turned_up(WORLD), atol=1e-12)


def test_arrays_in_the_image(tmp_path):
    image = in_image(WORLD)
    np.save(tmp_path / "a.npy", image)
    image[..., 2] = 0.9  # the visibility
    np.save(tmp_path / "b.npy", image)
    np.save(tmp_path / "c.npy", image[..., :2])
    plan, found = read_all("mediapipe", tmp_path, aspect=16 / 9)
    assert not plan.rotate
    for other in found[1:]:
        np.testing.assert_allclose(other.positions, found[0].positions, atol=1e-12)


# A source.


def test_folder_finds_them(tmp_path, capsys):
    save(tmp_path / "in" / "a.json", POSES)
    save(tmp_path / "in" / "notes.json", {"what": "walking"})
    (tmp_path / "in" / "labels.csv").write_text("name,label,split\na.json,walk,train\n")
    command_line(["folder", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1"])
    said = capsys.readouterr().out
    assert "MediaPipe: 1 sequences" in said
    assert open_store(tmp_path / "st").class_names == ("walk",)
    (tmp_path / "in" / "a.bvh").write_text(bvh_text())
    with pytest.raises(ReadError, match=r"1 BVH files .* and 1 files of MediaPipe's landmarks"):
        read_all("folder", tmp_path / "in")
    np.save(tmp_path / "in" / "own.npy", motion(0, 20, 5))
    plan, _ = read_all("folder", tmp_path / "in", layout="kinect-v1", labels=None)
    assert "1 files of MediaPipe's landmarks (prepare mediapipe reads them)" in "\n".join(
        plan.notes
    )


def test_json_that_cannot_be_opened_is_left_out(tmp_path):
    np.save(tmp_path / "own.npy", motion(0, 20, 5))
    (tmp_path / "a.json.gz").write_bytes(b"\x1f\x8b cut")
    plan, found = read_all("folder", tmp_path, layout="kinect-v1")
    assert len(found) == 1
    assert plan.left_out[0].where.endswith("a.json.gz")


def test_archives_whose_paths_leave_the_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../walk.json", json.dumps(POSES))
        archive.writestr("/etc/run.json", json.dumps(POSES))
    before = sorted(tmp_path.rglob("*"))
    _, found = read_all("mediapipe", tmp_path / "x.zip")
    assert len(found) == 2
    assert sorted(tmp_path.rglob("*")) == before


WRONG = {
    "{": "not JSON",
    "[]": "an empty list",
    "3": "expected landmarks, got int",
    '{"a": 1}': "no pose_world_landmarks, pose_landmarks or landmarks, but 'a'",
    '{"pose_landmarks": 3}': "pose_landmarks: expected a list of landmarks, got int",
    '{"pose_landmarks": [{"x": 1, "y": 2, "z": 3}]}': "expected 33 landmarks, got 1",
    '{"pose_landmarks": {"landmark": 3}}': "expected",
    '{"frames": [null]}': "nobody is in any frame",
    '{"frames": ["x"]}': "frame 0: expected landmarks, got str",
    '{"frames": [{"frame": -1, "landmarks": null}]}': "a frame has a number that is negative",
    "[" * 100_000: "not JSON",
    json.dumps([{**frame, "left_wing": frame["NOSE"]} for frame in NAMED]): "no pose landmark",
    json.dumps([{"frame": 0, "landmarks": POSES[0]}] * 3): "frame numbers repeat or decrease",
    json.dumps([{"time": 9 - t, "landmarks": POSES[0]} for t in range(3)]): "times repeat",
    json.dumps([{"frame": n, "landmarks": POSES[0]} for n in (0, 1, 9**9)]): "renumber them",
    json.dumps([[{**point, "y": None} for point in POSES[0]]]): "some of its coordinates only",
    json.dumps([[{**point, "y": "1 m"} for point in POSES[0]]]): "is not numbers",
    json.dumps([[{**point, "y": [1]} for point in POSES[0]]]): "is not numbers",
    json.dumps([[{**point, "y": 1e400} for point in POSES[0]]]): "not finite",
    json.dumps([[{**point, "x": 10**400} for point in POSES[0]]]): "is not numbers",
    json.dumps([[{"x": point["x"], "y": point["y"]} for point in p] for p in POSES]): "--aspect",
    json.dumps([None] * 200_000): "200,000 frames; at most 108,000",
    json.dumps({"results": POSES[0][:5]}): "frame 0",
}


@pytest.mark.parametrize("text", WRONG, ids=list(WRONG.values()))
def test_wrong_files(text, tmp_path, capsys):
    (tmp_path / "a.json").write_text(text)
    message = refused(tmp_path / "a.json")
    assert message.startswith(f"{tmp_path / 'a.json'}:")
    assert WRONG[text] in message
    with pytest.raises(SystemExit) as left:
        command_line(["mediapipe", str(tmp_path / "a.json"), str(tmp_path / "out"), "--jobs=1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.count("\n") == 1
    assert len(error) < 700


def test_mutated_files_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    whole = json.dumps({"frames": [{"frame": 1, "landmarks": [POSES[0]], "time": 1}]})
    parts = ["{", "]", "null", "NaN", "1e999", '"x"', '"landmark":', "[", "[[", ",", "-", "0"]
    read = refusals = 0
    for _ in range(200):
        text = whole
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(parts) + text[at + rng.choice([0, 1, 6, 40]) :]
        (tmp_path / "a.json").write_text(text)
        try:
            read += isinstance(read_all("mediapipe", tmp_path / "a.json")[1][0], Recording)
        except ReadError:
            refusals += 1
    assert min(read, refusals) > 5


@pytest.mark.parametrize(
    "value", [None, 3, "x", [], {}, [[]], [{}], [[[]]], {"x": 1}, True, [None]]
)
def test_any_value_anywhere(value, tmp_path):
    """In the place of each part of a file: read, or refused."""
    for data in (
        value,
        [value],
        {"frames": value},
        {"frames": [value]},
        {"pose_landmarks": value},
        {"pose_landmarks": [value]},
        {"landmarks": {"landmark": value}},
        {"nose": value},
        {"0": value},
        {"frames": [{"landmarks": POSES[0], "frame": value, "time": value}], "fps": value},
        [[value] * 33],
        [[{"x": value, "y": value, "z": value, "visibility": value}] * 33],
    ):
        with contextlib.suppress(ReadError):
            read_all("mediapipe", save(tmp_path / "a.json", data))


def test_a_source_without_any(tmp_path):
    (tmp_path / "a.txt.bak").write_text("x")
    with pytest.raises(ReadError, match=r"holds no \.json, \.csv or \.npy files; ignored: 1 files"):
        get_reader("mediapipe").plan(tmp_path, Options())
    with pytest.raises(SystemExit):
        command_line(["mediapipe", str(tmp_path), str(tmp_path / "o"), "--layout=coco"])


def test_points_before_the_number_of_a_frame_are_no_part_of_the_name(tmp_path):
    for clip in ("a", "b"):
        for t, pose in enumerate(POSES[:3]):
            save(tmp_path / f"{clip}.{t:04}.json", {"pose_world_landmarks": pose})
    assert [r.name for r in read_all("mediapipe", tmp_path)[1]] == ["a", "b"]

"""Tables with a line for each joint of each frame, and JSON lines of records or frames."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.test_mediapipe import NAMED, POSES, WORLD, only, refused, save, turned_up
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import Problem, ReadError
from aimclr_fast.data.readers._landmarks import LAYOUT
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import command_line

NAMES = [name.upper() for name in LAYOUT.joints]


def rows(*, joint=lambda j: NAMES[j], frame=lambda t: [t], more=lambda t, j: []) -> list[list]:
    return [
        [*frame(t), joint(j), *point, *more(t, j)]
        for t, pose in enumerate(WORLD.tolist())
        for j, point in enumerate(pose)
    ]


def text(heading: str, lines: list[list], mark: str = ",") -> str:
    return "\n".join([heading, *(mark.join(map(str, line)) for line in lines)]) + "\n"


FORMS = {
    "names": text("frame,landmark,x,y,z", rows()),
    "numbers": text(
        "frame,landmark_id,x,y,z,visibility", rows(joint=lambda j: j, more=lambda t, j: [0.9])
    ),
    "numbers from 1, by id": text("frame,id,x,y,z", rows(joint=lambda j: j + 1)),
    "index": text("frame,index,x,y,z", rows(joint=lambda j: j)),
    "of one person": text(
        "frame,person_id,landmark,x,y,z,visibility,presence",
        rows(frame=lambda t: [t, 1], more=lambda t, j: [0.9, 1]),
    ),
    "times": text("timestamp_ms,landmark,x,y,z", rows(frame=lambda t: [round(t * 1000 / 30)])),
    "frames and times": text("frame;time;landmark;x;y;z", rows(frame=lambda t: [t, t / 30]), ";"),
    "decimal commas": text("frame;landmark;x;y;z", rows(), ";").replace(".", ","),
    "enumeration": text("frame\tname\tx\ty\tz", rows(joint=lambda j: f"PoseLandmark.{NAMES[j]}"),
                        "\t"),
    "shuffled": text("frame,landmark,x,y,z", sorted(rows(), key=lambda row: (row[0], row[1]))),
    "frames from 7, numbered lines": text(
        ",frame,landmark,x,y,z", [[n, *row] for n, row in enumerate(rows(frame=lambda t: [t + 7]))]
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_long_tables(form, tmp_path):
    (tmp_path / "walk.csv").write_text(FORMS[form])
    plan, found = only(tmp_path / "walk.csv")
    np.testing.assert_allclose(found.positions[..., 0], turned_up(WORLD), atol=1e-12)
    assert plan.timed == ("times" in form)
    assert found.rate == (pytest.approx(30, rel=0.02) if "times" in form else None)


def test_of_any_layout(tmp_path):
    """By `folder`, which recognizes a .txt file of this kind as a table, too."""
    x, joints = motion(0, 22, 9), get_layout("ui-prmd").joints
    lines = [[t, j, *x[t, n]] for t in range(9) for n, j in enumerate(joints)]
    (tmp_path / "a.txt").write_text(text("frame,joint,x (mm),y (mm),z (mm)", lines))
    plan, (found,) = read_all("folder", tmp_path, layout="ui-prmd")
    np.testing.assert_allclose(found.positions[..., 0], x.transpose(2, 0, 1) / 1000, atol=1e-12)
    assert (plan.bodies, plan.rotate, plan.timed) == (1, True, False)
    (tmp_path / "a.txt").write_text(text("time,joint,x,y", [row[:-1] for row in lines]))
    plan, _ = read_all("folder", tmp_path, layout="ui-prmd", aspect=1.0)
    assert (plan.rotate, plan.timed) == (False, True)
    (tmp_path / "a.txt").write_text(text("frame,joint,x (ft),y (ft),z (ft)", lines))
    (problem,) = read_all("folder", tmp_path, layout="ui-prmd")[1]
    assert problem.reason == "lengths in ft: convert them to m, cm or mm"


@pytest.mark.parametrize("heading", ["x (mm),y (m),z (m)", "x,y (cm),z (mm)", "x (m),y (ft),z"])
def test_units_that_differ_are_refused(heading, tmp_path):
    (tmp_path / "a.csv").write_text(text(f"frame,landmark,{heading}", rows()))
    _, (found,) = read_all("folder", tmp_path, layout="mediapipe", aspect=1.0)
    assert isinstance(found, Problem)
    assert "headings name different units: " in found.reason


def test_a_unit_in_one_heading_is_that_of_all(tmp_path):
    """As in tables with a line per frame."""
    (tmp_path / "a.csv").write_text(text("frame,landmark,x,y (mm),z", rows()))
    _, (found,) = read_all("folder", tmp_path, layout="mediapipe")
    np.testing.assert_allclose(found.positions[..., 0], WORLD.transpose(2, 0, 1) / 1000, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "flag"),
    [({"skip_columns": 1}, "skip-columns 1"), ({"csv_bodies": 2}, "csv-bodies 2")],
)
def test_flags_of_tables_with_a_line_per_frame(options, flag, tmp_path):
    (tmp_path / "a.csv").write_text(FORMS["names"])
    _, (found,) = read_all("folder", tmp_path, layout="mediapipe", aspect=1.0, **options)
    assert isinstance(found, Problem)
    assert f"--{flag} has no effect on a table with a line for each joint" in found.reason
    assert f"--{flag} has no effect" in refused(tmp_path / "a.csv", **options)


def test_missing_landmarks_and_frames_are_gaps(tmp_path):
    lines = [row for row in rows() if row[0] != 4 and row[:2] != [2, "LEFT_WRIST"]]
    (tmp_path / "a.csv").write_text(text("frame,landmark,x,y,z", lines))
    x = only(tmp_path / "a.csv")[1].positions[..., 0]
    wrist = LAYOUT.joints.index("left_wrist")
    assert np.argwhere(np.isnan(x[0])).tolist() == sorted(
        [[2, wrist], *([4, joint] for joint in range(33))]
    )


WRONG = {
    "two people": (rows() + rows(), "frames or times decrease"),
    "two people in a frame": (
        [row for row in rows() for _ in range(2)],
        "a second nose in one frame: give one file per person",
    ),
    "another joint": (
        rows(joint=lambda j: NAMES[j].replace("HEEL", "TAIL")), "'LEFT_TAIL' is no joint of layout"
    ),
    "a joint too few": (rows(joint=lambda j: NAMES[min(j, 31)])[:32], "no line is of"),
    "numbers of hands": (rows(joint=lambda j: j % 21)[:21], "numbers 21 joints from 0 to 20, and"),
    "a word": ([*rows(), [9, "NOSE", "x", 0, 0]], "expected a finite number, got 'x'"),
    "infinite": ([*rows(), [9, "NOSE", "1e999", 0, 0]], "expected a finite number, got '1e999'"),
    "no frame": ([*rows(), ["", "NOSE", 0, 0, 0]], "a line without a frame or a time"),
    "a part": ([*rows(), [9, "NOSE", 0, "", 0]], "a joint has some of its coordinates only"),
    "cut off": ([*rows(), [9, "NOSE"]], ": 2 columns, the heading has 5"),
    "far apart": ([*rows(), [10**9, "NOSE", 0, 0, 0]], "renumber them"),
    "nothing": ([], "has no frames"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_wrong_lines(how, tmp_path, capsys):
    lines, message = WRONG[how]
    (tmp_path / "a.csv").write_text(text("frame,landmark,x,y,z", lines))
    assert message in refused(tmp_path / "a.csv")
    with pytest.raises(SystemExit) as left:
        command_line(["mediapipe", str(tmp_path / "a.csv"), str(tmp_path / "out"), "--jobs=1"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_several_people_need_a_file_each(tmp_path):
    lines = rows(frame=lambda t: [t, t % 2])
    (tmp_path / "a.csv").write_text(text("frame,person,landmark,x,y,z", lines))
    assert "the lines are of 2 people: give one file each" in refused(tmp_path / "a.csv")


# JSON lines.

RECORDS = [
    {"frame": t, "landmark": name, **point} for t, pose in enumerate(POSES)
    for name, point in zip(LAYOUT.joints, pose, strict=True)
]  # fmt: skip
LINES = {
    "poses": POSES,
    "objects": [{"frame": t, "pose_world_landmarks": pose} for t, pose in enumerate(POSES)],
    "by name": NAMED,
    "records": RECORDS,
    "records by number": [
        {**one, "landmark": LAYOUT.joints.index(one["landmark"])} for one in RECORDS
    ],
}


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "json"])
def test_json_lines(form, ending, tmp_path):
    lines = "".join(json.dumps(one) + "\n" for one in LINES[form])
    (tmp_path / f"walk.{ending}").write_text("\ufeff" * (ending == "json") + lines + "\n", "utf-8")
    plan, found = read_all("folder", tmp_path)
    assert plan.reader == "mediapipe"
    assert found[0].name == "walk"
    np.testing.assert_allclose(found[0].positions[..., 0], turned_up(WORLD), atol=1e-12)


def test_records_in_one_list(tmp_path):
    timed = [{**one, "frame": None, "time": one["frame"] / 25} for one in RECORDS]
    timed = [{name: one[name] for name in one if name != "frame"} for one in timed]
    _, found = only(save(tmp_path / "a.json", timed))
    np.testing.assert_allclose(found.positions[..., 0], turned_up(WORLD), atol=1e-12)
    assert found.rate == pytest.approx(25)
    assert "a second nose in one frame" in refused(save(tmp_path / "a.json", RECORDS * 2))


def test_a_damaged_line_is_named(tmp_path):
    lines = [json.dumps(one) for one in POSES]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:4], lines[4][:90], *lines[5:]]))
    with pytest.raises(ReadError, match=r"a\.jsonl:5: not JSON"):
        only(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text(json.dumps(POSES, indent=1) + "\n]")
    with pytest.raises(ReadError, match=r"a\.json:\d+: not JSON: Extra data"):
        only(tmp_path / "a.json")


def test_openpose_in_json_lines(tmp_path):
    points = [float(n % 97) for n in range(75)]
    lines = [{"people": [{"pose_keypoints_2d": points}], "frame": t} for t in range(4)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    plan, (found,) = read_all("folder", tmp_path)
    assert plan.reader == "openpose"
    assert found.positions.shape == (3, 4, 25, 1)

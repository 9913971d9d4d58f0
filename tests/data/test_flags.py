"""Every flag of prepare against every kind of input: what would be ignored is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from data.readers import (
    marker_files,
    smpl_files,
    test_amc,
    test_mediapipe,
    test_openpose,
    test_optitrack,
    test_trc,
)
from data.readers.bvh_files import bvh_text
from data.readers.recordings import NTU_RAW, motion, table

from aimclr_fast.data.flags import RULES, refusal
from aimclr_fast.data.readers import Options, get_reader
from aimclr_fast.prepare import command_line, parser

#: A value of each flag that asks for something else than what is done anyway.
VALUES = {
    "bodies": "follow", "max_bodies": 1, "missing": "x.txt", "labels": "x.csv", "columns": "xyz",
    "csv_bodies": 2, "skip_columns": 1, "rotate": "exact", "drop_spurious": True,
    "normalize": "sequence", "unit": "mm", "up": "-y", "min_confidence": 0.2, "aspect": 1.5,
    "layout": "ntu-rgb+d-25", "to": "kinect-v1", "fps": 25, "window": "4s", "hop": "2s",
    "intervals": "x", "tier": "x",
    "markers": "x.yaml", "rate": 30, "body_model": "x.npz", "sides": "swap",
}  # fmt: skip
#: Flags that hold for every source.
ALWAYS = {"frames", "gaps", "jobs", "on_error", "overwrite"}
JOINTS = "ui-prmd"


def arrays(folder):
    for index in range(2):
        np.save(folder / f"a{index}.npy", motion(index, frames=20))


def flat(folder):
    pose = 300 * motion(0, frames=20)[..., :2]
    np.save(folder / "a.npy", pose)


def scored(folder):
    x = 300 * motion(0, frames=20)
    x[..., 2] = 0.9
    np.save(folder / "a.npy", x)


def tables(folder):
    (folder / "a.csv").write_text(table(motion(0, frames=20).reshape(20, -1), ","))


def both(folder):
    arrays(folder)
    tables(folder / "..")
    (folder / "t.csv").write_text((folder / ".." / "a.csv").read_text())


def frames(folder):
    test_openpose.write(folder / "clip0", "clip0")


def motion_capture(folder):
    (folder / "a.bvh").write_text(bvh_text())


def markers(folder):
    test_trc.save(folder / "a.trc", marker_files.walk())


def acclaim(folder):
    test_amc.save(folder)


def bones(folder):
    test_optitrack.save(folder / "a.csv", test_optitrack.skeleton())


def joints(folder):
    moved = smpl_files.REST[:, [0, 2, 1]] + smpl_files.motion()["trans"][:, None]
    np.savez(folder / "a.npz", joints=moved, trans=moved[:, 0])


def landmarks(folder):
    test_mediapipe.save(folder / "a.json", test_mediapipe.POSES)


def image_landmarks(folder):
    points = test_mediapipe.in_image(test_mediapipe.WORLD) * [1920, 1080, 1920]
    frames = [{"pose_landmarks": test_mediapipe.landmarks(one)} for one in points]
    test_mediapipe.save(folder / "a.json", frames)


def annotations(*, pixels=False, score=False):
    def write(folder):
        x = motion(0, frames=20)[None]
        entry = {"frame_dir": "a", "label": 0, "keypoint": 300 * x[..., :2] if pixels else x}
        if score:
            entry["keypoint_score"] = np.full(x.shape[:3], 0.9)
        (folder / "a.pkl").write_bytes(pickle.dumps({"annotations": [entry]}))

    return write


def processed(folder):
    x = motion(0, frames=20).transpose(2, 0, 1)[None, ..., None]
    np.save(folder / "train_position.npy", np.concatenate([x, x + 0.1]))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))


#: Recordings of these kinds do not say their frame rate.
TIMED = {"fps", "window", "hop", "intervals", "tier"}
OWN = {"bodies", "missing", "markers", "body_model", *TIMED}
ONE_BODY = {"bodies", "max_bodies", "missing", "rate"}
ONLY_TABLES = {"csv_bodies", "skip_columns"}
ONLY_FOLDER = {"columns", "markers", "body_model", *ONLY_TABLES}
ONLY_3D = {"rotate", "unit", "up"}
SCORES = {"min_confidence"}
ONLY_2D = {"aspect", *SCORES}
#: The format, what writes such a source, its layout, and the flags that do not apply.
KINDS = {
    "arrays": ("folder", arrays, JOINTS, OWN | ONLY_TABLES | ONLY_2D),
    "2D arrays": ("folder", flat, JOINTS, OWN | ONLY_TABLES | ONLY_3D | SCORES),
    "2D arrays with scores": ("folder", scored, JOINTS, OWN | ONLY_TABLES | ONLY_3D),
    "tables": ("folder", tables, JOINTS, OWN | ONLY_2D),
    "tables and arrays": ("folder", both, JOINTS, OWN | ONLY_2D),
    "OpenPose by folder": ("folder", frames, None, OWN | ONLY_FOLDER | ONLY_3D),
    "OpenPose": ("openpose", frames, None, OWN | ONLY_FOLDER | ONLY_3D),
    "TRC": (
        "trc",
        markers,
        None,
        ONLY_FOLDER - {"markers"} | {"rate"} | ONLY_2D | {"bodies", "missing"},
    ),
    "MediaPipe": ("mediapipe", landmarks, None, OWN | ONLY_FOLDER | ONLY_2D),
    "MediaPipe by folder": ("folder", landmarks, None, OWN | ONLY_FOLDER | ONLY_2D),
    "MediaPipe in 2D": ("mediapipe", image_landmarks, None, OWN | ONLY_FOLDER | ONLY_3D),
    "annotations": ("pyskl", annotations(), JOINTS, OWN | ONLY_FOLDER | {"labels"} | ONLY_2D),
    "2D annotations": (
        "pyskl",
        annotations(pixels=True),
        JOINTS,
        OWN | ONLY_FOLDER | ONLY_3D | {"labels"} | SCORES,
    ),
    "2D annotations with scores": (
        "pyskl",
        annotations(pixels=True, score=True),
        JOINTS,
        OWN | ONLY_FOLDER | ONLY_3D | {"labels"},
    ),
    "preprocessed arrays": (
        "official",
        processed,
        JOINTS,
        OWN
        | ONLY_FOLDER
        | ONLY_2D
        | {"labels", "max_bodies", "normalize", "rotate", "drop_spurious", "to", "rate", "sides"},
    ),
    "NTU RGB+D": ("ntu120", None, None, ONLY_FOLDER | ONLY_2D | TIMED | {"labels"}),
    "AMC": ("amc", acclaim, None, ONE_BODY - {"rate"} | TIMED | ONLY_FOLDER | ONLY_2D),
    "OptiTrack": (
        "optitrack",
        bones,
        None,
        ONLY_FOLDER - {"markers"} | {"rate"} | ONLY_2D | {"bodies", "missing"},
    ),
    "AMASS": (
        "amass",
        joints,
        None,
        ONE_BODY - {"rate"} | TIMED | ONLY_FOLDER - {"body_model"} | ONLY_2D,
    ),
    "BVH": ("bvh", motion_capture, "bandai2", ONE_BODY | ONLY_FOLDER | ONLY_2D),
    "BVH by folder": ("folder", motion_capture, "bandai2", ONE_BODY | ONLY_FOLDER | ONLY_2D),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """Format, source, further arguments, refused flags."""
    dataset, write, layout, refused = KINDS[request.param]
    source = NTU_RAW
    if write is not None:
        source = tmp_path / "in"
        source.mkdir()
        write(source)
        source = source / "a.pkl" if dataset == "pyskl" else source
    return dataset, source, layout, refused


def test_each_flag_is_refused_where_it_changes_nothing(kind, tmp_path, capsys):
    dataset, source, layout, refused = kind
    plan = get_reader(dataset).plan(source, Options(layout=layout))
    for field, value in VALUES.items():
        if field == "layout":
            continue
        reason = refusal({field: value}, dataset) or refusal({field: value}, dataset, plan)
        assert bool(reason) == (field in refused), (field, reason)
    other = "2d" if plan.rotate else "3d"
    assert refusal({"pose": other}, dataset, plan).startswith(f"--pose {other}: {dataset} holds")
    assert "is recorded in" in refusal({"layout": "kinect-v1"}, dataset, plan)
    assert not refusal({"pose": "3d" if plan.rotate else "2d"}, dataset, plan)
    assert plan.derived or not refusal({"layout": plan.layout.name}, dataset, plan)
    for field in sorted(refused):
        value = VALUES[field]
        flag = f"--{field.replace('_', '-')}"
        arguments = [dataset, str(source), str(tmp_path / "out"), "--jobs=1"]
        arguments += [f"--layout={layout}"] if layout else []
        if field == "columns" and plan.reader:
            value = "xyc"
        with pytest.raises(SystemExit) as caught:
            command_line([*arguments, flag if value is True else f"{flag}={value}"])
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert f"error: {flag}" in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_what_was_found_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    frames(tmp_path / "in")
    plan = get_reader("folder").plan(tmp_path / "in", Options())
    assert refusal({"columns": "xyc"}, "folder", plan) == (
        "--columns: the source is read as openpose, which does not use it; folder does"
    )
    assert "2D poses" in refusal({"up": "-y"}, "folder", plan)


def test_turning_needs_shoulders(tmp_path):
    arrays(tmp_path)
    (tmp_path / "stick.yaml").write_text(
        "name: stick\njoints: [" + ", ".join(f"j{i}" for i in range(22)) + "]\n"
        "edges: [" + ", ".join(f"[{i + 1}, {i}]" for i in range(21)) + "]\n"
        "center: 0\nswap: [" + ", ".join(map(str, range(22))) + "]\n"
    )
    plan = get_reader("folder").plan(tmp_path, Options(layout=str(tmp_path / "stick.yaml")))
    assert plan.layout.shoulders is None
    assert refusal({"rotate": "exact"}, "folder", plan) == (
        "--rotate exact: layout stick names no shoulders"
    )
    assert not refusal({"rotate": "none"}, "folder", plan)


def test_every_flag_has_a_rule_or_holds_always():
    flags = {
        action.dest
        for action in parser()._actions
        if action.option_strings and action.dest != "help"
    }
    assert flags == {field for field, _ in RULES} | ALWAYS
    assert set(VALUES) | {"pose"} == {field for field, _ in RULES}

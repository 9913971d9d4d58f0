"""Recordings in another skeleton, by names."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers.recordings import motion

from aimclr_fast.data import open_store
from aimclr_fast.data.joint_mapping import canonical_names, map_joints
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.prepare import command_line


@pytest.mark.parametrize("flat", [False, True])
def test_any_source_can_take_another_layout(flat, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    pose = motion(0, frames=50)
    np.save(tmp_path / "in" / "a.npy", 300 * pose[..., :2] if flat else pose)
    folders = [str(tmp_path / name) for name in ("in", "out")]
    command_line(["folder", *folders, "--layout=ui-prmd", "--to=kinect-v1", "--jobs=1"])
    said = capsys.readouterr().out
    assert "--to kinect-v1: 18 of 20 joints matched by name; missing joints are put at" in said
    assert "under other names: " in said
    assert "left_elbow from left_forearm" in said
    store = open_store(tmp_path / "out")
    assert store.layout == get_layout("kinect-v1")
    given, layout = get_layout("ui-prmd"), store.layout
    x = np.array(store.positions[0, :, :, :, 0])
    for ours, theirs in (("left_elbow", "left_forearm"), ("right_knee", "right_lower_leg")):
        joint = layout.joints.index(ours)
        height = x[1, :, joint] - x[1, :, layout.center]
        there = pose[:, given.joints.index(theirs), 1] - pose[:, given.joints.index("chest"), 1]
        np.testing.assert_allclose(height, there * (height[0] / there[0]), atol=1e-4)
        assert flat or height[0] == pytest.approx(there[0], abs=1e-4)


def test_a_joint_beside_a_segment_of_its_name_is_meant_as_such():
    joints = (
        "hips", "left_upper_arm", "left_lower_arm", "left_wrist", "left_hand", "left_upper_leg",
        "left_ankle", "left_foot", "left_toes",
    )  # fmt: skip
    edges = tuple((joint, joint - 1) for joint in range(1, len(joints)))
    layout = Layout("x", joints, edges, 0, tuple(range(len(joints))))
    assert canonical_names(layout) == (
        "spine_base", "left_shoulder", "left_elbow", "left_wrist", "left_hand", "left_hip",
        "left_ankle", "left_foot", "left_toes",
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["nowhere.yaml", "unknown"])
def test_a_layout_that_is_not_there(layout, tmp_path, capsys):
    np.save(tmp_path / "a.npy", motion(0, frames=20))
    folders = [str(tmp_path), str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        command_line(["folder", *folders, "--layout=ui-prmd", f"--to={layout}"])
    assert caught.value.code == 2
    assert f"--to {layout}: " in capsys.readouterr().err


def test_of_several_names_of_a_joint_the_likeliest_is_taken():
    joints = ("hips", "waist", "spine", "torso", "chest", "neck")
    data = Layout("x", joints, tuple((i + 1, i) for i in range(5)), 0, tuple(range(6)))
    trunk = ("spine_base", "spine_mid", "spine_shoulder")
    encoder = Layout("y", trunk, ((1, 0), (2, 1)), 0, (0, 1, 2))
    wanted = (("spine_base", "hips"), ("spine_mid", "spine"), ("spine_shoulder", "chest"))
    assert map_joints(encoder, data).named == wanted

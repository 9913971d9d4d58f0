"""Which skeleton poses are of: what they show, what they do not, and what the user is asked."""

from __future__ import annotations

import re
from itertools import permutations

import numpy as np
import pytest
from data.readers.recordings import NTU_RAW, motion
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import Options, ReadError
from aimclr_fast.data.readers._layouts import recognize
from aimclr_fast.data.readers._pose2d import FLAT_LAYOUTS
from aimclr_fast.layouts import get_layout

#: Where the joints of other layouts are on a body recorded by Kinect v2.
PLACES = {
    "pelvis": "spine_base", "hip_centre": "spine_base", "mid_hip": "spine_base",
    "waist": "spine_base", "hip_center": "spine_base",
    "spine": "spine_mid", "spine1": "spine_mid", "torso": "spine_mid",
    "thorax": "spine_shoulder", "shoulder_centre": "spine_shoulder", "chest": "spine_shoulder",
    "nose": "head", "eye": "head", "ear": "head", "head_tip": "head",
    "heel": "ankle", "big_toe": "foot", "small_toe": "foot", "toes": "foot",
}  # fmt: skip
SMPL = {
    "spine2": ("spine_mid", "spine_shoulder"), "spine3": ("spine_mid", "spine_shoulder"),
    "left_collar": ("spine_shoulder", "left_shoulder"),
    "right_collar": ("spine_shoulder", "right_shoulder"),
}  # fmt: skip
UI_PRMD = {"upper_arm": "shoulder", "forearm": "elbow", "hand": "wrist", "upper_leg": "hip",
           "lower_leg": "knee", "foot": "ankle", "toes": "foot"}  # fmt: skip


@pytest.fixture(scope="module")
def people():
    """Six people before a Kinect v2, each ``[T, 25, 3]``."""
    _, found = read_all("ntu120", NTU_RAW)
    bodies = [r.positions[..., 0].transpose(1, 2, 0) for r in found]
    # 2 m farther away, for some are nearer than 1 m.
    return [body[body.any(axis=(1, 2))] + [0, 0, 2] for body in bodies]


def as_layout(body, name):
    """A body as another tracker would give it: its joints, each a hair beside the place."""
    ntu, layout = get_layout("ntu-rgb+d").joints, get_layout(name)
    rng = np.random.default_rng(0)
    out = np.empty((len(body), layout.num_joints, body.shape[2]))
    for index, joint in enumerate(layout.joints):
        side, _, part = joint.partition("_")
        part = part if side in ("left", "right") else joint
        if name == "ui-prmd":
            part = UI_PRMD.get(part, part)
        place = PLACES.get(part, part)
        place = f"{side}_{place}" if f"{side}_{place}" in ntu else place
        pair = SMPL.get(joint, (place, place))
        out[:, index] = (body[:, ntu.index(pair[0])] + body[:, ntu.index(pair[1])]) / 2
        out[:, index] += rng.normal(scale=0.02, size=body.shape[2])
    return out


BY_COUNT = {
    15: ["openni", "kard"],
    17: ["coco", "h36m"],
    20: ["nw-ucla", "kinect-v1", "msr-action3d"],
    22: ["ui-prmd", "smpl-22"],
    25: ["ntu-rgb+d", "openpose-25"],
}
CASES = [pair for names in BY_COUNT.values() for pair in permutations(names, 2)]


@pytest.mark.parametrize(("name", "other"), CASES)
@pytest.mark.parametrize("coordinates", [3, 2])
def test_poses_show_which_of_two_layouts_they_are_of(people, name, other, coordinates):
    poses = [as_layout(body, name)[..., :coordinates] for body in people]
    skeleton = recognize(poses, Options(), "here")
    assert (skeleton.layout.name, skeleton.flat) == (name, coordinates == 2)
    assert f"layout {name} is taken" in skeleton.notes[0]
    rivals = re.search(r"those of (.*) would not be \(--layout says otherwise", skeleton.notes[0])
    assert other in rivals[1].split(", ")


@pytest.mark.parametrize(("name", "other"), CASES)
def test_a_named_layout_is_taken_without_a_word(people, name, other):
    poses = [as_layout(body, name) for body in people]
    if other in FLAT_LAYOUTS:  # which usually have scores
        with pytest.raises(ReadError, match=f"{other} with three coordinates.* --pose 3d"):
            recognize(poses, Options(layout=other), "here")
    pose = "3d" if other in FLAT_LAYOUTS else "auto"
    skeleton = recognize(poses, Options(layout=other, pose=pose), "here")
    assert (skeleton.layout.name, skeleton.notes) == (other, [])


@pytest.mark.parametrize("name", ["openpose", "smpl-24"])
def test_the_only_layout_of_so_many_joints_needs_a_second_sign_too(people, name):
    poses = [as_layout(body, name) for body in people]
    options = Options(pose="3d")
    assert recognize(poses, options, "here").layout.name == name
    order = np.random.default_rng(1).permutation(poses[0].shape[1])
    with pytest.raises(ReadError, match=rf"could be {name}, and the lengths .* --layout"):
        recognize([pose[:, order] for pose in poses], options, "here")


@pytest.mark.parametrize("joints", BY_COUNT)
def test_joints_in_no_known_order_are_asked_about(people, joints):
    order = np.random.default_rng(joints).permutation(joints)
    poses = [as_layout(body, BY_COUNT[joints][0])[:, order] for body in people]
    for pose in ("auto", "3d"):
        with pytest.raises(ReadError, match=f"here: {joints} joints could be .* or .*--layout"):
            recognize(poses, Options(pose=pose), "here")
    # In 2D a score beside them tells a pose estimator's layout, where there is one of so many.
    flat = [pose[..., :2] for pose in poses]
    usual = {17: "coco", 25: "openpose-25"}.get(joints)
    if usual:
        assert recognize(flat, Options(), "here", scored=True).layout.name == usual
    with pytest.raises(ReadError, match="--layout"):
        recognize(flat, Options(), "here", scored=not usual)


def test_what_the_poses_show_goes_before_a_score(people):
    flat = [body[..., :2] for body in people]
    assert recognize(flat, Options(), "here", scored=True).layout.name == "ntu-rgb+d"


def test_joints_that_were_not_seen_do_not_count(people):
    rng = np.random.default_rng(0)
    poses = [as_layout(body, "openpose-25") for body in people]
    for pose in poses:
        pose[rng.random(pose.shape[:2]) < 0.4] = 0
        pose[:, 8] = 0  # never
        pose[rng.random(pose.shape[:2]) < 0.05] = np.nan
    assert recognize(poses, Options(), "here").layout.name == "openpose-25"


def test_poses_that_stand_still_or_are_one_point():
    still = [np.tile(motion(0)[:1], (9, 1, 1))]
    assert recognize(still, Options(), "here").layout.name == "ui-prmd"
    for nothing in (np.zeros((5, 22, 3)), np.ones((5, 22, 3)) * 7):
        with pytest.raises(ReadError, match="22 joints could be smpl-22 or ui-prmd"):
            recognize([nothing], Options(), "here")


def test_a_count_that_no_layout_has():
    with pytest.raises(ReadError, match=r"here: 11 joints: name .*--layout: .*smpl-22 \(22\)"):
        recognize([np.ones((5, 11, 3))], Options(), "here")


def with_score(poses, rng):
    return [np.concatenate([p[..., :2], rng.uniform(0.3, 1, (*p.shape[:2], 1))], 2) for p in poses]


@pytest.mark.parametrize(
    ("name", "scale"), [("openpose-25", 300), ("coco", 300), ("openpose", 0.3)]
)
def test_a_third_coordinate_within_0_and_1_is_a_score(people, name, scale):
    poses = [as_layout(body, name) * scale for body in people]
    poses = with_score(poses, np.random.default_rng(0))
    skeleton = recognize(poses, Options(), "here")
    assert (skeleton.layout.name, skeleton.flat) == (name, True)
    assert "taken as a score (--pose 3d: as z)" in skeleton.notes[0]
    assert not recognize(poses, Options(pose="3d", layout=name), "here").flat


@pytest.mark.parametrize("name", ["nw-ucla", "ntu-rgb+d", "openpose-25", "h36m"])
def test_a_third_coordinate_within_0_and_1_that_may_be_z_is_asked_about(people, name):
    poses = with_score([as_layout(body, name) for body in people], np.random.default_rng(0))
    with pytest.raises(ReadError, match=r"a score, or z\? Say --pose 2d or --pose 3d"):
        recognize(poses, Options(), "here")
    assert recognize(poses, Options(pose="2d"), "here").layout.name == name
    assert recognize(poses, Options(pose="3d", layout=name), "here").flat is False
    # Unless the source can only be of one layout, which is 3D.
    assert recognize(poses, Options(), "here", known=name).flat is False


def test_pose_flags_that_the_poses_contradict(people):
    with pytest.raises(ReadError, match="--pose 3d: the poses have two coordinates"):
        recognize([body[..., :2] for body in people], Options(pose="3d"), "here")
    with pytest.raises(ReadError, match="--pose 2d: the third coordinate is not within"):
        recognize(people, Options(pose="2d"), "here")

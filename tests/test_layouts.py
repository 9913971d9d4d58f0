"""Skeleton layouts: the published graphs, validation, YAML."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from aimclr_fast.layouts import (
    LAYOUTS,
    PARTS,
    Layout,
    get_layout,
    layout_from_dict,
    layout_from_yaml,
    layout_to_yaml,
)

GOLDEN = Path(__file__).parent / "golden"
HAND = {
    "name": "hand-3",
    "joints": ["wrist", "left_tip", "right_tip"],
    "edges": [["left_tip", "wrist"], ["right_tip", "wrist"]],
    "center": "wrist",
    "swap": [["left_tip", "right_tip"]],
    "shoulders": ["left_tip", "right_tip"],
}


@pytest.mark.parametrize("name", ["ntu-rgb+d", "openpose", "nw-ucla"])
@pytest.mark.parametrize("strategy", ["uniform", "distance", "spatial"])
def test_adjacency_matches_the_published_graphs(name, strategy):
    with np.load(GOLDEN / "graph.npz") as golden:
        expected = golden[f"{name}/{strategy}"]
    adjacency = get_layout(name).adjacency(strategy)
    assert adjacency.dtype == np.float32
    np.testing.assert_array_equal(adjacency, expected)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_as_yaml_is_the_same_read_back(layout, tmp_path):
    (tmp_path / "x.yaml").write_text(layout_to_yaml(layout), encoding="utf-8")
    assert layout_from_yaml(tmp_path / "x.yaml") == layout
    assert f"center: {layout.joints[layout.center]}" in layout_to_yaml(layout)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_adjacency_columns_sum_to_one_and_parts_add_up(layout):
    uniform = layout.adjacency("uniform")[0]
    np.testing.assert_allclose(uniform.sum(axis=0), 1, rtol=1e-6)
    for strategy, parts in (("distance", 2), ("spatial", 3)):
        adjacency = layout.adjacency(strategy)
        assert adjacency.shape == (parts, layout.num_joints, layout.num_joints)
        np.testing.assert_array_equal(adjacency.sum(axis=0), uniform)


def test_unknown_strategy():
    with pytest.raises(ValueError, match=r"spiral.*uniform"):
        get_layout("coco").adjacency("spiral")


JOINTS = {
    "bandai2": 21, "coco": 17, "h36m": 17, "halpe-26": 26, "hand-21": 21, "kard": 15,
    "kinect-v1": 20,
    "mediapipe": 33, "msr-action3d": 20, "ntu-rgb+d": 25, "nw-ucla": 20, "openni": 15,
    "openpose": 18, "openpose-25": 25, "smpl-22": 22, "smpl-24": 24, "ui-prmd": 22,
}  # fmt: skip
CENTERS = {
    "bandai2": "chest", "coco": "nose", "h36m": "thorax", "halpe-26": "neck", "hand-21": "wrist",
    "kard": "neck",
    "kinect-v1": "shoulder_centre", "mediapipe": "nose", "msr-action3d": "neck",
    "ntu-rgb+d": "spine_shoulder", "nw-ucla": "shoulder_centre", "openni": "neck",
    "openpose": "neck", "openpose-25": "neck", "smpl-22": "spine3", "smpl-24": "spine3",
    "ui-prmd": "chest",
}  # fmt: skip
MIRROR = {"left": "right", "right": "left"}


def test_the_built_in_layouts_are_those_of_these_tests():
    assert {name: layout.num_joints for name, layout in LAYOUTS.items()} == JOINTS
    assert {name: layout.joints[layout.center] for name, layout in LAYOUTS.items()} == CENTERS


@pytest.mark.parametrize("name", LAYOUTS)
def test_built_in_layouts(name):
    layout = get_layout(name)
    assert layout.name == name
    # The swap exchanges left and right by name, and nothing else.
    for joint, other in enumerate(layout.swap):
        words = [MIRROR.get(word, word) for word in layout.joints[joint].split("_")]
        assert layout.joints[other] == "_".join(words)
    # Left-right symmetric: swapped bones are bones, and the shoulders are each other's mirror.
    edges = set(layout.edges)
    assert {(layout.swap[a], layout.swap[b]) for a, b in edges} == edges
    assert layout.swap[layout.center] == layout.center
    # Each joint reaches the center along its parents.
    for joint in range(layout.num_joints):
        for _ in range(layout.num_joints):
            joint = layout.parents[joint]
        assert joint == layout.center
    if name == "hand-21":
        assert layout.shoulders is None
        assert layout.swap == tuple(range(21))
        return
    left, right = layout.shoulders
    assert layout.swap[left] == right
    assert layout.joints[left].startswith("left")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "hand-21"])
def test_body_parts_of_the_built_in_layouts(name):
    layout = get_layout(name)
    parts = dict(zip(PARTS, layout.body_parts, strict=True))
    assert sorted(joint for part in parts.values() for joint in part) == [*range(layout.num_joints)]
    for part, joints in parts.items():
        mirrored = {"right": "left", "left": "right"}.get(part.split("_")[0], "")
        other = "_".join([mirrored, *part.split("_")[1:]]) if mirrored else part
        assert {layout.swap[joint] for joint in joints} == set(parts[other])
        if part == "trunk":
            continue
        # One branch of the tree, of the side's joints, with the whole limb.
        assert sum(layout.parents[joint] not in joints for joint in joints) == 1
        names = " ".join(layout.joints[joint] for joint in joints)
        side, limb = part.split("_")
        assert names.count(side) == len(joints)
        ends = {"arm": ("elbow", "forearm", "lower_arm"), "leg": ("knee", "lower_leg")}
        assert any(end in names for end in ends[limb])
        assert not any(end in names for end in ends["leg" if limb == "arm" else "arm"])
    assert "trunk" in parts
    assert layout.center in parts["trunk"]


def test_ntu_body_parts_are_those_of_skelemixclr():
    assert get_layout("ntu-rgb+d").body_parts == (
        (0, 1, 2, 3, 20),
        (8, 9, 10, 11, 23, 24),
        (4, 5, 6, 7, 21, 22),
        (16, 17, 18, 19),
        (12, 13, 14, 15),
    )


def test_layouts_whose_names_tell_no_body_parts():
    for layout in (get_layout("hand-21"), layout_from_dict(HAND), layout_from_dict(NUMBERED)):
        with pytest.raises(ValueError, match=f"'{layout.name}' has no body parts.* under parts in"):
            _ = layout.body_parts


NUMBERED = {
    "name": "star",
    "joints": 6,
    "edges": [[joint, 0] for joint in range(1, 6)],
    "center": 0,
    "swap": [],
}
LISTED = {
    "trunk": ["joint_0", 3],
    "right_arm": [1],
    "left_arm": [2],
    "right_leg": [5],
    "left_leg": [4],
}


def test_body_parts_may_be_listed(tmp_path):
    path = tmp_path / "star.yaml"
    path.write_text(yaml.safe_dump({**NUMBERED, "parts": LISTED}))
    layout = layout_from_yaml(path)
    assert layout.body_parts == layout.parts == ((0, 3), (1,), (2,), (5,), (4,))
    assert layout_from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert "parts" not in layout_from_dict(NUMBERED).to_dict()  # as earlier versions wrote it
    listed = {**get_layout("coco").to_dict(), "parts": None}
    assert layout_from_dict(listed) == get_layout("coco")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trunk": [0]}, r"parts: must have each joint index \(0 to 5\) in one part"),
        ({"trunk": [0, 3, 3]}, "parts: must have each joint index"),
        ({"trunk": [0, 3, 1]}, "parts: must have each joint index"),
        ({"trunk": []}, "parts: must have joints for each of trunk, right_arm"),
        ({"trunk": ["joint_9"]}, "parts: 'joint_9' is neither"),
        ({"trunk": "joint_0"}, "parts: expected a list for trunk, got 'joint_0'"),
        ({"head": [0]}, "parts: expected the joints of each of trunk, right_arm"),
    ],
)
def test_listed_body_parts_are_checked(changes, message):
    with pytest.raises(ValueError, match=f"star.yaml: .*{message}"):
        layout_from_dict({**NUMBERED, "parts": {**LISTED, **changes}}, source="star.yaml")
    for parts in ([0, 1], 3):
        with pytest.raises(ValueError, match="parts: expected the joints of each of"):
            layout_from_dict({**NUMBERED, "parts": parts}, source="star.yaml")
    fields = layout_from_dict(NUMBERED)
    with pytest.raises(ValueError, match="parts: must have joints for each of"):
        Layout(fields.name, fields.joints, fields.edges, 0, fields.swap, None, ((0, 1, 2, 3),))


def bones(layout):
    return {frozenset(edge) for edge in get_layout(layout).edges}


def pairs(text):
    return {frozenset(map(int, pair.split("-"))) for pair in text.split()}


def tree(parents):
    return {frozenset(pair) for pair in enumerate(parents) if pair[1] >= 0}


SMPL_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Parents of SMPL's kinematic tree; its first 22 joints are SMPL-H's body.
        ("smpl-24", tree(SMPL_PARENTS)),
        ("smpl-22", tree(SMPL_PARENTS[:22])),
        # Parents of Human3.6M's 17 joints.
        ("h36m", tree([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15])),
        # OpenPose's part pairs of BODY_25, without those that only its heat maps use.
        (
            "openpose-25",
            pairs(
                "1-8 1-2 1-5 2-3 3-4 5-6 6-7 8-9 9-10 10-11 8-12 12-13 13-14 1-0 0-15 15-17 0-16 "
                "16-18 14-19 19-20 14-21 11-22 22-23 11-24"
            ),
        ),
        # The tree that Pose2Sim has of it, with eyes and ears as in COCO.
        (
            "halpe-26",
            pairs(
                "19-12 12-14 14-16 16-21 21-23 16-25 19-11 11-13 13-15 15-20 20-22 15-24 19-18 "
                "18-17 17-0 18-6 6-8 8-10 18-5 5-7 7-9 0-1 0-2 1-3 2-4"
            ),
        ),
        (
            "hand-21",
            pairs(
                "0-1 1-2 2-3 3-4 0-5 5-6 6-7 7-8 0-9 9-10 10-11 11-12 0-13 13-14 14-15 15-16 0-17 "
                "17-18 18-19 19-20"
            ),
        ),
        ("openni", pairs("0-1 1-2 1-3 3-4 4-5 1-6 6-7 7-8 2-9 9-10 10-11 2-12 12-13 13-14")),
        ("kard", pairs("0-1 1-2 2-3 3-4 1-5 5-6 6-7 1-8 8-9 9-10 10-11 8-12 12-13 13-14")),
        (
            "msr-action3d",
            pairs(
                "19-2 0-2 1-2 0-7 7-9 9-11 1-8 8-10 10-12 2-3 3-6 6-4 6-5 4-13 13-15 15-17 5-14 "
                "14-16 16-18"
            ),
        ),
        # Parents of its BVH files.
        (
            "bandai2",
            tree([-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19]),
        ),
    ],
)
def test_bones_are_those_of_the_format(name, expected):
    assert bones(name) == expected


def test_mediapipe_bones_are_connections_and_hold_face_and_body_together():
    # MediaPipe's pose connections; it joins neither face nor mouth to the shoulders.
    connections = pairs(
        "0-1 1-2 2-3 3-7 0-4 4-5 5-6 6-8 9-10 11-12 11-13 13-15 15-17 15-19 15-21 17-19 12-14 "
        "14-16 16-18 16-20 16-22 18-20 11-23 12-24 23-24 23-25 24-26 25-27 26-28 27-29 28-30 29-31 "
        "30-32 27-31 28-32"
    )
    assert bones("mediapipe") - connections == pairs("0-9 0-10 0-11 0-12")


@pytest.mark.parametrize(
    ("name", "joints"),
    [
        ("openpose-25", {8: "mid_hip", 15: "right_eye", 19: "left_big_toe", 24: "right_heel"}),
        ("halpe-26", {0: "nose", 6: "right_shoulder", 17: "head", 19: "mid_hip", 25: "right_heel"}),
        ("h36m", {1: "right_hip", 4: "left_hip", 10: "head", 11: "left_shoulder"}),
        ("smpl-22", {1: "left_hip", 15: "head", 16: "left_shoulder", 21: "right_wrist"}),
        ("smpl-24", {10: "left_foot", 13: "left_collar", 22: "left_hand"}),
        ("mediapipe", {1: "left_eye_inner", 11: "left_shoulder", 23: "left_hip", 29: "left_heel"}),
        ("hand-21", {4: "thumb_tip", 5: "index_mcp", 20: "pinky_tip"}),
        ("openni", {2: "torso", 3: "left_shoulder", 14: "right_foot"}),
        ("kard", {2: "right_shoulder", 7: "left_hand", 8: "torso", 11: "right_foot"}),
        ("msr-action3d", {0: "left_shoulder", 6: "hip_center", 12: "right_hand", 19: "head"}),
        ("bandai2", {4: "head", 6: "left_upper_arm", 12: "right_hand", 20: "right_toes"}),
    ],
)
def test_joints_are_in_the_order_of_the_format(name, joints):
    names = get_layout(name).joints
    assert {index: names[index] for index in joints} == joints


def test_ntu_swap_and_parents_are_the_published_ones():
    layout = get_layout("ntu-rgb+d")
    swap = "0 1 2 3 8 9 10 11 4 5 6 7 16 17 18 19 12 13 14 15 20 23 24 21 22"
    parents = "1 20 20 2 20 4 5 6 20 8 9 10 0 12 13 14 0 16 17 18 20 22 7 24 11"
    assert layout.swap == tuple(map(int, swap.split()))
    assert layout.parents == tuple(map(int, parents.split()))
    assert layout.shoulders == (4, 8)


def test_ui_prmd_parents_agree_with_the_recorded_hierarchy():
    # The recording's tree is rooted at the waist; ours at the chest: same bones, two turned round.
    recorded = [-1, 0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20]
    bones = {frozenset((joint, parent)) for joint, parent in enumerate(recorded) if parent >= 0}
    assert {frozenset(edge) for edge in get_layout("ui-prmd").edges} == bones


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_round_trips(layout, tmp_path):
    assert layout_from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    path = tmp_path / "layout.yaml"
    path.write_text(yaml.safe_dump(layout.to_dict()))
    assert layout_from_yaml(path) == layout
    assert hash(get_layout(str(path))) == hash(layout)


def test_round_trip_without_shoulders():
    layout = Layout("pair", ("a", "b"), ((1, 0),), 0, (0, 1))
    assert "shoulders" not in layout.to_dict()
    assert layout_from_dict(layout.to_dict()) == layout


def test_get_layout_returns_a_layout_as_it_is():
    layout = get_layout("coco")
    assert get_layout(layout) is layout


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'smpl'.*coco.*smpl-22.*\.yaml"):
        get_layout("smpl")


def write(path, **changes):
    data = {**HAND, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value != "gone"}))
    return path


def test_yaml_by_name_and_by_index_give_the_same(tmp_path):
    by_name = layout_from_yaml(write(tmp_path / "a.yaml"))
    by_index = layout_from_yaml(
        write(
            tmp_path / "b.yml",
            edges=[[1, 0], [2, 0]],
            center=0,
            swap=[0, 2, 1],
            shoulders=[1, 2],
        )
    )
    assert by_name == by_index
    assert by_name.swap == (0, 2, 1)
    assert by_name.parents == (0, 0, 0)


def test_yaml_swap_by_the_joints_names(tmp_path):
    assert layout_from_yaml(write(tmp_path / "a.yaml", swap="names")).swap == (0, 2, 1)
    joints, edges = ["wrist", "tip_left", "tip_right"], [[1, 0], [2, 0]]
    changes = {"joints": joints, "edges": edges, "shoulders": "gone", "swap": "names"}
    assert layout_from_yaml(write(tmp_path / "a.yaml", **changes)).swap == (0, 2, 1)
    changes["joints"] = ["wrist", "upright", "left_tip"]  # the right one is missing
    with pytest.raises(ValueError, match="swap: 'right_tip' is neither"):
        layout_from_yaml(write(tmp_path / "a.yaml", **changes))


def test_yaml_with_a_count_of_joints(tmp_path):
    layout = layout_from_yaml(
        write(
            tmp_path / "a.yaml",
            joints=3,
            edges=[[1, 0], ["joint_2", 0]],
            center=0,
            swap=[],
            shoulders="gone",
        )
    )
    assert layout.joints == ("joint_0", "joint_1", "joint_2")
    assert layout.swap == (0, 1, 2)
    assert layout.shoulders is None


def test_the_key_of_earlier_versions_is_read(tmp_path):
    old = write(tmp_path / "old.yaml", center="gone", centre="left_tip", edges=[[0, 1], [2, 0]])
    assert layout_from_yaml(old).center == 1
    assert "centre" not in layout_from_yaml(old).to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": "gone"}, "missing center"),
        ({"centre": 0}, "centre and center are the same field; keep center"),
        ({"middle": 0}, "unknown middle"),
        ({"name": ""}, "name must be"),
        ({"name": 3}, "name must be"),
        ({"joints": 0}, "joints: expected names"),
        ({"joints": 10**9}, "joints: expected names"),
        ({"joints": "wrist"}, "joints: expected names"),
        ({"joints": ["wrist", "left_tip", 7]}, "'right_tip' is neither"),
        (
            {
                "joints": [0, 1, 2],
                "edges": [[1, 0], [2, 0]],
                "center": 0,
                "swap": [],
                "shoulders": None,
            },
            "joints must be one or more",
        ),
        ({"joints": ["wrist", "left_tip", "right_tip", "wrist"]}, "repeated: wrist"),
        ({"edges": "all"}, "edges: expected a list"),
        ({"edges": [["left_tip", "wrist"], "right_tip"]}, "edges: expected a pair"),
        ({"edges": [["left_tip", "wrist"], ["right_tip", 3]]}, "edges: 3 is neither"),
        ({"edges": [["left_tip", "wrist"], ["right_tip", True]]}, "edges: True is neither"),
        ({"edges": [["left_tip", "wrist"]]}, "edges: not one tree, joint 2"),
        ({"edges": [[1, 0], [2, 0], [1, 2]]}, "edges: joint 1 has two"),
        ({"edges": [[1, 0], [2, 0], [0, 1]]}, "edges: the center, joint 0"),
        ({"edges": [[1, 2], [2, 1]]}, "edges: not one tree"),
        ({"center": "elbow"}, "center: 'elbow' is neither"),
        ({"center": -1}, "center: -1 is neither"),
        ({"swap": 3}, "swap: expected a list"),
        ({"swap": "sides"}, "swap: expected a list"),
        ({"edges": "names"}, "edges: expected a list"),
        ({"swap": [0, 2]}, "swap: must list"),
        ({"swap": [1, 2, 0]}, "swap: must be its own inverse"),
        ({"swap": [["left_tip", "right_tip", "wrist"]]}, "swap: expected a pair"),
        ({"shoulders": ["left_tip"]}, "shoulders: expected a pair"),
        ({"shoulders": [1, 1]}, "shoulders: .* different"),
    ],
)
def test_yaml_errors_name_the_file_and_the_field(changes, message, tmp_path):
    path = write(tmp_path / "broken.yaml", **changes)
    with pytest.raises(ValueError, match=f"broken.yaml.*{message}"):
        layout_from_yaml(path)


def test_unreadable_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    with pytest.raises(ValueError, match=r"broken\.yaml: cannot read"):
        layout_from_yaml(path)
    for text in ("name: [", "!!python/object/apply:os.getcwd []", "a: " + "[" * 2000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"broken\.yaml: not valid YAML"):
            layout_from_yaml(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"broken.yaml"):
        layout_from_yaml(path)
    path.write_text("just text")
    with pytest.raises(ValueError, match=r"broken\.yaml: missing name, joints"):
        layout_from_yaml(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"center": 5}, "center: 5"),
        ({"edges": ((1, 0), (2, 9))}, r"edges: \[2, 9\]"),
        ({"edges": ((1, 0, 2), (2, 0))}, r"edges: \[1, 0, 2\]"),
        ({"swap": (0, 1, 3)}, "swap: must list"),
        ({"shoulders": (1, 3)}, "shoulders"),
        ({"joints": ()}, "joints must be"),
    ],
)
def test_a_layout_checks_itself(fields, message):
    good = {
        "name": "x",
        "joints": ("a", "b", "c"),
        "edges": ((1, 0), (2, 0)),
        "center": 0,
        "swap": (0, 2, 1),
    }
    Layout(**good)
    with pytest.raises(ValueError, match=f"layout 'x': {message}"):
        Layout(**{**good, **fields})


def test_lists_are_frozen():
    layout = Layout("x", ["a", "b"], [[1, 0]], 0, [0, 1], [0, 1])
    assert layout == Layout("x", ("a", "b"), ((1, 0),), 0, (0, 1), (0, 1))
    assert isinstance(hash(layout), int)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("ui-prmd", [("left_upper_arm", "right_upper_arm"), ("left_upper_leg", "right_upper_leg")]),
        ("ntu-rgb+d", [("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")]),
        ("hand-21", []),
    ],
)
def test_the_sides_of_a_body(name, sides):
    layout = get_layout(name)
    assert [tuple(layout.joints[joint] for joint in pair) for pair in layout.sides] == sides


def test_sides_without_shoulders_are_where_limbs_begin():
    joints = ("root", "left_elbow", "left_arm", "right_arm", "right_elbow", "left_leg")
    edges = ((2, 0), (1, 2), (3, 0), (4, 3), (5, 0))
    one_legged = Layout("x", joints, edges, 0, tuple(range(6)))
    assert one_legged.sides == ((2, 3),)

"""Joints by name: what is matched, what stands in, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.evaluation.joint_mapping import check_layout, map_joints, mapped, parse_pairs
from aimclr_fast.evaluation.labeled_data import EvaluationError, LabeledData
from aimclr_fast.layouts import LAYOUTS, get_layout


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_maps_to_itself(name):
    layout = get_layout(name)
    found = map_joints(layout, layout)
    assert found.source == tuple(range(layout.num_joints))
    assert not found.filled
    assert not found.unused


def test_kinect_v1_as_ntu():
    ntu, kinect = get_layout("ntu-rgb+d"), get_layout("kinect-v1")
    found = map_joints(ntu, kinect)
    source = {ntu.joints[j]: kinect.joints[at] for j, at in enumerate(found.source)}
    assert source["spine_shoulder"] == "shoulder_centre"
    assert source["spine_base"] == "hip_centre"
    assert source["left_elbow"] == "left_elbow"
    filled = dict(found.filled)
    assert filled["left_thumb"] == filled["left_hand_tip"] == "left_hand"
    assert source["left_thumb"] == "left_hand"
    assert filled["neck"] == "spine_shoulder"
    assert not found.unused


def test_either_spelling_of_a_center_joint_is_understood():
    kinect = get_layout("kinect-v1")
    american = replace(kinect, joints=tuple(n.replace("centre", "center") for n in kinect.joints))
    found = map_joints(kinect, american)
    assert found.source == tuple(range(kinect.num_joints))
    assert not found.filled


def test_segments_are_the_joints_they_start_at():
    ours, theirs = get_layout("ntu-rgb+d"), get_layout("ui-prmd")
    named = dict(map_joints(ours, theirs).named)
    assert named["left_shoulder"] == "left_upper_arm"
    assert named["left_ankle"] == "left_foot"
    assert named["left_foot"] == "left_toes"
    assert named["spine_shoulder"] == "chest"


def test_too_few_joints_and_given_ones():
    ntu, coco = get_layout("ntu-rgb+d"), get_layout("coco")
    with pytest.raises(EvaluationError, match=r"only 12 of the 25 joints.*missing: spine_base"):
        map_joints(ntu, coco)
    found = map_joints(ntu, coco, {"head": "nose"})
    assert ("head", "nose") in found.named
    with pytest.raises(EvaluationError, match="'coco' has no joint 'tail'"):
        map_joints(ntu, coco, {"head": "tail"})
    assert parse_pairs(["head=nose"]) == {"head": "nose"}
    for odd in ("head", "=nose", "head="):
        with pytest.raises(EvaluationError, match="ENCODER_JOINT=DATA_JOINT"):
            parse_pairs([odd])


def test_mapped_sequences_are_centered_on_the_encoders_center():
    ui, kinect = get_layout("ui-prmd"), get_layout("kinect-v1")
    sequences = torch.randn(2, 3, 4, kinect.num_joints, 1)
    data = LabeledData(
        sequences, torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]), ("a", "b"), kinect,
        torch.tensor([0, 1]).numpy(), torch.device("cpu"),
    )  # fmt: skip
    with pytest.raises(EvaluationError, match=r"takes layout 'ui-prmd' \(22 joints\)"):
        check_layout(data, ui)
    found = mapped(data, ui, map_joints(ui, kinect))
    assert found.sequences.shape == (2, 3, 4, 22, 1)
    assert not found.sequences[:, :, :, ui.center].any()
    elbow, knee = kinect.joints.index("left_elbow"), kinect.joints.index("left_knee")
    ours = found.sequences[:, :, :, ui.joints.index("left_forearm")]
    ours = ours - found.sequences[:, :, :, ui.joints.index("left_lower_leg")]
    assert torch.allclose(ours, sequences[:, :, :, elbow] - sequences[:, :, :, knee], atol=1e-6)
    check_layout(found, ui)


def test_data_without_wrists_ankles_or_a_joint_between_the_shoulders():
    bandai, kard = get_layout("bandai2"), get_layout("kard")
    found = map_joints(bandai, kard)
    named, filled = dict(found.named), dict(found.filled)
    assert named["left_hand"] == "left_hand"  # and not at the elbow
    assert named["left_toes"] == "left_foot"
    assert filled["left_foot"] == "left_toes"
    assert filled["chest"] == "neck"
    assert not found.unused
    named = dict(map_joints(kard, bandai).named)
    assert (named["left_hand"], named["right_foot"]) == ("left_hand", "right_toes")


def test_mapped_sequences_keep_the_trajectory_where_the_data_do():
    ui, kinect = get_layout("ui-prmd"), get_layout("kinect-v1")
    sequences = torch.randn(2, 3, 4, kinect.num_joints, 2)
    sequences[1, :, 0, :, 0] = 0  # a body that comes late
    steps = Preprocessing(4, "exact", normalize="sequence")
    data = LabeledData(
        sequences, torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1]), ("a", "b"), kinect,
        torch.tensor([0, 1]).numpy(), torch.device("cpu"), preprocessing=steps,
    )  # fmt: skip
    joints = map_joints(ui, kinect)
    found = mapped(data, ui, joints).sequences
    for sample, first in ((0, 0), (1, 1)):
        assert not found[sample, :, first, ui.center, 0].any()
        picked = sequences[sample][:, :, list(joints.source)]
        moved = picked - picked[:, first, ui.center, 0][:, None, None, None]
        moved[:, :first, :, 0] = 0
        torch.testing.assert_close(found[sample], moved)

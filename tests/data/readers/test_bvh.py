"""BVH: the format, the skeleton that it brings along, and what is refused."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import zipfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from data.readers.bvh_files import PERSON, POSITIONS, ROTATIONS, TIPS, bvh_text, places
from data.readers.test_ntu import read_all

from aimclr_fast import load_encoder
from aimclr_fast.data import open_store
from aimclr_fast.data.joint_mapping import map_joints
from aimclr_fast.data.readers import Options, ReadError, get_reader
from aimclr_fast.data.readers._bvh import parse
from aimclr_fast.data.retargeting import retargeted
from aimclr_fast.data.timing import Timing, timed
from aimclr_fast.layouts import get_layout, layout_from_yaml, same_skeleton
from aimclr_fast.prepare import command_line
from aimclr_fast.train import command_line as train

BY_OTHERS = Path(__file__).parent / "bvh"


def write(folder: Path, text: str | bytes, name: str = "a.bvh") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def plan_of(source: Path, **options):
    return get_reader("bvh").plan(source, Options(**options))


def refused(source: Path, **options) -> str:
    with pytest.raises(ReadError) as caught:
        plan_of(source, **options)
    return str(caught.value)


def check_places(text: str) -> None:
    """The reader's places of all joints against the test's."""
    motion = parse(text, "x")
    expected = places(text)
    assert [node.name for node in motion.nodes] == list(expected)
    np.testing.assert_allclose(
        motion.positions(), np.stack(list(expected.values()), axis=1), atol=1e-9
    )


# The format.


@pytest.mark.parametrize("order", list(permutations("XYZ")), ids="".join)
@pytest.mark.parametrize("moved", ["root", "all", "after", "one", "none"])
def test_channels_in_any_order(order, moved):
    turns = tuple(f"{axis}rotation" for axis in order)

    def channels(joint):
        root = joint == "hips"
        if moved == "after":
            return (*turns, *reversed(POSITIONS))
        if moved == "one":
            return (turns[0], "Yposition", *turns[1:])
        if moved == "none":
            return turns[: 3 if root else 1 + len(joint) % 2]
        return (*POSITIONS, *turns) if root or moved == "all" else turns

    check_places(bvh_text(channels=channels, frames=5))


def test_long_files_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr("aimclr_fast.data.readers._trees._BLOCK", 5)
    check_places(bvh_text(frames=12))


@pytest.mark.parametrize("writer", ["bvhio", "pybvh"])
def test_files_written_by_other_programs(writer):
    """Five frames, written by these libraries, with the places that they compute."""
    text = (BY_OTHERS / f"{writer}.bvh").read_text()
    check_places(text)
    motion = parse(text, writer)
    expected = np.load(BY_OTHERS / f"{writer}.npz")
    names = [node.name for node in motion.nodes]
    found = dict(zip(names, motion.positions().swapaxes(0, 1), strict=True))
    for joint in expected:
        np.testing.assert_allclose(found[joint], expected[joint], atol=1e-4)
    assert len(expected.files) == len(PERSON)


REAL = sorted(Path(os.environ.get("AIMCLR_BVH", "/nowhere")).glob("*.bvh"))


@pytest.mark.parametrize("file", REAL or [None], ids=lambda file: file and file.stem)
def test_real_files(file):
    """Of Bandai-Namco's second data set, whose license does not let us ship them."""
    if file is None:
        pytest.skip("AIMCLR_BVH names no folder with files of Bandai-Namco's second data set")
    text = file.read_text()
    check_places(text)
    plan, (recording,) = read_all("bvh", file)
    layout = plan.layout
    x = recording.positions[..., 0]  # [3, T, V]
    for joint, parent in layout.edges:
        lengths = np.linalg.norm(x[:, :, joint] - x[:, :, parent], axis=0)
        assert np.ptp(lengths) < 1e-3 * lengths.mean()
    bandai = get_layout("bandai2")
    assert same_skeleton(layout, bandai)
    assert (layout.center, layout.shoulders) == (bandai.center, bandai.shoulders)
    assert layout.body_parts == bandai.body_parts
    assert any("joint_Root: carries the trajectory alone" in note for note in plan.notes)
    assert any(note.startswith("unit: cm") for note in plan.notes)
    expected = places(text)
    hips, toes = layout.joints.index("hips"), layout.joints.index("left_toes")
    np.testing.assert_allclose(x[:, :, hips].T * 100, expected["Hips"], atol=1e-9)
    np.testing.assert_allclose(x[:, :, toes].T * 100, expected["Toes_L"], atol=1e-9)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", " ", text[: text.index("MOTION") - 1].count("\n")),
        lambda text: text.replace("Frames:", "FRAMES :\t").replace("CHANNELS", "Channels"),
        lambda text: text.replace("JOINT spine\n\t{", "JOINT spine {"),
        lambda text: text.upper().replace("END SITE", "End Site tip"),
        lambda text: text.rstrip("\n") + "  ",
    ],
)  # fmt: skip
def test_forms_that_programs_write(form, tmp_path):
    text = bvh_text(frames=4)
    file = tmp_path / "a.bvh"
    file.write_bytes(form(text).encode())
    np.testing.assert_array_equal(
        read_all("bvh", file)[1][0].positions,
        read_all("bvh", write(tmp_path / "b", text))[1][0].positions,
    )
    file.write_bytes(form(text).removeprefix("\ufeff").encode("utf-16"))
    assert read_all("bvh", file)[1][0].positions.shape[1] == 4


def test_only_the_beginning_of_a_long_file_is_read_while_planning(tmp_path, monkeypatch):
    text = bvh_text(frames=400)
    assert len(text) > 1 << 16
    sources = [write(tmp_path, text, f"{n:02}.bvh") for n in range(20)]
    read = []
    load = get_reader("bvh")._bvh.load
    monkeypatch.setattr(
        "aimclr_fast.data.readers._bvh.load", lambda entry: read.append(entry.name) or load(entry)
    )
    plan = plan_of(tmp_path)
    assert len(plan.units) == len(sources)
    assert len(read) == 10  # at most 16, evenly spread
    wide = write(tmp_path / "wide", text.replace("Frame Time", "\n" * (1 << 16) + "Frame Time"))
    assert len(plan_of(wide).units) == 1


# What is wrong with a file.

SOUND = bvh_text(frames=6)
VALUES = SOUND.splitlines()[-1].split()


def without_line(start: str) -> str:
    lines = SOUND.splitlines()
    del lines[next(i for i, line in enumerate(lines) if line.strip().startswith(start))]
    return "\n".join(lines)


def deep(levels: int) -> str:
    each = "{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n"
    joints = "".join(f"JOINT j{n}\n{each}" for n in range(levels))
    values = " ".join(["0"] * (levels + 1))
    return f"HIERARCHY\nROOT r\n{each}{joints}{'}' * (levels + 1)}\nMOTION\nFrames: 1\n" + (
        f"Frame Time: 0.1\n{values}\n"
    )


BROKEN = {
    "nothing": ("", "begins with HIERARCHY"),
    "another format": ("ply\nformat ascii", ":1: a BVH file begins with HIERARCHY, got 'ply'"),
    "no motion": (SOUND.split("MOTION")[0], "no MOTION after the hierarchy"),
    "cut off in the hierarchy": (SOUND[:700], "ends too early|expected"),
    "cut off in a frame": (SOUND[:-40], r":\d+: \d+ values, but the joints have 66 channels"),
    "cut off after a frame": (
        SOUND.rsplit("\n", 2)[0],
        "Frames: 6, but 5 lines of values: the file was cut off",
    ),
    "too many frames": (SOUND.replace("Frames: 6", "Frames: 5"), "there are more lines"),
    "no frames": (SOUND.replace("Frames: 6", "Frames: 0"), "Frames: 0: 1 to 108,000"),
    "far too many frames": (SOUND.replace("Frames: 6", f"Frames: {'9' * 5000}"), "1 to 108,000"),
    "frames in words": (SOUND.replace("Frames: 6", "Frames: six"), "Frames: six"),
    "no frame time": (without_line("Frame Time"), "expected Frame Time: and seconds, got '3.0"),
    "no count": (without_line("Frames:"), "expected Frames: and a whole number"),
    "a rate for a time": (SOUND.replace("0.0333333", "30"), "Frame Time: 30: expected the seconds"),
    "no time": (SOUND.replace("0.0333333", "0"), "Frame Time: 0"),
    "time is NaN": (SOUND.replace("0.0333333", "nan"), "Frame Time: nan"),
    "a value too few": (SOUND.replace(VALUES[-1], "", 1), "65 values, but the joints have 66"),
    "a value too many": (SOUND.replace(VALUES[-1], "1 2", 1), "67 values, but the joints have 66"),
    "a word": (SOUND.replace(VALUES[-1], "x", 1), "got 'x'"),
    "NaN": (SOUND.replace(VALUES[-1], "NaN", 1), r":\d+: expected a number of at most .* 'NaN'"),
    "infinite": (SOUND.replace(VALUES[-1], "-inf", 1), "got '-inf'"),
    "huge": (SOUND.replace(VALUES[-1], "1e300", 1), "got '1e300'"),
    "beyond all numbers": (SOUND.replace(VALUES[-1], "9" * 10**5, 1), "got '99999"),
    "a huge offset": (SOUND.replace("OFFSET 0 12 0", "OFFSET 0 1e30 0"), "got '1e30'"),
    "an offset of two": (SOUND.replace("OFFSET 0 12 0", "OFFSET 0 12"), "got 'CHANNELS'"),
    "two offsets": (SOUND.replace("OFFSET 0 12 0", "OFFSET 0 1 0 OFFSET 0 1 0"), "got 'OFFSET'"),
    "no offset": (without_line("OFFSET 0 12 0"), "'spine' has no OFFSET"),
    "no channels": (without_line("CHANNELS 3"), "joint 'spine' has no CHANNELS"),
    "a channel too few": (SOUND.replace("CHANNELS 6", "CHANNELS 5"), "got 'Yrotation'"),
    "a channel too many": (SOUND.replace("CHANNELS 3", "CHANNELS 4", 1), "got 'JOINT'"),
    "far too many channels": (SOUND.replace("CHANNELS 6", "CHANNELS 7"), "a joint has 0 to 6"),
    "a count that is none": (SOUND.replace("CHANNELS 6", "CHANNELS -1"), "a joint has 0 to 6"),
    "another channel": (SOUND.replace("Xposition", "Xscale"), "got 'Xscale'"),
    "a channel twice": (SOUND.replace("Yposition", "Xposition"), "channel Xposition twice"),
    "a name twice": (
        SOUND.replace("JOINT right_foot", "JOINT left_foot"),
        r":\d+: joint 'left_foot' has the name of the one in line \d+",
    ),
    "no name": (SOUND.replace("JOINT spine", "JOINT"), "a name of 1 to 200 characters, not of 0"),
    "a long name": (SOUND.replace("spine", "s" * 10**6), "characters, not of 1,000,000"),
    "no root": (SOUND.replace("ROOT", "JOINT"), "expected ROOT after HIERARCHY"),
    "a joint in an end site": (
        SOUND.replace("OFFSET 0 16 0", "OFFSET 0 16 0 JOINT x {"),
        "expected OFFSET or }",
    ),
    "two skeletons": (SOUND.replace("MOTION", "ROOT b { OFFSET 0 0 0 } MOTION"), "a second ROOT"),
    "a brace too many": (SOUND.replace("MOTION", "} MOTION"), "expected MOTION, got '}'"),
    "not UTF-8": (
        SOUND.replace("spine", "ryggrad\xe5").encode("latin-1"),
        "not UTF-8 text .*: save it as UTF-8",
    ),
    "10,000 deep": (deep(10_000), "200 in a chain"),
    "braces": ("HIERARCHY ROOT r " + "{" * 10**5, "expected"),
    "1,100 joints": (
        deep(0).replace("}", "JOINT a { OFFSET 0 1 0 CHANNELS 0 }" * 1100 + "}"),
        "has the name of",
    ),
    "no channels at all": (
        "HIERARCHY ROOT r { OFFSET 0 0 0 CHANNELS 0 }\nMOTION\nFrames: 1\nFrame Time: 0.1\n1\n",
        "no joint has channels",
    ),
    "bytes": (bytes(range(256)) * 9, "not UTF-8 text|begins with HIERARCHY"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_errors_with_the_line(how, tmp_path, capsys):
    text, message = BROKEN[how]
    file = write(tmp_path, text)
    with pytest.raises(ReadError, match=message) as caught:
        list(plan_of(file).read(plan_of(file).units[0]))
    assert str(file) in str(caught.value)
    with pytest.raises(SystemExit) as left:
        command_line(["bvh", str(file), str(tmp_path / "out"), "--jobs=1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.count("\n") == 1
    assert len(error) < 600


def test_any_damage_is_an_error_or_a_recording(tmp_path):
    rng = random.Random(0)
    parts = ["{", "}", "nan", "1e999", "-", "JOINT", "End Site", "CHANNELS", "\x00", "MOTION", "0"]
    read = 0
    for _ in range(400):
        text = list(SOUND)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 40])] = rng.choice(parts)
        cut = "".join(text)[: rng.choice([None, None, rng.randrange(len(text))])]
        with contextlib.suppress(ReadError):
            assert np.isfinite(parse(cut, "x").positions()).all()
            read += 1
    assert 0 < read < 300


def test_damaged_files_are_left_out(tmp_path, capsys):
    for n in range(3):
        write(tmp_path / "in", bvh_text(seed=n), f"{n}.bvh")
    write(tmp_path / "in", SOUND[:300], "cut.bvh")
    write(tmp_path / "in", SOUND[:-40], "short.bvh")
    command_line(["folder", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1"])
    assert "left out: 2, because it" in capsys.readouterr().out
    assert open_store(tmp_path / "out").samples["name"].tolist() == ["0", "1", "2"]
    rows = (tmp_path / "out" / "left_out.csv").read_text()
    assert "cut.bvh:" in rows
    assert "short.bvh:" in rows


# The skeleton.

#: What programs call the joints of PERSON, in its order.
CALLED = {
    "Mixamo": "mixamorig:Hips mixamorig:Spine mixamorig:Spine1 mixamorig:Neck mixamorig:Head "
    + "".join(
        f"mixamorig:{s}Shoulder mixamorig:{s}Arm mixamorig:{s}ForeArm mixamorig:{s}Hand "
        f"mixamorig:{s}UpLeg mixamorig:{s}Leg mixamorig:{s}Foot mixamorig:{s}ToeBase "
        for s in ("Left", "Right")
    ),
    "Bandai": "Hips Spine Chest Neck Head "
    + "".join(
        f"Shoulder_{s} UpperArm_{s} LowerArm_{s} Hand_{s} UpperLeg_{s} LowerLeg_{s} Foot_{s} "
        f"Toes_{s} "
        for s in "LR"
    ),
    "Biped": "Bip01_Pelvis Bip01_Spine Bip01_Spine1 Bip01_Neck Bip01_Head "
    + "".join(
        f"Bip01_{s}_Clavicle Bip01_{s}_UpperArm Bip01_{s}_Forearm Bip01_{s}_Hand Bip01_{s}_Thigh "
        f"Bip01_{s}_Calf Bip01_{s}_Foot Bip01_{s}_Toe0 "
        for s in "LR"
    ),
    "Unreal": "pelvis spine_01 spine_03 neck_01 head "
    + "".join(
        f"clavicle_{s} upperarm_{s} lowerarm_{s} hand_{s} thigh_{s} calf_{s} foot_{s} ball_{s} "
        for s in "lr"
    ),
    "Poser": "hip abdomen chest neck head "
    + "".join(
        f"{s}Collar {s}Shldr {s}ForeArm {s}Hand {s}Thigh {s}Shin {s}Foot {s}Toe " for s in "lr"
    ),
    "Biovision": "Hips Chest Chest2 Neck Head "
    + "".join(
        f"{s}Collar {s}Shoulder {s}Elbow {s}Wrist {s}Hip {s}Knee {s}Ankle {s}Toe "
        for s in ("Left", "Right")
    ),
    "Acclaim": "hips spine chest neck head "
    + "".join(
        f"{s}clavicle {s}humerus {s}radius {s}hand {s}femur {s}tibia {s}foot {s}toes " for s in "lr"
    ),
    "SMPL": "Pelvis Spine1 Spine3 Neck Head "
    + "".join(
        f"{s}_Collar {s}_Shoulder {s}_Elbow {s}_Wrist {s}_Hip {s}_Knee {s}_Ankle {s}_Foot "
        for s in "LR"
    ),
}  # fmt: skip
LIMBS = [name for name, _, _ in PERSON if name.startswith(("left_", "right_"))]


def naming(program: str) -> dict[str, str]:
    return dict(zip((name for name, _, _ in PERSON), CALLED[program].split(), strict=True))


@pytest.mark.parametrize("program", CALLED)
def test_layouts_are_derived_from_the_names(program, tmp_path):
    names = naming(program)
    text = bvh_text(called=names.__getitem__)
    write(tmp_path, text)
    plan = plan_of(tmp_path)
    layout = plan.layout
    joints = [name for name in layout.joints if not name.endswith("_end")]
    assert layout.num_joints == len(joints) + 1  # the head has a tip, the hands' are of length zero
    found = dict(zip((n.name for n in parse(text, "x").nodes if not n.end), joints, strict=True))
    # SMPL's feet are joints beside the ankles.
    smpl = {"foot": "ankle", "toes": "foot"} if program == "SMPL" else {}
    for name in ("hips", "head", *LIMBS):
        side, _, part = name.rpartition("_")
        assert found[names[name]] == (f"{side}_{smpl[part]}" if part in smpl else name)
    mirrored = {layout.joints[a]: layout.joints[b] for a, b in enumerate(layout.swap)}
    for name in joints:
        other = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        assert mirrored[name] == other
    shoulders = tuple(layout.joints[joint] for joint in layout.shoulders)
    assert shoulders == ("left_upper_arm", "right_upper_arm")
    assert layout.joints[layout.center] == found[names["chest"]]
    arm, leg = (["upper_arm", "lower_arm", "hand"], ["upper_leg", "lower_leg", "foot", "toes"])
    for part, limb in zip(layout.body_parts[1:], (arm, arm, leg, leg), strict=True):
        side = layout.joints[part[0]].partition("_")[0]
        assert [layout.joints[joint] for joint in part] == [
            found[names[f"{side}_{n}"]] for n in limb
        ]
    assert any(names["left_hand"] in note for note in plan.notes)
    assert any("trunk 8, right arm 3, left arm 3, right leg 4" in note for note in plan.notes)
    for name in ("ntu-rgb+d", "smpl-22", "bandai2", "kinect-v1"):
        matched = dict(map_joints(get_layout(name), layout).named)
        segments = name == "bandai2"
        assert matched["left_lower_arm" if segments else "left_elbow"] == "left_lower_arm"
        assert matched["right_lower_leg" if segments else "right_knee"] == "right_lower_leg"


def test_what_has_no_side_keeps_its_place(tmp_path):
    """Xsens's L5 is a vertebra; a tail has no mirror image; names of other scripts are kept."""
    names = {"spine": "L5", "chest": "L3", "neck": "L_Tail", "head": "頭"}
    write(tmp_path, bvh_text(called=lambda joint: names.get(joint, joint)))
    layout = plan_of(tmp_path).layout
    assert layout.joints[:5] == ("hips", "l5", "chest", "l_tail", "頭")
    assert [layout.swap[joint] for joint in range(5)] == list(range(5))
    assert layout.swap[7] != 7


def test_a_joint_may_have_the_name_of_an_end_site(tmp_path):
    person = (*PERSON, ("head_end", "head", (0, 20, 0)))
    write(tmp_path, bvh_text(person=person))
    layout = plan_of(tmp_path).layout
    assert {"head", "head_end", "head_end2"} < set(layout.joints)


def test_names_that_would_be_one_stay_apart(tmp_path):
    names = {"left_hand": "Left_Arm", "neck": "left arm", "left_upper_arm": "LeftArm"}
    write(tmp_path, bvh_text(called=lambda joint: names.get(joint, joint).replace(" ", "__")))
    layout = plan_of(tmp_path, unit="cm").layout
    assert len(set(layout.joints)) == layout.num_joints


@pytest.mark.parametrize("name", ["root", "Reference", "Hips"])
def test_a_root_that_carries_the_trajectory_is_left_out(name, tmp_path):
    """By the name of the joint below, or, as here with Pelvis for both, as its distance changes."""
    file = write(
        tmp_path,
        bvh_text(
            above=(name, (*POSITIONS, *ROTATIONS)),
            channels=lambda joint: (*POSITIONS, *ROTATIONS),
            called=lambda joint: "Pelvis" if joint == "hips" else joint,
        ),
    )
    plan, (recording,) = read_all("bvh", file)
    assert f"{name}: carries the trajectory alone and is left out" in "\n".join(plan.notes)
    assert plan.layout.joints[0] == "hips"
    assert plan.layout.num_joints == len(PERSON) + 1
    expected = places(file.read_text())["Pelvis"] / 100
    np.testing.assert_allclose(recording.positions[:, :, 0, 0].T, expected, atol=1e-9)


def test_a_root_with_a_bone_of_its_own_stays(tmp_path):
    """The hips of a file that moves no joint but by rotation, above a spine alone."""
    spine = [joint for joint in PERSON if "leg" not in joint[0] and "foot" not in joint[0]]
    spine = [joint for joint in spine if "toes" not in joint[0]]
    write(tmp_path, bvh_text(person=spine))
    assert "the joints' names do not tell head and feet" in refused(tmp_path)
    plan = plan_of(tmp_path, unit="cm")
    assert plan.layout.joints[0] == "hips"
    assert not any("trajectory" in note for note in plan.notes)


def test_joints_where_their_parent_is_are_left_out(tmp_path):
    """End sites of length zero, and joints, as CMU's LHipJoint; what hangs from them moves up."""
    between = (("left_hip_joint", "hips", (0, 0, 0)),)
    person = [
        (name, "left_hip_joint" if name == "left_upper_leg" else parent, offset)
        for name, parent, offset in (*PERSON[:1], *between, *PERSON[1:])
    ]
    write(tmp_path, bvh_text(person=person))
    plan = plan_of(tmp_path)
    assert "left_hip_joint" not in plan.layout.joints
    joints = plan.layout.joints
    assert (joints.index("left_upper_leg"), 0) in plan.layout.edges
    (note,) = (note for note in plan.notes if note.startswith("always where their parent is"))
    for name in ("left_hip_joint", "left_hand_end", "right_hand_end"):
        assert name in note


def test_files_of_two_skeletons_are_refused_by_name(tmp_path):
    for n in range(3):
        write(tmp_path, bvh_text(seed=n), f"{n}.bvh")
    write(tmp_path, bvh_text(called=lambda joint: joint.replace("toes", "toe")), "other.bvh")
    message = refused(tmp_path)
    assert message.startswith(
        f"{tmp_path / 'other.bvh'}: another skeleton than {tmp_path / '0.bvh'}"
    )
    assert "without left_toes, right_toes; with left_toe, right_toe" in message
    assert "of 4 files, 3 have that" in message
    (tmp_path / "other.bvh").unlink()
    shuffled = [PERSON[0], *PERSON[5:], *PERSON[1:5]]
    write(tmp_path, bvh_text(person=shuffled), "other.bvh")
    assert "the same joints in another order" in refused(tmp_path)


def test_the_layout_in_the_store_can_be_edited(tmp_path, capsys):
    write(tmp_path / "in", bvh_text())
    arguments = ["bvh", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1"]
    command_line(arguments)
    file = tmp_path / "out" / "layout.yaml"
    assert f"layout: {file} (--layout takes it)" in capsys.readouterr().out
    store = open_store(tmp_path / "out")
    assert layout_from_yaml(file) == store.layout
    text = file.read_text().replace("- [head_end, head]\n", "").replace("head_end, ", "")
    edited = tmp_path / "mine.yaml"
    edited.write_text(text.replace("bvh-22", "mine").replace("left_hand", "Hand"))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command_line([*arguments, "--overwrite", f"--layout={edited}"])
    assert "layout mine has joints that are not in the files: Hand" in capsys.readouterr().err
    edited.write_text(text.replace("bvh-22", "mine"))
    command_line([*arguments, "--overwrite", f"--layout={edited}"])
    mine = open_store(tmp_path / "out")
    assert mine.layout == layout_from_yaml(edited)
    assert not file.exists()
    kept = [store.layout.joints.index(joint) for joint in mine.layout.joints]
    np.testing.assert_array_equal(mine.positions, store.positions[:, :, :, kept])


@pytest.mark.parametrize("layout", ["ntu-rgb+d", "kinect-v1", "smpl-24"])
def test_to_another_layout(layout, tmp_path, capsys):
    write(tmp_path / "in", bvh_text(frames=50, called=naming("Mixamo").__getitem__))
    folders = [str(tmp_path / name) for name in ("in", "out")]
    command_line(["folder", *folders, "--jobs=1", f"--to={layout}", "--rotate=none"])
    said = capsys.readouterr().out
    assert f"--to {layout}: " in said
    assert "joints matched by name" in said
    store = open_store(tmp_path / "out")
    assert store.layout == get_layout(layout)
    assert not (tmp_path / "out" / "layout.yaml").exists()
    assert "layout.yaml" not in said
    x = np.array(store.positions[0, :, :, :, 0])
    names = store.layout.joints
    elbow, wrist = (x[:, :, names.index(f"left_{part}")] for part in ("elbow", "wrist"))
    np.testing.assert_allclose(np.linalg.norm(elbow - wrist, axis=0), 0.25, atol=2e-3)


def test_to_a_layout_with_other_names_is_refused(tmp_path, capsys):
    write(tmp_path / "in", bvh_text())
    with pytest.raises(SystemExit) as caught:
        command_line(["bvh", str(tmp_path / "in"), str(tmp_path / "out"), "--to=hand-21"])
    assert caught.value.code == 2
    assert "--to hand-21: layout 'bvh-22' has only" in capsys.readouterr().err


# Units and axes.


@pytest.mark.parametrize(("unit", "scale"), [("m", 0.01), ("cm", 1.0), ("mm", 10.0)])
def test_units_are_found_and_said(unit, scale, tmp_path):
    write(tmp_path, bvh_text(scale=scale))
    plan, (recording,) = read_all("bvh", tmp_path)
    assert any(note.startswith(f"unit: {unit}, in which the body is 1.85 m") for note in plan.notes)
    x = recording.positions[..., 0]
    thigh = [plan.layout.joints.index(f"left_{part}_leg") for part in ("upper", "lower")]
    length = np.linalg.norm(x[:, :, thigh[0]] - x[:, :, thigh[1]], axis=0)
    np.testing.assert_allclose(length, 0.42, atol=1e-6)


def test_other_units_are_refused_until_they_are_given(tmp_path, capsys):
    write(tmp_path / "in", bvh_text(scale=1 / 2.54))  # inches
    message = refused(tmp_path / "in")
    assert "is no person in m, cm or mm: say the unit of lengths with --unit" in message
    command_line(["bvh", str(tmp_path / "in"), str(tmp_path / "out"), "--unit=0.0254", "--jobs=1"])
    assert "nothing odd" in capsys.readouterr().out
    for wrong in ("inch", "0", "-1", "nan", "1e9"):
        with pytest.raises(SystemExit):
            command_line(["bvh", str(tmp_path / "in"), str(tmp_path / "x"), f"--unit={wrong}"])
        assert f"--unit {wrong}: choose from m, cm, mm, or give its" in capsys.readouterr().err


def test_two_units_in_one_source_are_refused(tmp_path):
    for name, scale in (("a", 1.0), ("b", 1.1), ("c", 0.01)):
        write(tmp_path, bvh_text(scale=scale), f"{name}.bvh")
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path / 'c.bvh'}: the body is 1.85")
    assert "which is another unit: prepare them separately" in message


def test_without_heads_and_feet_the_unit_is_asked_for(tmp_path):
    write(tmp_path, bvh_text(called=lambda joint: f"part{[n for n, _, _ in PERSON].index(joint)}"))
    assert "the joints' names do not tell head and feet" in refused(tmp_path)
    plan = plan_of(tmp_path, unit="cm")
    said = "\n".join(plan.notes)
    assert "up: y, as is usual" in said
    assert "left and right: no names tell them, so no joints are exchanged" in said
    assert "no shoulders are found, so nothing is turned" in said
    assert "body parts: the names do not tell them" in said
    assert plan.layout.swap == tuple(range(len(PERSON) + 1))


def upright(axes) -> dict:
    """PERSON with its axes exchanged."""
    return {
        "person": [(name, parent, axes(*offset)) for name, parent, offset in PERSON],
        "tips": {name: axes(*offset) for name, offset in TIPS.items()},
    }


@pytest.mark.parametrize(
    ("up", "axes"),
    [
        ("z", lambda x, y, z: (x, -z, y)),
        ("-y", lambda x, y, z: (x, -y, -z)),
        ("y", lambda x, y, z: (z, y, -x)),
    ],
)
def test_the_axis_that_points_up_is_found_and_said(up, axes, tmp_path, capsys):
    write(tmp_path / "in", bvh_text(**upright(axes)))
    assert any(note.startswith(f"up: {up}; from feet") for note in plan_of(tmp_path / "in").notes)
    command_line(["bvh", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1"])
    assert "up: y, in 100% of the bodies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("axes", "seen"),
    [
        (lambda x, y, z: (y, -x, z), "it is x in 100%"),
        (lambda x, y, z: (x, z, -y), "it is -z in 100%"),
    ],
)
def test_another_axis_is_refused(axes, seen, tmp_path):
    write(tmp_path, bvh_text(**upright(axes)))
    message = refused(tmp_path)
    assert seen in message
    assert "say which axis points up with --up" in message
    assert plan_of(tmp_path, up="y").layout.num_joints == len(PERSON) + 1  # a person who lies


# A source.


def test_a_zip_with_labels_and_splits(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for n in range(4):
            archive.writestr(f"all/walk{n}.BVH", bvh_text(seed=n))
        rows = [f"walk{n}.bvh,{n % 2},{'train' if n < 2 else 'test'}\n" for n in range(4)]
        archive.writestr("all/labels.csv", "name,label,split\n" + "".join(rows))
    plan, found = read_all("folder", tmp_path / "in.zip")
    assert plan.reader == "bvh"
    assert [(r.name, r.columns["label"]) for r in found] == [(f"walk{n}", n % 2) for n in range(4)]
    assert plan.splits["split"]["column"] == "split"
    assert all(recording.rate == pytest.approx(30, abs=1e-3) for recording in found)


def test_among_arrays_they_are_ignored_and_counted(tmp_path):
    write(tmp_path, bvh_text())
    np.save(tmp_path / "b.npy", np.random.default_rng(0).normal(size=(9, 22, 3)))
    plan, found = read_all("folder", tmp_path, layout="ui-prmd")
    assert [recording.name for recording in found] == ["b"]
    assert "ignored: 1 BVH files (prepare bvh reads them)" in plan.notes


def test_a_source_without_any(tmp_path):
    write(tmp_path, "x", "a.txt")
    assert "holds no .bvh files; ignored: 1 files (1 .txt)" in refused(tmp_path)
    assert "a.txt" in refused(write(tmp_path / "b", "x", "a.txt"))


def test_plans_go_to_other_processes(tmp_path):
    write(tmp_path, bvh_text())
    plan = timed(retargeted(plan_of(tmp_path), "kinect-v1"), Timing(fps=15, window=0.2))
    found = list(pickle.loads(pickle.dumps(plan.read))(plan.units[0]))
    assert [recording.positions.shape for recording in found] == [(3, 3, 20, 1)] * 2


def test_rates_are_said(tmp_path):
    write(tmp_path, bvh_text())
    assert "frames per second: 30 (1 files)" in plan_of(tmp_path).notes
    write(tmp_path, bvh_text(time="0.00833333"), "b.bvh")
    assert "--fps brings them to one rate" in "\n".join(plan_of(tmp_path).notes)


def test_a_folder_trains_end_to_end(tmp_path, monkeypatch, capsys):
    for n in range(12):
        write(tmp_path / "in", bvh_text(seed=n, frames=30), f"{'walk' if n % 2 else 'wave'}{n}.bvh")
    rows = "".join(f"{'walk' if n % 2 else 'wave'}{n},{n % 2},{n // 2}\n" for n in range(12))
    (tmp_path / "in" / "labels.csv").write_text("name,label,subject\n" + rows)
    command_line(["folder", str(tmp_path / "in"), str(tmp_path / "store"), "--jobs=1"])
    said = capsys.readouterr().out
    assert "--split odd-even" in said
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "data: {store: store, split: odd-even, stream: joint}\n"
        "model: {channels: 4, features: 8, embedding: 8, dropout: 0.0, queue_size: 8}\n"
        "optim: {epochs: 1, batch_size: 4, lr: 0.01}\n"
        "monitor: {raw_poses: false, linear_probe: false}\nthreads: 1\n"
    )
    train(["--config", "tiny.yaml", "--output", "run"])
    x = open_store(tmp_path / "store").as_tensor(slice(0, 3)).permute(0, 4, 2, 3, 1)
    encoder = load_encoder(tmp_path / "run" / "checkpoint.pt")
    assert encoder(x, preprocessed=True).shape == (3, 8)

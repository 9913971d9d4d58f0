"""Left and right exchanged, and people who lie: found, said, and settled by a flag."""

from __future__ import annotations

import re

import numpy as np
import pytest
from data.readers.bvh_files import PERSON, bvh_text
from data.readers.marker_files import walk, z_up
from data.readers.test_bvh import plan_of, refused, upright, write
from data.readers.test_mediapipe import landmarks, save
from data.readers.test_ntu import read_all
from data.readers.test_trc import save as save_trc

from aimclr_fast.data import open_store
from aimclr_fast.data.chirality import sides_of
from aimclr_fast.data.readers import ReadError, with_sides
from aimclr_fast.data.readers._landmarks import LAYOUT
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import command_line

OTHER = {"left": "right", "right": "left"}
ASKS = "--sides swap exchanges the names, --sides mirror negates an axis, --sides keep leaves them"


def exchanged(name: str) -> str:
    side, mark, rest = name.partition("_")
    return f"{OTHER.get(side, side)}{mark}{rest}"


def standing(layout_name: str = "mediapipe") -> np.ndarray:
    """A person who stands, facing z, y up, in a layout's joints, ``[9, V, 3]``."""
    height = {
        "ear": 1.6, "eye": 1.62, "nose": 1.6, "mouth": 1.55, "shoulder": 1.4, "elbow": 1.1,
        "hip": 0.9, "toe": 0.04, "knee": 0.5, "ankle": 0.1, "heel": 0.05, "foot": 0.04, "head": 1.7,
        "neck": 1.5,
    }  # fmt: skip
    ahead = {
        "nose": 0.12,
        "eye": 0.09,
        "mouth": 0.1,
        "foot": 0.17,
        "toe": 0.17,
        "heel": -0.06,
        "knee": 0.02,
    }
    out = np.zeros((9, get_layout(layout_name).num_joints, 3))
    for joint, name in enumerate(get_layout(layout_name).joints):
        words = name.split("_")
        part = next((word for word in words if word in height), "")
        side = 1 if "left" in words else -1 if "right" in words else 0
        wide = 0.05 if height.get(part, 1) > 1.5 else 0.18 if height.get(part, 1) > 1 else 0.1
        out[:, joint] = [wide * side, height.get(part, 0.8), ahead.get(part, 0)]
    return out + 0.01 * np.sin(np.arange(9))[:, None, None]


# What motion shows.


@pytest.mark.parametrize("name", ["mediapipe", "kinect-v1", "ntu-rgb+d", "smpl-22", "openpose-25"])
@pytest.mark.parametrize("degrees", [0, 90, 215])
def test_a_person_is_told_from_a_mirror_image(name, degrees):
    layout, x = get_layout(name), standing(name)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    for turn in (np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]), z_up(np.eye(3)).T):
        assert sides_of(layout, x @ turn.T).mirrored is False
        assert sides_of(layout, x[:, list(layout.swap)] @ turn.T).mirrored is True
        assert sides_of(layout, (x * [-1, 1, 1]) @ turn.T).mirrored is True
    assert "by the feet" in sides_of(layout, x).said


def test_what_motion_does_not_show_is_not_said():
    layout, x = get_layout("mediapipe"), standing()
    noise = np.random.default_rng(0).normal(size=(99, *x.shape[1:]))
    assert sides_of(layout, noise).mirrored is None
    assert sides_of(layout, 0 * x).mirrored is None
    assert sides_of(layout, np.where(x > -9, np.nan, x)).mirrored is None
    assert sides_of(layout, x[:2]).mirrored is None  # too few frames
    torn = x.copy()
    feet = [joint for joint, name in enumerate(layout.joints) if "foot" in name]
    torn[:, feet] -= [0, 0, 0.4]
    assert sides_of(layout, torn).mirrored is None  # the feet say one thing, the face another
    assert sides_of(get_layout("hand-21"), np.zeros((9, 21, 3))).mirrored is None


# BVH.

MIRRORS = {
    "names": {"called": exchanged},
    "an axis": upright(lambda x, y, z: (-x, y, z)),
    "another axis, z up": upright(lambda x, y, z: (x, z, y)),
}


@pytest.mark.parametrize("how", MIRRORS)
def test_mirrored_motion_capture_is_refused_until_it_is_settled(how, tmp_path, capsys):
    write(tmp_path / "in", bvh_text(**MIRRORS[how]))
    message = refused(tmp_path / "in")
    assert "joints called left are on the body's right in " in message
    assert "by the feet" in message
    assert ASKS in message
    arguments = ["bvh", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1", "--rotate=none"]
    with pytest.raises(SystemExit) as caught:
        command_line(arguments)
    assert caught.value.code == 2
    capsys.readouterr()
    for flag, mirrored in (("keep", True), ("swap", False), ("mirror", False)):
        command_line([*arguments, "--overwrite", f"--sides={flag}"])
        store = open_store(tmp_path / "st")
        x = store.as_tensor(0)[..., 0].permute(1, 2, 0).numpy().astype(np.float64)
        assert sides_of(store.layout, x).mirrored is mirrored
        assert "sides: joints called left are on the body's right in " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command_line([*arguments, "--sides=left"])
    assert "--sides left: choose from keep, swap, mirror" in capsys.readouterr().err


def test_sound_motion_capture_is_said(tmp_path):
    write(tmp_path, bvh_text())
    (note,) = (note for note in plan_of(tmp_path).notes if note.startswith("sides:"))
    assert note.startswith("sides: joints called left are on the body's left in ")
    (note,) = (n for n in plan_of(tmp_path, sides="swap").notes if n.startswith("sides:"))
    assert note.endswith(", but --sides swap was given")


def test_only_what_has_sides_can_be_exchanged(tmp_path):
    write(tmp_path, bvh_text(called=lambda joint: f"p{[n for n, _, _ in PERSON].index(joint)}"))
    plan = plan_of(tmp_path, unit="cm")
    with pytest.raises(ReadError, match="has no left and right joints to exchange"):
        with_sides(plan, "swap")
    (found,) = with_sides(plan, "mirror").read(plan.units[0])
    (as_it_is,) = plan.read(plan.units[0])
    np.testing.assert_array_equal(found.positions[0], -as_it_is.positions[0])
    np.testing.assert_array_equal(found.positions[1:], as_it_is.positions[1:])


def lying(axis: str, text: str, share: float = 1.0, degrees: float = 90) -> str:
    """A file whose root is turned about an axis in the first frames."""
    lines = text.splitlines()
    first = lines.index("MOTION") + 3
    column = {"z": 3, "x": 4}[axis]  # after the three positions: Z, X, Y rotations
    for at in range(first, first + round(share * (len(lines) - first))):
        cells = lines[at].split()
        cells[column] = str(float(cells[column]) + degrees)
        lines[at] = " ".join(cells)
    return "\n".join(lines) + "\n"


def ups(folder, **options) -> list[str]:
    return [note for note in plan_of(folder, **options).notes if note.startswith("up:")]


def test_people_who_lie_are_up_by_the_rest_pose(tmp_path):
    """Along x or z, neither in half of the frames, and as those who get up."""
    for name, axis in (("a", "z"), ("b", "x")):
        write(tmp_path / "lies", lying(axis, bvh_text(frames=20), 0.6), f"{name}.bvh")
    (note,) = ups(tmp_path / "lies")
    assert note.startswith("up: y, a guess by the rest pose, in which the body stands along it; ")
    assert re.search(r"it is (z|-x) in [34]\d% of", note)
    write(tmp_path / "rises", lying("x", bvh_text(frames=20), share=0.4))
    assert ups(tmp_path / "rises")[0].startswith("up: y; from feet to head it is y in 6")
    assert ups(tmp_path / "rises")[0].endswith("and in the rest pose (--up says otherwise)")


def test_a_rest_pose_that_contradicts_all_frames_is_refused(tmp_path, capsys):
    """People lie along z, or the rest pose has y up and the motion z, as of SMPL's bodies."""
    write(tmp_path / "in", lying("x", bvh_text(frames=20)))
    message = refused(tmp_path / "in")
    assert "it is z in 100% of" in message
    assert "but in the rest pose the body stands along y: either people lie or" in message
    for up in ("y", "z"):
        plan = plan_of(tmp_path / "in", up=up)
        (found,) = plan.read(plan.units[0])
        head, foot = (plan.layout.joints.index(name) for name in ("head", "left_foot"))
        along = (found.positions[:, :, head] - found.positions[:, :, foot]).mean(axis=(1, 2))
        assert int(np.abs(along).argmax()) == {"y": 2, "z": 1}[up]
    arguments = ["bvh", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1"]
    with pytest.raises(SystemExit):
        command_line(arguments)
    assert "say which axis points up with --up: y, -y or z" in capsys.readouterr().err
    command_line([*arguments, "--up=z"])
    assert "up: y, in 100% of the bodies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("axis", "rest", "seen"),
    [
        ("x", {}, "it is z in 80% of"),
        ("z", {}, "it is -x in 80% of"),
        ("-x", upright(lambda x, y, z: (x, -z, y)), "it is y in 80% of"),
    ],
)
def test_a_rest_pose_never_overrules_most_frames(axis, rest, seen, tmp_path):
    """People stand along it in a fifth of the frames: they lie in most, or pick something up."""
    degrees = -90 if axis[0] == "-" else 90
    write(tmp_path, lying(axis[-1], bvh_text(frames=20, **rest), 0.8, degrees))
    message = refused(tmp_path)
    assert seen in message
    assert f"but in the rest pose the body stands along {'z' if rest else 'y'}: " in message
    assert "say which axis points up with --up" in message
    assert not ups(tmp_path, up="y")


def test_a_rest_pose_that_is_none_tells_nothing(tmp_path):
    """All bones along x where nothing is turned: the frames alone tell."""
    straight = [
        (name, parent, (float(np.linalg.norm(offset)), 0, 0)) for name, parent, offset in PERSON
    ]
    write(tmp_path, bvh_text(person=straight, tips={}))
    (note,) = ups(tmp_path)
    assert "rest pose" not in note


# Markers and MediaPipe.


def test_mirrored_markers(tmp_path):
    plan, _ = read_all("trc", save_trc(tmp_path / "a" / "a.trc", walk()))
    assert any(n.startswith("sides: joints called left are on the body's left") for n in plan.notes)
    mirrored = {name: x * [-1, 1, 1] for name, x in walk().items()}
    file = save_trc(tmp_path / "b" / "b.trc", mirrored)
    with pytest.raises(ReadError, match=r"on the body's right in .*--sides swap"):
        read_all("trc", file)
    assert read_all("trc", file, sides="keep")[1][0].positions.any()


def in_mediapipe(file, *, turn=(1, -1, -1), swap=False):
    world = standing() * turn
    if swap:
        world = world[:, list(LAYOUT.swap)]
    hips = [LAYOUT.joints.index(f"{side}_hip") for side in ("left", "right")]
    world = world - world[:, hips].mean(axis=1, keepdims=True)
    return save(file, [{"pose_world_landmarks": landmarks(pose)} for pose in world])


def test_mirrored_landmarks(tmp_path):
    plan, _ = read_all("mediapipe", in_mediapipe(tmp_path / "a.json"))
    assert any(n.startswith("sides: joints called left are on the body's left") for n in plan.notes)
    for n, more in enumerate(({"swap": True}, {"turn": (1, -1, 1)})):
        file = in_mediapipe(tmp_path / f"b{n}.json", **more)
        with pytest.raises(ReadError, match=r"on the body's right in .*--sides swap"):
            read_all("mediapipe", file)
        assert len(read_all("mediapipe", file, sides="swap")[1]) == 1


@pytest.mark.parametrize(("turn", "axis"), [((1, 1, 1), "y"), (None, "z")])
def test_landmarks_that_were_turned_up_already(turn, axis, tmp_path):
    if turn is None:
        world = z_up(standing() - [0, 0.9, 0])
        frames = [{"pose_world_landmarks": landmarks(pose)} for pose in world]
        file = save(tmp_path / "a.json", frames)
    else:
        file = in_mediapipe(tmp_path / "a.json", turn=turn)
    with pytest.raises(
        ReadError, match=rf"it is {axis} in 100% of .*y points down: --up {axis} if"
    ):
        read_all("mediapipe", file)
    _, (found,) = read_all("mediapipe", file, up=axis)
    nose, heel = (LAYOUT.joints.index(name) for name in ("nose", "left_heel"))
    assert (found.positions[1, :, nose] > found.positions[1, :, heel] + 1).all()


@pytest.mark.parametrize("form", ["bvh", "mediapipe", "trc"])
def test_mirrored_files_among_others_are_named(form, tmp_path):
    if form == "bvh":
        write(tmp_path, bvh_text(), "a.bvh")
        write(tmp_path, bvh_text(**MIRRORS["an axis"]), "b.bvh")
    elif form == "mediapipe":
        in_mediapipe(tmp_path / "a.json")
        in_mediapipe(tmp_path / "b.json", swap=True)
    else:
        save_trc(tmp_path / "a.trc", walk())
        save_trc(tmp_path / "b.trc", {name: x * [-1, 1, 1] for name, x in walk().items()})
    seen = r"joints called left .* right in .*b\.\w+, and on its left in .*a\.\w+"
    for given in (None, "swap", "mirror"):
        with pytest.raises(ReadError, match=f"{seen}: prepare the two kinds sep.* keep"):
            read_all(form, tmp_path, sides=given)
    plan, found = read_all(form, tmp_path, sides="keep")
    assert len(found) == 2
    assert any(re.search(f"^sides: {seen}$", note) for note in plan.notes)

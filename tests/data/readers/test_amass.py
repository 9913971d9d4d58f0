"""AMASS: joints as they are, or of a body model's poses, and what is refused."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.readers.smpl_files import REST, body_model, motion
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store
from aimclr_fast.data.readers import Problem, ReadError
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers.amass import load, load_model
from aimclr_fast.prepare import command_line

BY_OTHERS = Path(__file__).parent / "motion" / "smplx.npz"
FORMS = {"SMPL": (24, 24), "SMPL-H": (52, 22), "SMPL-X": (55, 22)}


def save(file: Path, arrays, *, packed: bool = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file


def in_room(places: np.ndarray) -> np.ndarray:
    """Places ``[T, J, 3]`` with z up as positions ``[3, T, J]`` with y up."""
    return np.stack([places[..., 0], places[..., 2], -places[..., 1]])


def refused(source: Path, **options) -> str:
    try:
        _, (found,) = read_all("amass", source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


@pytest.mark.parametrize("form", FORMS)
def test_joints_are_where_another_program_has_them(form, tmp_path):
    """Where the package smplx puts those of a made-up model, see motion/README.md."""
    joints, kept = FORMS[form]
    model = save(tmp_path / "model.npz", body_model(joints))
    file = save(tmp_path / "in" / "a.npz", motion(joints=joints))
    plan, (found,) = read_all("folder", file, body_model=model)
    assert plan.reader == "amass"
    assert plan.layout.name == f"smpl-{kept}"
    assert found.rate == 60
    expected = in_room(np.load(BY_OTHERS)[form][:, :kept])
    np.testing.assert_allclose(found.positions[..., 0], expected, atol=2e-6)
    assert "up: z, AMASS's convention; from feet to head it is z in 100%" in "\n".join(plan.notes)


@pytest.mark.parametrize(("joints", "kept"), [(22, 22), (24, 24), (45, 22), (52, 22), (127, 22)])
@pytest.mark.parametrize("name", ["joints", "Jtr"])
def test_joints_of_the_file_need_no_body_model(name, joints, kept, tmp_path):
    x = load_model(save(tmp_path / "model.npz", body_model(52)))
    poses = motion(joints=52)
    places = x.places(poses["poses"].reshape(7, 52, 3), poses["betas"], poses["trans"])
    places = np.concatenate([places, places, places], axis=1)[:, :joints]
    file = save(tmp_path / "in" / "a.npz", {name: places, "fps": np.array([30])})
    plan, (found,) = read_all("folder", file)
    assert plan.layout.name == f"smpl-{kept}"
    assert found.rate == 30
    np.testing.assert_allclose(found.positions[..., 0], in_room(places[:, :kept]), atol=1e-12)


def test_units_and_a_body_model_that_is_not_used(tmp_path):
    """Joints may be in another unit than SMPL's meters."""
    x = REST + motion()["trans"][:, None] + [20, 0, 0]  # in millimeters beyond 10,000
    joints = {"joints": x, "fps": np.array(30)}
    one = read_all("amass", save(tmp_path / "a.npz", joints), up="y")[1][0]
    file = save(tmp_path / "b.npz", {**joints, "joints": joints["joints"] * 1000})
    other = read_all("amass", file, unit="mm", up="y")[1][0]
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-12)
    model = save(tmp_path / "model" / "m.npz", body_model(24))
    assert "the files have joints, so the body model would not be used" in refused(
        file, body_model=model
    )


def test_z_points_up_unless_the_motion_contradicts(tmp_path):
    """Where people lie along another axis, it is not taken as up."""
    still = np.zeros((20, 1, 3)) + REST  # stands along y
    turned = {"z": still[..., [0, 2, 1]], "x": still[..., [1, 0, 2]], "y": still}
    rate = {"fps": np.array(30)}
    for axis, x in turned.items():
        save(tmp_path / axis / "a.npz", {"joints": x, **rate})
    (note,) = (n for n in read_all("amass", tmp_path / "z")[0].notes if n.startswith("up"))
    assert note.startswith("up: z, AMASS's convention; from feet to head it is z in 100%")
    for axis in "xy":
        message = refused(tmp_path / axis)
        assert f"z points up in AMASS, but from feet to head it is {axis} in 100%" in message
        assert "people lie" in message
        assert "--up" in message
        assert read_all("amass", tmp_path / axis, up="z")[0].notes
    mixed = np.concatenate([turned[axis] for axis in "xyz"])  # rolls over the ground
    save(tmp_path / "mixed" / "a.npz", {"joints": mixed, **rate})
    assert "up: z, AMASS's" in "\n".join(read_all("amass", tmp_path / "mixed")[0].notes)


def test_joints_without_a_rate_and_damaged_files(tmp_path, capsys):
    """Where the format is named: joints are enough, and damage is no other kind of file."""
    joints = REST + motion()["trans"][:, None]
    source = tmp_path / "in"
    save(source / "a.npz", {"joints": joints})
    save(source / "b.npz", {"joints": joints, "fps": np.array(60)})
    save(source / "shape.npz", {"betas": np.zeros(10)})
    (source / "cut.npz").write_bytes((source / "a.npz").read_bytes()[:-200])
    (source / "empty.npz").touch()
    plan, found = read_all("amass", source, up="y")
    assert "ignored: 1 files of another kind with the same ending" in plan.notes
    assert (plan.timed, plan.untimed) == (True, True)
    assert [one.rate for one in found if not isinstance(one, Problem)] == [None, 60]
    store = tmp_path / "st"
    command_line(["amass", str(source), str(store), "--jobs=1", "--rate=30", "--fps=30", "--up=y"])
    left_out = (store / "left_out.csv").read_text()
    for name in ("cut", "empty"):
        assert f"{name}.npz,not a readable .npz file" in left_out
    assert len(open_store(store)) == 2


def test_the_newer_names_of_smpl_x(tmp_path):
    model = save(tmp_path / "model.npz", body_model(55))
    whole = motion(joints=55)
    parts = {
        "root_orient": whole["poses"][:, :3],
        "pose_body": whole["poses"][:, 3:66],
        "mocap_frame_rate": np.array(120.0),
        **{name: whole[name] for name in ("trans", "betas", "gender")},
    }
    one = read_all("amass", save(tmp_path / "a" / "a.npz", whole), body_model=model)[1][0]
    other = read_all("amass", save(tmp_path / "b" / "a.npz", parts), body_model=model)[1][0]
    assert other.rate == 120
    np.testing.assert_array_equal(one.positions, other.positions)


def test_a_store_with_labels_among_other_files(tmp_path, capsys):
    """A shape.npz, as AMASS has in each subject's folder, is no motion."""
    model = save(tmp_path / "model.npz", body_model(52))
    for n in range(4):
        save(tmp_path / "in" / f"s{n}" / "walk_poses.npz", motion(30, 52, seed=n), packed=n == 1)
        save(tmp_path / "in" / f"s{n}" / "shape.npz", {"betas": np.zeros(16)})
    rows = "".join(f"s{n}/walk_poses,{n % 2},{'train' if n < 2 else 'test'}\n" for n in range(4))
    (tmp_path / "in" / "labels.csv").write_text("name,label,split\n" + rows)
    arguments = ["amass", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1", "--fps=30"]
    command_line([*arguments, "--frames=original", f"--body-model={model}"])
    assert "ignored: 4 files of another kind" in capsys.readouterr().out
    store = open_store(tmp_path / "st")
    assert store.samples["label"].tolist() == [0, 1, 0, 1]
    assert store.positions.shape[2] == 15


def test_in_a_zip_and_to_another_layout(tmp_path, capsys):
    model = save(tmp_path / "model.npz", body_model(24))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for n in range(2):
            stream = io.BytesIO()
            np.savez(stream, **motion(seed=n))
            archive.writestr(f"in/a{n}.npz", stream.getvalue())
    arguments = ["amass", str(tmp_path / "in.zip"), str(tmp_path / "st"), "--jobs=1"]
    command_line([*arguments, f"--body-model={model}", "--to=ntu-rgb+d"])
    assert "joints matched by name" in capsys.readouterr().out
    assert open_store(tmp_path / "st").layout.num_joints == 25


MODEL, FILE = body_model(24), motion()
BROKEN = {
    "no body model": ({}, None, "has poses and no joints: give the body model with --body-model"),
    "no motion": ({"poses": None}, {}, "holds no .npz files with joints, or with poses and trans"),
    "far too many frames": (
        {name: np.zeros((108_001, n), np.float16) for name, n in (("poses", 72), ("trans", 3))},
        {},
        "poses: 108,001 rows; at most 108,000",
    ),
    "few joints": ({"poses": FILE["poses"][:, :60]}, {}, "poses: 60 numbers a frame; expected 3"),
    "another shape": (
        {"trans": FILE["trans"][1:]},
        {},
        r"trans: shape \[6, 3\], expected \[7, 3\]",
    ),
    "NaN": ({"trans": FILE["trans"] * np.nan}, {}, "trans: a value is not finite"),
    "far away": ({"trans": FILE["trans"] + 2e7}, {}, "trans: a value .* beyond 10,000,000"),
    "no angles": ({"poses": FILE["poses"] + 2e4}, {}, "poses: a value .* beyond 10,000$"),
    "text": ({"trans": np.array("x")}, {}, "trans: holds <U1, not numbers"),
    "objects": (
        {"trans": np.array([{}, 1], dtype=object)},
        {},
        "trans: not a .npy array|holds object",
    ),
    "no rate": ({"mocap_framerate": np.array(-1.0)}, {}, "mocap_framerate: expected frames per"),
    "joints of a hand": (
        {"joints": np.zeros((7, 21, 3))},
        None,
        "joints: 21 joints; SMPL's family",
    ),
    "a model without a regressor": ({}, {"J_regressor": None}, "has no J_regressor"),
    "a model without a tree": ({}, {"kintree_table": None}, "kintree_table: expected the parents"),
    "a circle": ({}, {"kintree_table": np.full((2, 24), 5)}, "a joint's parent must come before"),
    "a regressor of another": (
        {},
        {"J_regressor": MODEL["J_regressor"][:, 1:]},
        "J_regressor: shape",
    ),
    "shapes of another": ({}, {"shapedirs": MODEL["shapedirs"][1:]}, "shapedirs: shape"),
}


def changed(arrays, changes):
    return {k: v for k, v in {**arrays, **changes}.items() if v is not None}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_errors(how, tmp_path, capsys):
    own, of_model, message = BROKEN[how]
    file = save(tmp_path / "a.npz", changed(FILE, own))
    arguments = ["amass", str(file), str(tmp_path / "out"), "--jobs=1"]
    model = None
    if of_model is not None:
        model = save(tmp_path / "m.npz", changed(MODEL, of_model))
        arguments.append(f"--body-model={model}")
    assert re.search(message, refused(file, body_model=model))
    with pytest.raises(SystemExit) as left:
        command_line(arguments)
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.count("\n") == 1
    assert len(error) < 600


def test_pickles_are_refused_with_advice(tmp_path, capsys):
    (tmp_path / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps({"J_regressor": 1}))
    file = save(tmp_path / "a.npz", FILE)
    model = tmp_path / "SMPL_NEUTRAL.pkl"
    message = refused(file, body_model=model)
    assert "--body-model" in message
    assert "a pickle, which may run code: save its arrays as .npz" in message
    model.rename(tmp_path / "m.npz")
    assert "not a readable .npz file" in refused(file, body_model=tmp_path / "m.npz")
    assert "not a readable .npz file" in refused(file, body_model=tmp_path / "none.npz")
    with pytest.raises(SystemExit):
        command_line(["bvh", str(file), str(tmp_path / "o"), f"--body-model={model}"])
    assert "--body-model: bvh does not use it; amass does" in capsys.readouterr().err


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    """The file is small, and what it unpacks to has a limit."""
    monkeypatch.setattr("aimclr_fast.data.readers.amass._MOST_MOTION", 4 << 20)
    file = save(tmp_path / "a.npz", {**FILE, "joints": np.zeros((9000, 24, 3))}, packed=True)
    assert file.stat().st_size < 1 << 16
    assert "joints: too large, more than any recording has" in refused(file)


def test_any_damage_is_an_error_or_a_recording(tmp_path):
    rng = random.Random(0)
    whole = save(tmp_path / "a.npz", {name: FILE[name] for name in ("trans", "poses")}).read_bytes()
    model = load_model(save(tmp_path / "m.npz", MODEL))
    read = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.choice([rng.randrange(len(data)), rng.randrange(300), -rng.randrange(1, 200)])
            data[at] = rng.randrange(256)
        (tmp_path / "a.npz").write_bytes(data[: rng.choice([None, None, rng.randrange(len(data))])])
        with contextlib.suppress(ReadError):
            places, _ = load(Entry(tmp_path / "a.npz", "a.npz"), model)
            assert np.isfinite(places).all()
            read += 1
    assert 0 < read < 290

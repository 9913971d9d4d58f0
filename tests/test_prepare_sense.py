"""What prepare makes of gaps, units and odd data, from the command to the encoder."""

from __future__ import annotations

import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from data.readers.recordings import GOLDEN, NTU_RAW, PKU_RAW, motion, skeleton_text, table
from encoders import checkpoint, save

from aimclr_fast import load_encoder
from aimclr_fast.data import open_embedded, open_store, write_store
from aimclr_fast.data import readers as reading
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.prepare import command_line

FRAMES = 60


def prepare(*arguments) -> None:
    command_line([*map(str, arguments), "--jobs=1"])


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        prepare(*arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@functools.cache
def walk(index: int = 0) -> np.ndarray:
    """``[60, 22, 3]`` meters, even motion: a real pose that goes along x and turns its arm up."""
    x = np.repeat(motion(index, frames=1), FRAMES, axis=0)
    x[..., 0] += 0.01 * np.arange(FRAMES)[:, None]
    x[:, 7:10, 1] += 0.01 * np.arange(FRAMES)[:, None]
    x.flags.writeable = False
    return x


def hip_lost(x):
    x = x.copy()
    x[10:40, 0] = 0
    return x


def away(x):
    x = x.copy()
    x[20:40] = 0
    return x


def late(x):
    return np.concatenate([0 * x[:9], x, 0 * x[:13]])


def root_centered(x):
    return x - x[:, :1]


KINDS = [hip_lost, away, late, root_centered]


def as_folder(tmp_path, sequences) -> list:
    (tmp_path / "in").mkdir(exist_ok=True)
    for name, x in sequences.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / "in" / f"{name}.npy", x)
    return ["folder", tmp_path / "in", tmp_path / "x", "--layout=ui-prmd"]


def as_pyskl(tmp_path, sequences) -> list:
    annotations = [
        {"frame_dir": name, "label": 0, "keypoint": x[None].astype(np.float32)}
        for name, x in sequences.items()
    ]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"annotations": annotations}))
    return ["pyskl", tmp_path / "a.pkl", tmp_path / "x", "--layout=ui-prmd"]


@pytest.fixture(params=[as_folder, as_pyskl], ids=["folder", "pyskl"])
def source(request, tmp_path):
    return lambda **sequences: request.param(tmp_path, sequences)


@pytest.mark.parametrize("kind", KINDS)
def test_no_frame_is_lost(source, tmp_path, capsys, kind):
    """Whatever is missing, the store is that of the whole recording."""
    prepare(*source(whole=walk(), odd=kind(walk())))
    store = open_store(tmp_path / "x")
    order = store.samples["name"].tolist()
    whole, odd = store.positions[order.index("whole")], store.positions[order.index("odd")]
    np.testing.assert_allclose(odd, whole, atol=1e-5)
    assert store.samples["frames"].tolist() == [FRAMES, FRAMES]
    filled = {hip_lost: 30, away: 20}.get(kind, 0)
    assert store.samples["filled"][order.index("odd")] == filled
    assert store.meta["preprocessing"]["gaps"] == "fill"
    shown = capsys.readouterr().out
    assert ("gaps: interpolated in 1 samples" in shown) == bool(filled)
    assert ("more than 15 frames, where motion is invented: 1 samples" in shown) == bool(filled)
    assert ("empty ends: 22 frames cut off 1 samples" in shown) == (kind is late)


def test_2d_poses_about_a_joint_keep_it(tmp_path):
    """As in 3D: (0, 0) in every frame is the origin, not a joint that was not found."""
    flat = walk()[..., :2] * (300, -300)
    corner = flat + 900  # as in an image: (0, 0) is far from the body
    corner[:, 9] = 0
    prepare(*as_folder(tmp_path, {"a": flat, "b": root_centered(flat), "corner": corner}))
    store = open_store(tmp_path / "x")
    np.testing.assert_allclose(store.positions[1], store.positions[0], atol=1e-4)
    ends = store.positions[2, :2, :, 9, 0]  # in the middle of the body
    assert np.linalg.norm(ends - store.positions[2, :2, :, :, 0].mean(axis=2), axis=0).max() < 0.2


def test_gaps_can_be_kept_or_cut_as_published(source, tmp_path):
    arguments = source(away=away(walk()))
    prepare(*arguments, "--gaps=keep", "--frames=original")
    kept = open_store(tmp_path / "x")
    assert kept.positions.shape[2] == FRAMES
    assert not kept.positions[0, :, 20:40].any()
    assert kept.meta["preprocessing"]["gaps"] == "keep"
    assert "filled" not in kept.samples
    prepare(*arguments, "--gaps=published", "--frames=original", "--overwrite")
    published = open_store(tmp_path / "x")
    np.testing.assert_allclose(published.positions[0], kept.positions[0, :, :40], atol=2e-4)
    assert published.meta["preprocessing"]["gaps"] == "published"


def test_gaps_are_not_cut_with_spurious_bodies(tmp_path):
    ghost = np.repeat(walk(3)[:1], FRAMES, axis=0)
    both = np.stack([ghost, away(walk())])
    prepare(*as_folder(tmp_path, {"a": both, "b": away(walk())}), "--drop-spurious")
    store = open_store(tmp_path / "x")
    np.testing.assert_allclose(store.positions[0], store.positions[1], atol=1e-6)
    assert store.samples["frames"].tolist() == [FRAMES, FRAMES]


@pytest.mark.parametrize(("name", "raw"), [("ntu120", NTU_RAW), ("pku1", PKU_RAW)])
def test_ntu_and_pku_have_the_published_rule(tmp_path, capsys, name, raw):
    prepare(name, raw, tmp_path / "x")
    store = open_store(tmp_path / "x")
    assert store.meta["preprocessing"] == {
        "frames": 50, "rotate": "published", "gaps": "published"
    }  # fmt: skip
    assert "filled" not in store.samples
    assert "the first frames, as many as have a first body" in capsys.readouterr().out


@pytest.mark.parametrize(("rule", "frames"), [("auto", 40), ("fill", 60), ("keep", 60)])
def test_followed_bodies_have_the_rule_too(tmp_path, rule, frames):
    body = np.repeat(walk(), 2, axis=1)[:, :25]
    seen = [[] if 20 <= t < 40 else [(7, body[t])] for t in range(FRAMES)]
    (tmp_path / "S001C001P001R001A001.skeleton").write_bytes(skeleton_text(seen))
    options = ["--bodies=follow", "--frames=original", f"--gaps={rule}"]
    prepare("ntu60", tmp_path, tmp_path / "x", *options)
    store = open_store(tmp_path / "x")
    assert store.samples["frames"].tolist() == [frames]
    assert store.positions.any(axis=(1, 3, 4)).sum() == (40 if rule == "keep" else frames)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [None, {"frames": 50, "rotate": "exact"}], ids=["new", "old"])
def test_an_encoder_has_the_rule_of_its_data(tmp_path, kind, steps):
    store = open_embedded()
    state = checkpoint(store)
    if steps is not None:  # what versions before this one wrote
        state["data"]["preprocessing"] = steps
    encoder = load_encoder(save(state, tmp_path / "x.pt"))
    whole, odd = (encoder.prepare(x) for x in (walk(), kind(walk())))
    np.testing.assert_allclose(odd, whole, atol=1e-5)


def test_an_encoder_with_the_published_rule_takes_a_centered_body(tmp_path):
    store = open_embedded()
    data = store.traits() | {"preprocessing": Preprocessing().to_dict()}
    encoder = load_encoder(save(checkpoint(store) | {"data": data}, tmp_path / "x.pt"))
    whole, odd = (encoder.prepare(x) for x in (walk(), root_centered(walk())))
    np.testing.assert_allclose(odd, whole, atol=1e-5)
    assert encoder.prepare(hip_lost(walk())).any(axis=(0, 2, 3)).all()


# --- Arrays that others filled up ----------------------------------------------------------------


def official(folder: Path, real: int, frames: int) -> np.ndarray:
    folder.mkdir()
    for part, count in (("train", 4), ("val", 2)):
        x = np.zeros((count, 3, frames, 25, 2), dtype=np.float32)
        for index in range(count):
            walks = walk(100 * index)[:real, np.minimum(np.arange(25), 21)]
            x[index, :, :real, :, 0] = walks.transpose(2, 0, 1)
        np.save(folder / f"{part}_position.npy", x)
        names = [f"{part}{index}" for index in range(count)]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, list(range(count)))))
    return x


def test_zeros_after_the_last_frame_are_not_stretched(tmp_path, capsys):
    official(tmp_path / "in", 40, 150)
    prepare("official", tmp_path / "in", tmp_path / "x", "--frames=50")
    store = open_store(tmp_path / "x")
    assert store.positions.any(axis=(1, 3, 4)).all()
    assert store.samples["frames"].tolist() == [40] * 6
    assert "in empty frames" not in capsys.readouterr().out
    prepare("official", tmp_path / "in", tmp_path / "y", "--gaps=fill")
    assert (
        "--gaps applies to NaN alone, since the sequences are preprocessed"
        in capsys.readouterr().out
    )
    store = open_store(tmp_path / "y")
    assert store.positions.shape[2] == 150
    assert store.samples["frames"].tolist() == [40] * 6
    command_line(["check", str(tmp_path / "y")])
    assert "in empty frames" not in capsys.readouterr().out


def test_unit_and_axis_of_arrays(tmp_path, capsys):
    last = official(tmp_path / "in", 50, 50)
    for file in (tmp_path / "in").glob("*.npy"):
        x = np.load(file)
        np.save(file, np.stack([x[:, 0], -x[:, 2], x[:, 1]], axis=1) * 1000)
    arguments = ["official", tmp_path / "in", tmp_path / "x"]
    assert "--unit mm" in fails(capsys, *arguments)
    prepare(*arguments, "--unit=mm", "--up=z")
    np.testing.assert_allclose(open_store(tmp_path / "x").positions[-1], last[-1], rtol=1e-5)


def test_arrays_without_zeros_are_as_before(tmp_path):
    last = official(tmp_path / "in", 50, 50)
    prepare("official", tmp_path / "in", tmp_path / "x", "--frames=50")
    store = open_store(tmp_path / "x")
    np.testing.assert_array_equal(store.positions[-1], last[-1])


# --- Units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "unit", "tall"), [(1000, "mm", "1,"), (100, "cm", "1")])
def test_another_unit_is_refused_at_once(source, tmp_path, capsys, factor, unit, tall):
    arguments = source(**{f"s{i}": walk(i) * factor for i in range(3)})
    error = fails(capsys, *arguments)
    assert f"bodies are {tall}" in error
    assert f"lengths look like {unit}: --unit {unit}" in error
    assert not (tmp_path / "x").exists()
    prepare(*arguments, f"--unit={unit}")
    assert "longest side of a body 1." in capsys.readouterr().out
    prepare(*arguments, "--unit=m", "--overwrite")  # the user insists, and is told again
    shown = capsys.readouterr().out
    assert f"lengths look like {unit}: --unit {unit}, not m\n" in shown
    assert f"m tall (--unit {unit})" in shown
    larger = source(**{f"s{i}": walk(i) * 1e6 for i in range(3)})
    prepare(*larger, "--unit=mm", "--overwrite")  # still not those of a person
    assert "bodies are 1" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["m", "cm"])
def test_a_unit_that_the_headings_contradict_is_refused(tmp_path, capsys, given):
    joints = open_embedded().layout.joints
    heading = ",".join(f"{joint}_{axis} (mm)" for joint in joints for axis in "xyz") + "\n"
    (tmp_path / "a.csv").write_text(heading + table(walk().reshape(FRAMES, -1) * 1000, ","))
    arguments = ["folder", tmp_path, tmp_path / "x", "--layout=ui-prmd"]
    error = fails(capsys, *arguments, f"--unit={given}")
    assert f"--unit {given}, but the headings say mm: leave --unit out, or correct" in error
    for mended in ([], ["--unit=mm"]):
        prepare(*arguments, *mended, "--overwrite")
        assert "longest side of a body 1." in capsys.readouterr().out


def test_at_once_is_after_the_first_recordings(tmp_path, capsys, monkeypatch):
    read = []
    folder = reading.get_reader("folder")
    original = folder.read

    def counted(entry, **options):
        read.append(entry)
        return original(entry, **options)

    monkeypatch.setattr(folder, "read", counted)
    arguments = as_folder(tmp_path, {f"s{i:03}": walk() * 1000 for i in range(200)})
    assert "bodies are" in fails(capsys, *arguments)
    assert len(read) <= 64


def test_sizes_of_no_unit_and_of_no_body(tmp_path, capsys):
    arguments = as_folder(tmp_path, {"a": walk() / 1000})
    assert "say their unit with --unit (--unit m keeps" in fails(capsys, *arguments)
    prepare(*arguments, "--unit=m")
    assert "--unit" in capsys.readouterr().out
    (tmp_path / "2d").mkdir()
    np.save(tmp_path / "2d" / "a.npy", walk()[..., :2] * 1000)  # pixels have no unit
    prepare("folder", tmp_path / "2d", tmp_path / "y", "--layout=ui-prmd")


def test_up_is_for_annotations_too(source, tmp_path, capsys):
    turned = np.stack([walk()[..., 0], -walk()[..., 2], walk()[..., 1]], axis=-1)
    arguments = source(a=turned, b=turned + 0.01)
    prepare(*arguments)
    assert "odd: bodies lie along z (--up z" in capsys.readouterr().out
    prepare(*arguments, "--up=z", "--overwrite")
    assert "y, in 100% of the bodies" in capsys.readouterr().out


# --- The check -----------------------------------------------------------------------------------


def test_the_check_is_printed_kept_and_run_again(tmp_path, capsys):
    prepare(*as_folder(tmp_path, {"a": walk(), "b": np.repeat(walk()[:1], 60, axis=0)}))
    shown = capsys.readouterr().out
    line = "odd: 1 of 2 sequences (the first: b) stand still"
    assert line in shown
    kept = json.loads((tmp_path / "x" / "check.json").read_text())
    assert any(finding["odd"] and "stand still" in finding["text"] for finding in kept["findings"])
    before = sorted((file.name, file.read_bytes()) for file in (tmp_path / "x").iterdir())
    command_line(["check", str(tmp_path / "x")])
    again, (first, *_) = capsys.readouterr().out, shown.partition("to train on it:")
    assert again.strip() == first[first.index("data check of 2") :].strip()
    assert before == sorted((file.name, file.read_bytes()) for file in (tmp_path / "x").iterdir())
    open_store(tmp_path / "x", verify=True)


def test_the_check_of_stores_that_keep_none(tmp_path, capsys):
    command_line(["check", "ui_prmd"])
    assert capsys.readouterr().out.rstrip().endswith("nothing odd")
    with pytest.raises(SystemExit) as caught:
        command_line(["check", str(tmp_path / "no")])
    assert caught.value.code == 2
    assert "nor a folder" in capsys.readouterr().err


def test_brackets_in_names_are_shown_as_they_are(tmp_path, capsys):
    (tmp_path / "[bold]").mkdir()
    still = np.repeat(walk()[:1], 60, axis=0)
    prepare(*as_folder(tmp_path / "[bold]", {"a": walk(), "[/red]": still}))
    shown = capsys.readouterr().out
    assert "(the first: [/red]) stand still" in shown
    assert f"written to {tmp_path / '[bold]' / 'x'}" in shown


# --- Folders that are not there ------------------------------------------------------------------


def test_parent_folders_of_a_store_are_made(tmp_path, capsys):
    command, recordings, _, *options = as_folder(tmp_path, {"a": walk()})
    prepare(command, recordings, tmp_path / "stores" / "new" / "x", *options)
    assert len(open_store(tmp_path / "stores" / "new" / "x")) == 1
    (tmp_path / "file").write_text("")
    error = fails(capsys, command, recordings, tmp_path / "file" / "x", *options)
    assert "cannot make" in error


def test_golden_recordings_make_sense(tmp_path, capsys):
    """The arrays of the authors' preprocessing, as a store: only true remarks."""
    with np.load(GOLDEN / "ntu_prep.npz") as data:
        x = data["position50"].astype(np.float32)
    names = {"name": [f"s{i}" for i in range(len(x))]}
    write_store(tmp_path / "x", x, names, layout="ntu-rgb+d", preprocessing=Preprocessing())
    command_line(["check", str(tmp_path / "x")])
    odd = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  odd: ")]
    assert len(odd) == 2
    assert "left_hand to left_wrist" in odd[0]  # made of a skeleton that has no wrists
    assert "1 of 6 sequences" in odd[1]  # a frame without a body, kept as published


def test_normalization_by_sequence(tmp_path, capsys):
    np.save(tmp_path / "a.npy", walk())
    source = ("folder", tmp_path / "a.npy")
    layout = "--layout=ui-prmd"
    prepare(*source, tmp_path / "s", layout, "--normalize", "sequence")
    assert "origin at the first frame's chest of the first body" in capsys.readouterr().out
    store = open_store(tmp_path / "s")
    steps = Preprocessing(50, "exact", normalize="sequence")
    assert store.preprocessing == steps
    np.testing.assert_array_equal(
        store.positions[0], steps(walk().transpose(2, 0, 1)[..., None], store.layout)
    )
    assert np.ptp(store.positions[0, 0, :, store.layout.center]) > 0.3  # it goes along x
    prepare(*source, tmp_path / "f", layout)
    assert open_store(tmp_path / "f").preprocessing == Preprocessing(50, "exact")
    error = fails(
        capsys, *source, tmp_path / "p", layout, "--normalize=sequence", "--rotate=published"
    )
    assert "--rotate published turns each frame" in error
    wrong = fails(capsys, *source, tmp_path / "p", "--normalize", "clip")
    assert "--normalize clip: choose from auto, frame, sequence" in wrong


def test_ntu_by_sequence_turns_by_the_exact_angle(tmp_path):
    prepare("ntu120", NTU_RAW, tmp_path / "x", "--normalize", "sequence")
    steps = open_store(tmp_path / "x").preprocessing
    assert steps == Preprocessing(50, "exact", "published", "sequence")

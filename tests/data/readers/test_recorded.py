"""PKU-MMD, NW-UCLA, UTD-MHAD, UI-PRMD and SBU from realistic files, and damaged ones."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile

import numpy as np
import pytest
from data.readers import recordings
from data.readers.recordings import PKU_RAW
from data.readers.test_ntu import read_all
from data.readers.test_text import mutated

from aimclr_fast.data.readers import Problem, ReadError, Recording


def test_pku_matches_the_golden_arrays():
    plan, found = read_all("pku1", PKU_RAW)
    with np.load(PKU_RAW.parent / "pku_prep.npz") as golden:
        assert sorted(r.name for r in found) == golden["names"].tolist()
        for recording in found:
            np.testing.assert_array_equal(recording.positions, golden[f"raw/{recording.name}"])
    first = next(r for r in found if r.name == "F002V001C010L001")
    expected = {"label": 9, "video": "0002-L", "camera": 1, "start": 1, "end": 40, "xsub": "train"}
    assert first.columns == expected
    assert plan.splits == {"xsub": {"column": "xsub", "train": ["train"], "test": ["test"]}}


@pytest.fixture
def pku(tmp_path):
    shutil.copytree(PKU_RAW, tmp_path / "pku")
    return tmp_path / "pku"


def test_pku_zipped_and_with_second_parts_names(pku, tmp_path):
    for folder in ("skeleton", "label"):
        (pku / folder / "0002-L.txt").rename(pku / folder / "A01N02-R.txt")
    (pku / "cross-view.txt").write_text("Training videos:\nA01N02-R\nTesting videos:\n0014-M\n")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in pku.rglob("*.txt"):
            archive.write(file, file.relative_to(pku))
    plan, found = read_all("pku2", tmp_path / "x.zip")
    assert {"A01N02V003C010L001", "F014V002C001L003"} <= {r.name for r in found}
    assert {r.columns["xview"] for r in found} == {"train", "test"}
    assert {r.columns["xsub"] for r in found} == {"none", "test"}  # 0002-L is not there any more
    assert set(plan.splits) == {"xsub", "xview"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0,1,40,2", "label 0 is not one of 1 to 51"),
        ("52,1,40,2", "label 52 is not one of"),
        ("3,0,40,2", "frames 0 to 40"),
        ("3,-5,40,2", "frames -5 to 40"),
        ("3,30,20,2", "frames 30 to 20"),
        ("3,99999,100000,2", "are not among"),
    ],
)
def test_pku_labels_out_of_range_lose_one_action(pku, row, reason):
    (pku / "label" / "0002-L.txt").write_text(f"{row}\n3,61,95,2\n")
    _, found = read_all("pku1", pku)
    problem = next(r for r in found if isinstance(r, Problem))
    assert reason in problem.reason
    assert problem.where.endswith("0002-L.txt:1")
    assert sum(isinstance(r, Recording) for r in found) == 4


def test_pku_damage_loses_one_video(pku):
    file = pku / "skeleton" / "0002-L.txt"
    file.write_text(file.read_text()[:-300])
    (pku / "label" / "0014-M.txt").unlink()
    plan, found = read_all("pku1", pku)
    assert [p.reason for p in plan.left_out] == ["has no label file"]
    assert [p.reason for p in found] == ["too few columns"]


def test_pku_split_lists_must_make_sense(pku):
    (pku / "cross-subject.txt").write_text("0002-L\n")
    with pytest.raises(ReadError, match=r"cross-subject\.txt:1: a video before any heading"):
        read_all("pku1", pku)
    (pku / "cross-subject.txt").write_text("Training\n0002-L\nTesting\n0002-L\n")
    with pytest.raises(ReadError, match="0002-L would both train and test"):
        read_all("pku1", pku)
    (pku / "cross-subject_v2.txt").write_text("Training\n0002-L\n")
    with pytest.raises(ReadError, match="more than one split list"):
        read_all("pku1", pku)


def test_nw_ucla(tmp_path):
    made = recordings.write_nw_ucla(tmp_path)
    plan, found = read_all("nw_ucla", tmp_path)
    assert [r.name for r in found] == sorted(made)
    for recording in found:
        np.testing.assert_allclose(
            recording.positions[..., 0], made[recording.name].transpose(2, 0, 1)
        )
    assert [r.columns["label"] for r in found] == [0, 1, 9, 9]
    assert found[0].columns["camera"] == 1
    assert plan.splits["xview"] == {"column": "camera", "train": [1, 2], "test": [3]}


GOOD = {"file_name": "a01_s01_e01_v01", "skeletons": [[[0.1, 0.2, 0.3]] * 20] * 3, "label": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\0", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected an object"),
        ({**GOOD, "label": 11}, "label 11 is not one of 1 to 10"),
        ({**GOOD, "label": 0}, "label 0"),
        ({**GOOD, "label": "1"}, "not an integer"),
        ({**GOOD, "file_name": "../x"}, "file_name"),
        ({**GOOD, "skeletons": [[[0, 0, 0]] * 19]}, r"\[1, 19, 3\]"),
        ({**GOOD, "skeletons": []}, r"expected \[T\]\[20\]\[3\]"),
        ({**GOOD, "skeletons": [[1], [2, 3]]}, "not a"),
        ({**GOOD, "skeletons": [[["x", 0, 0]] * 20]}, "not a"),
        ({**GOOD, "skeletons": [[[10**400, 0, 0]] * 20]}, "not a"),
        ({**GOOD, "skeletons": [[[float("inf"), 0, 0]] * 20]}, "not finite"),
        ({**GOOD, "skeletons": [[[None, 0, 0]] * 20]}, "some of its coordinates only"),
        ({**GOOD, "skeletons": [[[1e300, 0, 0]] * 20]}, "not finite"),
    ],
)
def test_damaged_nw_ucla(tmp_path, data, reason):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    (tmp_path / "x.json").write_bytes(text)
    plan, found = read_all("nw_ucla", tmp_path)
    assert len(found) == 1
    with pytest.raises(ReadError, match=reason):
        list(plan.read(plan.units[0]))


def test_utd_mhad(tmp_path):
    made = recordings.write_utd_mhad(tmp_path)
    plan, found = read_all("utd_mhad", tmp_path)
    assert {r.name for r in found} == set(made)
    for recording in found:
        np.testing.assert_allclose(
            recording.positions[..., 0], made[recording.name].transpose(2, 0, 1)
        )
    assert {(r.columns["label"], r.columns["subject"]) for r in found} == {
        (0, 1), (1, 2), (26, 3), (26, 8),
    }  # fmt: skip
    assert plan.layout.name == "kinect-v1"


def test_damaged_utd_mhad(tmp_path):
    import scipy.io

    x = np.zeros((20, 3, 5))
    cases = {
        1: {"other": x},
        2: {"d_skel": x[:19]},
        3: {"d_skel": "text"},
        4: {"d_skel": np.full_like(x, np.inf)},
    }
    for trial, data in cases.items():
        scipy.io.savemat(tmp_path / f"a1_s1_t{trial}_skeleton.mat", data)
    (tmp_path / "a1_s1_t5_skeleton.mat").write_bytes(b"\0" * 50)
    (tmp_path / "a99_s1_t1_skeleton.mat").write_bytes(b"\0" * 50)
    (tmp_path / "a1_s1_t1_inertial.mat").write_bytes(b"")
    plan, found = read_all("utd_mhad", tmp_path)
    assert [p.expected for p in plan.left_out] == [True]
    words = ["no variable", "expected numbers", "expected numbers", "not finite", "not a readable",
             "label 99"]  # fmt: skip
    assert len(found) == len(words)
    for problem, word in zip(found, words, strict=True):
        assert word in problem.reason


@pytest.mark.parametrize("unit", [1.0, 0.01, 0.001])
def test_ui_prmd_by_forward_kinematics(tmp_path, unit):
    made = recordings.write_ui_prmd(tmp_path, unit=unit)
    text = next(tmp_path.rglob("m01*positions.txt"))
    text.with_name(f"{text.name}.gz").write_bytes(gzip.compress(text.read_bytes()))
    text.unlink()
    plan, found = read_all("ui_prmd", tmp_path)
    assert [r.name for r in found] == list(made)
    for recording in found:
        np.testing.assert_allclose(
            recording.positions[..., 0], made[recording.name].transpose(2, 0, 1), atol=1e-6
        )
    assert [r.columns["label"] for r in found] == [0, 4, 19]
    assert plan.classes[19] == "standing shoulder scaption, incorrect"


def test_damaged_ui_prmd(tmp_path):
    recordings.write_ui_prmd(tmp_path)
    next(tmp_path.rglob("m01*angles.txt")).unlink()
    short = next(tmp_path.rglob("m03*angles.txt"))
    short.write_text("".join(short.read_text().splitlines(True)[:-1]))
    huge = next(tmp_path.rglob("m10*positions_inc.txt"))
    huge.write_text(huge.read_text().replace(".", ""))
    plan, found = read_all("ui_prmd", tmp_path)
    assert [p.reason for p in plan.left_out] == ["has no file of angles"]
    assert "frames of positions" in found[0].reason
    assert "bones add up" in found[1].reason


def test_sbu(tmp_path):
    made = recordings.write_sbu(tmp_path)
    plan, found = read_all("sbu", tmp_path)
    assert [r.name for r in found] == list(made)
    for recording in found:
        expected = made[recording.name].transpose(3, 0, 2, 1)
        np.testing.assert_allclose(recording.positions, expected, atol=1e-5)
    assert [r.columns["fold"] for r in found] == [1, 2, 1]
    assert len(plan.splits) == 5
    pairs = [
        pair
        for fold in __import__("aimclr_fast.data.readers.sbu", fromlist=["x"]).FOLDS
        for pair in fold
    ]
    assert len(pairs) == len(set(pairs)) == 21


def test_damaged_sbu(tmp_path):
    recordings.write_sbu(tmp_path)
    (tmp_path / "s01s02" / "09" / "001").mkdir(parents=True)
    (tmp_path / "s01s02" / "09" / "001" / "skeleton_pos.txt").write_text("1,2,3\n")
    (tmp_path / "skeleton_pos.txt").write_text("1\n")
    (tmp_path / "s01s02" / "01" / "001" / "skeleton_pos.txt").write_text("1,2\n")
    plan, found = read_all("sbu", tmp_path)
    assert len(plan.left_out) == 1
    assert [p.reason for p in found[:2]] == ["too few columns", "label 9 is not one of 1 to 8"]


@pytest.mark.parametrize("name", ["nw_ucla", "utd_mhad", "ui_prmd", "sbu"])
def test_mutated_files_are_read_or_refused(tmp_path, name):
    """Nothing but a recording or a ReadError comes of any damage."""
    folder = tmp_path / "files"
    folder.mkdir()
    getattr(recordings, f"write_{name}")(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    good = {file: file.read_bytes() for file in files}
    rng = np.random.default_rng(0)
    refused = 0
    for turn in range(60):
        for file in files:
            file.write_bytes(good[file])
        file = files[turn % len(files)]
        file.write_bytes(mutated(good[file], rng))
        _, found = read_all(name, folder)
        refused += sum(isinstance(r, Problem) for r in found)
    assert refused > 10

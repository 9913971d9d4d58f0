"""NTU RGB+D: folders, zip files, missing lists, splits, body tracking."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
from data.readers.recordings import NTU_RAW, motion, skeleton_text

from aimclr_fast.data.readers import Options, Problem, ReadError, get_reader
from aimclr_fast.data.readers._ntu import MISSING


def read_all(name, source, **options):
    plan = get_reader(name).plan(source, Options(**options))
    found = []
    for unit in plan.units:
        try:
            found += list(plan.read(unit))
        except ReadError as error:
            found.append(Problem.of(error))
    return plan, found


@pytest.fixture
def zipped(tmp_path):
    """The golden files in two zip files, as the data set is distributed."""
    files = sorted(NTU_RAW.iterdir())
    for name, part in (("s001_to_s017.zip", files[:4]), ("s018_to_s032.zip", files[4:])):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in part:
                archive.write(file, f"nturgb+d_skeletons/{file.name}")
    return tmp_path


def test_folder_and_zip_files_are_alike(zipped):
    before = sorted(path.name for path in zipped.rglob("*"))
    _, from_folder = read_all("ntu120", NTU_RAW)
    _, from_zip = read_all("ntu120", zipped)
    with np.load(NTU_RAW.parent / "ntu_prep.npz") as golden:
        for a, b in zip(from_folder, from_zip, strict=True):
            assert (a.name, a.columns) == (b.name, b.columns)
            np.testing.assert_array_equal(a.positions, golden[f"raw/{a.name}"])
            np.testing.assert_array_equal(b.positions, a.positions)
    assert len(from_zip) == 6
    assert sorted(path.name for path in zipped.rglob("*")) == before  # nothing was unpacked


def test_names_become_columns():
    plan, found = read_all("ntu120", NTU_RAW)
    last = found[-1]
    assert last.name == "S031C003P103R002A120"
    expected = {"label": 119, "setup": 31, "camera": 3, "subject": 103, "replication": 2}
    assert last.columns == expected
    assert plan.classes[119] == "rock-paper-scissors"
    assert set(plan.splits) == {"xsub", "xset"}


def test_ntu60_leaves_the_others_out():
    plan, found = read_all("ntu60", NTU_RAW)
    assert [r.name[:4] for r in found] == ["S001", "S001", "S002", "S017"]
    assert [p.expected for p in plan.left_out] == [True, True]
    assert len(plan.classes) == 60


def test_lists_of_missing_skeletons_are_found_or_given(tmp_path, zipped):
    names = "Samples with missing skeletons:\nS001C001P001R001A001\nS001C001P001R001A002\n"
    given = tmp_path / "list.txt"
    given.write_text(names)
    plan, found = read_all("ntu120", NTU_RAW, missing=given)
    assert len(found) == 5
    assert [p.reason for p in plan.left_out] == [MISSING]
    (zipped / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(names)
    plan, found = read_all("ntu120", zipped)
    assert len(found) == 5
    assert "2 samples" in plan.notes[0]
    given.write_text("nothing here")
    with pytest.raises(ReadError, match="names no sample"):
        read_all("ntu120", NTU_RAW, missing=given)


def test_files_that_cannot_be_read_are_problems(tmp_path):
    shutil.copytree(NTU_RAW, tmp_path / "raw")
    (tmp_path / "raw" / "S001C001P001R001A002.skeleton").write_bytes(b"\0\1\2")
    (tmp_path / "raw" / "readme.skeleton").write_text("hello")
    plan, found = read_all("ntu120", tmp_path / "raw")
    problems = [r for r in found if isinstance(r, Problem)]
    assert [p.reason for p in plan.left_out] == ["is not named SsssCcccPpppRrrrAaaa.skeleton"]
    assert len(problems) == 1
    assert problems[0].where.endswith("S001C001P001R001A002.skeleton:1")


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(ReadError, match="no such file or folder"):
        read_all("ntu60", tmp_path / "nowhere")
    with pytest.raises(ReadError, match=r"holds no \.skeleton files"):
        read_all("ntu60", tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 no")
    with pytest.raises(ReadError, match="not a readable zip file"):
        read_all("ntu60", tmp_path)


def test_a_damaged_member_and_a_bomb_are_problems(tmp_path):
    text = (NTU_RAW / "S001C001P001R001A001.skeleton").read_bytes()
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("S001C001P001R001A001.skeleton", text)
        archive.writestr("S001C001P001R001A002.skeleton", b"0" * (257 << 20))
    data = bytearray(file.read_bytes())
    data[2000:2010] = bytes(10)
    file.write_bytes(data)
    _, found = read_all("ntu60", file)
    assert "cannot be read" in found[0].reason
    assert "256 MiB" in found[1].reason


def test_members_with_hostile_names_stay_in_the_zip(tmp_path):
    text = (NTU_RAW / "S001C001P001R001A001.skeleton").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../S001C001P001R001A001.skeleton", text)
    _, found = read_all("ntu60", tmp_path / "x.zip")
    assert found[0].name == "S001C001P001R001A001"
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def people(frames=30):
    """Two people who swap places in the file half way, and a ghost that stands in the corner."""
    a, b = motion(0, 25, frames), motion(400, 25, frames) + np.array([1.0, 0, 0])
    ghost = np.broadcast_to(a[0] + [2.0, 0, 0], a.shape)
    listing = []
    for t in range(len(a)):
        two = [(11, a[t]), (22, b[t])]
        listing.append([(33, ghost[t]), *(two if t < 15 else two[::-1])])
    return a, b, listing


def test_follow_keeps_people_apart(tmp_path):
    a, b, listing = people()
    file = tmp_path / "S001C001P001R001A060.skeleton"
    file.write_bytes(skeleton_text(listing))
    in_order = read_all("ntu60", tmp_path, max_bodies=3)[1][0].positions
    followed = read_all("ntu60", tmp_path, bodies="follow")[1][0].positions
    assert np.abs(in_order[..., 1] - a.transpose(2, 0, 1)).max() > 0.5  # swapped half way
    expected = [a.transpose(2, 0, 1), b.transpose(2, 0, 1)]
    moved = [np.linalg.norm((x - x.mean(axis=1, keepdims=True)).ravel()) for x in expected]
    if moved[1] > moved[0]:
        expected.reverse()
    for body in range(2):
        np.testing.assert_allclose(followed[..., body], expected[body], atol=1e-6)


def test_spurious_bodies_are_dropped(tmp_path):
    a, _, listing = people()
    only = [[bodies[0], *(x for x in bodies if x[0] == 11)] for bodies in listing]
    (tmp_path / "S001C001P001R001A060.skeleton").write_bytes(skeleton_text(only))
    kept = read_all("ntu60", tmp_path, bodies="follow")[1][0].positions
    cleaned = read_all("ntu60", tmp_path, drop_spurious=True)[1][0].positions
    assert kept[..., 1].any()
    assert not cleaned[..., 1].any()
    np.testing.assert_allclose(cleaned[..., 0], a.transpose(2, 0, 1), atol=1e-6)

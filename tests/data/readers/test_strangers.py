"""What strangers' folders hold besides sequences, and sequences in other files than expected."""

from __future__ import annotations

import gzip
import pickle
import zipfile

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.saved_tables import (
    COLUMNS,
    LAYOUT,
    MOTION,
    PLAIN,
    assert_is_motion,
    cells,
    read_in,
    text,
)
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import ReadError, Recording
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import command_line


def refused(reader, source, **options) -> str:
    """Why a source is refused, at once or sequence by sequence."""
    try:
        plan, found = read_all(reader, source, **options)
    except ReadError as error:
        return str(error)
    return " | ".join(f"{p.where}: {p.reason}" for p in [*plan.left_out, *found]
                      if not isinstance(p, Recording))  # fmt: skip


# --- Stores in archives --------------------------------------------------------------------------


def zipped(folder, file, prefix=""):
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{prefix}{path.relative_to(folder).as_posix()}")


@pytest.fixture
def recordings(tmp_path):
    """A folder of a recording, and the store that was made of it within."""
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "a.npy", MOTION)
    command_line(["folder", str(folder), str(folder / "old"), f"--layout={LAYOUT}", "--jobs=1"])
    return folder


def test_stores_in_archives_are_ignored(recordings, tmp_path):
    (tmp_path / "zips").mkdir()
    zipped(recordings, tmp_path / "zips" / "a.zip")
    zipped(recordings / "old", tmp_path / "zips" / "store.zip", prefix="stores/old/")
    zipped(recordings / "old", tmp_path / "zips" / "flat.zip")
    zipped(tmp_path / "zips", tmp_path / "outer.zip")
    for source, stores in (("zips/a.zip", 1), ("zips", 3), ("outer.zip", 3)):
        plan, found = read_all("folder", tmp_path / source, layout=LAYOUT)
        assert [recording.name for recording in found] == ["a"]
        assert [p.reason for p in plan.left_out] == ["is a store, ignored"] * stores
        assert all(problem.expected for problem in plan.left_out)


@pytest.mark.parametrize("prefix", ["", "old/"])
@pytest.mark.parametrize("noise", [[], ["__MACOSX/._meta.json"]])
def test_an_archive_that_is_a_store_is_refused(recordings, tmp_path, prefix, noise):
    zipped(recordings / "old", tmp_path / "a.zip", prefix)
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        for name in noise:
            archive.writestr(name, b"")
    for reader in ("folder", "ntu60", "openpose"):
        with pytest.raises(ReadError, match=r"a\.zip: is a store, which is prepared already"):
            read_all(reader, tmp_path / "a.zip")


# --- Tables in text files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [PLAIN, PLAIN.replace(",", "\t"), PLAIN.replace(",", "  "),
     PLAIN.replace(",", ";").replace(".", ","), text(cells(), heading=COLUMNS)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.txt.gz"])
def test_text_files_that_are_tables(tmp_path, content, name):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "labels.csv").write_text(f"name,label\n{name},4\n")
    _, found = read_all("folder", tmp_path, layout=LAYOUT)
    assert [(r.name, r.columns["label"]) for r in found] == [("a", 4)]
    assert_is_motion(found[0].positions.transpose(3, 1, 2, 0))


NOTES = ["", "recorded 2024-03-05\nby hand\n", "0 wave\n1 jump\n", "1\n2\n3\n", "0.5 12\n0.6 13\n",
         "Recorded at 12:30,\nin the hall, 1,000.5 frames\n", "S001C001P001R001A001\n"]  # fmt: skip


def test_notes_are_counted_and_no_more(tmp_path):
    (tmp_path / "a.txt").write_text(PLAIN)
    for index, note in enumerate(NOTES):
        (tmp_path / f"note{index}.txt").write_text(note)
    plan, found = read_all("folder", tmp_path, layout=LAYOUT)
    assert [recording.name for recording in found] == ["a"]
    assert not plan.left_out
    assert f"ignored: {len(NOTES)} .txt files that are no tables of poses" in plan.notes
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ReadError, match=r"holds no .* sequences; ignored: 7 \.txt files"):
        read_all("folder", tmp_path, layout=LAYOUT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (text([row[:-3] for row in cells()]), "57 columns, and layout nw-ucla has 20 joints"),
        (text([["12:30:01", *row] for row in cells()]), "a time as 12:30:01,0 is not read"),
        (text([["p1", *row] for row in cells()]), "column 1 holds text such as 'p1'"),
        (PLAIN + "and so on\n", ":13: 1 columns, the others have 60"),
    ],
)
def test_a_text_file_that_is_nearly_a_table_is_not_ignored(tmp_path, content, reason):
    (tmp_path / "a.txt").write_text(content)
    assert reason in refused("folder", tmp_path, layout=LAYOUT)


# --- Who a line is of ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["p1", "p2"], ["left", "right"], ["A"], ["#1", "#2"]])
@pytest.mark.parametrize("heading", [None, ["person", *COLUMNS]])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_persons_by_name_are_refused_clearly(tmp_path, names, heading, separator):
    rows = [[name, *row] for row in cells() for name in names]
    if names[0] == "#1" and heading is None:
        rows = [[*row[1:], row[0]] for row in rows]  # a line that begins with # is a comment
    if names[0] == "#1" and heading is not None:
        rows, heading = [[*row[1:], row[0]] for row in rows], [*COLUMNS, "person"]
    (tmp_path / "a.csv").write_text(text(rows, separator, heading))
    error = refused("folder", tmp_path, layout=LAYOUT)
    column = 61 if names[0] == "#1" else 1
    name = " ('person')" if heading else ""
    some = ", ".join(f"'{name}'" for name in names)
    assert f"column {column}{name} holds text such as {some}: take it out; where" in error
    assert "give one file per person" in error


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1.#INF"])
@pytest.mark.parametrize("lines", [slice(5, 6), slice(None)])
def test_infinite_cells_are_refused(tmp_path, word, lines):
    rows = cells()
    for row in rows[lines]:
        row[7] = word
    (tmp_path / "a.csv").write_text(text(rows))
    assert f"expected a finite number, got {word!r}" in refused("folder", tmp_path, layout=LAYOUT)


# --- Axes in another order -----------------------------------------------------------------------


def official(folder, array):
    folder.mkdir(exist_ok=True)
    for part in ("train", "val"):
        np.save(folder / f"{part}_position.npy", array)
        names = [f"{part}{index}" for index in range(len(array))]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [0] * len(array))))
    return folder


@pytest.mark.parametrize("frames", [40, 300])
@pytest.mark.parametrize("layout", [None, "ntu-rgb+d"])
@pytest.mark.parametrize("coordinates", [2, 3])
def test_joints_before_frames_are_refused(tmp_path, frames, layout, coordinates):
    x = np.stack([np.resize(motion(i, 25), (frames, 25, 3)) for i in range(2)])[..., :coordinates]
    array = x.transpose(0, 3, 2, 1)[..., None].astype(np.float32)  # [N, C, V, T, M]
    error = refused("official", official(tmp_path / "in", array), layout=layout)
    assert f"{frames} joints" in error
    assert "25 frames: are the two axes exchanged? Frames come before joints" in error
    entry = {"frame_dir": "a", "label": 0, "keypoint": x[:1].swapaxes(1, 2)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([entry]))
    error = refused("pyskl", tmp_path / "a.pkl", layout=layout)
    assert "25 frames: are the two axes exchanged?" in error


def test_joints_before_frames_in_arrays_of_ones_own(tmp_path):
    np.save(tmp_path / "a.npy", MOTION.swapaxes(0, 1))
    assert "expected [T, 20, C]" in refused("folder", tmp_path, layout=LAYOUT)


def test_another_file_than_an_array_is_not_taken_for_its_folder(tmp_path):
    folder = official(tmp_path / "in", np.zeros((2, 3, 9, 25, 1), np.float32))
    (folder / "all.zip").write_bytes(b"PK")
    for name in ("all.zip", "train_label.pkl"):
        assert "expected a folder of train_position.npy" in refused("official", folder / name)
    assert "body" not in refused("official", folder / "train_position.npy", layout="ntu-rgb+d")


# --- Scores and frames that are none -------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (np.full((1, 30, 17), "x"), "keypoint_score: holds <U1, not numbers"),
        (np.ones((1, 30, 17), complex), "keypoint_score: holds complex128, not numbers"),
        (np.full((1, 30, 17), np.nan), "a joint has coordinates, but its score is NaN"),
        (np.full((1, 30, 17), np.inf), "a value is not finite"),
        (np.ones((1, 30, 17), bool), ""),
    ],
)
def test_scores_that_are_none(tmp_path, score, reason):
    keypoint = motion(0, 17, 30)[None, ..., :2] * 300
    entry = {"frame_dir": "a", "label": 0, "keypoint": keypoint, "keypoint_score": score}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([entry]))
    error = refused("pyskl", tmp_path / "a.pkl", layout="coco")
    assert reason in error if reason else not error


def test_openpose_frames_that_cannot_be_read_are_named(tmp_path):
    for index, content in enumerate(["[]", "junk", '{"people": []}']):
        (tmp_path / f"clip_{index:012}_keypoints.json").write_text(content)
    assert "000000_keypoints.json: expected an object with people" in refused("openpose", tmp_path)


# --- A score, or z -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "openpose", "h36m", "ntu-rgb+d", "smpl-24"])
def test_one_rule_says_whether_the_third_coordinate_is_a_score(tmp_path, name):
    """A named layout gives the same answer, or question, whatever the source."""
    layout = get_layout(name)
    x = motion(0, layout.num_joints, 30)
    score = np.full((*x.shape[:2], 1), 0.9)
    for index, pose in enumerate([
        x, x - [0, 0, 2.5], np.concatenate([x[..., :2] * 300 + 400, score], axis=2),
        np.concatenate([x[..., :2] * 0.2 + 0.4, score], axis=2),
        np.concatenate([x[..., :2] * 3, score], axis=2), x * [300, 300, 1000],
    ]):  # fmt: skip
        (tmp_path / f"{index}").mkdir()
        np.save(tmp_path / f"{index}" / "a.npy", pose)
        entry = {"frame_dir": "a", "label": 0, "keypoint": pose[None]}
        (tmp_path / f"{index}.pkl").write_bytes(pickle.dumps([entry]))
        array = np.tile(pose.transpose(2, 0, 1)[None, ..., None], (2, 1, 1, 1, 1))
        sources = [
            ("folder", tmp_path / f"{index}"),
            ("pyskl", tmp_path / f"{index}.pkl"),
            ("official", official(tmp_path / f"o{index}", array)),
        ]
        for flag in ("auto", "2d", "3d"):
            answers = set()
            for reader, source in sources:
                try:
                    answers.add(read_all(reader, source, layout=name, pose=flag)[0].rotate)
                except ReadError as error:
                    answers.add(error.reason)
            assert len(answers) == 1, (name, index, flag, answers)
            if flag == "3d":
                assert answers == {True}


# --- More of the kind ----------------------------------------------------------------------------


def test_labels_that_name_no_sequence_are_told(tmp_path):
    np.save(tmp_path / "a.npy", MOTION)
    (tmp_path / "labels.csv").write_text("name,label\nzz,0\nyy,1\n")
    said = refused("folder", tmp_path, layout=LAYOUT)
    assert "a.npy: has no row in" in said
    assert "there is no sequence zz" in said


@pytest.mark.parametrize("pose", ["auto", "2d"])
def test_one_2d_file_does_not_flatten_the_others(tmp_path, pose):
    deep = np.add(MOTION, [0.0, 0.0, 2.5])  # in meters, before a camera
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", deep)
    np.save(tmp_path / "d.npy", deep[..., :2])
    if pose == "2d":
        assert "is no score" in refused("folder", tmp_path, layout=LAYOUT, pose=pose)
        return
    assert "2D, while other sequences are 3D" in refused("folder", tmp_path, layout=LAYOUT)
    _, found = read_all("folder", tmp_path, layout=LAYOUT)
    kept = [each for each in found if isinstance(each, Recording)]
    assert [each.name for each in kept] == ["a", "b", "c"]
    np.testing.assert_allclose(kept[0].positions[2, ..., 0], deep[..., 2], atol=1e-6)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("heading", [["frame", *COLUMNS], None], ids=["by name", "guessed"])
def test_frames_that_a_counter_skips_are_frames_without_anybody(tmp_path, heading, step):
    gone = [4, 5, 9] if heading else [4]  # what is guessed has to be steady
    there = np.delete(np.arange(len(MOTION)), gone)
    rows = [[str(100 + step * frame), *row] for frame, row in zip(there, cells(MOTION.reshape(
        len(MOTION), -1)[there]), strict=True)]  # fmt: skip
    positions, *_ = read_in(tmp_path, text(rows, heading=heading))
    assert_is_motion(positions[:, there], MOTION[there])
    assert np.isnan(positions[:, gone]).all()


def test_a_clock_without_a_heading_is_no_counter(tmp_path):
    rows = [[str(33 * i + i % 2), *row] for i, row in enumerate(cells())]
    assert_is_motion(read_in(tmp_path, text(rows))[0])


def test_a_counter_that_leaps_is_refused(tmp_path):
    rows = [[str(frame), *row] for frame, row in enumerate(cells())]
    rows[-1][0] = "100000"
    with pytest.raises(ReadError, match="the numbers count 100,001 frames of 12 lines: renumber"):
        read_in(tmp_path, text(rows, heading=["frame", *COLUMNS]))


@pytest.mark.parametrize("unit", [" (ft)", " [in]", " (dm)", "_ft"])
def test_other_units_of_length_are_refused(tmp_path, unit):
    with pytest.raises(ReadError, match=r"lengths in (ft|in|dm), by .*convert them to m, cm or mm"):
        read_in(tmp_path, text(cells(), heading=[f"{name}{unit}" for name in COLUMNS]))


@pytest.mark.parametrize("form", ["v{axis}_{joint}", "{joint}_d{axis}", "{joint}_velocity_{axis}"])
def test_columns_that_are_no_positions_are_not_read_as_such(tmp_path, form):
    heading = [form.format(axis=name[-1], joint=name[:-2]) for name in COLUMNS]
    with pytest.raises(ReadError, match="is no position, by its name"):
        read_in(tmp_path, text(cells(), heading=heading))
    positions, *_ = read_in(tmp_path, text(cells(), heading=heading), columns="xyz")
    assert_is_motion(positions)


def test_ctr_gcns_sequences_and_labels_are_as_many(tmp_path):
    x, y = np.ones((3, 10, 150), np.float32), np.eye(2)[[0, 1]]
    file = tmp_path / "NTU60_CS.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:2], y_test=y)
    assert "x_train has 3 rows, and y_train 2" in refused("ctrgcn", file)

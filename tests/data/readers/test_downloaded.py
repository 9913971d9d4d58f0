"""What people already downloaded: the authors' arrays, pyskl's pickles, CTR-GCN's npz."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.test_ntu import read_all

from aimclr_fast.data.gaps import close
from aimclr_fast.data.readers import Problem, ReadError

NAMES = [f"S001C00{c}P00{p}R001A0{a}" for c, p, a in ((1, 1, "01"), (2, 2, "10"), (3, 3, "60"))]
RNG = np.random.default_rng(0)


def write_official(folder, sides):
    """`sides`: {"train": rows, "val": rows} of NAMES; returns the positions of all names."""
    x = np.random.default_rng(1).normal(size=(3, 3, 50, 25, 2)).astype(np.float32)
    folder.mkdir(parents=True)
    for side, rows in sides.items():
        np.save(folder / f"{side}_position.npy", x[rows])
        names = [NAMES[row] + ".skeleton" for row in rows]
        labels = [int(NAMES[row][-3:]) - 1 for row in rows]
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((names, labels)))
    return x


def test_official_joins_benchmarks(tmp_path):
    x = write_official(tmp_path / "xsub", {"train": [0, 1], "val": [2]})
    write_official(tmp_path / "xview", {"train": [1, 2], "val": [0]})
    plan, found = read_all("official", tmp_path)
    assert sorted(r.name for r in found) == NAMES
    for recording in found:
        np.testing.assert_array_equal(recording.positions, x[NAMES.index(recording.name)])
    first = next(r for r in found if r.name == NAMES[0])
    assert (first.columns["xsub"], first.columns["xview"], first.columns["label"]) == (
        "train", "test", 0,
    )  # fmt: skip
    assert plan.ready
    assert len(plan.classes) == 60
    assert {"xsub", "xview"} <= set(plan.splits)


def test_official_one_benchmark_alone(tmp_path):
    write_official(tmp_path / "xsub", {"train": [0, 1], "val": [2]})
    plan, found = read_all("official", tmp_path / "xsub")
    assert {r.columns["split"] for r in found} == {"train", "test"}
    assert plan.splits["split"]["train"] == ["train"]


class Evil:
    def __reduce__(self):
        return print, ("pwned",)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (Evil(), "builtins.print"),
        (["a"], "expected .names, labels"),
        ((["a"], [0]), "1 names and 1 labels for 2 positions"),
        ((["a", 3], [0, 1]), "is not text"),
        ((["a", "b"], [0, -1]), "is not 0 or more"),
        ((["a", "b"], [0, "x"]), "is not 0 or more"),
    ],
)
def test_damaged_official(tmp_path, labels, reason):
    write_official(tmp_path / "xsub", {"train": [0, 1]})
    (tmp_path / "xsub" / "train_label.pkl").write_bytes(pickle.dumps(labels))
    with pytest.raises(ReadError, match=reason):
        read_all("official", tmp_path / "xsub")


def test_official_arrays_that_are_cut_short_or_not_finite(tmp_path):
    x = write_official(tmp_path / "xsub", {"train": [0, 1]})
    file = tmp_path / "xsub" / "train_position.npy"
    x[1, 0, 0, 0, 0] = np.nan
    np.save(file, x[:2])
    _, found = read_all("official", tmp_path)
    assert [isinstance(r, Problem) for r in found] == [False, True]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ReadError, match=r"not a readable \.npy"):
        read_all("official", tmp_path)


def annotation(name, label, keypoint, **more):
    return {
        "frame_dir": name,
        "label": label,
        "keypoint": keypoint,
        "total_frames": keypoint.shape[1],
        **more,
    }


def write_pyskl(file, annotations, split=None):
    split = split or {
        "xsub_train": NAMES[:2], "xsub_val": NAMES[2:], "xview_train": NAMES[1:],
        "xview_val": NAMES[:1],
    }  # fmt: skip
    file.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))


def test_pyskl_in_three_dimensions(tmp_path):
    file = tmp_path / "ntu60_3danno.pkl"
    keypoints = [
        motion(i, 25, 9 + i)[None].repeat(1 + i % 2, 0).astype(np.float16) for i in range(3)
    ]
    write_pyskl(
        file, [annotation(n, int(n[-3:]) - 1, k) for n, k in zip(NAMES, keypoints, strict=True)]
    )
    plan, found = read_all("pyskl", file)
    assert [r.name for r in found] == NAMES
    for recording, keypoint in zip(found, keypoints, strict=True):
        bodies = len(keypoint)
        np.testing.assert_array_equal(
            recording.positions[..., :bodies], keypoint.transpose(3, 1, 2, 0)
        )
        assert not recording.positions[..., bodies:].any()
    assert found[0].columns["split_xsub"] == "train"
    assert found[0].columns["split_xview"] == "test"
    assert found[0].columns["subject"] == 1
    assert plan.splits["xview"] == {
        "column": "split_xview",
        "train": ["train"],
        "test": ["test"],
    }


def test_pyskl_in_two_dimensions(tmp_path):
    file = tmp_path / "hrnet.pkl"
    pixels = motion(0, 17, 12)[None, ..., :2] * [100, -100] + 300
    score = np.ones((1, 12, 17), np.float32)
    score[0, 3:6, 5] = 0
    pixels[0, 3:6, 5] = 9999
    write_pyskl(
        file,
        [annotation("a", 0, pixels, keypoint_score=score), annotation("b", 1, pixels)],
        {"train": ["a"], "val": ["b"]},
    )
    plan, found = read_all("pyskl", file)
    assert (plan.layout.name, plan.rotate) == ("coco", False)
    assert "2D poses" in plan.notes[1]
    marked = found[0].positions
    assert np.isnan(marked[:, 3:6, 5]).all()
    x = close(marked, "fill")[0][..., 0]
    assert not x[2].any()
    assert np.abs(x).max() < 3  # meters, and the joint that was not seen is not at 9999
    # It goes in a straight line from the frame before to the frame after.
    np.testing.assert_allclose(x[:, 4, 5], (x[:, 2, 5] + x[:, 6, 5]) / 2, atol=1e-9)
    up = x[1, 0] - x[1, 0].mean()
    original = motion(0, 17, 12)[0, :, 1]
    assert np.corrcoef(up, original)[0, 1] > 0.99  # the image's y was turned up
    assert plan.splits["split"]["column"] == "split_split"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("text", "no keypoint array"),
        (annotation("", 0, np.ones((1, 5, 25, 3))), "frame_dir"),
        (annotation(["x"], 0, np.ones((1, 5, 25, 3))), "frame_dir"),
        (annotation("x", -1, np.ones((1, 5, 25, 3))), "label"),
        (annotation("x", None, np.ones((1, 5, 25, 3))), "label"),
        (annotation("x", 0, np.ones((1, 5, 24, 3))), r"expected \[M, T, 25"),
        (annotation("x", 0, np.ones((1, 0, 25, 3))), "empty"),
        (annotation("x", 0, np.full((1, 5, 25, 3), np.inf)), "not finite"),
        (
            annotation("x", 0, np.ones((1, 5, 25, 2)), keypoint_score=np.ones((1, 4, 25))),
            "2D, while",
        ),
    ],
)
def test_damaged_annotations(tmp_path, entry, reason):
    write_pyskl(tmp_path / "x.pkl", [annotation("good", 0, motion(0, 25, 5)[None]), entry])
    _, found = read_all("pyskl", tmp_path / "x.pkl", layout="ntu-rgb+d")
    assert found[0].name == "good"
    assert len(found) == 2
    import re

    assert re.search(reason, found[1].reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Evil(), "builtins.print"),
        ([], "expected a list of annotations, or a dict"),
        (["text"], "expected a list of annotations, or a dict"),
        ({"annotations": []}, "no annotation has"),
        ({"annotations": [annotation("x", 0, np.ones((1, 5, 11, 3)))]}, "11 joints: name"),
        ({"annotations": [annotation("x", 0, np.ones((1, 5, 25, 3)))], "split": 3}, "split"),
    ],
)
def test_damaged_pyskl(tmp_path, data, reason):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(data))
    with pytest.raises(ReadError, match=reason):
        read_all("pyskl", tmp_path / "x.pkl")


def ctrgcn_arrays(train=5, test=3, frames=30):
    out = {}
    for side, count in (("train", train), ("test", test)):
        x = np.zeros((count, frames, 2, 25, 3), np.float32)
        for i in range(count):
            x[i, : 10 + i, 0] = motion(i, 25, 10 + i)
        out[f"x_{side}"] = x.reshape(count, frames, 150)
        out[f"y_{side}"] = np.eye(60)[np.arange(count)]
    return out


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctrgcn(tmp_path, save):
    arrays = ctrgcn_arrays()
    save(tmp_path / "NTU60_CV.npz", **arrays)
    plan, found = read_all("ctrgcn", tmp_path / "NTU60_CV.npz")
    assert [r.name for r in found[4:6]] == ["train_000004", "test_000000"]
    assert found[4].columns == {"label": 4, "split": "train"}
    np.testing.assert_array_equal(
        found[4].positions[:, :14, :, 0].transpose(1, 2, 0), motion(4, 25, 14).astype(np.float32)
    )
    assert not found[4].positions[:, 14:].any()
    assert list(plan.splits) == ["xview"]
    assert len(plan.classes) == 60


def test_damaged_ctrgcn(tmp_path):
    file = tmp_path / "NTU60_CS.npz"
    arrays = ctrgcn_arrays()
    arrays["y_train"][2] = 0
    arrays["x_train"][3, 2, 1] = np.inf
    np.savez(file, **arrays)
    _, found = read_all("ctrgcn", file)
    assert [r.reason.split(":")[0] for r in found if isinstance(r, Problem)] == [
        "label", "a value is not finite (frame 2, joint 0)",
    ]  # fmt: skip
    np.savez(file, **{**ctrgcn_arrays(), "x_test": np.zeros((3, 30, 75), np.float32)})
    assert "150" in read_all("ctrgcn", file)[1][-1].reason
    np.savez(file, **{**ctrgcn_arrays(), "y_test": np.eye(60)[:2]})
    with pytest.raises(ReadError, match="x_test has 3 rows, and y_test 2"):
        read_all("ctrgcn", file)
    np.savez(file, **{**ctrgcn_arrays(), "x_test": np.array([None])})
    with pytest.raises(ReadError, match="not numbers"):
        read_all("ctrgcn", file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ReadError, match="npz"):
        read_all("ctrgcn", file)

"""Readers of arrays and annotations: axes in another order, more people, labels that are names."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers.test_annotations import one_person, padded, write, write_arrays
from data.readers.test_downloaded import annotation
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import Problem, ReadError


@pytest.fixture(scope="module")
def body():
    return one_person()


def test_labels_that_are_names(tmp_path, body):
    entries = [annotation(f"c{i}", n, body[None]) for i, n in enumerate(["walk", "run", "walk"])]
    plan, found = read_all("pyskl", write(tmp_path / "x.pkl", entries))
    assert plan.classes == ("run", "walk")
    assert [recording.columns["label"] for recording in found] == [1, 0, 1]
    mixed = [*entries, annotation("d", 3, body[None])]
    with pytest.raises(ReadError, match="label 'walk' is a name, while 1 others are numbers"):
        read_all("pyskl", write(tmp_path / "x.pkl", mixed))
    digits = [annotation(f"c{i}", n, body[None]) for i, n in enumerate(["7", 7, "3"])]
    plan, found = read_all("pyskl", write(tmp_path / "x.pkl", digits))
    assert plan.classes is None
    assert [recording.columns["label"] for recording in found] == [7, 7, 3]


@pytest.mark.parametrize("coordinates", [2, 3])
@pytest.mark.parametrize("people", [1, 2])
def test_frames_before_bodies_are_refused(tmp_path, body, coordinates, people):
    keypoint = np.stack([body[..., :coordinates]] * people)
    good, swapped = (annotation("a", 0, x) for x in (keypoint, keypoint.swapaxes(0, 1)))
    shape = rf"\[{len(body)}, {people}, 25, {coordinates}\]"
    file = write(tmp_path / "x.pkl", [swapped])
    with pytest.raises(ReadError, match=rf"expected \[M, T, V, C\], got shape {shape}.*--max-b"):
        read_all("pyskl", file)
    file = write(tmp_path / "x.pkl", [good, swapped | {"frame_dir": "b"}, good])
    _, found = read_all("pyskl", file, layout="ntu-rgb+d", aspect=1.0)
    assert [isinstance(one, Problem) for one in found] == [False, True, False]
    assert "looks like [T, M, V, C]" in found[1].reason


def test_a_crowd_is_said_and_can_be_kept(tmp_path, body):
    crowd = annotation("a", 0, np.stack([body + i for i in range(3)]))
    file = write(tmp_path / "x.pkl", [crowd, annotation("b", 0, body[None])])
    plan, _ = read_all("pyskl", file)
    assert any("1 of 2 annotations have more than 2 bodies, up to 3" in n for n in plan.notes)
    plan, found = read_all("pyskl", file, max_bodies=3)
    assert not any("more than 2" in note for note in plan.notes)
    assert found[0].positions.any(axis=(0, 1, 2)).all()
    many = write(tmp_path / "x.pkl", [annotation("a", 0, np.stack([body] * 9))])
    with pytest.raises(ReadError, match="--max-bodies"):
        read_all("pyskl", many)
    assert read_all("pyskl", many, max_bodies=9)[0].bodies == 9


def test_an_array_without_bodies_says_its_shape(tmp_path, body):
    file = write(tmp_path / "x.pkl", [annotation("a", 0, body)])
    with pytest.raises(ReadError, match=rf"first is of shape \[{len(body)}, 25, 3\].*keypoint\[N"):
        read_all("pyskl", file)


def test_arrays_in_another_order_of_axes(tmp_path, body):
    right = np.stack([padded(body, 20, 30)] * 2)  # [N, C, T, V, M]
    for order in [(0, 4, 2, 3, 1), (0, 1, 4, 2, 3), (0, 2, 3, 1, 4)]:
        array = right.transpose(order)
        source = write_arrays(tmp_path / "in", {"train": array, "val": array})
        with pytest.raises(ReadError, match=r"expected \[N, C, T, V, M\].*got shape \[2, "):
            read_all("official", source)
    three = np.concatenate([right, 0 * right[..., :1]], 4)
    read_all("official", write_arrays(tmp_path / "in", {"train": three, "val": three}))
    swapped = three.transpose(0, 4, 2, 3, 1)
    with pytest.raises(ReadError, match="y is 0 throughout"):
        read_all("official", write_arrays(tmp_path / "in", {"train": swapped, "val": swapped}))
    flat = write_arrays(tmp_path / "in", {"train": three[:, :2], "val": three[:, :2]})
    with pytest.raises(ReadError, match="--pose 2d"):
        read_all("official", flat)
    assert read_all("official", flat, pose="2d", layout="openpose-25")[0].bodies == 3


def test_labels_in_arrays_of_one(tmp_path, body):
    x = [padded(body, 20, 20)] * 2
    labels = [np.array([0]), np.array([1])]
    arrays = {"train": x, "val": x}
    source = write_arrays(tmp_path, arrays, labels=dict.fromkeys(arrays, labels))
    _, found = read_all("official", source)
    assert [recording.columns["label"] for recording in found] == [0, 1, 0, 1]

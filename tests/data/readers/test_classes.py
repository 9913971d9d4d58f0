"""Class numbers and names: what a label may be, ids as classes, NTU's names where they are due."""

from __future__ import annotations

import numpy as np
import pytest

from aimclr_fast.data import open_store, write_store
from aimclr_fast.data.classes import MAX_CLASSES, as_label, dense_classes
from aimclr_fast.data.inspection import card, draw
from aimclr_fast.data.readers._classes import name_ntu_classes, number_classes


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, 0),
        (3, 3),
        (np.int64(119), 119),
        (np.uint8(7), 7),
        (np.array(5), 5),
        (np.array([5], np.int32), 5),
        (2.0, 2),
        (np.float32(2), 2),
        (20211105000, 20211105000),
        (-1, None),
        (np.int8(-1), None),
        (2.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        (2**70, None),
        (True, None),
        (np.True_, None),
        (None, None),
        ("3", None),
        (np.array([1, 2]), None),
        (np.array(["a"]), None),
    ],
)
def test_what_a_label_may_be(value, label):
    found = as_label(value)
    assert found == label
    assert type(found) is type(label)


@pytest.mark.parametrize("labels", [[], [0, 1, 2], [2, 9], [0, MAX_CLASSES - 1]])
def test_small_labels_stay_as_they_are(labels):
    numbering = number_classes(labels)
    assert numbering.classes == {label: label for label in labels}
    assert (numbering.names, numbering.notes) == (None, [])


@pytest.mark.parametrize("largest", [MAX_CLASSES, 200_000, 20211105000])
def test_ids_are_numbered_in_ascending_order(largest):
    numbering = number_classes([largest, 7, largest, 120])
    assert numbering.classes == {7: 0, 120: 1, largest: 2}
    assert numbering.names == ("7", "120", str(largest))
    assert f"labels reach {largest}" in numbering.notes[0]
    assert "3 classes" in numbering.notes[0]
    classes, names = dense_classes(np.array([largest, 7, largest, 120]))
    assert (classes.tolist(), names) == ([2, 0, 2, 1], numbering.names)


@pytest.mark.parametrize(
    ("samples", "count", "first"),
    [
        ([(0, 1), (59, 60), (0, 1)], 60, "drink water"),
        ([(0, 1), (119, 120)], 120, "drink water"),
        ([(6, 7)], 60, "drink water"),
        ([(0, 7), (1, 25), (2, 42), (0, 7)], 3, "A007"),
        ([(0, 1), (1, 3)], 2, "A001"),
        ([(0, 1), (2, 3), (3, 5)], 4, "A001"),
        ([(0, 61)], 1, "A061"),
    ],
)
def test_ntu_names_only_where_labels_are_the_actions(samples, count, first):
    numbering = name_ntu_classes(number_classes([label for label, _ in samples]), samples)
    assert len(numbering.names) == count
    assert numbering.names[0] == first
    assert len(set(numbering.names)) == count
    assert any("numbered anew" in note for note in numbering.notes) == (first[0] == "A")


def test_a_class_without_samples_has_a_name_all_the_same():
    assert name_ntu_classes(number_classes([0, 2]), [(0, 7), (2, 9)]).names == (
        "A007", "class 1", "A009",
    )  # fmt: skip


@pytest.mark.parametrize("samples", [[(0, 7), (0, 8)], [(0, 7), (1, 7)]])
def test_labels_that_are_no_actions_have_no_names(samples):
    numbering = name_ntu_classes(number_classes([label for label, _ in samples]), samples)
    assert numbering.names is None
    assert "the classes have no names" in numbering.notes[0]


def test_a_store_of_ids_is_as_quick_as_any(tmp_path):
    ids = [20211105000 + index % 3 * 1000 for index in range(14)]
    rng = np.random.default_rng(0)
    write_store(
        tmp_path / "x",
        rng.normal(size=(14, 3, 8, 17, 1)),
        {"name": [f"s{index}" for index in range(14)], "label": ids},
        layout="coco",
    )
    store = open_store(tmp_path / "x")
    assert store.labels.tolist() == [index % 3 for index in range(14)]
    assert store.class_names == ("20211105000", "20211106000", "20211107000")
    assert store.samples["label"].tolist() == ids
    assert "3 classes" in store.summary()
    assert "samples per class: min 4, median 5, max 5; 3 classes have samples" in card(store)
    _, png, _ = draw(store, tmp_path)
    assert png.stat().st_size < 200_000

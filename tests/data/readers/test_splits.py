"""Splits by name: what pairs, what does not, and where validation samples go."""

from __future__ import annotations

import numpy as np
import pytest

from aimclr_fast.data.readers import ReadError
from aimclr_fast.data.readers._splits import (
    check_sides,
    column_rule,
    pair_splits,
    parse_side,
    sides_rule,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("xsub_train", ("xsub", "train")),
        ("xsub_val", ("xsub", "val")),
        ("train_xsub", ("xsub", "train")),
        ("xsubTrain", ("xsub", "train")),
        ("trainXsub", ("xsub", "train")),
        ("cross-subject/test", ("cross_subject", "test")),
        ("sub1_train_fold2", ("sub1_fold2", "train")),
        ("train", ("split", "train")),
        ("Training", ("split", "train")),
        (" VALIDATION ", ("split", "val")),
        ("valid", ("split", "val")),
        ("dev", ("split", "val")),
        ("testing", ("split", "test")),
        ("evaluation", ("split", "test")),
        ("train1", ("split1", "train")),
        ("test_split_1", ("split_1", "test")),
        ("fold2.test", ("fold2", "test")),
        ("trainer", None),
        ("restrain", None),
        ("contest", None),
        ("train_test", None),
        ("trainval", None),
        ("all", None),
        ("", None),
    ],
)
def test_names_of_sides(text, expected):
    assert parse_side(text) == expected


def test_train_and_val_alone_train_and_test():
    splits, notes = pair_splits({"xsub_train": ["a"], "xsub_val": np.array(["b"])}, "here")
    assert splits == {"xsub": {"a": "train", "b": "test"}}
    assert notes == []


def test_three_lists_stay_three():
    lists = {"train": ["a"], "val": ["b"], "test": ("c",)}
    splits, notes = pair_splits(lists, "here")
    assert splits == {"split": {"a": "train", "b": "val", "c": "test"}}
    assert notes == []
    rule = sides_rule("split_split", splits["split"].values())
    assert rule == {"column": "split_split", "train": ["train"], "test": ["test"], "val": ["val"]}


def test_numbered_lists_pair_by_their_number():
    lists = {f"{side}{n}": [f"{side}{n}"] for n in (1, 2, 3) for side in ("train", "test")}
    splits, notes = pair_splits(lists, "here")
    assert list(splits) == ["split1", "split2", "split3"]
    assert splits["split2"] == {"train2": "train", "test2": "test"}
    assert notes == []


def test_what_pairs_with_nothing_is_named():
    lists = {"xsub_train": ["a"], "xview_val": ["b"], "everyone": ["a", "b"], 7: ["c"]}
    splits, notes = pair_splits(lists, "here")
    assert splits == {}
    assert notes[0].startswith("split: everyone, 7, xsub_train, xview_val: nothing to pair with")
    splits, notes = pair_splits({"train": ["a"], "test": []}, "here")
    assert splits == {}
    assert "train" in notes[0]


def test_lists_that_are_none_or_share_a_sample():
    with pytest.raises(ReadError, match="here: split train: expected a list of names"):
        pair_splits({"train": "a", "test": ["b"]}, "here")
    with pytest.raises(ReadError, match="here: split xsub: b is on two of its sides"):
        pair_splits({"xsub_train": ["a", "b"], "xsub_test": ["b"]}, "here")


def test_sides_that_samples_do_not_fit():
    splits = {"one": {"a": "train", "b": "test"}, "two": {"a": "train", "x": "test"}}
    kept, notes = check_sides(splits, {"a", "b"})
    assert list(kept) == ["one"]
    assert "split two: 1 of its 2 names are of no sample (first: 'x')" in notes[0]
    assert "left out, no sample is left" in notes[1]


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        (["train", "test"], {"train": ["train"]}),
        (["train", "val"], {"train": ["train"]}),
        (["Training", "", "camera 2"], {"train": ["Training"]}),
        (["train", "val", "test"], {"train": ["train"], "test": ["test"], "val": ["val"]}),
        (
            ["training", "validation", "testing", "unused"],
            {"train": ["training"], "test": ["testing"], "val": ["validation"]},
        ),
        (["train", "test", "unused"], {"train": ["train"], "test": ["test"]}),
        (["train", "val", "", "ignore"], {"train": ["train"], "test": ["val"]}),
    ],
)
def test_a_column_of_splits(cells, rule):
    found, notes = column_rule("split", cells)
    assert found == {"column": "split", **rule}
    assert any("kept apart" in note for note in notes) == ("val" in rule)


def test_cells_that_are_no_side_are_named():
    notes = column_rule("split", ["train", "val", "none", "", "none"])[1]
    assert notes == ["column split: 3 samples of '', 'none' neither train nor test"]
    notes = column_rule("split", ["train", "camera 2"])[1]
    assert notes == ["column split: 1 samples of 'camera 2' test, as nothing but train is named"]
    assert column_rule("split", ["train", "val"])[1] == []


@pytest.mark.parametrize("cells", [["train"], ["test", "val"], ["1", "2"], [""]])
def test_a_column_that_is_no_split_is_said(cells):
    found, notes = column_rule("split", cells)
    assert found is None
    assert notes[0].startswith("column split names no split: it holds ")


def test_cells_that_name_no_split_are_shown_as_they_are():
    notes = column_rule("split", ["", "a, b", " ", "a, b"])[1]
    assert notes == [
        "column split names no split: it holds empty cells, 'a, b', not train and test"
    ]

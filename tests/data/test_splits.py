"""Splits: the rules of NTU RGB+D, declared rules, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aimclr_fast.data.splits import (
    NTU60_SPLITS,
    NTU120_SPLITS,
    get_split_rule,
    split,
    validation,
)

SAMPLES = {
    "name": np.array([f"s{index}" for index in range(12)]),
    "subject": np.arange(1, 13),
    "camera": np.tile([1, 2, 3], 4),
    "setup": np.arange(12) // 2 + 1,
    "part": np.array(["train", "val", "test"] * 4),
}


def store(splits, samples=SAMPLES):
    meta = {"splits": splits}
    return SimpleNamespace(path=Path("somewhere"), meta=meta, samples=samples)


def test_ntu_training_subjects():
    ntu60 = NTU60_SPLITS["xsub"]["train"]
    ntu120 = NTU120_SPLITS["xsub"]["train"]
    assert (len(set(ntu60)), min(ntu60), max(ntu60)) == (20, 1, 38)
    assert (len(set(ntu120)), min(ntu120), max(ntu120)) == (53, 1, 103)
    assert set(ntu60) == {subject for subject in ntu120 if subject <= 40}


@pytest.mark.parametrize(
    ("rules", "name", "train", "test"),
    [
        (NTU60_SPLITS, "xsub", [0, 1, 3, 4, 7, 8], [2, 5, 6, 9, 10, 11]),
        (NTU60_SPLITS, "xview", [1, 2, 4, 5, 7, 8, 10, 11], [0, 3, 6, 9]),
        (NTU120_SPLITS, "xset", [2, 3, 6, 7, 10, 11], [0, 1, 4, 5, 8, 9]),
        ({}, "odd-even", [0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]),
        ({}, "all", list(range(12)), list(range(12))),
        (
            {"official": {"column": "part", "train": ["train"], "test": ["val"]}},
            "official",
            [0, 3, 6, 9],
            [1, 4, 7, 10],
        ),
        ({"odd-even": {"column": "setup", "train": "odd"}}, "odd-even", [0, 1, 4, 5, 8, 9], None),
    ],
)
def test_splits(rules, name, train, test):
    result_train, result_test = split(store(rules), name)
    assert result_train.dtype == result_test.dtype == np.int64
    assert result_train.tolist() == train
    if test is None:
        test = sorted(set(range(12)) - set(train))
    assert result_test.tolist() == test


@pytest.mark.parametrize("test", [["test"], None])
def test_validation_samples_neither_train_nor_test(test):
    rule = {"column": "part", "train": ["train"], "test": test, "val": ["val"]}
    declared = store({"three": rule})
    assert [part.tolist() for part in split(declared, "three")] == [[0, 3, 6, 9], [2, 5, 8, 11]]
    found = validation(declared, "three")
    assert found.dtype == np.int64
    assert found.tolist() == [1, 4, 7, 10]


def test_no_validation_samples_is_none():
    absent = {"column": "part", "train": ["train"], "val": ["dev"]}
    assert validation(store({"absent": absent}), "absent") is None
    assert validation(store(NTU60_SPLITS), "xsub") is None


@pytest.mark.parametrize(("train", "part"), [("all", "train"), ("odd", "test")])
def test_a_sample_cannot_validate_and_train_or_test(train, part):
    rule = {"column": "setup", "train": train, "test": "all", "val": [2, 4]}
    with pytest.raises(ValueError, match=f"some samples would {part} and validate"):
        validation(store({"mine": rule}), "mine")


def test_unknown_split_lists_those_there_are():
    with pytest.raises(ValueError, match=r"somewhere: unknown split 'xset'.*all.*xsub, xview"):
        get_split_rule("xset", store(NTU60_SPLITS))
    with pytest.raises(ValueError, match="unknown split 'xsub': choose from all, odd-even"):
        get_split_rule("xsub")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"column": "person", "train": [1]}, "needs column 'person'.*name, subject"),
        ({"column": "part", "train": "odd"}, "column 'part' must be integers"),
        ({"column": "subject", "train": [99]}, "no training samples"),
        ({"column": "subject", "train": "all"}, "no test samples"),
        ({"column": "subject", "train": [1], "test": [99]}, "no test samples"),
        ({"column": "subject", "train": ["1"]}, "no training samples"),
    ],
)
def test_rules_that_do_not_fit_the_samples(rule, message):
    with pytest.raises(ValueError, match=message):
        split(store({"mine": rule}), "mine")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ([1, 2], "a rule is an object"),
        ({"column": "subject"}, "a rule is an object"),
        ({"column": "subject", "train": [1], "check": [2]}, "unknown field check"),
        ({"column": "subject", "train": [1], "val": "odd"}, "val: expected a list"),
        ({"column": "subject", "train": [1], "val": [1]}, "1 would both train and validate"),
        ({"column": "subject", "train": "most"}, "train: expected values"),
        ({"column": "subject", "train": [1], "test": [1.5]}, "test: expected values"),
        ({"column": "subject", "train": [1, 2], "test": [2, 3]}, "2 would both train and test"),
    ],
)
def test_invalid_rules(rule, message):
    with pytest.raises(ValueError, match=f"somewhere: split 'mine': {message}"):
        get_split_rule("mine", store({"mine": rule}))


@pytest.mark.parametrize(
    ("subjects", "offered"),
    [(np.arange(12), "all, odd-even, part"), (np.array(["p1", "p2"] * 6), "all, part"),
     (None, "all, part"), (np.ones(12, int), "all, part")],
)  # fmt: skip
def test_only_splits_that_can_be_made_are_offered(subjects, offered):
    samples = {**SAMPLES, "subject": subjects}
    samples = {name: cells for name, cells in samples.items() if cells is not None}
    declared = {"part": {"column": "part", "train": ["train"], "test": ["test"]}}
    with pytest.raises(ValueError, match=f"choose from {offered}$"):
        split(store(declared, samples), "xsub")

"""Splits by name: which of a source's lists or cells train, validate and test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from aimclr_fast.data.readers._base import ReadError, composed

#: The side, "train", "val" or "test", of each sample that a split names.
Sides: TypeAlias = dict[str, str]

_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SIDE = re.compile(rf"(?<![a-z])({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![a-z])")


def parse_side(text: str) -> tuple[str, str] | None:
    """Split and side that a name stands for, or None where it names no side.

    ``xsub_train``, ``train_xsub`` and ``xsubTrain`` are the training side of ``xsub``, ``test1`` is
    the test side of ``split1``, ``Validation`` the validation side of ``split``.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text.strip()).lower()
    found = _SIDE.findall(words)
    if len(found) != 1:
        return None
    rest = re.sub(r"\W+", "_", _SIDE.sub("_", words))
    rest = re.sub(r"_+", "_", rest).strip("_")
    return f"split{rest}" if rest.isdecimal() else rest or "split", _WORDS[found[0]]


def pair_splits(lists: Mapping[Any, Any], where: str) -> tuple[dict[str, Sides], list[str]]:
    """Splits from named lists of samples, such as ``xsub_train`` and ``xsub_val``.

    A split trains on one list and tests on another. Validation samples are kept apart where
    there is a test list as well; where there is none, they are what the data set tests on.

    Args:
        lists: names of samples by the split's name.
        where: what errors name.

    Returns:
        ``{split: {sample: side}}``, and notes on the lists that make no split.

    Raises:
        ReadError: a value is not a list, or a sample is on two sides of a split.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}  # {split: {side: {sample: key}}}
    unused: list[str] = []
    for key, names in lists.items():
        parsed = parse_side(key) if isinstance(key, str) else None
        if parsed is None:
            unused.append(str(key))
            continue
        if not isinstance(names, list | tuple | set | frozenset | np.ndarray):
            raise ReadError(where, f"split {key}: expected a list of names")
        split, side = parsed
        found.setdefault(split, {}).setdefault(side, {}).update(
            (composed(str(n)), key) for n in names
        )
    splits: dict[str, Sides] = {}
    for split, sides in found.items():
        if "train" not in sides or len(sides) < 2 or not all(sides.values()):
            unused += [key for side in sides.values() for key in dict.fromkeys(side.values())]
            continue
        into: Sides = {}
        for side, samples in sides.items():
            for name in samples:
                if name in into:
                    raise ReadError(where, f"split {split}: {name} is on two of its sides")
                into[name] = side if side != "val" or "test" in sides else "test"
        splits[split] = into
    notes = []
    if unused:
        notes.append(
            f"split: {', '.join(unused[:20])}: nothing to pair with (a split takes two lists "
            "such as NAME_train and NAME_test)"
        )
    return splits, notes


def check_sides(splits: dict[str, Sides], have: set[str]) -> tuple[dict[str, Sides], list[str]]:
    """Drop the splits that do not fit the samples, and say what the others lack.

    Args:
        splits: from :func:`pair_splits`.
        have: the names of all samples.
    """
    kept, notes = {}, []
    for split, sides in splits.items():
        present = {side for name, side in sides.items() if name in have}
        absent = [name for name in sides if name not in have]
        if absent:
            notes.append(
                f"split {split}: {len(absent):,} of its {len(sides):,} names are of no sample "
                f"(first: {absent[0]!r:.60})"
            )
        if {"train", "test"} <= present:
            kept[split] = sides
        else:
            notes.append(f"split {split}: left out, no sample is left to train or to test")
    return kept, notes


def sides_rule(column: str, sides: Iterable[str]) -> dict[str, Any]:
    """The rule (:mod:`aimclr_fast.data.splits`) of a column that holds sides."""
    rule: dict[str, Any] = {"column": column, "train": ["train"], "test": ["test"]}
    return rule | ({"val": ["val"]} if "val" in sides else {})


def say_validation(rules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A note on each split that has validation samples."""
    return [
        f"split {name}: validation samples are kept apart from test (evaluate --choose val)"
        for name, rule in rules.items()
        if "val" in rule
    ]


def column_rule(column: str, cells: Iterable[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """The rule of a user's own column of splits, and what to say about it.

    Cells may be words as in :func:`parse_side`. Where only training and validation are named,
    validation samples test. Samples of other cells, empty ones too, test where nothing but training
    is named; else they are on no side.

    Args:
        column: its name in samples.csv.
        cells: all of its values.
    """
    values: dict[str, list[str]] = {"train": [], "val": [], "test": [], "": []}
    counts = Counter(map(str, cells))
    for cell in sorted(counts):
        parsed = parse_side(cell)
        values[parsed[1] if parsed else ""].append(cell)
    if not values["train"] or not (values["val"] or values["test"] or values[""]):
        names = [repr(cell) if cell.strip() else "empty cells" for cell in sorted(counts)]
        seen = ", ".join(dict.fromkeys(names))
        return None, [f"column {column} names no split: it holds {seen:.200}, not train and test"]
    rule: dict[str, Any] = {"column": column, "train": values["train"]}
    if sum(map(bool, values.values())) > 2:
        rule["test"] = values["test"] or values["val"]
    if values["test"] and values["val"]:
        rule["val"] = values["val"]
    notes = say_validation({column: rule})
    if values[""]:
        shown = ", ".join(map(repr, values[""]))
        use = "neither train nor test" if "test" in rule else "test, as nothing but train is named"
        many = sum(counts[cell] for cell in values[""])
        notes.append(f"column {column}: {many:,} samples of {shown:.200} {use}")
    return rule, notes

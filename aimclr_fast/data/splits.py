"""Splits: which samples of a data set train, which validate, and which test.

A split is a rule over one column of samples.csv, declared in meta.json under ``splits``::

    "xsub":  {"column": "subject", "train": [1, 3, 5, 7, 9]}            the others test
    "xset":  {"column": "setup", "train": "even"}                       or "odd"
    "split": {"column": "split", "train": ["train"], "test": ["test"], "val": ["val"]}

Samples with any other value are left out. Where a rule has no ``test``, every sample that neither
trains nor validates tests. ``val`` is for choosing (an epoch, a learning rate); it is never
trained on, and no result is measured on it.

``all`` (every sample trains and tests) and ``odd-even`` (odd subjects train, even ones test) need
no declaration.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aimclr_fast.data.store import Store

Samples: TypeAlias = Mapping[str, npt.NDArray[Any]]
Split: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

_NTU60_SUBJECTS = [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]
_NTU120_SUBJECTS = [
    *_NTU60_SUBJECTS,
    *[45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86],
    *[89, 91, 92, 93, 94, 95, 97, 98, 100, 103],
]

#: Rules of NTU RGB+D (Shahroudy et al., CVPR 2016): cross-subject and cross-view.
NTU60_SPLITS: dict[str, dict[str, Any]] = {
    "xsub": {"column": "subject", "train": _NTU60_SUBJECTS},
    "xview": {"column": "camera", "train": [2, 3], "test": [1]},
}
#: Rules of NTU RGB+D 120 (Liu et al., TPAMI 2019): cross-subject and cross-setup.
NTU120_SPLITS: dict[str, dict[str, Any]] = {
    "xsub": {"column": "subject", "train": _NTU120_SUBJECTS},
    "xset": {"column": "setup", "train": "even"},
}
#: Rules that any store has, unless it declares its own by that name.
BUILT_IN: dict[str, dict[str, Any]] = {
    "all": {"column": "name", "train": "all", "test": "all"},
    "odd-even": {"column": "subject", "train": "odd"},
}


@dataclass(frozen=True)
class SplitRule:
    """A function from the columns of samples.csv to (training, test) indices.

    Attributes:
        name: what it is called.
        column: the column it looks at.
        train: values of the column that train, or "odd", "even" or "all".
        test: likewise for testing; None takes every sample that neither trains nor validates.
        val: values that validate; None where the data set has no validation samples.
    """

    name: str
    column: str
    train: tuple[Any, ...] | str
    test: tuple[Any, ...] | str | None = None
    val: tuple[Any, ...] | None = None

    def __call__(self, samples: Samples) -> Split:
        """Split the samples.

        Args:
            samples: columns of length S, as in ``Store.samples``.

        Returns:
            Increasing indices of the training and of the test samples, both int64.

        Raises:
            ValueError: the column is missing or has the wrong type, or one side is empty.
        """
        values = self._column(samples)
        train = self._select(values, self.train)
        if self.test is not None:
            test = self._select(values, self.test)
        else:
            test = ~train if self.val is None else ~(train | self._select(values, self.val))
        for side, chosen in (("training", train), ("test", test)):
            if not chosen.any():
                raise ValueError(f"split {self.name!r}: no {side} samples (column {self.column!r})")
        return np.flatnonzero(train), np.flatnonzero(test)

    def validation(self, samples: Samples) -> npt.NDArray[np.int64] | None:
        """Increasing indices of the validation samples, or None where there are none.

        Raises:
            ValueError: as for a call, or a sample would validate and also train or test.
        """
        if self.val is None:
            return None
        found = np.flatnonzero(self._select(self._column(samples), self.val))
        for part, used in zip(("train", "test"), self(samples), strict=True):
            if np.isin(found, used).any():
                raise ValueError(f"split {self.name!r}: some samples would {part} and validate")
        return found if len(found) else None

    def _column(self, samples: Samples) -> npt.NDArray[Any]:
        if self.column not in samples:
            have = ", ".join(samples)
            raise ValueError(
                f"split {self.name!r} needs column {self.column!r}; samples.csv has {have}"
            )
        return samples[self.column]

    def _select(self, values: npt.NDArray[Any], which: tuple[Any, ...] | str) -> npt.NDArray[Any]:
        if which == "all":
            return np.ones(len(values), dtype=bool)
        if isinstance(which, tuple):
            wanted = set(which)
            return np.fromiter((value in wanted for value in values.tolist()), dtype=bool)
        if values.dtype.kind not in "iu":
            some = ", ".join(map(repr, values[:3].tolist()))
            raise ValueError(
                f"split {self.name!r}: column {self.column!r} must be integers, and holds {some}: "
                "number its values, or give labels.csv a column 'split'"
            )
        odd: npt.NDArray[np.bool_] = values % 2 == 1
        return odd if which == "odd" else ~odd


def get_split_rule(name: str, store: Store | None = None) -> SplitRule:
    """The rule of a split that the store declares, or of a built-in one.

    Args:
        name: for instance "xsub".
        store: whose ``meta["splits"]`` to look in first.

    Raises:
        ValueError: no such split (the message lists those there are), or its rule is invalid.
    """
    rules = {**BUILT_IN, **(store.meta["splits"] if store is not None else {})}
    where = "" if store is None else f"{store.path}: "
    if name not in rules:
        offered = [n for n in rules if n not in BUILT_IN or store is None or _applies(n, store)]
        raise ValueError(f"{where}unknown split {name!r}: choose from {', '.join(offered)}")
    return _parse(name, rules[name], f"{where}split {name!r}")


def _applies(name: str, store: Store) -> bool:
    try:
        get_split_rule(name, store)(store.samples)
    except ValueError:
        return False
    return True


def split(store: Store, name: str) -> Split:
    """Training and test indices of a store by one of its splits (see :class:`SplitRule`)."""
    return get_split_rule(name, store)(store.samples)


def default_split(store: Store) -> str:
    """The first split of a store that works: one that it declares, odd-even, or else all."""
    declared = [str(name) for name in store.meta["splits"]]
    return next(name for name in (*declared, "odd-even", "all") if _applies(name, store))


def validation(store: Store, name: str) -> npt.NDArray[np.int64] | None:
    """Validation indices of a store by one of its splits, for choosing (an epoch, a rate).

    Args:
        store: an open store.
        name: of the split, for instance "xsub".

    Returns:
        Increasing int64 indices, none of them in either part of :func:`split`, or None where the
        split has no validation samples.

    Raises:
        ValueError: no such split, or its column is missing.
    """
    return get_split_rule(name, store).validation(store.samples)


def _parse(name: str, rule: Any, where: str) -> SplitRule:
    rule = dict(rule) if isinstance(rule, Mapping) else {}
    if not {"column", "train"} <= rule.keys():
        raise ValueError(f"{where}: a rule is an object with column, train, perhaps test and val")
    unknown = rule.keys() - {"column", "train", "test", "val"}
    if unknown:
        raise ValueError(f"{where}: unknown field {', '.join(sorted(map(str, unknown)))}")

    def values(field: str) -> tuple[Any, ...] | str:
        value = rule[field]
        if isinstance(value, str) and value in ("odd", "even", "all"):
            return value
        if not isinstance(value, list) or any(type(v) not in (int, str) for v in value):
            raise ValueError(f'{where}: {field}: expected values, "odd", "even" or "all"')
        return tuple(value)

    train = values("train")
    test = values("test") if rule.get("test") is not None else None
    val = values("val") if rule.get("val") is not None else None
    if isinstance(val, str):
        raise ValueError(f"{where}: val: expected a list of values, got {val!r}")
    for (a, one), (b, other) in itertools.combinations(
        (("train", train), ("test", test), ("validate", val)), 2
    ):
        if isinstance(one, tuple) and isinstance(other, tuple) and set(one) & set(other):
            both = sorted(map(str, set(one) & set(other)))
            raise ValueError(f"{where}: {', '.join(both)} would both {a} and {b}")
    return SplitRule(name, str(rule["column"]), train, test, val)

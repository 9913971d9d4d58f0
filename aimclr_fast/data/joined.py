"""Stores of one layout as one: ``train --data A,B``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.duration import joined_duration
from aimclr_fast.data.splits import BUILT_IN, get_split_rule
from aimclr_fast.data.store import Store, StoreError

#: Column of the store that a sample is of.
STORE = "store"
#: Columns whose values mean another thing in each store: person 1 of two stores is two people.
_OWN = ("subject", "recording", "camera", "setup", "replication", "episode")


def join_stores(stores: Sequence[Store]) -> Store:
    """Put the samples of several stores one after the other, in memory.

    Names of samples, subjects and the like get the store's name in front. Classes are joined by
    their names. A split that all stores have is one of the whole, each by its own rule. Where
    bodies differ in number, the missing ones are absent.

    Args:
        stores: two or more, in the order of their samples.

    Raises:
        StoreError: layouts, frames, normalization or labels do not fit; the message names both
            stores and what would bring them together.
    """
    first = stores[0]
    for other in stores[1:]:
        _check(first, other)
    keys = _keys(stores)
    samples = _columns(stores, keys)
    classes = _classes(stores, samples)
    splits: dict[str, dict[str, Any]] = {}
    declared = [name for store in stores for name in store.meta["splits"]]
    for name in dict.fromkeys([*declared, *BUILT_IN]):
        sides = _sides(stores, name)
        if sides is not None:
            column = f"split {name}"
            samples[column] = sides
            splits[name] = {"column": column, "train": ["train"], "test": ["test"]}
            if "val" in sides:
                splits[name]["val"] = ["val"]
    meta = {
        **first.meta,
        "classes": classes,
        "splits": splits,
        "unit": "m" if len({store.meta["unit"] for store in stores}) > 1 else first.meta["unit"],
        "checksums": {
            f"{key}/{file}": checksum
            for key, store in zip(keys, stores, strict=True)
            for file, checksum in store.checksums().items()
        },
    }
    for field in ("source", "licence", "citation"):
        meta[field] = " | ".join(dict.fromkeys(store.meta.get(field, "") for store in stores))
    duration = joined_duration([store.duration for store in stores], [len(s) for s in stores])
    meta["duration"] = None if duration is None else duration.to_dict()
    return Store(
        Path("+".join(keys)),
        _positions(stores),
        samples,
        meta,
        first.layout,
        parts=tuple(stores),
    )


def _check(first: Store, other: Store) -> None:
    both = f"{first.path} and {other.path}"
    if first.layout != other.layout:
        raise StoreError(
            f"{both} have different layouts, {first.layout.name} and {other.layout.name}: "
            "prepare ... --to brings one to the other"
        )
    frames = [store.positions.shape[2] for store in (first, other)]
    if frames[0] != frames[1]:
        raise StoreError(
            f"{both} have {frames[0]} and {frames[1]} frames: prepare ... --frames makes them alike"
        )
    if first.preprocessing != other.preprocessing:
        raise StoreError(
            f"{both} were prepared differently: {first.preprocessing} and {other.preprocessing}"
        )
    if (first.labels is None) != (other.labels is None):
        one = other if other.labels is None else first
        raise StoreError(f"{both} cannot be joined: {one.path} has no labels")
    if first.labels is not None and bool(first.class_names) != bool(other.class_names):
        one = other if first.class_names else first
        raise StoreError(f"{both} cannot be joined: the classes of {one.path} have no names")


def _keys(stores: Sequence[Store]) -> list[str]:
    """A name of each store: its folder's, numbered where two are alike."""
    names = [store.path.name for store in stores]
    return [
        name if names.count(name) == 1 else f"{name}-{place + 1}"
        for place, name in enumerate(names)
    ]


def _columns(stores: Sequence[Store], keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The columns that all stores have."""
    columns: dict[str, npt.NDArray[Any]] = {}
    taken = {STORE, "label", *(c for store in stores for c in store.samples if " " in c)}
    for column in stores[0].samples:
        if column in taken or not all(column in store.samples for store in stores):
            continue
        cells = [store.samples[column] for store in stores]
        if column == "name" or column in _OWN:
            cells = [
                np.array([f"{key}/{cell}" for cell in some.tolist()])
                for key, some in zip(keys, cells, strict=True)
            ]
        elif len({some.dtype.kind for some in cells}) > 1:
            cells = [some.astype(np.str_) for some in cells]
        columns[column] = np.concatenate(cells)
    columns[STORE] = np.repeat(np.array(keys), [len(store) for store in stores])
    return columns


def _classes(stores: Sequence[Store], samples: dict[str, npt.NDArray[Any]]) -> list[str] | None:
    """Names of all classes; adds the labels to the columns."""
    if stores[0].labels is None:
        return None
    if not stores[0].class_names:
        samples["label"] = np.concatenate([store.labels for store in stores])
        return None
    names = list(dict.fromkeys(name for store in stores for name in store.class_names))
    place = {name: index for index, name in enumerate(names)}
    samples["label"] = np.concatenate(
        [
            np.array([place[name] for name in store.class_names], np.int64)[store.labels]
            for store in stores
        ]
    )
    return names


def _sides(stores: Sequence[Store], name: str) -> npt.NDArray[Any] | None:
    """Which side of a split each sample is on, or None where a store does not have it."""
    sides = []
    for store in stores:
        own = np.full(len(store), "", dtype="<U5")
        try:
            rule = get_split_rule(name, store)
            (train, test), val = rule(store.samples), rule.validation(store.samples)
        except ValueError:
            return None
        if np.isin(train, test).any():  # one that tests on what it trains on is no partition
            return None
        own[train], own[test] = "train", "test"
        if val is not None:
            own[val] = "val"
        sides.append(own)
    return np.concatenate(sides)


def _positions(stores: Sequence[Store]) -> npt.NDArray[Any]:
    """All sequences, in meters where units differ."""
    shape = list(stores[0].positions.shape)
    shape[0] = sum(map(len, stores))
    shape[4] = max(store.positions.shape[4] for store in stores)
    dtypes = {store.positions.dtype for store in stores}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
    joined = np.zeros(shape, dtype)
    start = 0
    for store in stores:
        rows = joined[start : start + len(store), ..., : store.positions.shape[4]]
        if store.positions.dtype == dtype:
            rows[...] = store.positions
        else:
            np.multiply(store.positions, np.float32(store.scale), out=rows, casting="unsafe")
        start += len(store)
    joined.flags.writeable = False
    return joined

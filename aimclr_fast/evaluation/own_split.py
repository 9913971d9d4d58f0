"""The store that checkpoints were trained on, and the split that they are evaluated by there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console

from aimclr_fast.data import Store, resolve_store, split
from aimclr_fast.data.store import StoreError

from .labeled_data import EvaluationError
from .representation import EncoderFile

AUTO = "auto"
_OTHERWISE = "xsub"


def _trained_on(file: EncoderFile, checksums: Mapping[str, str]) -> bool:
    """Whether an encoder was trained on the store with these checksums, perhaps among others that
    were joined with it, whose names go before those of the files.
    """
    known = {value for value in file.data.values() if isinstance(value, str)}
    return set(checksums.values()) <= known


def own_store(files: Sequence[EncoderFile]) -> Store:
    """The store that all encoders were trained on, where it still is.

    Raises:
        EvaluationError: they were trained on different stores, or the store is not known, not
            there, or not the same any more.
    """
    trained = {file.loaded.config.get("data", {}).get("store"): file for file in files}
    if len(trained) > 1:
        seen = ", ".join(f"{file.path} on {name}" for name, file in trained.items())
        raise EvaluationError(f"trained on different stores ({seen}): choose one with --data")
    (name, file), *_ = trained.items()
    if not name:
        raise EvaluationError(
            f"{file.path} does not say what it was trained on: name a store with --data"
        )
    try:
        store = resolve_store(name)
    except (StoreError, ValueError) as error:
        raise EvaluationError(
            f"{file.path} was trained on {name}, which cannot be opened ({error}): name a store "
            "with --data"
        ) from error
    checksums = store.checksums()
    for file in files:
        if not _trained_on(file, checksums):
            raise EvaluationError(
                f"{file.path} was trained on another {name} than the one that is there now: name "
                "a store with --data"
            )
    return store


def own_split(files: Sequence[EncoderFile], store: Store, console: Console) -> str:
    """Resolve the split ``auto``, and print it if it is that of a training run.

    Raises:
        EvaluationError: encoders were trained on the store by different splits, or by one whose
            test samples they have seen.
    """
    checksums = store.checksums()
    trained = {
        str(file.loaded.config.get("data", {}).get("split", _OTHERWISE)): file.path
        for file in files
        if _trained_on(file, checksums)
    }
    if len(trained) > 1:
        seen = ", ".join(f"{path} by {name}" for name, path in trained.items())
        raise EvaluationError(f"trained by different splits ({seen}): choose one with --split")
    for name, path in trained.items():
        try:
            train, test = split(store, name)
        except ValueError as error:
            raise EvaluationError(str(error)) from error
        if np.isin(test, train).any():
            raise EvaluationError(
                f"{path} was trained by split {name}, which trains on its test samples: "
                "choose another with --split"
            )
        text = f"split {name}, by which {path} was trained (--split chooses another)"
        console.print(text, highlight=False, soft_wrap=True)
    return next(iter(trained), _OTHERWISE)

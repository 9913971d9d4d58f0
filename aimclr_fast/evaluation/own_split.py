"""The split of an evaluation on the store that a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from aimclr_fast.data import Store, split

from .labeled_data import EvaluationError
from .representation import EncoderFile

AUTO = "auto"
_OTHERWISE = "xsub"


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
        if all(file.data.get(name) == checksum for name, checksum in checksums.items())
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

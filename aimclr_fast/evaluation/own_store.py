"""The protocol of an evaluation on the store that a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from aimclr_fast.data import resolve_store

from .problem import EvaluationError
from .session import Options, Source

_OTHERWISE = "xsub"


def with_protocol(options: Options, sources: Sequence[Source], console: Console) -> Options:
    """The options with the protocol that ``auto`` stands for, which is printed where it is theirs.

    Raises:
        EvaluationError: encoders were trained on the store by different protocols.
        StoreError: no such store.
    """
    if options.protocol != "auto":
        return options
    files = resolve_store(options.data).checksums()
    trained = {
        str(source.loaded.config.get("data", {}).get("protocol", _OTHERWISE)): source.path
        for source in sources
        if all(source.data.get(name) == checksum for name, checksum in files.items())
    }
    if len(trained) > 1:
        seen = ", ".join(f"{path} by {name}" for name, path in trained.items())
        raise EvaluationError(f"trained by different protocols ({seen}): say --protocol")
    for name, path in trained.items():
        text = f"protocol {name}, by which {path} was trained (--protocol says otherwise)"
        console.print(text, highlight=False, soft_wrap=True)
    return replace(options, protocol=next(iter(trained), _OTHERWISE))

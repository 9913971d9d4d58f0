"""Data sets that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

from aimclr_fast.data.joined import join_stores
from aimclr_fast.data.store import Store, StoreError, open_store

#: Names of the embedded data sets.
EMBEDDED = ("ui_prmd", "ui_prmd_unaligned")
#: What ``resolve_store`` is given where the user names nothing.
DEFAULT = "ui_prmd"


def open_embedded(name: str = DEFAULT) -> Store:
    """Open a data set that comes with the package.

    Args:
        name: "ui_prmd": 2,000 sequences of 10 rehabilitation exercises by 10 subjects, done
            correctly and incorrectly (20 classes); Vakanski et al., Data 2018, public domain.
            "ui_prmd_unaligned": the same as if each subject had been filmed from another side, and
            nobody had aligned the cameras: turned about y by 36 degrees more for each subject.

    Raises:
        ValueError: no such data set.
    """
    if name not in EMBEDDED:
        raise ValueError(f"unknown embedded data set {name!r}: there is {', '.join(EMBEDDED)}")
    return open_store(Path(__file__).parent / name)


def resolve_store(spec: str | os.PathLike[str]) -> Store:
    """Open the store that a command line or a recipe names.

    Args:
        spec: the name of an embedded data set, or the path of a store. A name goes first; write
            ``./ui_prmd`` for a folder that is called so. Several, with commas between them, are
            joined (:func:`aimclr_fast.data.joined.join_stores`).

    Raises:
        StoreError: neither, the folder is not a good store, or stores do not go together.
    """
    if "," in (several := str(spec)) and not Path(spec).exists():
        each = several.split(",")
        if len(set(each)) < len(each):
            raise StoreError(f"{several}: a store is named twice")
        return join_stores([resolve_store(name) for name in each])
    if spec in EMBEDDED:
        return open_embedded(str(spec))
    if not Path(spec).exists():
        names = ", ".join(EMBEDDED)
        raise StoreError(f"{str(spec)!r} is neither an embedded data set ({names}) nor a folder")
    return open_store(spec)

"""Class numbers: which labels are valid, and the numbering of large ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Labels from 0 to below this are class numbers. Larger ones are ids of another system: as class
#: numbers they would give a classifier as many outputs.
MAX_CLASSES = 10_000


def as_label(value: Any) -> int | None:
    """A label as a plain integer, or None where it is no integer of 0 or more.

    Integers of Python and NumPy are labels, as are arrays of one integer and floats without a
    fraction (2.0); booleans are not.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    # A float beyond 2**53 has lost digits; infinity and NaN have no integer.
    if isinstance(value, float | np.floating) and not (value == value // 1 and value < 2**53):
        return None
    return int(value) if 0 <= value < 2**63 else None


def dense_classes(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], tuple[str, ...] | None]:
    """Number the classes that occur, if labels are ids.

    Args:
        labels: ``[S]``, none below 0.

    Returns:
        The labels and None, where all are below :data:`MAX_CLASSES`. Otherwise classes ``[S]`` from
        0, in ascending order of their ids, and the ids as the classes' names.
    """
    if not len(labels) or labels.max() < MAX_CLASSES:
        return labels, None
    ids, classes = np.unique(labels, return_inverse=True)
    return classes.reshape(-1).astype(np.int64), tuple(map(str, ids.tolist()))

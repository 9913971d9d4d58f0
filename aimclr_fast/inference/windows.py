"""What is asked of a window of motion before it is answered, recorded or live."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.bodies import motion, seen
from aimclr_fast.data.measures import body_size
from aimclr_fast.data.sanity import STILL

#: Share of a window's frames that may be missing.
MOST_MISSING = 0.5


def missing_share(x: npt.NDArray[Any]) -> float:
    """Share of the frames of ``x [3, T, V, M]`` in which nobody was seen."""
    return 1 - float(seen(x).any(axis=1).mean())


def stands_still(x: npt.NDArray[Any]) -> bool:
    """Whether everybody in ``x [3, T, V, M]`` keeps to their mean pose, to 0.2 % of their size, as
    in the data check of `prepare`. A breath is five times that.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # a body that is absent
        moved = motion(x) / body_size(x[None])[0]
    return bool(np.fmax.reduce(moved) < STILL)

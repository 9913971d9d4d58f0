"""Joints that a file leaves out in some frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.layouts import Layout


def fill_missing(
    x: npt.NDArray[np.float64], layout: Layout, where: str
) -> tuple[npt.NDArray[np.float64], int]:
    """Draw missing joints on lines between the frames before and after.

    Args:
        x: ``[M, T, V, 3]``, NaN where a joint is missing.
        layout: names the joints in errors.
        where: what errors name.

    Returns:
        The positions, zeros in frames where all joints of a body are missing; and how many joints
        were drawn, counted in each frame.

    Raises:
        ReadError: a joint of a body that is there is in no frame.
    """
    missing: npt.NDArray[np.bool_] = np.asarray(np.isnan(x).any(axis=-1))  # [M, T, V]
    if not missing.any():
        return x, 0
    out = x.copy()
    gone: npt.NDArray[np.bool_] = np.asarray(missing.all(axis=2))  # [M, T]
    time = np.arange(x.shape[1])
    for body, joint in np.argwhere(missing.any(axis=1)):
        seen = ~missing[body, :, joint]
        if gone[body].all():
            continue
        if not seen.any():
            raise ReadError(where, f"{layout.joints[joint]} is in no frame (body {body})")
        for axis in range(x.shape[-1]):
            line = np.interp(time, time[seen], x[body, seen, joint, axis])
            out[body, :, joint, axis] = line
    out[gone] = 0.0
    return out, int((missing & ~gone[..., None]).sum())

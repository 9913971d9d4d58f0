"""Sources whose left and right are exchanged: found in motion, and settled by ``--sides``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.chirality import sides_of
from aimclr_fast.data.readers._base import Plan, ReadError, Readings, Recording
from aimclr_fast.data.readers._derived import listed
from aimclr_fast.layouts import Layout

#: keep them as they are, exchange left and right joints, or negate an axis.
SIDES = ("keep", "swap", "mirror")
_ASK = (
    "their names are exchanged, or an axis of the coordinates is negated, and which of both cannot "
    "be seen: --sides swap exchanges the names, --sides mirror negates an axis, --sides keep "
    "leaves them"
)


def sides_note(
    layout: Layout, x: Mapping[str, npt.NDArray[np.float64]], given: str | None, where: str
) -> list[str]:
    """What to say of the sides of a source.

    Args:
        layout: the skeleton.
        x: frames ``[T, V, 3]`` of some files, by their names, with any axis up.
        given: --sides.
        where: the source.

    Raises:
        ReadError: joints called left are on the body's right, in all files and the user does not
            say why, or in some and the user does not keep them.
    """
    each = {file: sides_of(layout, frames).mirrored for file, frames in x.items()}
    right, left = ([file for file in each if each[file] is side] for side in (True, False))
    if right and left:
        seen = f"joints called left are on the body's right in {listed(right)}, and on its left in "
        seen += listed(left)
        if given == "keep":
            return [f"sides: {seen}"]
        mend = "prepare the two kinds separately, or leave them as they are with --sides keep"
        raise ReadError(where, f"{seen}: {mend}")
    found = sides_of(layout, np.concatenate(list(x.values())))
    if found.mirrored is None:
        return []
    side = "right" if found.mirrored else "left"
    seen = f"joints called left are on the body's {side} in {found.said}"
    if found.mirrored and given is None:
        raise ReadError(where, f"{seen}: {_ASK}")
    if found.mirrored or given in (None, "keep"):
        return [f"sides: {seen}"]
    return [f"sides: {seen}, but --sides {given} was given"]


def with_sides(plan: Plan, how: str | None) -> Plan:
    """A plan whose recordings have their sides as --sides says.

    Raises:
        ReadError: no joints are left or right.
    """
    if how in (None, "keep"):
        return plan
    swap = plan.layout.swap
    if how == "swap" and swap == tuple(range(len(swap))):
        reason = f"layout {plan.layout.name} has no left and right joints to exchange"
        raise ReadError("--sides swap", reason)
    done = "left and right joints exchanged" if how == "swap" else "x negated"
    return replace(
        plan,
        read=functools.partial(_read, read=plan.read, swap=list(swap) if how == "swap" else None),
        notes=[*plan.notes, f"sides: {done}, as --sides says"],
    )


def _read(unit: Any, *, read: Callable[[Any], Readings], swap: list[int] | None) -> Readings:
    for found in read(unit):
        if isinstance(found, Recording):
            x = found.positions
            x = x * np.array([-1, 1, 1]).reshape(3, 1, 1, 1) if swap is None else x[:, :, swap]
            found = replace(found, positions=x)
        yield found

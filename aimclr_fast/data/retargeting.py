"""A source's recordings in another skeleton: ``prepare ... --to LAYOUT``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aimclr_fast.data.joint_mapping import map_joints
from aimclr_fast.data.readers import Plan, ReadError, Readings, Recording
from aimclr_fast.layouts import get_layout


def retargeted(plan: Plan, to: str) -> Plan:
    """A plan whose recordings have the joints of another layout, matched by name.

    Args:
        plan: from a reader, of recordings that are not preprocessed.
        to: a built-in layout or a YAML file. A joint without a match is put where its nearest
            neighbor in that skeleton is.

    Raises:
        ReadError: there is no such layout, or the names of fewer than half of its joints match.
    """
    try:
        layout = get_layout(to)
        joints = map_joints(layout, plan.layout)
    except (ValueError, OSError) as error:
        raise ReadError(f"--to {to}", str(error)) from error
    pairs = ", ".join(f"{ours} from {theirs}" for ours, theirs in joints.named if ours != theirs)
    notes = [f"--to {layout.name}: {joints.describe()}"]
    notes += [f"under other names: {pairs}"] if pairs else []
    return replace(
        plan,
        layout=layout,
        read=functools.partial(_read, read=plan.read, source=list(joints.source)),
        notes=[*plan.notes, *notes],
        derived=False,
    )


def _read(unit: Any, *, read: Callable[[Any], Readings], source: list[int]) -> Readings:
    for found in read(unit):
        if isinstance(found, Recording):
            found = replace(found, positions=found.positions[:, :, source])
        yield found

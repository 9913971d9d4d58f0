"""One skeleton's sequences as another skeleton's, joint by joint, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from aimclr_fast.data.joint_mapping import JointMap
from aimclr_fast.data.joint_mapping import map_joints as match_joints
from aimclr_fast.layouts import Layout, same_skeleton

from .labeled_data import EvaluationError, LabeledData


def map_joints(encoder: Layout, data: Layout, given: Mapping[str, str] | None = None) -> JointMap:
    """As :func:`aimclr_fast.data.joint_mapping.map_joints`.

    Raises:
        EvaluationError: where that raises.
    """
    try:
        return match_joints(encoder, data, given)
    except ValueError as error:
        raise EvaluationError(f"joints: {error}; name pairs with --joints") from error


def mapped(data: LabeledData, layout: Layout, joints: JointMap) -> LabeledData:
    """The data in an encoder's skeleton, centered on that skeleton's center.

    In each frame, or, where sequences were normalized as a whole, in the first body's first one.
    """
    positions = data.sequences[:, :, :, list(joints.source)]
    steps = data.preprocessing
    if steps is not None and steps.normalize == "sequence":
        positions = _moved(positions, layout.center)
    else:
        positions = positions - positions[:, :, :, layout.center : layout.center + 1]
    return replace(data, sequences=positions, layout=layout)


def _moved(x: Tensor, center: int) -> Tensor:
    """``x [S, 3, T, V, M]`` with its first body's center at the origin in that body's first frame.

    Bodies that are absent stay zero.
    """
    there = (x != 0).any(dim=3, keepdim=True).any(dim=1, keepdim=True)  # [S, 1, T, 1, M]
    first = there[:, 0, :, 0, 0].int().argmax(dim=1)
    origin = x[torch.arange(len(x), device=x.device), :, first, center, 0]  # [S, 3]
    return torch.where(there, x - origin[:, :, None, None, None], torch.zeros_like(x))


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """Pairs NAME=NAME as a mapping.

    Raises:
        EvaluationError: something else.
    """
    parsed = {}
    for pair in pairs:
        left, equals, right = pair.partition("=")
        if not (left and equals and right):
            raise EvaluationError(f"joints: {pair!r} is not ENCODER_JOINT=DATA_JOINT")
        parsed[left.strip()] = right.strip()
    return parsed


def check_layout(data: LabeledData, layout: Layout) -> None:
    """Refuse data of another skeleton than the encoder's.

    Raises:
        EvaluationError: naming both layouts and what to do.
    """
    if not same_skeleton(data.layout, layout):
        raise EvaluationError(
            f"the checkpoint takes layout {layout.name!r} ({layout.num_joints} joints), the data "
            f"have {data.layout.name!r} ({data.layout.num_joints}); `transfer` maps joints "
            "by name"
        )

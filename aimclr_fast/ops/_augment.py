"""What skeleton_augment and apply_augment share: tables of joints, the chain, their checks."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast.layouts import Layout
from aimclr_fast.reference.skeleton_augment import MOST_BLUR_TAPS, STREAMS

from ._checks import check_dtype, check_shape, check_type

MAX_BLUR_TAPS = 127  # csrc/common/skeleton_augment.h
# Element types as the library numbers them: csrc/common/dtypes.h.
DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int16: 4,
}


# The caches below drop nothing: tables are small and few, and a captured CUDA graph holds their
# addresses.


@functools.cache
def _joint_table(table: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(table, device=device)


def joint_table(table: Sequence[int], device: torch.device) -> Tensor:
    """A layout's swap or parents on a device."""
    if torch.compiler.is_compiling():  # a traced tensor has no values, so none is kept
        return torch.tensor(table, device=device)
    return _joint_table(table, device)


@functools.cache
def column_table(joints: tuple[int, ...], bodies: int, device: torch.device) -> Tensor:
    """For each column (joint * M + body) of a row, the column of the joint in a table."""
    columns = torch.tensor(joints, dtype=torch.int32)[:, None] * bodies
    return (columns + torch.arange(bodies, dtype=torch.int32)).flatten().to(device)


class NativeChain(NamedTuple):
    """What the library needs to know besides tensors and parameters; it points to the tables.

    Attributes:
        members: of struct Chain (csrc/common/skeleton_augment.h).
        tables: held for their addresses.
    """

    members: dict[str, Any]
    tables: tuple[Tensor, ...]


@functools.cache
def native_chain(
    shape: tuple[int, int, int],
    swap: tuple[int, ...],
    parents: tuple[int, ...],
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
    device: torch.device,
) -> NativeChain:
    """For sequences of `shape` [T, V, M] on `device`."""
    tables = tuple(column_table(table, shape[2], device) for table in (swap, parents))
    swap_table, parent_table = (table.data_ptr() for table in tables)
    members = {
        "shape": dict(zip(("frames", "joints", "bodies"), shape, strict=True)),
        "joints": {"swap": swap_table, "parents": parent_table},
        "padding": shape[0] // crop_ratio,
        "blur_taps": blur_taps,
        "blur_normalize": blur_normalize,
    }
    return NativeChain(members, tables)


def address(tensor: Tensor | None) -> int:
    """As the library takes it: 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Different ones of `known`, at least one; `what` they are in the plural."""
    check_type(what, names, list | tuple, "a list of names")
    if not names:
        raise ValueError(f"{what} must name at least one of {', '.join(known)}")
    for name in names:
        if not isinstance(name, str) or name not in known:
            one = what.removesuffix("s")
            raise ValueError(f"{one} must be one of {', '.join(known)}, got {name!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"{what} must differ, got {', '.join(names)}")


def check_streams(streams: Sequence[str]) -> None:
    check_names("streams", streams, STREAMS)


def check_joints(name: str, tensor: Tensor, layout: Layout) -> None:
    """What only the layout's name can explain. The ops check all else of `tensor`'s shape."""
    if tensor.dim() == 5 and tensor.shape[3] != layout.num_joints:
        raise ValueError(
            f"{name} has {tensor.shape[3]} joints (axis 3), but layout {layout.name!r} has "
            f"{layout.num_joints}"
        )


@functools.lru_cache(maxsize=32)
def check_tables(swap: tuple[int, ...], parents: tuple[int, ...]) -> None:
    """What a Layout promises: for the ops, which get none."""
    joints = range(len(swap))
    if any(other not in joints or swap[other] != joint for joint, other in enumerate(swap)):
        raise ValueError(f"swap must pair joints of 0..{len(swap) - 1}, got {list(swap)}")
    if any(parent not in joints for parent in parents):
        raise ValueError(f"parents must lie in 0..{len(swap) - 1}, got {list(parents)}")


def check_sequences(name: str, tensor: Tensor, swap: Sequence[int], parents: Sequence[int]) -> None:
    """Sequences [N, 3, T, V, M], and what the ops know of their layout."""
    check_shape(name, tensor, "N", 3, "T", "V", "M")
    _, _, frames, joints, _ = tensor.shape
    if frames == 0:
        raise ValueError(f"{name} has no frames (axis 2)")
    if joints == 0 or joints != len(swap) or joints != len(parents):
        raise ValueError(
            f"{name} has {joints} joints (axis 3), but swap and parents are of {len(swap)} and "
            f"{len(parents)}"
        )


def check_draws(
    streams: Sequence[int], key: Sequence[int], step: int, step_tensor: Tensor | None
) -> None:
    """Indices into STREAMS, and what counts the draws: a step, or a tensor that holds it."""
    streams = list(streams)
    if not streams or len(set(streams)) < len(streams) or not set(streams) <= {0, 1, 2}:
        raise ValueError(f"streams must be different ones of 0, 1 and 2, got {streams}")
    if len(key) != 2 or not all(0 <= word < 2**32 for word in key):
        raise ValueError(f"key must be two words below 2^32, got {list(key)}")
    if step_tensor is not None:
        check_shape("step", step_tensor)
        check_dtype("step", step_tensor, torch.int64)
    if not 0 <= step < 2**32:
        raise ValueError(f"step must lie in 0..2^32-1, got {step}")


def check_chain(crop_ratio: int, blur_taps: int) -> None:
    if not 1 <= crop_ratio < 2**31:
        raise ValueError(f"crop_ratio must lie in 1..2^31-1, got {crop_ratio}")
    if not 1 <= blur_taps <= MOST_BLUR_TAPS or blur_taps % 2 == 0:
        raise ValueError(f"blur_taps must be odd, from 1 to {MOST_BLUR_TAPS}, got {blur_taps}")


def why_too_large(tensor: Tensor, crop_ratio: int, blur_taps: int) -> str | None:
    """Why no compiled backend can augment sequences like those of `tensor`, or None."""
    if blur_taps > MAX_BLUR_TAPS:
        return f"the kernels blur with at most {MAX_BLUR_TAPS} taps, and blur_taps is {blur_taps}"
    if 9 * math.prod(tensor.shape[2:]) >= 2**31:
        return "it counts a sequence's elements in 32 bits, and one has more than 2^31 / 9"
    return None

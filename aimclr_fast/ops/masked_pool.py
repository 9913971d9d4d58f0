"""masked_pool: means of a feature map over a region and over the rest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aimclr_fast.reference import masked_pool as reference

from ._checks import FLOATS, check_dense, check_dtype, check_same_device, check_shape
from ._dispatch import REFERENCE, Backend
from ._op import Op

# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `masked_pool`."""

    features: Tensor
    mask: Tensor
    backend: str


def _check(call: Call) -> None:
    features, mask = call.features, call.mask
    check_shape("features", features, "B", "C", "T", "V")
    check_dtype("features", features, *FLOATS)
    _, _, frames, joints = features.shape
    if frames == 0 or joints == 0:
        raise ValueError(
            f"features must have at least one frame and one joint, got {list(features.shape)}"
        )
    check_shape("mask", mask, frames, joints)
    check_dtype("mask", mask, torch.bool)
    check_same_device(features=features, mask=mask)


def _check_values(mask: Tensor) -> None:
    """On the CPU only: on a GPU it would wait for the device."""
    if torch.compiler.is_compiling() or mask.device.type != "cpu":
        return
    inside = int(mask.count_nonzero())
    if inside in (0, mask.numel()):
        only = "true" if inside else "false"
        raise ValueError(f"mask must have both true and false entries, got only {only} ones")


# --- Backends ------------------------------------------------------------------------------------


def _reference(call: Call) -> tuple[Tensor, Tensor]:
    _check(call)
    _check_values(call.mask)
    return reference.masked_pool(call.features, call.mask)


BACKENDS = [Backend(REFERENCE, _reference)]


_OP = Op("masked_pool", BACKENDS)


# --- The function --------------------------------------------------------------------------------


def masked_pool(features: Tensor, mask: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Mean-pool a feature map over a region of frames and joints, and over the rest, in one read.

    With the mask of `skelemix` these are SkeleMixCLR's trimmed row (what was replaced, the
    partner's) and truncated row (what was left), for each body; the mean over bodies is the
    encoder's.

    Args:
        features: feature map [B, C, T, V], with B = N * M for N sequences of M bodies.
        mask: [T, V] bool, true in the region; the same for all sequences.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        (inside, outside), each [B, C]; float32 for half-precision maps, else the map's dtype. On a
        GPU, which is not waited for, a mean over nothing is NaN, and so are its gradients.

    Raises:
        ValueError: a shape is off, or, on the CPU, nothing is inside or outside of the mask;
            there is no such backend.
        TypeError: the map is not floating point, or the mask not bool.
        BackendError: the backend cannot run.

    Example:
        >>> mask = torch.zeros(13, 25, dtype=torch.bool)
        >>> mask[3:9, 4:12] = True
        >>> inside, outside = masked_pool(torch.randn(8, 256, 13, 25), mask)
        >>> inside.shape
        torch.Size([8, 256])
    """
    check_dense("features", features)
    check_dense("mask", mask)
    chosen = _OP.route(backend, features)
    if chosen.run is not None:
        inside, outside = chosen.run(Call(features, mask, chosen.name))
    else:
        inside, outside = torch.ops.aimclr_fast.masked_pool(features, mask, chosen.name)
    return inside, outside

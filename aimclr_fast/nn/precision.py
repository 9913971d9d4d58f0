"""Precision of encoders: what their maps are kept and multiplied in.

Weights, statistics, losses and the momentum update are float32 in any precision, and on the CPU
projection heads and features, too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from aimclr_fast import native

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
#: Of encoders that are not trained.
INFERENCE = ("fp32", "bf16")
#: Of the maps.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def resolve_precision(name: str, device: torch.device) -> str:
    """Resolve `auto`: bf16 on devices that have products of it, fp32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        has_bf16 = _has_bf16(device)
    else:
        has_bf16 = native.why_no_bf16_products() is None
    return "bf16" if has_bf16 else "fp32"


def why_not_precision(name: str, device: torch.device) -> str | None:
    """Why a device cannot compute in a precision (not `auto`), or None if it can."""
    if device.type == "cuda" or name == "fp32":
        return None
    return "only GPUs compute in tf32" if name == "tf32" else native.why_no_bf16_products()


def check_precision(name: str, device: torch.device) -> None:
    """That encoders can be applied in a precision.

    Raises:
        ValueError: it is neither fp32 nor bf16, or the device does not compute in it.
    """
    if name not in INFERENCE:
        raise ValueError(f"precision is {name!r}, but must be {' or '.join(INFERENCE)}")
    why = why_not_precision(name, device)
    if why is not None:
        raise ValueError(f"precision is {name!r}, but {why}")


def _has_bf16(device: torch.device) -> bool:
    """Whether the GPU itself computes in bf16. torch also counts emulation, which is slower than
    float32, and looks at the current device.
    """
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def use_precision(name: str, device: torch.device) -> None:
    """Set how torch multiplies float32, for the whole process: exactly with fp32, else in TF32."""
    if device.type == "cuda":
        exact = name == "fp32"
        torch.set_float32_matmul_precision("highest" if exact else "high")
        torch.backends.cudnn.allow_tf32 = not exact


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that forward passes run in."""
    if name != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[name])


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """On the CPU, the context for what follows the maps: too little work to gain from rounding."""
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        return torch.autocast("cpu", enabled=False)
    return nullcontext()

"""Precision of the encoder. Statistics, losses and the momentum update are always float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("auto", "fp32", "tf32", "bf16")


def resolve_precision(name: str, device: torch.device) -> str:
    """Resolve `auto`: bf16 on GPUs that have it, fp32 elsewhere.

    Two CPU cores with bfloat16 instructions train no faster with them.
    """
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and _has_bf16(device) else "fp32"


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
    return torch.autocast(device.type, dtype=torch.bfloat16)

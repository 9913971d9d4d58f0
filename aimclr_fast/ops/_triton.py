"""What every op needs to launch Triton kernels: when they can run, how they multiply."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._dispatch import constant_to_dynamo


@constant_to_dynamo
def _triton_on(device: torch.device) -> str | None:
    try:
        from aimclr_fast import triton_kernels
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    if triton_kernels.INTERPRETED:
        return None
    if device.type != "cuda":
        return f"it runs on a CUDA device, and the tensor is on {device}"
    if not torch.cuda.is_available():  # a fake tensor's device need not exist
        return "torch sees no CUDA device"
    if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs an NVIDIA GPU of compute capability 8.0 or newer"
    return None


def triton_why_not(tensor: Tensor) -> str | None:
    """Why the Triton kernels cannot take `tensor`, or None. They run anywhere when interpreted."""
    if tensor.dtype == torch.float64:
        return "it has no float64 kernels"
    return _triton_on(tensor.device)


def triton_why_not_pool(features: Tensor) -> str | None:
    """`triton_why_not` of the kernels that pool a feature map [B, C, T, V]."""
    if math.prod(features.shape[1:]) >= 2**31:
        return "it counts a sample's values in 32 bits, and one has 2^31 or more"
    return triton_why_not(features)


def product_precision(dtype: torch.dtype) -> str:
    """How Triton kernels multiply operands of `dtype`: "ieee", "tf32", "bf16" or "fp16".

    Half-precision operands are multiplied as they are. For float32, torch's own setting decides:
    `torch.set_float32_matmul_precision` "highest" is "ieee", "high" "tf32", "medium" "bf16".
    """
    if dtype != torch.float32:
        return "bf16" if dtype == torch.bfloat16 else "fp16"
    try:
        setting = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses where the newer setting was used, which says it instead
        return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
    return {"highest": "ieee", "high": "tf32", "medium": "bf16"}[setting]

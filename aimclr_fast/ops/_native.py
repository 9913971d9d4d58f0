"""What every op needs to call the compiled library: when it can run, threads and the stream."""

from __future__ import annotations

import torch
from torch import Tensor

from aimclr_fast import native


def cpp_why_not(tensor: Tensor) -> str | None:
    """Why the C++ kernels cannot take `tensor`, or None."""
    if tensor.device.type != "cpu":
        return f"it runs on the CPU, and the tensor is on {tensor.device}"
    return native.why_unavailable()


def cuda_why_not(tensor: Tensor) -> str | None:
    """Why the CUDA kernels cannot take `tensor`, or None."""
    if tensor.device.type != "cuda":
        return f"it runs on a CUDA device, and the tensor is on {tensor.device}"
    with torch.cuda.device(tensor.device):
        return native.why_cuda_unusable()


def current_stream(tensor: Tensor) -> int:
    """The raw CUDA stream that torch uses on the tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream

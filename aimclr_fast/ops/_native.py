"""What every op needs to call the compiled library: when it can run, threads and the stream."""

from __future__ import annotations

import torch
from torch import Tensor

from aimclr_fast import native

from ._dispatch import constant_to_dynamo

# Dtypes in the names of the library's functions: csrc/bindings/binding.h.
SUFFIXES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}


@constant_to_dynamo
def _cpp_on(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"it runs on the CPU, and the tensor is on {device}"
    return native.why_unavailable()


@constant_to_dynamo
def _cuda_on(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"it runs on a CUDA device, and the tensor is on {device}"
    if not torch.cuda.is_available():  # a fake tensor's device need not exist
        return "torch sees no CUDA device"
    with torch.cuda.device(device):
        return native.why_cuda_unusable()


def cpp_why_not(tensor: Tensor) -> str | None:
    """Why the C++ kernels cannot take `tensor`, or None."""
    return _cpp_on(tensor.device)


def cuda_why_not(tensor: Tensor) -> str | None:
    """Why the CUDA kernels cannot take `tensor`, or None."""
    return _cuda_on(tensor.device)


def current_stream(tensor: Tensor) -> int:
    """The raw CUDA stream that torch uses on the tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream

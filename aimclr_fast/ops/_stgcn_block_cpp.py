"""stgcn_block: the calls of the compiled library."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aimclr_fast import native

if TYPE_CHECKING:
    from ._stgcn_block_call import Gradients, Inputs, Outputs, Settings

VECTOR_BYTES = 0  # 64, 32 or 16 to use no wider vectors than those of AVX-512, AVX2 or neither
_SHAPE = object()


_local = threading.local()


def _workspace(size: int) -> int:
    """The aligned address of `size` bytes that are kept from call to call.

    Tens of megabytes that the system would have to clear each time take longer than some blocks.
    """
    kept: Tensor | None = getattr(_local, "workspace", None)
    if kept is None or kept.numel() < size + 64:
        _local.workspace = kept = torch.empty(size + 64, dtype=torch.uint8)
    return -(-kept.data_ptr() // 64) * 64


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _call(name: str, inputs: Inputs, settings: Settings, *arguments: Any) -> None:
    """Calls a pass with addresses of tensors, the shape where `arguments` have None, a workspace
    and the number of threads.
    """
    library, threads = native.load(), torch.get_num_threads()
    batch, width, frames, joints = inputs.x.shape
    channels, _, taps, _ = inputs.temporal_weight.shape
    shape = (batch, width, channels, frames, joints, len(inputs.adjacency), taps, settings.stride)
    residual = inputs.residual_weight is not None
    size = library.stgcn_block_workspace_cpu(
        name == "backward", *shape, residual, threads, inputs.x.element_size()
    )
    flat: list[Any] = []
    for argument in arguments:
        if argument is _SHAPE:
            flat += shape
        else:
            flat.append(_address(argument) if isinstance(argument, Tensor | None) else argument)
    dtype = str(inputs.x.dtype).removeprefix("torch.")
    run = getattr(library, f"stgcn_block_{name}_{dtype}_cpu")
    run(*flat, _workspace(size), threads, VECTOR_BYTES)


def forward(inputs: Inputs, settings: Settings, out: Outputs) -> None:
    identity, scale, _, eps, _ = settings
    _call("forward", inputs, settings, *inputs, _SHAPE, identity, scale, eps, *out)


def backward(
    grad_y: Tensor, inputs: Inputs, settings: Settings, saved: Outputs, out: Gradients
) -> None:
    identity, scale, _, eps, _ = settings
    i = inputs
    tensors = (
        *(i.x, i.adjacency, i.spatial_weight, i.spatial_bias, i.temporal_weight),
        *(i.norms, i.residual_weight, i.keep),
    )
    flags = (identity, i.running is None, scale, eps)
    _call("backward", inputs, settings, grad_y, *tensors, *saved, _SHAPE, *flags, *out)

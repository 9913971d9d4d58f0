"""Argument checks shared by the ops: each names the argument and what was expected of it.

An op checks what it is given in its fake, which its implementation calls first, so that
`torch.ops.aimclr_fast.*` holds what the public functions promise. Those check only what never
reaches an op: objects that are no tensors or numbers, names, and values before their conversion.
Sizes may be symbolic here: `len(tensor)` would make a constant of one, `tensor.shape[0]` does not.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# More than any memory holds. A tensor with strides of 0, or one of no elements, can claim as many
# rows, and iterating over them takes forever.
MOST_ELEMENTS = 2**44


def check_type(name: str, value: object, wanted: Any, words: str) -> None:
    """`words` say what is wanted: "a tensor"."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} must be {words}, got {type(value).__name__}")


def check_integer(name: str, value: Any, most: int = 2**63 - 1) -> int:
    """An integer that a kernel can hold, or one that torch.compile knows by a name; not a bool."""
    if isinstance(value, bool) or not isinstance(value, Integral | torch.SymInt):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]  # not known before the compiled function runs
    number = int(value)
    if not -(2**63) <= number <= most:
        raise ValueError(f"{name} must be an integer of 64 bits, got {number}")
    return number


def check_number(name: str, value: Any) -> float:
    """A real number, not a bool, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real | torch.SymInt | torch.SymFloat):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} must be a number that a float can hold") from None
    return value  # type: ignore[return-value]  # not known before the compiled function runs


def check_dense(name: str, tensor: Any) -> None:
    """A tensor in the plain layout, the only one that the ops are registered for."""
    check_type(name, tensor, Tensor, "a tensor")
    if tensor.layout != torch.strided or tensor.is_quantized:
        what = "a quantized one" if tensor.is_quantized else f"layout {tensor.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {what}")


def check_shape(name: str, tensor: Tensor, *expected: int | str) -> None:
    """`expected` sizes are numbers, or letters for sizes that are free."""
    # To an op, torch gives None for a tensor, too.
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        check_dense(name, tensor)
    shape = tensor.shape
    fits = len(shape) == len(expected) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(shape)}")
    count = tensor.numel()
    if isinstance(count, int) and (count or math.prod(n or 1 for n in shape)) >= MOST_ELEMENTS:
        raise ValueError(f"{name} must have fewer than 2^44 elements, got {list(shape)}")


def check_dtype(name: str, tensor: Tensor, *dtypes: torch.dtype) -> None:
    if tensor.dtype not in dtypes:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} must be of dtype {wanted}, got {tensor.dtype}")


def check_same_device(**tensors: Tensor) -> None:
    if len({tensor.device for tensor in tensors.values()}) > 1:
        listed = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"tensors must be on one device, got {listed}")


def check_memory(*arguments: Any) -> None:
    """For implementations only: no tensor's storage was freed under it (null pointer)."""
    for argument in arguments:
        if isinstance(argument, list):
            check_memory(*argument)
        elif isinstance(argument, Tensor) and argument.data_ptr() == 0 and argument.numel():
            raise ValueError(
                f"a tensor of shape {list(argument.shape)} has no memory (null pointer): "
                "its storage was freed"
            )


def check_range(name: str, tensor: Tensor, low: int, high: int) -> None:
    """Integers in low..high. Checked on the CPU only: on a GPU it would wait for the device.

    For implementations only: in a fake, and while torch.compile traces, there are no values.
    """
    if torch.compiler.is_compiling() or tensor.device.type != "cpu" or tensor.numel() == 0:
        return
    smallest, largest = int(tensor.min()), int(tensor.max())
    if smallest < low or largest > high:
        raise ValueError(f"{name} must lie in {low}..{high}, got {smallest}..{largest}")

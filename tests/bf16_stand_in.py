"""The bfloat16 kernels of stgcn_block by way of those of float32, for a library without them.

Maps are widened before a call and rounded after it: what the kernels promise, but for the operands
that they round on the way.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from aimclr_fast import native

BEFORE, AFTER = ("x",), ("y", "spatial", "temporal", "shortcut")


def at(address: int, size: int) -> Tensor:
    """The bfloat16 elements at an address."""
    memory = (ctypes.c_char * (2 * size)).from_address(address)
    return torch.frombuffer(memory, dtype=torch.bfloat16, count=size)


class StandIn:
    """The library, with the functions for bfloat16."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def cpu_level(self) -> str:
        return "v4_bf16"

    def stgcn_block_workspace_cpu(self, *, element_bytes: int, **given: Any) -> int:
        size: int = self._library.stgcn_block_workspace_cpu(
            element_bytes=max(4, element_bytes), **given
        )
        return size

    def stgcn_block_forward_bf16_cpu(self, **given: Any) -> None:
        self._run("forward", given, reads=BEFORE, writes=AFTER)

    def stgcn_block_backward_bf16_cpu(self, **given: Any) -> None:
        self._run("backward", given, reads=("grad_y", *BEFORE, *AFTER), writes=("d_x",))

    def _run(
        self, name: str, given: dict[str, Any], *, reads: tuple[str, ...], writes: tuple[str, ...]
    ) -> None:
        shape = given["shape"]
        shorter = -(-shape["frames"] // shape["stride"])
        sizes = {
            "x": ("in", shape["frames"]),
            "d_x": ("in", shape["frames"]),
            "spatial": ("out", shape["frames"]),
        }
        wide: dict[str, Tensor] = {}
        for each in (*reads, *writes):
            if given[each]:
                channels, frames = sizes.get(each, ("out", shorter))
                size = math.prod((shape["batch"], shape[channels], frames, shape["joints"]))
                wide[each] = at(given[each], size).float()
        run = getattr(self._library, f"stgcn_block_{name}_f32_cpu")
        run(**given | {each: tensor.data_ptr() for each, tensor in wide.items()})
        for each in writes:
            if given[each]:
                at(given[each], wide[each].numel()).copy_(wide[each])


def library_with_bf16() -> Any:
    """The library itself where it has the kernels."""
    library = native.load()
    has = hasattr(library, "stgcn_block_forward_bf16_cpu")
    return library if has else StandIn(library)

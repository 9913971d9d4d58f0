"""What `torch.autocast("cuda")` does, for tensors that claim to be on a GPU (pretend_gpu.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

# Of torch's list for CUDA, what runs in the narrow type ...
NARROW = {
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "einsum",
}
# ... and what runs in float32.
WIDE = {"softmax", "log_softmax", "norm", "sum", "prod", "cumsum", "exp", "log", "pow", "nll_loss"}
WIDE |= {"cosine_similarity", "layer_norm", "group_norm", "cross_entropy", "rsqrt", "var", "std"}


class Autocast(TorchFunctionMode):
    """Narrows as autocast does, with its cache; refuses what this package does not need."""

    def __init__(self) -> None:
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if not torch.is_autocast_enabled("cuda"):
            self._cache.clear()
        elif name in NARROW:
            args, kwargs = tree_map_only(Tensor, self._narrow, (args, dict(kwargs or {})))
        elif name in WIDE:
            halves = [t for t in tree_leaves(args) if isinstance(t, Tensor) and t.itemsize == 2]
            assert not halves, f"{name} of halves under autocast: this walk does not widen them"
        return func(*args, **(kwargs or {}))

    def _narrow(self, tensor: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cuda")
        if not tensor.is_floating_point() or tensor.dtype in (dtype, torch.float64):
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad and torch.is_autocast_cache_enabled()):
            return tensor.to(dtype)
        if id(tensor) not in self._cache:
            self._cache[id(tensor)] = (tensor, tensor.to(dtype))
        return self._cache[id(tensor)][1]

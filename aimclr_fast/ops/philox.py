"""philox4x32: checks and backends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.reference import philox as reference

from ._checks import check_dense, check_dtype, check_range, check_type
from ._dispatch import REFERENCE, Backend
from ._native import cpp_why_not, cuda_why_not, current_stream
from ._op import Op


class Call(NamedTuple):
    """What a backend gets; see `philox4x32`.

    Attributes:
        counter: [..., 4].
        key: low and high word.
        backend: name of a backend.
    """

    counter: Tensor
    key: tuple[int, int]
    backend: str


def _members(counter: Tensor, key: tuple[int, int], out: Tensor) -> dict[str, int]:
    """Of struct PhiloxCall (csrc/common/philox.h)."""
    return {
        "counters": counter.data_ptr(), "key0": key[0], "key1": key[1],
        "out": out.data_ptr(), "n": counter.numel() // 4,
    }  # fmt: skip


def _cpp(call: Call) -> Tensor:
    counter = call.counter.contiguous()
    out = torch.empty_like(counter)
    members = _members(counter, call.key, out)
    native.load().philox4x32_cpu(**members, threads=torch.get_num_threads())
    return out


def _cuda(call: Call) -> Tensor:
    counter = call.counter.contiguous()
    out = torch.empty_like(counter)
    members = _members(counter, call.key, out)
    with torch.cuda.device(counter.device):
        native.load().philox4x32_cuda(**members, cuda_stream=current_stream(counter))
    return out


def _reference(call: Call) -> Tensor:
    return reference.philox4x32(call.counter, call.key)


BACKENDS = [
    Backend("cuda", _cuda, cuda_why_not),
    Backend("cpp", _cpp, cpp_why_not),
    Backend(REFERENCE, _reference),
]
_OP = Op("philox4x32", BACKENDS)


def philox4x32(counter: Tensor, key: Tensor | tuple[int, int], backend: str = "auto") -> Tensor:
    """Encrypt each counter under a key; see :func:`aimclr_fast.reference.philox.philox4x32`.

    Args:
        counter: ``[..., 4]`` int64, each word in ``[0, 2**32)``, least significant word first.
        key: two words in ``[0, 2**32)``. A tensor on a GPU is read back, which waits for it.
        backend: "auto", "reference", "cpp" or "cuda".

    Returns:
        ``[..., 4]`` int64 on the counter's device, each word in ``[0, 2**32)``.

    Raises:
        TypeError: the counter is no int64 tensor.
        ValueError: its shape is off, or a word (on the CPU) or the key is out of range.
    """
    check_dense("counter", counter)
    check_dtype("counter", counter, torch.int64)
    if counter.ndim == 0 or counter.shape[-1] != 4:
        raise ValueError(f"counter must have shape [..., 4], got {list(counter.shape)}")
    check_range("counter", counter, 0, 2**32 - 1)
    words = key_words(key)
    out: Tensor = _OP.dispatch(Call(counter, words, backend), counter)
    return out


def key_words(key: Tensor | tuple[int, int]) -> tuple[int, int]:
    """A key as two integers in ``[0, 2**32)``."""
    check_type("key", key, Tensor | tuple | list, "two integers")
    words = key.tolist() if isinstance(key, Tensor) else list(key)
    if (
        not isinstance(words, list)
        or len(words) != 2
        or not all(type(word) is int and 0 <= word < 1 << 32 for word in words)
    ):
        raise ValueError(f"key must be two integers in [0, 2**32), got {words}")
    return words[0], words[1]

"""Philox4x32-10, the counter-based generator behind every random draw, in pure PyTorch.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

PyTorch has no full set of uint32 operations, so 32-bit words travel as ``int64`` tensors whose
values lie in ``[0, 2**32)``. Integers and :func:`uniform` agree bit for bit with the C++ and CUDA
versions; :func:`normal` agrees up to the rounding of ``log``, ``sin`` and ``cos``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bounded", "normal", "philox4x32", "split_seed", "uniform"]

ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF


def _multiply(factor: int, words: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of ``factor * words``.

    The full product needs 64 unsigned bits, one more than int64 holds, so ``words`` is split in
    16-bit halves: each partial product then stays below 2**48.
    """
    lower = factor * (words & 0xFFFF)
    upper = factor * (words >> 16) + (lower >> 16)
    return upper >> 16, ((upper & 0xFFFF) << 16) | (lower & 0xFFFF)


def philox4x32(counter: Tensor, key: Tensor | tuple[int, int]) -> Tensor:
    """Encrypt each 128-bit counter under a 64-bit key: four random words per counter.

    Args:
        counter: ``[..., 4]`` int64, each word in ``[0, 2**32)``, least significant word first.
        key: two words in ``[0, 2**32)``: an int64 tensor of shape ``[2]`` or a pair of integers.

    Returns:
        ``[..., 4]`` int64 on the counter's device, each word in ``[0, 2**32)``.

    Raises:
        TypeError: if a tensor is not int64.
        ValueError: if a shape is wrong or a word of an integer key is out of range.
    """
    if counter.dtype != torch.int64:
        raise TypeError(f"philox4x32: counter must be int64, got {counter.dtype}")
    if counter.ndim == 0 or counter.shape[-1] != 4:
        raise ValueError(f"philox4x32: counter must be [..., 4], got {list(counter.shape)}")
    key_0, key_1 = _key_words(key)

    c0, c1, c2, c3 = counter.unbind(-1)
    for _ in range(ROUNDS):
        high_0, low_0 = _multiply(_MULTIPLIER_0, c0)
        high_1, low_1 = _multiply(_MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high_1 ^ c1 ^ key_0, low_1, high_0 ^ c3 ^ key_1, low_0
        key_0, key_1 = (key_0 + _WEYL_0) & _MASK, (key_1 + _WEYL_1) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _key_words(key: Tensor | tuple[int, int]) -> tuple[Tensor, Tensor] | tuple[int, int]:
    if isinstance(key, Tensor):
        if key.dtype != torch.int64:
            raise TypeError(f"philox4x32: key must be int64, got {key.dtype}")
        if key.shape != (2,):
            raise ValueError(f"philox4x32: key must have shape [2], got {list(key.shape)}")
        return key[0], key[1]
    if len(key) != 2 or not all(0 <= word <= _MASK for word in key):
        raise ValueError(f"philox4x32: key must be two words in [0, 2**32), got {key}")
    return key[0], key[1]


def uniform(words: Tensor) -> Tensor:
    """Words to float32 in ``[0, 1)``: the upper 24 bits times 2**-24, exact in float32."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def bounded(words: Tensor, n: int) -> Tensor:
    """Words to integers in ``[0, n)``: ``(word * n) >> 32``, for ``1 <= n <= 2**31``.

    The bias of any one value is below ``n / 2**32``. Returns int64 of the shape of ``words``.
    """
    if not 1 <= n <= 1 << 31:
        raise ValueError(f"bounded: n must be in [1, 2**31], got {n}")
    # word < 2**32 and n <= 2**31: the product stays below 2**63.
    return (words * n) >> 32


def normal(words: Tensor) -> Tensor:
    """Words ``[..., 4]`` to four standard normal float32 draws by the Box-Muller transform.

    Words (0, 1) give draws 0 and 1, words (2, 3) give draws 2 and 3: the even word the radius,
    the odd word the angle, the cosine before the sine.
    """
    if words.ndim == 0 or words.shape[-1] != 4:
        raise ValueError(f"normal: words must be [..., 4], got {list(words.shape)}")
    # Shifted by one so that the logarithm's argument lies in (0, 1].
    u1 = ((words[..., 0::2] >> 8) + 1).to(torch.float32) * 2.0**-24
    angle = (2.0 * math.pi) * uniform(words[..., 1::2])
    radius = torch.sqrt(-2.0 * torch.log(u1))
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(-2)


def split_seed(seed: int) -> tuple[int, int]:
    """Low and high 32 bits of a 64-bit seed: the key of :func:`philox4x32`.

    Raises:
        ValueError: if ``seed`` is not in ``[0, 2**64)``.
    """
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    return seed & _MASK, seed >> 32

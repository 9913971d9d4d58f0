"""One block of the spatial-temporal graph convolutional network (Yan et al., AAAI 2018)."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class SumOverRanks(Protocol):
    """Sums a tensor over the processes of a job, differentiably; `size` of them."""

    size: int

    def __call__(self, tensor: Tensor) -> Tensor: ...


def spatial_convolution(x: Tensor, adjacency: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution per part of the graph, summed over neighbors and parts.

    [B, C_in, T, V] with adjacency [P, V, V] and weight [P * C_out, C_in, 1, 1] ->
    [B, C_out, T, V]. Zeros of the adjacency are no edges, so they get no gradient.
    """
    edges = torch.where(adjacency == 0, 0.0, adjacency)
    y = F.conv2d(x, weight, bias).unflatten(1, (len(adjacency), -1))
    return torch.einsum("bpctv,pvw->bctw", y, edges)


def normalize(
    x: Tensor,
    norm: Tensor,
    running: Tensor | None,
    eps: float,
    over_ranks: SumOverRanks | None = None,
) -> tuple[Tensor, Tensor]:
    """Batch norm of [B, C, T, V] with norm [2, C] (weight, bias).

    Returns the normalized map and the statistics used, [2, C] (mean, biased variance): those of the
    batch, with `over_ranks` that of all processes, or `running` where it is given.
    """
    if running is not None:
        mean, variance = running
        return F.batch_norm(x, mean, variance, norm[0], norm[1], eps=eps), running
    # With momentum 1, batch norm leaves the batch's statistics here, without another pass over x.
    dtype = torch.promote_types(x.dtype, torch.float32)
    if over_ranks is not None:
        count = x.numel() // x.shape[1] * over_ranks.size
        wide = x.to(dtype)
        mean = over_ranks(wide.sum((0, 2, 3))) / count
        centered = wide - mean[:, None, None]
        variance = over_ranks(centered.square().sum((0, 2, 3))) / count
        factor = norm[0] * torch.rsqrt(variance + eps)
        y = centered * factor[:, None, None] + norm[1][:, None, None]
        return y.to(x.dtype), torch.stack((mean, variance)).detach()
    mean, unbiased = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device).unbind()
    scale, shift = norm.to(dtype)
    y = F.batch_norm(x, mean, unbiased, scale, shift, training=True, momentum=1.0, eps=eps)
    count = x.numel() // x.shape[1]
    if not count:
        return y, torch.full((2, x.shape[1]), math.nan, dtype=dtype, device=x.device)
    return y, torch.stack((mean, unbiased * ((count - 1) / count)))


def every(stride: int, x: Tensor) -> Tensor:
    """Every `stride`-th frame of [B, C, T, V], for a 1x1 convolution of it.

    Instead of the convolution's own stride: its gradient overwrites memory in the CPU convolutions
    of PyTorch 2.11 and 2.13 if x has its channels last and fewer than 16 of them. Instead of a
    slice: torch.export does not see that its length is that of a strided convolution.
    """
    return x if stride == 1 else F.avg_pool2d(x, 1, (stride, 1))


def unpacked(words: Tensor, size: int) -> Tensor:
    """Booleans [size] of bits: the one in place p of the words' j-th byte is that of element
    p * 8 * len(words) + j, so that bits become bytes word by word.
    """
    places = torch.arange(8, device=words.device)[:, None]
    taken = (words >> places).bitwise_and_(0x0101010101010101)
    return taken.flatten().view(torch.bool)[:size]


def stgcn_block(
    x: Tensor,
    adjacency: Tensor,
    spatial_weight: Tensor,
    spatial_bias: Tensor,
    temporal_weight: Tensor,
    temporal_bias: Tensor,
    norms: Tensor,
    residual_weight: Tensor | None,
    residual_bias: Tensor | None,
    running: Tensor | None,
    keep: Tensor | None,
    identity: bool,
    scale: float,
    stride: int,
    eps: float,
    over_ranks: SumOverRanks | None = None,
) -> tuple[Tensor, Tensor]:
    """The block's output [B, C_out, ceil(T / stride), V] and the statistics its norms used.

    Norms, in this order, are the spatial, the temporal and, with a residual convolution, the
    residual one: `norms` [2 or 3, 2, C_out] holds (weight, bias), `running` and the statistics
    (mean, biased variance). With `over_ranks` they normalize by the statistics of all processes'
    batches, equally large. For the other arguments see `aimclr_fast.functional.stgcn_block`.
    """
    used: list[Tensor] = []

    def norm(y: Tensor) -> Tensor:
        i = len(used)
        fixed = None if running is None else running[i]
        y, statistics = normalize(y, norms[i], fixed, eps, over_ranks)
        used.append(statistics)
        return y

    y = torch.relu(norm(spatial_convolution(x, adjacency, spatial_weight, spatial_bias)))
    padding = (temporal_weight.shape[2] // 2, 0)
    y = norm(F.conv2d(y, temporal_weight, temporal_bias, (stride, 1), padding))
    if keep is not None:
        y = y * (keep.to(y.dtype) * scale)
    if residual_weight is not None:
        y = y + norm(F.conv2d(every(stride, x), residual_weight, residual_bias))
    elif identity:
        y = y + x
    return torch.relu(y), torch.stack(used)

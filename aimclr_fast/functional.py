"""The public functions: every op as a plain function of tensors.

All take `backend`: "auto" picks the fastest one that can run, a name forces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .layouts import Layout
from .ops import apply_augment as _apply_augment
from .ops import eadm_pool as _eadm_pool
from .ops import queue_contrast as _queue_contrast
from .ops import skeleton_augment as _skeleton_augment
from .ops.stgcn_block import stgcn_block
from .reference.skeleton_augment import STREAMS, AugmentConfig, AugmentParams

__all__ = [
    "STREAMS",
    "AugmentConfig",
    "AugmentParams",
    "ContrastLosses",
    "Views",
    "apply_augment",
    "eadm_pool",
    "queue_contrast",
    "skeleton_augment",
    "skeleton_augment_streams",
    "stgcn_block",
]


class Views(NamedTuple):
    """The three views of a batch, each [N, 3, T, V, M]."""

    extreme: Tensor
    query: Tensor
    key: Tensor


class ContrastLosses(NamedTuple):
    """Scalars of `queue_contrast` and the mined neighbours [N, 3, topk] (int64)."""

    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor
    neighbors: Tensor


def apply_augment(
    x: Tensor,
    params: AugmentParams,
    *,
    layout: str | Layout = "ntu-rgb+d",
    stream: str = "joint",
    noise: Tensor | None = None,
    crop_ratio: int = 6,
    blur_taps: int = 15,
    blur_normalize: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Augment sequences with given parameters, then turn them into a stream (section 3.2).

    The order is crop, shear, left-right flip, rotation, noise, blur, axis mask, time flip, stream.

    Args:
        x: positions [N, 3, T, V, M] in metres.
        params: one value per sample and augmentation; a field left None is off.
        layout: skeleton of the joints, for the left-right flip and the bones.
        stream: "joint", "motion" (x[t+1] - x[t], last frame 0) or "bone" (joint minus its
            neighbour towards the centre).
        noise: [N, 3, T, V, M], added as it is. Without it, `params.noise_std` scales standard
            normal draws from torch's generator.
        crop_ratio: T // crop_ratio mirrored frames are padded on each side before cropping.
        blur_taps: length of the blur kernel, odd.
        blur_normalize: divide the blur's weights by their sum; the authors do not.
        backend: see the module.

    Returns:
        [N, 3, T, V, M] of x's dtype. Half-precision sequences are augmented in float32 by the
        compiled backends. All backends differentiate by x and the noise, the reference also by
        the parameters.

    Raises:
        ValueError: a shape, joint count, stream or parameter is off; it is named.
        TypeError: x is not floating point.
    """
    return _apply_augment.apply_augment(
        x,
        params,
        layout=layout,
        stream=stream,
        noise=noise,
        crop_ratio=crop_ratio,
        blur_taps=blur_taps,
        blur_normalize=blur_normalize,
        backend=backend,
    )


def skeleton_augment(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int = 0,
    stream: str = "joint",
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Views:
    """Draw the extreme, query and key view of each sequence in a batch (section 3.2).

    All draws come from Philox4x32-10 keyed by `seed` and counted by (step, place in the global
    batch, view, augmentation): they do not depend on the backend, the device, the number of
    processes or how the batch is split.

    Args:
        data: resident data set [S, 3, T, V, M]; floating point in metres or int16 in millimetres.
            It may stay in pinned host memory while the index is on a GPU, which then reads the
            batch's sequences over the bus.
        index: [N] sequences of the batch, int64 or int32; the views are made on its device.
        layout: skeleton of the joints.
        config: amplitudes and probabilities.
        seed: 64-bit key of the draws.
        step: training step, below 2^32; as an int64 tensor of no dimensions on the index's device
            it is read there, so that a captured CUDA graph can count its own steps.
        offset: place of index[0] in the global batch.
        stream: "joint", "motion" or "bone".
        dtype: of the views; float32 when None.
        backend: see the module.

    Returns:
        Views(extreme, query, key), each [N, 3, T, V, M].

    Raises:
        ValueError: a shape, joint count, index (on the CPU), step or stream is off; it is named.
        TypeError: data or index has an unsupported dtype.

    Example:
        >>> data = torch.randn(10, 3, 50, 25, 2)
        >>> views = skeleton_augment(data, torch.tensor([3, 7]), layout="ntu-rgb+d",
        ...                          config=AugmentConfig(), seed=0, step=0)
        >>> views.extreme.shape
        torch.Size([2, 3, 50, 25, 2])
    """
    (views,) = skeleton_augment_streams(
        data,
        index,
        layout=layout,
        config=config,
        seed=seed,
        step=step,
        offset=offset,
        streams=(stream,),
        dtype=dtype,
        backend=backend,
    )
    return views


def skeleton_augment_streams(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int = 0,
    streams: Sequence[str] = STREAMS,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> tuple[Views, ...]:
    """The views of a batch in several streams, from one read and one set of draws.

    Args and errors are those of `skeleton_augment`, but for `streams`: different names of streams.

    Returns:
        One Views for each stream, in the order of `streams`: exactly what as many calls of
        `skeleton_augment` give.

    Example:
        >>> data = torch.randn(10, 3, 50, 25, 2)
        >>> joint, motion, bone = skeleton_augment_streams(
        ...     data, torch.tensor([3, 7]), layout="ntu-rgb+d", config=AugmentConfig(), seed=0,
        ...     step=0)
    """
    return tuple(
        Views(*views)
        for views in _skeleton_augment.skeleton_augment(
            data,
            index,
            layout=layout,
            config=config,
            seed=seed,
            step=step,
            offset=offset,
            streams=streams,
            dtype=dtype,
            backend=backend,
        )
    )


def eadm_pool(
    x: Tensor, keep_prob: float = 0.7, e_lambda: float = 1e-4, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Mean-pool a feature map, plain and after energy-based attention-guided dropping (EADM).

    Per sample and channel, attention is a sigmoid of the squared distance from the mean over its
    variance (section 3.3, equations 4 to 6). Joints whose mean attention over channels and time,
    and elements whose own attention, reach `keep_prob` are dropped; the rest is divided by the kept
    shares of joints and of elements over the whole batch. The masks carry no gradient.

    Args:
        x: feature map [B, C, T, V].
        keep_prob: attention at which to drop, in (0, 1].
        e_lambda: added to the variance.
        backend: see the module.

    Returns:
        (pooled, pooled_drop), each [B, C]; float32 for half-precision maps, else x's dtype.

    Raises:
        ValueError: x is not four-dimensional, or has no frame or joint; keep_prob is out of range.
        TypeError: x is not floating point.
    """
    return _eadm_pool.eadm_pool(x, keep_prob, e_lambda, backend)


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    topk: int = 0,
    backend: str = "auto",
) -> ContrastLosses:
    """InfoNCE with mined positives and the two distribution-matching losses over a queue.

    The positives of a row are its key and, with `topk` > 0, the union of the queue's keys nearest
    to the query, the extreme and the dropped row (NNM, section 3.5). The query's softmax over
    [key, queue] teaches those of the extreme and the dropped row (D3M, section 3.4) and is
    detached. loss = info_nce + (d3m_extreme + d3m_dropped) / 2, each a mean over rows. Keys and
    queue get no gradient. Ties among neighbours go to the lower index.

    Args:
        query: rows [N, D] of the normal view.
        extreme: rows [N, D] of the extreme view.
        dropped: rows [N, D] of the extreme view after dropping.
        key: rows [N, D] of the key view.
        queue: [K, D] keys of earlier batches.
        temperature: divides every similarity.
        topk: neighbours mined per row, 0 for none.
        backend: see the module.

    Returns:
        ContrastLosses; neighbors are [N, 3, topk] in the order query, extreme, dropped.

    Raises:
        ValueError: shapes disagree, N is 0, the temperature is not positive, or topk exceeds K.
        TypeError: a tensor is not floating point.
    """
    info_nce, d3m_extreme, d3m_dropped, neighbors = _queue_contrast.queue_contrast(
        query, extreme, dropped, key, queue, temperature, topk, backend
    )
    loss = info_nce + (d3m_extreme + d3m_dropped) / 2
    return ContrastLosses(loss, info_nce, d3m_extreme, d3m_dropped, neighbors)

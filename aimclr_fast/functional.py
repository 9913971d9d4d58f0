"""The public functions: every op as a plain function of tensors.

All take `backend`: "auto" picks the fastest one that can run, a name forces it.
"""

from __future__ import annotations

from torch import Tensor

from .ops import stgcn_block as _stgcn_block
from .ops._checks import check_number
from .ops._stgcn_block_call import Inputs, Settings
from .ops.apply_augment import apply_augment
from .ops.eadm_pool import eadm_pool
from .ops.queue_contrast import ContrastLosses, queue_contrast
from .ops.skeleton_augment import Views, skeleton_augment, skeleton_augment_streams
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


def stgcn_block(
    x: Tensor,
    adjacency: Tensor,
    spatial: tuple[Tensor, Tensor],
    temporal: tuple[Tensor, Tensor],
    norms: Tensor,
    *,
    residual: str | tuple[Tensor, Tensor] = "none",
    running: Tensor | None = None,
    keep: Tensor | None = None,
    keep_prob: float = 1.0,
    stride: int = 1,
    eps: float = 1e-5,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """One block of ST-GCN (Yan et al., AAAI 2018, section 3), in training or in evaluation.

    A 1x1 convolution per part of the graph, summed over neighbours and parts; batch norm; ReLU; a
    convolution over K frames; batch norm; dropout; the residual; ReLU. The joint w of the spatial
    convolution's output is the sum over parts p and joints v of joint v times adjacency[p, v, w].

    All backends but the reference keep the channels last in memory (`torch.channels_last`), and so
    is their output. `torch` is PyTorch's own operations laid out for a GPU; it runs anywhere.

    Args:
        x: feature map [B, C_in, T, V].
        adjacency: [P, V, V], already times the edges' importance. A zero is no edge: its gradient
            is zero.
        spatial: weight [P * C_out, C_in, 1, 1] and bias [P * C_out]; the parts one after the other.
        temporal: weight [C_out, C_out, K, 1], K odd, and bias [C_out]; padded with K // 2 frames of
            zeros on each side.
        norms: [n, 2, C_out], weight and bias of the spatial, the temporal and, with a residual
            convolution, the residual norm.
        residual: "none", "identity", or weight [C_out, C_in, 1, 1] and bias [C_out] of a 1x1
            convolution, which a norm follows.
        running: [n, 2, C_out], mean and variance that the norms use, in evaluation. Without it they
            use those of the batch. They get no gradient.
        keep: uint8 or bool [B, C_out, ceil(T / stride), V], 1 where dropout keeps an element, which
            is then divided by `keep_prob`. None keeps all.
        keep_prob: see `keep`; in (0, 1].
        stride: of the temporal and the residual convolution in time, 1 or 2.
        eps: added to the variances.
        backend: see the module.

    Returns:
        (y, statistics): the output [B, C_out, ceil(T / stride), V], and the mean and biased
        variance [n, 2, C_out] that the norms used, without a gradient.

    Raises:
        ValueError: a shape, the stride or the residual is off; it is named.
        TypeError: a tensor is of the wrong dtype.
    """
    if isinstance(residual, str) and residual not in ("none", "identity"):
        raise ValueError(f"residual must be 'none', 'identity' or a convolution, got {residual!r}")
    for name, pair in (("spatial", spatial), ("temporal", temporal), ("residual", residual)):
        if name == "residual" and isinstance(pair, str):
            continue
        if (
            not isinstance(pair, tuple | list)
            or [isinstance(t, Tensor) for t in pair] != [True] * 2
        ):
            raise TypeError(f"{name} must be a weight and a bias, got {type(pair).__name__}")
    keep_prob = check_number("keep_prob", keep_prob)
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(f"keep_prob must lie in (0, 1], got {keep_prob}")
    beside_weight, beside_bias = (None, None) if isinstance(residual, str) else residual
    inputs = Inputs(
        x,
        adjacency,
        spatial[0],
        spatial[1],
        temporal[0],
        temporal[1],
        norms,
        beside_weight,
        beside_bias,
        running,
        keep,
    )
    settings = Settings(residual == "identity", 1.0 / keep_prob, stride, eps, False)
    return _stgcn_block.stgcn_block(inputs, settings, backend)

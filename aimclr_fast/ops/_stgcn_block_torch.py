"""stgcn_block in PyTorch's own operations, in the order that moves the fewest bytes.

The same as the reference, with maps that stay channels_last ([B, T, V, C] in memory) and are read
and written as seldom as whole operations allow. Bytes are counted; times on a GPU are not measured.
With E the bytes of a map of the output's channels and E_x those of the input's, P = 3 parts:

- graph convolution: E_x + 7 E with the convolution first, 7 E_x + 3 E with the adjacency first: the
  cheaper one is taken. Either order is a batched product over frames that leaves channels last.
- dropout: its scale goes into the norm before it, so that the mask alone is multiplied by.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aimclr_fast.reference.stgcn_block import every, normalize


def stgcn_block(call: Any) -> tuple[Tensor, Tensor]:
    """For the op's Call: y [B, C_out, ceil(T / stride), V] and the statistics of the norms."""
    used: list[Tensor] = []

    def norm(y: Tensor, factor: float = 1.0) -> Tensor:
        i = len(used)
        affine = call.norms[i] if factor == 1.0 else call.norms[i] * factor
        fixed = None if call.running is None else call.running[i]
        y, statistics = normalize(y, affine, fixed, call.eps)
        used.append(statistics)
        return y

    x, stride = call.x.contiguous(memory_format=torch.channels_last), call.stride
    # It is all in the type of x already; autocast would widen some of it.
    with torch.autocast(x.device.type, enabled=False):
        y = graph_convolution(x, call.adjacency, call.spatial_weight, call.spatial_bias)
        y = torch.relu(norm(y))
        padding = (call.temporal_weight.shape[2] // 2, 0)
        y = F.conv2d(y, call.temporal_weight, call.temporal_bias, (stride, 1), padding)
        y = norm(y) if call.keep is None else norm(y, call.scale) * call.keep
        if call.residual_weight is not None:
            if x.is_cpu:  # a GPU would copy the frames
                x, stride = every(stride, x), 1
            y = y + norm(F.conv2d(x, call.residual_weight, call.residual_bias, (stride, 1)))
        elif call.identity:
            y = y + x
        return torch.relu(y), torch.stack(used)


def graph_convolution(x: Tensor, adjacency: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`reference.stgcn_block.spatial_convolution` from channels_last to channels_last."""
    parts, joints, _ = adjacency.shape
    channels = len(bias) // parts
    edges = adjacency * (adjacency != 0)  # zeros get no gradient; fewer launches than a `where`
    if parts * x.shape[1] >= (parts - 1) * channels:
        y = F.conv2d(x, weight, bias)  # [B, T, V, P, C_out] in memory
        return _over_joints(edges.permute(2, 1, 0).reshape(joints, -1), y)
    y = _over_joints(edges.permute(2, 0, 1).reshape(-1, joints), x)  # [B, T, V, P, C_in] in memory
    weight = weight.view(parts, channels, -1).transpose(0, 1).reshape(channels, -1, 1, 1)
    # A joint gets each part's bias as often as it has neighbors there.
    shift = bias.view(parts, channels).t() @ edges.sum(1)
    return F.conv2d(y, weight) + shift[:, None]


def _over_joints(rows: Tensor, x: Tensor) -> Tensor:
    """The same matrix [R, K] times each frame [K, .] of x [B, C, T, V], as [B, R / V * ., T, V]."""
    batch, channels, frames, joints = x.shape
    columns = channels * joints // rows.shape[1]
    each = x.permute(0, 2, 3, 1).reshape(batch * frames, rows.shape[1], columns)
    y = rows.expand(batch * frames, -1, -1).bmm(each)
    return y.view(batch, frames, joints, len(rows) // joints * columns).permute(0, 3, 1, 2)

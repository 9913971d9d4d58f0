"""The ST-GCN in evaluation with every batch norm folded into the weights and biases beside it.

With the scale s and the shift t of a norm in evaluation:

- spatial norm: s goes into the weights of all parts. One bias for each channel and joint holds t
  and s times the parts' biases, of which a joint gets each as often as it has neighbors there.
- temporal and residual norm: s goes into the weights. Both t, and s times both biases, are the bias
  of the temporal convolution.
- input norm: its s differs between joints and coordinates, so no 1x1 convolution can hold it. It
  stays one multiply-add of the input, in float32 where maps are in half precision: positions before
  it may be far from zero, and rounding them would leave little of their motion.

The adjacency comes before the convolution: `stgcn_block`'s order for channels that grow, and here,
where the bias is added after either, no dearer where they stay.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stgcn import STGCN, STGCNBlock, check_sequences


def fold(
    backbone: STGCN, dtype: torch.dtype | None = None, *, channels_last: bool = True
) -> FoldedSTGCN:
    """The same feature maps as a backbone in eval mode, to rounding, from fewer operations.

    Args:
        backbone: in eval mode; is left as it is, and shares no memory with the result.
        dtype: of the weights and maps, a floating point one; None for the backbone's.
        channels_last: lay maps out as [B, T, V, C] in memory, for a GPU; otherwise as [B, C, T, V],
            for exported graphs.

    Raises:
        TypeError: not an STGCN, or not a floating point dtype.
        ValueError: a part of the backbone is in training mode.
    """
    if not isinstance(backbone, STGCN):
        raise TypeError(f"expected an STGCN to fold, got {type(backbone).__name__}")
    if dtype is None:
        dtype = backbone.blocks[0].temporal.weight.dtype  # type: ignore[union-attr, assignment]
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating point one, got {dtype}")
    for name, module in backbone.named_modules():
        if module.training:
            raise ValueError(
                "folding takes the running statistics of the batch norms, so call eval() first: "
                f"{name or 'the backbone'} is in training mode"
            )
    with torch.no_grad():
        return FoldedSTGCN(backbone, dtype, channels_last)


class _Folded(nn.Module):
    """A module without parameters, and without a training mode."""

    def __init__(self) -> None:
        super().__init__()
        super().train(False)

    def train(self, mode: bool = True) -> Any:
        if mode:
            raise ValueError("a folded encoder cannot be trained: train the one it was folded from")
        return super().train(mode)


class FoldedBlock(_Folded):
    """One block. Shapes: [B, C_in, T, V] -> [B, C_out, ceil(T / stride), V].

    Args:
        block: to fold.
        edges: [P, V, V], the adjacency times the edges' importance, float64.
        dtype: of the weights.
        channels_last: see `fold`.
    """

    edges: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    temporal_weight: Tensor
    temporal_bias: Tensor
    residual_weight: Tensor | None

    def __init__(
        self, block: STGCNBlock, edges: Tensor, dtype: torch.dtype, channels_last: bool
    ) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.identity = isinstance(block.residual, nn.Identity)
        self.stride = block.stride
        eps = block.spatial_norm.eps  # the block's, for all of its norms
        self.parts, joints, _ = edges.shape

        scale, shift = _scale_and_shift(block.spatial_norm, eps)
        spatial = block.spatial.conv
        weight, bias = spatial.weight.double(), spatial.bias.double()  # type: ignore[union-attr]
        weight = weight.view(self.parts, len(scale), -1) * scale[:, None]  # [P, C_out, C_in]
        biases = scale[:, None] * (bias.view(self.parts, -1).t() @ edges.sum(1)) + shift[:, None]
        if channels_last:  # the channels of all parts side by side; each frame [V, C] multiplied
            weight = weight.transpose(0, 1).reshape(len(scale), -1, 1, 1)
            rows = edges.permute(2, 0, 1).reshape(-1, joints)
        else:
            weight = weight.permute(1, 2, 0)[:, :, None]
            rows = edges.permute(1, 0, 2).reshape(joints, -1)
        weights = {"spatial": weight}

        scale, shift = _scale_and_shift(block.temporal_norm, eps)
        weights["temporal"], bias = _scaled(block.temporal, scale)
        bias = bias + shift
        if isinstance(block.residual, nn.Sequential):
            scale, shift = _scale_and_shift(block.residual[1], eps)
            weights["residual"], beside = _scaled(block.residual[0], scale)
            bias = bias + beside + shift

        last = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("residual_weight", None)
        for name, weight in weights.items():
            laid_out = weight.to(dtype).contiguous(memory_format=last)
            self.register_buffer(f"{name}_weight", laid_out)
        self.register_buffer("spatial_bias", biases[:, None].to(dtype))  # [C_out, 1, V]
        self.register_buffer("temporal_bias", bias.to(dtype))
        self.register_buffer("edges", rows.to(dtype).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self._spatial(x) + self.spatial_bias)
        padding = (self.temporal_weight.shape[2] // 2, 0)
        y = F.conv2d(y, self.temporal_weight, self.temporal_bias, (self.stride, 1), padding)
        if self.residual_weight is not None:
            y = y + F.conv2d(x, self.residual_weight, stride=(self.stride, 1))
        elif self.identity:
            y = y + x
        return torch.relu(y)

    def _spatial(self, x: Tensor) -> Tensor:
        """The graph convolution without its bias, laid out as x."""
        batch, channels, frames, joints = x.shape
        if not self.channels_last:  # [B, C_in, T, P * V], whose parts are the taps of a kernel
            return F.conv2d(x @ self.edges, self.spatial_weight, dilation=(1, joints))
        each = x.permute(0, 2, 3, 1).reshape(batch * frames, joints, channels)
        y = self.edges.expand(batch * frames, -1, -1).bmm(each)  # [B * T, V * P, C_in]
        y = y.view(batch, frames, joints, self.parts * channels)
        return F.conv2d(y.permute(0, 3, 1, 2), self.spatial_weight)


class FoldedSTGCN(_Folded):
    """What `fold` returns. Shapes: those of `STGCN`; maps have the dtype of the weights.

    Attributes:
        layout, in_channels, features: as of `STGCN`.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(self, backbone: STGCN, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        self.layout = backbone.layout
        self.in_channels = backbone.in_channels
        self.features = backbone.features
        self.channels_last = channels_last
        norm = backbone.input_norm
        wide = torch.promote_types(dtype, torch.float32)
        for name, each in zip(("scale", "shift"), _scale_and_shift(norm, norm.eps), strict=True):
            by_joint = each.view(-1, self.in_channels).t()[:, None, :, None]  # [C, 1, V, 1]
            self.register_buffer(f"input_{name}", by_joint.to(wide).contiguous())
        self.blocks = nn.ModuleList()
        for block, importance in zip(backbone.blocks, backbone.edge_importance, strict=True):
            edges = backbone.adjacency.double() * importance.double()
            assert isinstance(block, STGCNBlock)
            self.blocks.append(FoldedBlock(block, edges, dtype, channels_last))

    def forward(self, x: Tensor) -> Tensor:
        check_sequences(x, self.in_channels, self.layout)
        n, c, t, v, m = x.shape
        first: Any = self.blocks[0]
        dtype: torch.dtype = first.edges.dtype
        x = torch.addcmul(self.input_shift, x, self.input_scale)
        if self.channels_last:  # converted and laid out in one pass
            x = x.permute(0, 4, 2, 3, 1).to(dtype, memory_format=torch.contiguous_format)
            x = x.contiguous().view(n * m, t, v, c).permute(0, 3, 1, 2)
        else:
            x = x.permute(0, 4, 1, 2, 3).reshape(n * m, c, t, v).to(dtype)
        for block in self.blocks:
            x = block(x)
        return x


def _scale_and_shift(norm: Any, eps: float) -> tuple[Tensor, Tensor]:
    """Batch norm in evaluation as a factor and a summand for each channel, float64."""
    scale = norm.weight.double() * (norm.running_var.double() + eps).rsqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _scaled(convolution: Any, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution whose outputs are scaled, float64."""
    weight = convolution.weight.double() * scale[:, None, None, None]
    return weight, convolution.bias.double() * scale

"""ST-GCN in eager PyTorch: 1x1 convolution to all parts first, then the adjacency.

Modules bear the names of the authors' released checkpoints, so that both state dicts load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aimclr_fast.layouts import Layout, get_layout

from . import eadm

STRIDED = (4, 7)


class GraphConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.conv = nn.Conv2d(in_channels, out_channels * parts, kernel_size=1)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = self.conv(x)
        n, channels, frames, joints = x.shape
        x = x.view(n, self.parts, channels // self.parts, frames, joints)
        return torch.einsum("nkctv,kvw->nctw", x, adjacency).contiguous()


class Block(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        parts: int,
        stride: int,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels, parts)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout, inplace=True),
        )
        self.has_residual = residual
        if residual and (in_channels != out_channels or stride != 1):
            self.residual: nn.Module = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=(stride, 1)),
                nn.BatchNorm2d(out_channels),
            )
        else:
            self.residual = nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        residual = self.residual(x) if self.has_residual else 0
        return self.relu(self.tcn(self.gcn(x, adjacency)) + residual)


class Encoder(nn.Module):
    """[N, 3, T, V, M] -> [N, embedding], and of the dropped map too with `drop`."""

    A: Tensor

    def __init__(
        self,
        layout: str | Layout = "ntu-rgb+d",
        *,
        channels: int = 16,
        features: int = 256,
        embedding: int = 128,
        dropout: float = 0.5,
        projection: bool = True,
    ) -> None:
        super().__init__()
        layout = get_layout(layout)
        self.register_buffer("A", torch.from_numpy(layout.adjacency()))
        parts = len(self.A)
        self.data_bn = nn.BatchNorm1d(3 * layout.num_joints)
        widths = [channels] * 4 + [2 * channels] * 3 + [4 * channels] * 2 + [features]
        self.st_gcn_networks = nn.ModuleList(
            Block(
                widths[i - 1] if i else 3,
                width,
                parts,
                stride=2 if i in STRIDED else 1,
                dropout=dropout if i else 0.0,
                residual=i > 0,
            )
            for i, width in enumerate(widths)
        )
        self.edge_importance = nn.ParameterList(
            nn.Parameter(torch.ones_like(self.A)) for _ in self.st_gcn_networks
        )
        self.fc: nn.Module = nn.Linear(features, embedding)
        if projection:
            self.fc = nn.Sequential(nn.Linear(features, features), nn.ReLU(), self.fc)

    def feature_map(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).contiguous().view(n * m, v * c, t)
        x = self.data_bn(x)
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            x = block(x, self.A * importance)
        return x

    def embed(self, pooled: Tensor, bodies: int) -> Tensor:
        out: Tensor = self.fc(pooled.view(-1, bodies, pooled.shape[1]).mean(dim=1))
        return out

    def forward(
        self, x: Tensor, drop: bool = False, keep_prob: float = 0.7
    ) -> Tensor | tuple[Tensor, Tensor]:
        bodies = x.shape[4]
        x = self.feature_map(x)
        if not drop:
            return self.embed(nn.functional.avg_pool2d(x, x.shape[2:]).flatten(1), bodies)
        pooled, pooled_drop = eadm.eadm_pool(x, keep_prob)
        return self.embed(pooled, bodies), self.embed(pooled_drop, bodies)

"""The ST-GCN encoder (Yan et al., AAAI 2018) in the width AimCLR uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aimclr_fast._sections import section
from aimclr_fast.functional import eadm_pool, masked_pool
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.ops.stgcn_block import packed_block, words_of
from aimclr_fast.reference import stgcn_block as block_reference
from aimclr_fast.reference.stgcn_block import SumOverRanks

from ._prepared import Prepared, draw_words, prepare
from .precision import without_autocast
from .readouts import PUBLISHED, read_out

STAGES = ((1, 4), (2, 3), (4, 2))  # (channel multiple, blocks); one block of `features` follows
STRIDED_BLOCKS = (4, 7)


def draw_keep(shape: tuple[int, ...], dropped: float, device: torch.device) -> Tensor:
    """Booleans that are false with probability `dropped`, to within 2^-16.

    Whole random words are drawn and taken apart, which is many times faster than `bernoulli_`: into
    bits for a half, the published probability; otherwise into bytes or pairs of them.
    """
    size = math.prod(shape)
    whole = dropped < 1 and (dropped * 256).is_integer()
    bits = 1 if dropped == 0.5 else 8 if whole else 16
    words = draw_words(words_of(size * bits), device)
    if bits == 1:
        keep = block_reference.unpacked(words, size)
    elif bits == 8:
        keep = words.view(torch.uint8) >= int(dropped * 256)
    else:  # the largest that an int16 can be compared with drops all but 2^-16
        least = round(dropped * 2**16) - 2**15
        keep = words.view(torch.int16) >= min(least, 2**15 - 1)
    return keep[:size].view(shape)


class SpatialConv(nn.Module):
    """The parameters of a graph convolution: a 1x1 convolution for each part of the adjacency."""

    def __init__(self, in_channels: int, out_channels: int, parts: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels * parts, 1)


class Found(NamedTuple):
    """The statistics of a batch in a block.

    Attributes:
        norms: batch norms.
        statistics: of each group [n, 2, C], mean and biased variance that each norm used.
        counts: values per channel that each was taken of; a residual norm may be missing.
    """

    norms: list[Any]
    statistics: Sequence[Tensor]
    counts: tuple[int, int, int]


@torch.no_grad()
def track(found: Sequence[Found]) -> None:
    """Move the running statistics of blocks as BatchNorm2d does, the groups of a pass one after the
    other; in as few launches as of one block where all have the same momentum.
    """
    momentum = found[0].norms[0].momentum
    if others := [own for own in found if own.norms[0].momentum != momentum]:
        track(others)
        found = [own for own in found if own.norms[0].momentum == momentum]
    norms = [norm for own in found for norm in own.norms]
    # One count a norm: the residual's is dropped where there is none.
    counts = [count for own in found for _, count in zip(own.norms, own.counts, strict=False)]
    unbiased = [count / max(count - 1, 1) for count in counts]
    running = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
    for group in zip(*(own.statistics for own in found), strict=True):
        means = [mean for own in group for mean in own[:, 0].unbind()]
        variances = [variance for own in group for variance in own[:, 1].unbind()]
        variances = list(torch._foreach_mul(variances, unbiased))
        new = [one.to(old.dtype) for one, old in zip(means + variances, running, strict=True)]
        torch._foreach_lerp_(running, new, momentum)
    groups = len(found[0].statistics)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], groups)


class STGCNBlock(nn.Module):
    """Spatial graph convolution, temporal convolution and a residual.

    Shapes: [N, C_in, T, V] with adjacency [parts, V, V] -> [N, C_out, ceil(T / stride), V].

    Attributes:
        backend: backend of `functional.stgcn_block`.
        over_ranks: where set, training normalizes by the batches of all processes, with the
            reference's operations.
    """

    over_ranks: SumOverRanks | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        parts: int,
        *,
        temporal_kernel: int = 9,
        stride: int = 1,
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.backend = "auto"
        self.stride = stride
        self.spatial = SpatialConv(in_channels, out_channels, parts)
        self.spatial_norm = nn.BatchNorm2d(out_channels)
        self.temporal = nn.Conv2d(
            out_channels,
            out_channels,
            (temporal_kernel, 1),
            stride=(stride, 1),
            padding=(temporal_kernel // 2, 0),
        )
        self.temporal_norm = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.residual: nn.Module | None
        if not residual:
            self.residual = None
        elif in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        else:
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1)),
                nn.BatchNorm2d(out_channels),
            )

    def norms(self) -> list[Any]:
        """The norms in the order in which the op has them."""
        beside = [self.residual[1]] if isinstance(self.residual, nn.Sequential) else []
        return [self.spatial_norm, self.temporal_norm, *beside]

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Those of the convolutions: spatial, temporal, residual."""
        beside: Any = self.residual[0].weight if isinstance(self.residual, nn.Sequential) else None
        return self.spatial.conv.weight, self.temporal.weight, beside

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
        groups: int = 1,
        prepared: Prepared | None = None,
        found: list[Found] | None = None,
    ) -> Tensor:
        """The block's output.

        Args:
            x: feature map [N, C_in, T, V].
            adjacency: [P, V, V], times the edges' importance.
            groups: in training the norms see so many batches, one after the other.
            prepared: the rest of what the block computes with, if it is prepared.
            found: takes the batch's statistics in training, for `track`; None: they are tracked.
        """
        norms = self.norms()
        residual: Any = "none"
        if isinstance(self.residual, nn.Sequential):
            residual = (self.residual[0].weight, self.residual[0].bias)
        elif self.residual is not None:
            residual = "identity"
        running = packed = keep = None
        if prepared is not None:
            _, affine, running, packed, keep = prepared
        else:
            if not self.training:
                means = torch.stack([norm.running_mean for norm in norms])
                running = torch.stack([means, torch.stack([norm.running_var for norm in norms])], 1)
            rows = torch.stack([p for norm in norms for p in (norm.weight, norm.bias)])
            affine = rows.unflatten(0, (-1, 2))
        spatial: Any = self.spatial.conv
        temporal: Any = self.temporal
        keep = self._draw_keep(x) if keep is None else keep
        keep_prob = 1.0 - self.dropout.p if self.training else 1.0
        over_ranks = self.over_ranks if self.training else None
        y, statistics = packed_block(
            x,
            adjacency,
            (spatial.weight, spatial.bias),
            (temporal.weight, temporal.bias),
            affine,
            residual=residual,
            running=running,
            keep=keep,
            keep_prob=keep_prob,
            stride=self.stride,
            eps=self.spatial_norm.eps,
            groups=groups,
            backend=self.backend if over_ranks is None else "reference",
            over_ranks=over_ranks,
            packed=packed,
        )
        if self.training:
            processes = 1 if over_ranks is None else over_ranks.size
            before, after = (processes * m.numel() // m.shape[1] // groups for m in (x, y))
            each = statistics.unbind() if groups > 1 else (statistics,)
            own = Found(norms, each, (before, after, after))
            if found is None:
                track([own])
            else:
                found.append(own)
        return y

    def takes_bits(self, x: Tensor) -> bool:
        """Whether what dropout keeps is drawn as bits for the backend to take as they are."""
        drawn = self.training and self.dropout.p == 0.5 and self.over_ranks is None
        return drawn and self.backend in (("auto", "cpp", "triton") if x.is_cpu else ("triton",))

    def _draw_keep(self, x: Tensor) -> Tensor | None:
        """Which elements dropout keeps: the same draws whatever the backend, for a block alone."""
        if not self.training or self.dropout.p == 0.0:
            return None
        batch, _, frames, joints = x.shape
        shape = (batch, -(-frames // self.stride), joints, self.temporal.out_channels)
        if self.takes_bits(x):
            return draw_words(words_of(math.prod(shape)), x.device)
        return draw_keep(shape, self.dropout.p, x.device).permute(0, 3, 1, 2)


class RowNorm(nn.BatchNorm1d):
    """Batch norm [N, C] or [N, C, L].

    Attributes:
        over_ranks: where set, training normalizes by the batches of all processes.
    """

    over_ranks: SumOverRanks | None = None

    def forward(self, x: Tensor) -> Tensor:
        over_ranks = self.over_ranks
        if over_ranks is None or not self.training:
            return super().forward(x)
        affine = torch.stack([self.weight, self.bias])
        maps = x.view(*x.shape, *[1] * (4 - x.dim()))
        y, statistics = block_reference.normalize(maps, affine, None, self.eps, over_ranks)
        count = x.numel() // x.shape[1] * over_ranks.size
        moving: Any = self  # batch norm's buffers may be None, these are not
        with torch.no_grad():
            moving.running_mean.lerp_(statistics[0], self.momentum)
            moving.running_var.lerp_(statistics[1] * (count / max(count - 1, 1)), self.momentum)
            moving.num_batches_tracked.add_(1)
        return y.reshape_as(x)


def check_sequences(x: Tensor, channels: int, layout: Layout) -> None:
    """Raise a ValueError unless x is [N, channels, T, V, M] of the layout."""
    if x.dim() != 5 or x.shape[1] != channels or x.shape[3] != layout.num_joints:
        raise ValueError(
            f"expected sequences [N, {channels}, T, {layout.num_joints}, M] of "
            f"layout {layout.name!r}, got {list(x.shape)}"
        )


class STGCN(nn.Module):
    """Ten ST-GCN blocks over a skeleton sequence.

    Args:
        layout: a known layout's name, a YAML file or a `Layout`.
        in_channels: coordinates a joint has.
        channels: width of the first stage; the next stages have twice and four times as many.
        features: channels of the last block, the width of the representation.
        dropout: dropout after each temporal convolution.
        temporal_kernel: frames a temporal convolution sees, odd.
        strategy: how neighbors are parted, see `Layout.adjacency`.

    Shapes: [N, C, T, V, M] -> feature map [N*M, features, ceil(ceil(T/2)/2), V].
    """

    adjacency: Tensor

    def __init__(
        self,
        layout: str | Layout = "ntu-rgb+d",
        *,
        in_channels: int = 3,
        channels: int = 16,
        features: int = 256,
        dropout: float = 0.5,
        temporal_kernel: int = 9,
        strategy: str = "spatial",
    ) -> None:
        super().__init__()
        if temporal_kernel % 2 == 0:
            raise ValueError(f"temporal_kernel must be odd, got {temporal_kernel}")
        self.layout = get_layout(layout)
        self.in_channels = in_channels
        self.features = features
        adjacency = torch.from_numpy(self.layout.adjacency(strategy))
        self.register_buffer("adjacency", adjacency)
        parts = len(adjacency)
        self.input_norm = RowNorm(in_channels * self.layout.num_joints)

        widths = [channels * multiple for multiple, blocks in STAGES for _ in range(blocks)]
        widths.append(features)
        self.blocks = nn.ModuleList(
            STGCNBlock(
                in_channels if i == 0 else widths[i - 1],
                width,
                parts,
                temporal_kernel=temporal_kernel,
                stride=2 if i in STRIDED_BLOCKS else 1,
                dropout=dropout if i > 0 else 0.0,
                residual=i > 0,
            )
            for i, width in enumerate(widths)
        )
        self.edge_importance = nn.ParameterList(torch.ones_like(adjacency) for _ in self.blocks)

    @property
    def backend(self) -> str:
        """Backend of the blocks; setting it sets that of each."""
        return str(self.blocks[0].backend)

    @backend.setter
    def backend(self, name: str) -> None:
        for block in self.blocks:
            block.backend = name  # type: ignore[assignment]

    @property
    def over_ranks(self) -> SumOverRanks | None:
        """Where set, training normalizes by the batches of all processes; setting it sets that of
        each block and of the input's norm.
        """
        return self.input_norm.over_ranks

    @over_ranks.setter
    def over_ranks(self, ranks: SumOverRanks | None) -> None:
        for norm in (self.input_norm, *self.blocks):
            norm.over_ranks = ranks

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        """Feature map of sequences; in training each of `groups` equal parts of them, one after the
        other, is normalized and tracked as a batch of its own.
        """
        check_sequences(x, self.in_channels, self.layout)
        n, c, t, v, m = x.shape
        # The input is normalized over (joint, coordinate) pairs, so each joint has its own scale.
        x = x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t)
        if self.training and groups > 1:
            x = torch.cat([self.input_norm(own) for own in x.chunk(groups)])
        else:
            x = self.input_norm(x)
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1)
        device = x.device.type
        last = self.backend != "reference"  # the others keep channels last in memory
        layout = torch.channels_last if last else torch.contiguous_format
        if torch.is_autocast_enabled(device):  # it does not know the blocks, which are one op each
            x = x.to(torch.get_autocast_dtype(device), memory_format=layout)
        x = x.contiguous(memory_format=layout)
        groups = groups if self.training else 1
        found: list[Found] = []
        if self._to_prepare():
            importance = list(self.edge_importance)
            prepared = prepare(list(self.blocks), self.adjacency, importance, x)
            for block, own in zip(self.blocks, prepared, strict=True):
                x = block(x, own.adjacency, groups, own, found)
        else:
            for block, importance in zip(self.blocks, self.edge_importance, strict=True):
                # A block in evaluation among others has one statistic for all.
                own_groups = groups if block.training else 1
                x = block(x, self.adjacency * importance, own_groups, found=found)
        if found:
            track(found)
        return x

    def _to_prepare(self) -> bool:
        """Whether blocks are prepared together: all of one mode, and of the triton backend, which
        alone takes packed weights.
        """
        if torch.compiler.is_compiling() or len({block.training for block in self.blocks}) > 1:
            return False
        ranks = self.over_ranks if self.blocks[0].training else None
        return ranks is None and all(block.backend == "triton" for block in self.blocks)


class View(NamedTuple):
    """A batch to encode: its name, sequences [N, C, T, V, M], and what makes vectors [N*M, W] for
    the head of their feature maps.
    """

    name: str
    x: Tensor
    pool: Callable[[Tensor], list[Tensor]]


class _Chunks(torch.autograd.Function):
    """Equal parts of a batch of maps. Their gradients, dense or expanded, are written into one map:
    `chunk` would lay out each of them before that.
    """

    @staticmethod
    def forward(maps: Tensor, count: int) -> tuple[Tensor, ...]:
        return maps.chunk(count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        maps, _ = inputs
        ctx.shape, ctx.like = maps.shape, {"dtype": maps.dtype, "device": maps.device}
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        joined = torch.empty(ctx.shape, **ctx.like, memory_format=torch.channels_last)
        for part, grad in zip(joined.chunk(len(grads)), grads, strict=True):
            if grad is None:
                part.zero_()
            else:
                part.copy_(grad)
        return joined, None


class SkeletonEncoder(nn.Module):
    """An ST-GCN, pooling over time, joints and bodies, and a head.

    Args:
        backbone: the ST-GCN.
        embedding: outputs of the head.
        projection: two linear layers (MoCo v2, contrastive pretraining) instead of one.
        norm_head: a batch norm over the rows after the first of the two.

    Shapes: [N, C, T, V, M] -> [N, embedding].
    """

    def __init__(
        self,
        backbone: STGCN,
        embedding: int,
        *,
        projection: bool = True,
        norm_head: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.features
        self.head: nn.Module
        if projection:
            norm = [RowNorm(width)] if norm_head else []
            self.head = nn.Sequential(
                nn.Linear(width, width), *norm, nn.ReLU(), nn.Linear(width, embedding)
            )
        else:
            self.head = nn.Linear(width, embedding)

    @property
    def backend(self) -> str:
        """Backend of the backbone's blocks."""
        return self.backbone.backend

    @backend.setter
    def backend(self, name: str) -> None:
        self.backbone.backend = name

    @property
    def over_ranks(self) -> SumOverRanks | None:
        """Where set, training normalizes by the batches of all processes; setting it sets that of
        the backbone and of the head's norms.
        """
        return self.backbone.over_ranks

    @over_ranks.setter
    def over_ranks(self, ranks: SumOverRanks | None) -> None:
        self.backbone.over_ranks = ranks
        for norm in self.head.modules():
            if isinstance(norm, RowNorm):
                norm.over_ranks = ranks

    def features(self, x: Tensor, pool: str = PUBLISHED) -> Tensor:
        """Representation [N, W] before the head: the mean over bodies of a readout of the feature
        map.

        Args:
            x: sequences [N, C, T, V, M].
            pool: the readout, see `readouts`; the published mean has W = features, others have
                what `readouts.readout_width` says.

        Raises:
            ValueError: an unknown readout, or parts of a layout that has none.
        """
        return self._over_bodies(read_out(self.backbone(x), pool, self.backbone.layout), x)

    def forward(self, x: Tensor) -> Tensor:
        (pooled,) = self.pool(self.backbone(x))
        return self._embed(pooled, x)

    def forward_with_drop(
        self, x: Tensor, keep_prob: float, e_lambda: float = 1e-4, backend: str = "auto"
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of the feature map and of its dropped copy, each [N, embedding]."""
        plain, dropped = self.pool_with_drop(
            self.backbone(x), keep_prob=keep_prob, e_lambda=e_lambda, backend=backend
        )
        return self._embed(plain, x), self._embed(dropped, x)

    def pool(self, maps: Tensor) -> list[Tensor]:
        """The published readout [N*M, W] of feature maps."""
        return [read_out(maps, PUBLISHED, self.backbone.layout)]

    def project(self, rows: Tensor) -> Tensor:
        """The head's output [N, embedding] for rows [N, features]. On the CPU it stays in float32
        under autocast, too: it is too small to gain anything.
        """
        with without_autocast(rows):
            out: Tensor = self.head(rows)
        return out

    def pool_with_drop(
        self,
        maps: Tensor,
        *,
        keep_prob: float,
        e_lambda: float = 1e-4,
        backend: str = "auto",
    ) -> list[Tensor]:
        """Means of feature maps and of their dropped copies, each [N*M, W]."""
        over_ranks = self.backbone.over_ranks if self.training else None
        if over_ranks is not None:  # the rescalings are those of all batches
            backend = "reference"
        return list(eadm_pool(maps, keep_prob, e_lambda, backend, over_ranks=over_ranks))

    def pool_with_mask(self, maps: Tensor, *, mask: Tensor, backend: str = "auto") -> list[Tensor]:
        """Means of what of feature maps lies inside a mask [ceil(T/4), V], and of the rest, each
        [N*M, W].
        """
        return list(masked_pool(maps, mask, backend))

    def embed_views(self, views: Sequence[View]) -> list[Tensor]:
        """Embeddings [N, embedding] of what each view's `pool` makes of its feature maps, one after
        the other.

        Batch norm's running statistics see the views in this order, as in the authors' code. Blocks
        on the Triton backend take all views in one pass, and so does a head without a batch norm:
        the same but for dropout's draws.
        """
        if self.backend == "triton" and self.training and len({v.x.shape for v in views}) == 1:
            with section("forward, views"):
                maps = self.backbone(torch.cat([view.x for view in views]), len(views))
                parts = _Chunks.apply(maps, len(views))  # type: ignore[no-untyped-call]
                each = zip(views, parts, strict=True)
                pooled = [rows for view, own in each for rows in view.pool(own)]
                return self._embed_together(pooled, views[0].x)
        found: list[Tensor] = []
        for view in views:
            with section(f"forward, {view.name} view"):
                pooled = view.pool(self.backbone(view.x))
                found += [self._embed(rows, view.x) for rows in pooled]
        return found

    def _embed(self, pooled: Tensor, x: Tensor) -> Tensor:
        return self.project(self._over_bodies(pooled, x))

    def _embed_together(self, pooled: Sequence[Tensor], x: Tensor) -> list[Tensor]:
        """Embeddings of several poolings of maps of as many sequences as x."""
        norms = (RowNorm, nn.modules.batchnorm._BatchNorm)  # which couple the rows of a view
        if any(isinstance(module, norms) for module in self.head.modules()):
            return [self._embed(rows, x) for rows in pooled]
        rows = torch.cat(list(pooled)).unflatten(0, (-1, x.shape[4])).mean(1)
        return list(self.project(rows).chunk(len(pooled)))

    @staticmethod
    def _over_bodies(pooled: Tensor, x: Tensor) -> Tensor:
        return torch.unflatten(pooled, 0, (x.shape[0], x.shape[4])).mean(1)


_MOST_LAYERS = 8  # of a head, in a file


def head_like(weights: Mapping[str, Tensor]) -> nn.Module:
    """A head with the layers of a state dict: linear, batch norm, ReLU where there are no weights,
    and sequences of these.

    Raises:
        ValueError: the names or shapes are not those of such a head.
    """
    if "weight" in weights:
        weight = weights["weight"]
        if weight.dim() == 1:
            return RowNorm(len(weight))
        if weight.dim() == 2:
            return nn.Linear(weight.shape[1], weight.shape[0])
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        place, dot, inside = name.partition(".")
        if not dot or not place.isdecimal() or int(place) >= _MOST_LAYERS:
            raise ValueError(f"head.{name} is not of a head of linear layers and batch norms")
        layers.setdefault(int(place), {})[inside] = tensor
    return nn.Sequential(
        *(head_like(layers[i]) if i in layers else nn.ReLU() for i in range(max(layers) + 1))
    )


def initialise_small(module: nn.Module) -> None:
    """ST-GCN's initialization, for `Module.apply`: Normal(0, 0.02) convolutions, Normal(1, 0.02)
    batch norms, zero biases; linear layers stay as they are.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)

"""Readouts: how a feature map [R, H, T, V] becomes vectors [R, W].

A readout's name is one of `READOUTS`, or several with + between: their vectors side by side. Each
gives vectors of H features: one, or one for each joint, body part or segment of time. "mean" is the
published one. To add one, write its function here, decorated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast.layouts import Layout

PUBLISHED = "mean"
SEGMENTS = 4


class Readout(NamedTuple):
    """One of `READOUTS`.

    Attributes:
        read: [R, H, T, V] and the skeleton -> [R, count, H], or [R, H] for a count of one.
        count: vectors of H features that the skeleton gives.
    """

    read: Callable[[Tensor, Layout], Tensor]
    count: Callable[[Layout], int]


READOUTS: dict[str, Readout] = {}
_Read = Callable[[Tensor, Layout], Tensor]


def _readout(
    name: str, count: Callable[[Layout], int] = lambda layout: 1
) -> Callable[[_Read], _Read]:
    def register(read: _Read) -> _Read:
        READOUTS[name] = Readout(read, count)
        return read

    return register


class _Mean(torch.autograd.Function):
    """Mean over time and joints of a map that keeps its channels last in memory.

    The gradient is one value a channel, expanded: whoever takes it lays it out.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).mean((1, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        _, _, frames, joints = ctx.shape
        each: Tensor = (grad / (frames * joints))[:, :, None, None]
        return each.expand(-1, -1, frames, joints)


@_readout("mean")
def _mean(x: Tensor, layout: Layout) -> Tensor:
    """Over time and joints."""
    if not (x.is_cuda and x.requires_grad):
        return x.mean((2, 3))
    # Or the gradient would be written out, channels first, and be copied.
    if torch.compiler.is_compiling():
        return _Mean.forward(x)
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean


@_readout("max")
def _max(x: Tensor, layout: Layout) -> Tensor:
    """Over time and joints."""
    return x.amax((2, 3))


@_readout("joints", lambda layout: layout.num_joints)
def _joints(x: Tensor, layout: Layout) -> Tensor:
    """The mean over time of each joint."""
    return x.mean(2).transpose(1, 2)


@_readout("parts", lambda layout: len(layout.body_parts))
def _parts(x: Tensor, layout: Layout) -> Tensor:
    """The mean over time and the joints of each body part."""
    joints = x.mean(2)
    return torch.stack([joints[:, :, list(part)].mean(2) for part in layout.body_parts], 1)


@_readout("segments", lambda layout: SEGMENTS)
def _segments(x: Tensor, layout: Layout) -> Tensor:
    """The mean over joints of each quarter of the time, cut as `adaptive_avg_pool1d` does."""
    frames = x.shape[2]
    # By comparison: what is traced holds for any number of frames.
    frame = SEGMENTS * torch.arange(frames, device=x.device)
    segment = torch.arange(SEGMENTS, device=x.device)[:, None]
    inside = (frame + SEGMENTS > segment * frames) & (frame < (segment + 1) * frames)
    weights = inside.to(x.dtype)
    return (weights / weights.sum(1, keepdim=True)) @ x.mean(3).transpose(1, 2)


def parse_readout(spec: str) -> tuple[str, ...]:
    """The readouts that a name stands for.

    Raises:
        ValueError: one of them is unknown, or comes twice.
    """
    names = tuple(spec.split("+")) if isinstance(spec, str) else ()
    if not names or not set(names) <= READOUTS.keys() or len(set(names)) < len(names):
        raise ValueError(
            f"readout {spec!r} must be one of {', '.join(READOUTS)}, or different ones with + "
            "between, such as mean+max"
        )
    return names


def readout_width(spec: str, features: int, layout: Layout) -> int:
    """Width W of the vectors that a readout gives of an encoder with `features` channels.

    Raises:
        ValueError: an unknown readout, or parts of a layout that has none.
    """
    return features * sum(READOUTS[name].count(layout) for name in parse_readout(spec))


def read_out(x: Tensor, spec: str, layout: Layout) -> Tensor:
    """Vectors [R, W] of a feature map [R, H, T, V], each body by itself.

    Raises:
        ValueError: an unknown readout, or parts of a layout that has none.
    """
    found = [READOUTS[name].read(x, layout).flatten(1) for name in parse_readout(spec)]
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def split_readouts(vectors: Tensor, spec: str, features: int, layout: Layout) -> dict[str, Tensor]:
    """The parts of vectors [R, W] that `read_out` gave for several readouts, by their names.

    So a feature map is computed once for all of them.
    """
    names = parse_readout(spec)
    widths = [readout_width(name, features, layout) for name in names]
    return dict(zip(names, vectors.split(widths, 1), strict=True))

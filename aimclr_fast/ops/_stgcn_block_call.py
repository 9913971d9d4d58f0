"""stgcn_block: the op's tensors and settings, and what it accepts of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import FLOATS, check_dtype, check_same_device, check_shape

HALVES = (torch.float16, torch.bfloat16)


class Inputs(NamedTuple):
    """The op's tensors; x and keep are channels_last, the others contiguous.

    Attributes:
        x: [B, C_in, T, V].
        adjacency: [P, V, V].
        spatial_weight: [P * C_out, C_in, 1, 1].
        spatial_bias: [P * C_out].
        temporal_weight: [C_out, C_out, K, 1].
        temporal_bias: [C_out].
        norms: [n, 2, C_out], (weight, bias) of the spatial, temporal and residual norm; n is 3
            with a residual convolution, else 2.
        residual_weight: [C_out, C_in, 1, 1], or None.
        residual_bias: [C_out], or None.
        running: [n, 2, C_out], (mean, variance) in evaluation; None in training.
        keep: uint8 or bool [B, C_out, T_out, V], or None.
    """

    x: Tensor
    adjacency: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    temporal_weight: Tensor
    temporal_bias: Tensor
    norms: Tensor
    residual_weight: Tensor | None
    residual_bias: Tensor | None
    running: Tensor | None
    keep: Tensor | None


class Settings(NamedTuple):
    """Attributes:
    identity: add x before the last ReLU.
    scale: what `keep` is multiplied by.
    stride: of the temporal and the residual convolution in time, 1 or 2.
    eps: added to every variance.
    save: fill what the backward pass needs, in evaluation, too.
    """

    identity: bool
    scale: float
    stride: int
    eps: float
    save: bool


class Outputs(NamedTuple):
    """What a fast backend fills; maps are channels_last. All of it is kept for the gradient.

    In evaluation without `save` the last three are empty ([0]).

    Attributes:
        y: [B, C_out, T_out, V].
        statistics: [n, 2, C_out], (mean, biased variance) each norm used; float32, or float64.
        spatial: [B, C_out, T, V], what goes into the spatial norm.
        temporal: [B, C_out, T_out, V], what goes into the temporal norm.
        shortcut: [B, C_out, T_out, V], what goes into the residual norm; [0] without it.
    """

    y: Tensor
    statistics: Tensor
    spatial: Tensor
    temporal: Tensor
    shortcut: Tensor


class Gradients(NamedTuple):
    """Gradients of the inputs that have one, each as its input ([0] for an absent one).

    That of the adjacency is zero where the adjacency is. The biases of the temporal and the
    residual convolution have none in training, for batch norm subtracts them again.
    """

    x: Tensor
    adjacency: Tensor
    spatial_weight: Tensor
    spatial_bias: Tensor
    temporal_weight: Tensor
    temporal_bias: Tensor
    norms: Tensor
    residual_weight: Tensor
    residual_bias: Tensor


def output_shapes(inputs: Inputs, settings: Settings) -> dict[str, tuple[int, ...]]:
    batch, _, frames, joints = inputs.x.shape
    channels = inputs.temporal_bias.shape[0]
    map_, short_map = (
        (batch, channels, count, joints) for count in (frames, -(-frames // settings.stride))
    )
    kept = settings.save or inputs.running is None
    return {
        "y": short_map,
        "statistics": tuple(inputs.norms.shape),
        "spatial": map_ if kept else (0,),
        "temporal": short_map if kept else (0,),
        "shortcut": short_map if kept and inputs.residual_weight is not None else (0,),
    }


def statistics_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in HALVES else x.dtype


def check(inputs: Inputs, settings: Settings) -> None:
    x, adjacency = inputs.x, inputs.adjacency
    check_shape("x", x, "B", "C_in", "T", "V")
    batch, width, frames, joints = x.shape
    check_shape("adjacency", adjacency, "P", joints, joints)
    check_shape("temporal_bias", inputs.temporal_bias, "C_out")
    channels, parts = inputs.temporal_bias.shape[0], adjacency.shape[0]
    check_shape("spatial_weight", inputs.spatial_weight, parts * channels, width, 1, 1)
    check_shape("spatial_bias", inputs.spatial_bias, parts * channels)
    check_shape("temporal_weight", inputs.temporal_weight, channels, channels, "K", 1)
    if width == 0 or frames == 0 or joints == 0 or parts == 0 or channels == 0:
        raise ValueError(
            "x, adjacency and temporal_bias must have at least one channel, frame, joint and part, "
            f"got shapes {list(x.shape)}, {list(adjacency.shape)} and [{channels}]"
        )
    if inputs.temporal_weight.shape[2] % 2 == 0:
        raise ValueError(f"K must be odd, got temporal_weight {list(inputs.temporal_weight.shape)}")
    if not 0.0 < settings.eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {settings.eps}")
    if not 1.0 <= settings.scale < math.inf:
        raise ValueError(
            f"scale, one over keep_prob, must be finite and at least 1, got {settings.scale}"
        )
    if settings.stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {settings.stride}")
    shorter = -(-frames // settings.stride)
    if inputs.running is None and batch * shorter * joints == 1:
        raise ValueError(
            f"x must have several values per channel to take statistics of, got {list(x.shape)}"
        )
    count = 2
    if inputs.residual_weight is not None:
        count = 3
        check_shape("residual weight", inputs.residual_weight, channels, width, 1, 1)
        if inputs.residual_bias is None:
            raise ValueError("the residual convolution needs a bias")
        check_shape("residual bias", inputs.residual_bias, channels)
        if settings.identity:
            raise ValueError("the identity and a residual convolution exclude each other")
    elif inputs.residual_bias is not None:
        raise ValueError("the residual convolution needs a weight, and only its bias is given")
    elif settings.identity and (channels != width or settings.stride != 1):
        raise ValueError(
            f"the identity needs as many channels out as in and stride 1, got {width} in, "
            f"{channels} out and stride {settings.stride}"
        )
    check_shape("norms", inputs.norms, count, 2, channels)
    if inputs.running is not None:
        check_shape("running", inputs.running, count, 2, channels)
    given = {name: tensor for name, tensor in inputs._asdict().items() if tensor is not None}
    if inputs.keep is not None:
        check_shape("keep", inputs.keep, batch, channels, shorter, joints)
        check_dtype("keep", inputs.keep, torch.uint8, torch.bool)
    check_dtype("x", x, *FLOATS)
    for name, tensor in given.items():
        if name != "keep":
            # Parameters stay float32 where maps are half as wide.
            check_dtype(name, tensor, x.dtype, *((torch.float32,) if x.dtype in HALVES else ()))
    check_same_device(**given)


def check_saved(grad_y: Tensor, inputs: Inputs, settings: Settings, saved: Outputs) -> None:
    """What the backward pass takes besides the inputs."""
    # In evaluation the forward pass keeps its maps with `save` alone.
    shapes = output_shapes(inputs, settings._replace(save=True))
    given = {"grad_y": grad_y, **saved._asdict()}
    for name, tensor in given.items():
        check_shape(name, tensor, *shapes["y" if name == "grad_y" else name])
        wide = name == "statistics"
        check_dtype(name, tensor, statistics_dtype(inputs.x) if wide else inputs.x.dtype)
    check_same_device(x=inputs.x, **given)

"""Skeleton augmentation (AimCLR, section 3.2): the chain, its parameters and their draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum

import torch
from torch import Tensor

from . import philox

STREAMS = ("joint", "motion", "bone")
MOST_BLUR_TAPS = 9999  # any more is a mistake that costs minutes


class View(IntEnum):
    """The views of a sample; part of the random counter."""

    EXTREME = 0
    QUERY = 1
    KEY = 2
    STRONG = 3  # another extreme view


VIEWS = tuple(view.name.lower() for view in View)


class Draw(IntEnum):
    """What a random number is for; part of the random counter."""

    CROP = 0
    SHEAR = 1
    SPATIAL_FLIP = 2
    ROTATION = 3
    NOISE_GATE = 4
    NOISE = 5
    BLUR = 6
    AXIS_MASK = 7
    TEMPORAL_FLIP = 8
    TURN = 9


@dataclass(frozen=True)
class AugmentConfig:
    """Amplitudes and probabilities of the augmentations; the defaults are the published recipe.

    Attributes:
        crop_ratio: T // crop_ratio mirrored frames are padded on each side before cropping.
        shear_amplitude: off-diagonal shear entries are U(-a, a).
        spatial_flip_prob: probability of swapping left and right joints.
        rotation_main_deg: the main axis turns by U(0, main) degrees.
        rotation_minor_deg: the two other axes turn by U(0, minor) degrees.
        noise_prob: probability of additive Gaussian noise.
        noise_std: standard deviation of the noise, in meters.
        blur_prob: probability of the Gaussian blur over time.
        blur_taps: length of the blur kernel, odd, below 10,000.
        blur_sigma_min: lower end of the blur's sigma, in frames.
        blur_sigma_max: upper end of the blur's sigma, in frames.
        blur_normalize: divide the blur's weights by their sum (the authors do not).
        axis_mask_prob: probability of zeroing one coordinate.
        temporal_flip_prob: probability of reversing time (0 in the published recipe).
        turn_deg: every view is turned about the vertical (y) axis by U(-turn, turn) degrees before
            its shear, at most 180; for recordings whose cameras nobody aligned. 0 is off, as in the
            published recipe.
    """

    crop_ratio: int = 6
    shear_amplitude: float = 0.5
    spatial_flip_prob: float = 0.5
    rotation_main_deg: float = 30.0
    rotation_minor_deg: float = 1.0
    noise_prob: float = 0.5
    noise_std: float = 0.01
    blur_prob: float = 0.5
    blur_taps: int = 15
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0
    blur_normalize: bool = False
    axis_mask_prob: float = 0.5
    temporal_flip_prob: float = 0.0
    turn_deg: float = field(default=0.0, metadata={"added": True})  # 0.1.0 did not have it

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_prob") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{one.name} must lie in [0, 1], got {value}")
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{one.name} must be finite and not negative, got {value}")
        if self.turn_deg > 180:
            raise ValueError(f"turn_deg must lie in 0..180, got {self.turn_deg}")
        if not 1 <= self.crop_ratio < 2**31:
            raise ValueError(f"crop_ratio must lie in 1..2^31-1, got {self.crop_ratio}")
        if self.blur_taps % 2 == 0 or self.blur_taps > MOST_BLUR_TAPS:
            raise ValueError(
                f"blur_taps must be odd and at most {MOST_BLUR_TAPS}, got {self.blur_taps}"
            )
        if not 0 < self.blur_sigma_min <= self.blur_sigma_max:
            raise ValueError(
                "blur_sigma_min must be positive and at most blur_sigma_max, got "
                f"{self.blur_sigma_min} and {self.blur_sigma_max}"
            )


@dataclass(frozen=True)
class AugmentParams:
    """One drawn value per sample for each augmentation; a field left None is off.

    Attributes:
        crop_start: [N] integers in 0..2P, P = T // crop_ratio; P leaves the sequence as it is.
        shear: [N, 3, 3], applied as x -> shear @ x; drawn as the shear after the turn.
        spatial_flip: [N] bool, swap left and right joints.
        rotation_angles: [N, 3] radians about x, then y, then z.
        noise_std: [N] meters; scales the standard normal draws, 0 is off.
        blur_sigma: [N] frames, 0 is off.
        axis_mask: [N] integers, the coordinate to zero, -1 is off.
        temporal_flip: [N] bool, reverse time.
    """

    crop_start: Tensor | None = None
    shear: Tensor | None = None
    spatial_flip: Tensor | None = None
    rotation_angles: Tensor | None = None
    noise_std: Tensor | None = None
    blur_sigma: Tensor | None = None
    axis_mask: Tensor | None = None
    temporal_flip: Tensor | None = None


def counters(step: int | Tensor, positions: Tensor, view: View, draw: Draw, blocks: int) -> Tensor:
    """Philox counters [N, blocks, 4] of one draw: (block, step, position, view and draw).

    A sample's numbers depend only on its position in the global batch, so neither the split of the
    batch over devices nor the order of the work can change them.
    """
    counter = positions.new_zeros((positions.numel(), blocks, 4), dtype=torch.int64)
    counter[..., 0] = torch.arange(blocks, device=positions.device)
    counter[..., 1] = step
    counter[..., 2] = positions[:, None]
    counter[..., 3] = view * 256 + draw
    return counter


def draw_params(
    config: AugmentConfig,
    view: View,
    *,
    frames: int,
    seed: int,
    step: int | Tensor,
    positions: Tensor,
) -> AugmentParams:
    """Draw the parameters of one view for the samples at `positions` [N] of the global batch.

    Query and key views get the crop, the turn and the shear, extreme and strong views everything
    (section 3.2).
    """
    key = philox.split_seed(seed)

    def words(draw: Draw, blocks: int = 1) -> Tensor:
        return philox.philox4x32(counters(step, positions, view, draw, blocks), key).flatten(1)

    def gate(word: Tensor, probability: float) -> Tensor:
        return philox.uniform(word) < torch.tensor(probability, dtype=torch.float32)

    padding = frames // config.crop_ratio
    crop_start = philox.bounded(words(Draw.CROP)[:, 0], 2 * padding + 1)

    amplitude = config.shear_amplitude
    off_diagonal = (2.0 * philox.uniform(words(Draw.SHEAR, 2)[:, :6]) - 1.0) * amplitude
    shear = torch.eye(3, dtype=torch.float32, device=positions.device).repeat(
        positions.numel(), 1, 1
    )
    shear[:, [0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = off_diagonal
    if config.turn_deg > 0:
        angles = torch.zeros_like(shear[:, 0])
        turn = (2.0 * philox.uniform(words(Draw.TURN)[:, 0]) - 1.0) * config.turn_deg
        angles[:, 1] = turn * (math.pi / 180.0)
        shear = shear @ rotation_matrix(angles)
    if view not in (View.EXTREME, View.STRONG):
        return AugmentParams(crop_start=crop_start, shear=shear)

    rotation = words(Draw.ROTATION)
    is_main = philox.bounded(rotation[:, :1], 3) == torch.arange(3, device=positions.device)
    limits = torch.where(is_main, config.rotation_main_deg, config.rotation_minor_deg).float()
    blur = words(Draw.BLUR)
    # In double the product of two float32 numbers is exact, whether fused with the sum or not.
    low = torch.tensor(config.blur_sigma_min, dtype=torch.float32)
    span = torch.tensor(config.blur_sigma_max - config.blur_sigma_min, dtype=torch.float32)
    blur_sigma = (span.double() * philox.uniform(blur[:, 1]).double() + low.double()).float()
    mask = words(Draw.AXIS_MASK)
    noise_gate = gate(words(Draw.NOISE_GATE)[:, 0], config.noise_prob)
    return AugmentParams(
        crop_start=crop_start,
        shear=shear,
        spatial_flip=gate(words(Draw.SPATIAL_FLIP)[:, 0], config.spatial_flip_prob),
        rotation_angles=philox.uniform(rotation[:, 1:]) * limits * (math.pi / 180.0),
        noise_std=torch.where(noise_gate, config.noise_std, 0.0).float(),
        blur_sigma=torch.where(gate(blur[:, 0], config.blur_prob), blur_sigma, 0.0),
        axis_mask=torch.where(
            gate(mask[:, 0], config.axis_mask_prob), philox.bounded(mask[:, 1], 3), -1
        ),
        temporal_flip=gate(words(Draw.TEMPORAL_FLIP)[:, 0], config.temporal_flip_prob),
    )


def draw_noise(
    shape: tuple[int, ...], view: View, *, seed: int, step: int | Tensor, positions: Tensor
) -> Tensor:
    """Standard normal draws [N, *shape]; element e comes from block e // 4, word e % 4."""
    elements = math.prod(shape)
    block_counters = counters(step, positions, view, Draw.NOISE, -(-elements // 4))
    values = philox.normal(philox.philox4x32(block_counters, philox.split_seed(seed)))
    return values.flatten(1)[:, :elements].reshape(positions.numel(), *shape)


def crop_frames(crop_start: Tensor, frames: int, crop_ratio: int) -> Tensor:
    """Source frame [N, T] of each cropped frame; P mirrored frames stand at each end."""
    padding = frames // crop_ratio
    padded = crop_start[:, None] + torch.arange(frames, device=crop_start.device) - padding
    mirrored = torch.where(padded < 0, -1 - padded, padded)
    return torch.where(mirrored >= frames, 2 * frames - 1 - mirrored, mirrored)


def rotation_matrix(angles: Tensor) -> Tensor:
    """Rotations [N, 3, 3] about x, then y, then z by `angles` [N, 3] in radians."""
    cos, sin = angles.cos(), angles.sin()
    matrices = torch.eye(3, dtype=angles.dtype, device=angles.device).repeat(3, len(angles), 1, 1)
    # Row, column of +sin in Rx, Ry and Rz; -sin is at the transposed position.
    for axis, (row, column) in enumerate([(1, 2), (2, 0), (0, 1)]):
        for diagonal in (row, column):
            matrices[axis, :, diagonal, diagonal] = cos[:, axis]
        matrices[axis, :, row, column] = sin[:, axis]
        matrices[axis, :, column, row] = -sin[:, axis]
    return matrices[2] @ matrices[1] @ matrices[0]


def multiply(matrices: Tensor, x: Tensor) -> Tensor:
    """Matrices [N, 3, 3] times the coordinates of x [N, 3, T, V, M]."""
    return (matrices @ x.flatten(2)).reshape(x.shape)


def blur_time(x: Tensor, sigma: Tensor, taps: int, normalize: bool) -> Tensor:
    """Gaussian blur over time with zero padding; rows with sigma 0 are left as they are."""
    frames, radius = x.shape[2], taps // 2
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    width = torch.where(sigma > 0, sigma, torch.ones_like(sigma)).to(x.dtype)
    weights = torch.exp(-offsets.square() / (2.0 * width.square())[:, None])
    if normalize:
        weights = weights / weights.sum(1, keepdim=True)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, radius, radius))
    blurred = torch.zeros_like(x)
    for tap in range(taps):
        blurred += weights[:, tap, None, None, None, None] * padded[:, :, tap : tap + frames]
    return torch.where((sigma > 0)[:, None, None, None, None], blurred, x)


def to_stream(x: Tensor, stream: str, parents: Tensor) -> Tensor:
    """Turn positions [N, C, T, V, M] into a stream.

    joint: as they are. motion: x[t+1] - x[t], last frame 0. bone: x[v] - x[parent(v)], the center
    joint (its own parent) 0.
    """
    if stream == "joint":
        return x
    if stream == "bone":
        return x - x[:, :, :, parents]
    if stream == "motion":
        return torch.cat([x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], dim=2)
    raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")


def augment_positions(
    x: Tensor,
    params: AugmentParams,
    *,
    swap: Tensor,
    noise: Tensor | None = None,
    crop_ratio: int = 6,
    blur_taps: int = 15,
    blur_normalize: bool = False,
) -> Tensor:
    """Apply given parameters to positions [N, 3, T, V, M], in the chain's order; see AugmentParams.

    `swap` [V] is the left-right permutation of the joints. `noise` [N, 3, T, V, M] is added as it
    is.
    """
    frames = x.shape[2]
    if params.crop_start is not None:
        source = crop_frames(params.crop_start.long(), frames, crop_ratio)
        x = torch.gather(x, 2, source[:, None, :, None, None].expand_as(x))
    if params.shear is not None:
        x = multiply(params.shear.to(x.dtype), x)
    if params.spatial_flip is not None:
        x = torch.where(params.spatial_flip[:, None, None, None, None], x[:, :, :, swap], x)
    if params.rotation_angles is not None:
        x = multiply(rotation_matrix(params.rotation_angles.to(x.dtype)), x)
    if noise is not None:
        x = x + noise
    if params.blur_sigma is not None:
        x = blur_time(x, params.blur_sigma, blur_taps, blur_normalize)
    if params.axis_mask is not None:
        axes = torch.arange(x.shape[1], device=x.device)
        kept = params.axis_mask[:, None] != axes
        x = torch.where(kept[:, :, None, None, None], x, torch.zeros_like(x))
    if params.temporal_flip is not None:
        x = torch.where(params.temporal_flip[:, None, None, None, None], x.flip(2), x)
    return x


def apply_augment(
    x: Tensor,
    params: AugmentParams,
    *,
    swap: Tensor,
    parents: Tensor,
    stream: str = "joint",
    noise: Tensor | None = None,
    crop_ratio: int = 6,
    blur_taps: int = 15,
    blur_normalize: bool = False,
) -> Tensor:
    """As `augment_positions`, then turned into a stream.

    `parents` [V] is each joint's neighbor towards the center.
    """
    x = augment_positions(
        x,
        params,
        swap=swap,
        noise=noise,
        crop_ratio=crop_ratio,
        blur_taps=blur_taps,
        blur_normalize=blur_normalize,
    )
    return to_stream(x, stream, parents)


def skeleton_augment_streams(
    data: Tensor,
    index: Tensor,
    *,
    swap: Tensor,
    parents: Tensor,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int = 0,
    streams: Sequence[str] = STREAMS,
    views: Sequence[str] = VIEWS[:3],
    scale: float = 1.0,
) -> list[tuple[Tensor, ...]]:
    """For each stream, the views of the sequences `data[index]`, in the order of `views`.

    Views are [N, 3, T, V, M] float32 on the index's device. `offset` is the position of `index[0]`
    in the global batch; `scale` turns stored units to meters.
    """
    x = data[index.to(data.device)].to(index.device, torch.float32) * scale
    positions = offset + torch.arange(len(index), device=x.device)
    made = []
    for name in views:
        view = View[name.upper()]
        params = draw_params(
            config, view, frames=x.shape[2], seed=seed, step=step, positions=positions
        )
        noise = None
        if params.noise_std is not None and config.noise_prob > 0 and config.noise_std > 0:
            noise = draw_noise(tuple(x.shape[1:]), view, seed=seed, step=step, positions=positions)
            noise = noise * params.noise_std[:, None, None, None, None]
        made.append(
            augment_positions(
                x,
                params,
                swap=swap,
                noise=noise,
                crop_ratio=config.crop_ratio,
                blur_taps=config.blur_taps,
                blur_normalize=config.blur_normalize,
            )
        )
    return [tuple(to_stream(view, stream, parents) for view in made) for stream in streams]

"""Augmentation as data loaders do it: NumPy, one sample after the other, in worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler

from aimclr_fast.functional import AugmentConfig
from aimclr_fast.layouts import Layout

Array = npt.NDArray[np.float32]


def temporal_crop(x: Array, start: int, ratio: int) -> Array:
    """Pad [C, T, V, M] with T // ratio mirrored frames at both ends; T frames from `start`."""
    frames = x.shape[1]
    padding = frames // ratio
    padded = np.concatenate([x[:, :padding][:, ::-1], x, x[:, frames - padding :][:, ::-1]], axis=1)
    return padded[:, start : start + frames]


def transform(x: Array, matrix: npt.NDArray[np.floating]) -> Array:
    """Multiply the coordinates; np.dot contracts the last axis, so that is where they go."""
    points = x.transpose(1, 2, 3, 0)
    return np.dot(points, matrix.T.astype(np.float32)).transpose(3, 0, 1, 2)


def rotate(x: Array, angles: npt.NDArray[np.floating]) -> Array:
    """Turn about x, then y, then z by `angles` in radians."""
    cos, sin = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cos[0], sin[0]], [0, -sin[0], cos[0]]])
    about_y = np.array([[cos[1], 0, -sin[1]], [0, 1, 0], [sin[1], 0, cos[1]]])
    about_z = np.array([[cos[2], sin[2], 0], [-sin[2], cos[2], 0], [0, 0, 1]])
    for matrix in (about_x, about_y, about_z):
        x = transform(x, matrix)
    return x


def blur(x: Array, sigma: float, taps: int, normalize: bool) -> Array:
    """Gaussian blur over time, zeros outside: torch's convolution, a channel per coordinate."""
    coordinates, frames, joints, bodies = x.shape
    offsets = np.arange(-(taps // 2), taps // 2 + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    if normalize:
        weights /= weights.sum()
    kernel = torch.from_numpy(weights.astype(np.float32)).repeat(coordinates, 1, 1, 1)
    # [C, T, V, M] -> [1, C, V*M, T]
    rows = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    rows = rows.view(1, coordinates, joints * bodies, frames)
    blurred = F.conv2d(rows, kernel, padding=(0, taps // 2), groups=coordinates)
    blurred = blurred.view(coordinates, joints, bodies, frames)
    return blurred.numpy().transpose(0, 3, 1, 2)


def mask_axis(x: Array, axis: int) -> Array:
    x = x.copy()
    x[axis] = 0.0
    return x


def to_stream(x: Array, stream: str, parents: list[int]) -> Array:
    if stream == "motion":
        motion = np.zeros_like(x)
        motion[:, :-1] = x[:, 1:] - x[:, :-1]
        return motion
    if stream == "bone":
        bone = np.zeros_like(x)
        for joint, parent in enumerate(parents):
            bone[:, :, joint] = x[:, :, joint] - x[:, :, parent]
        return bone
    return x


class Normal:
    """Crop and shear of one sample [3, T, V, M]: the query and the key view."""

    def __init__(self, config: AugmentConfig, random: np.random.Generator) -> None:
        self.config = config
        self.random = random

    def draw_shear(self) -> npt.NDArray[np.floating]:
        amplitude = self.config.shear_amplitude
        matrix = self.random.uniform(-amplitude, amplitude, (3, 3))
        np.fill_diagonal(matrix, 1.0)
        return matrix

    def __call__(self, x: Array) -> Array:
        padding = x.shape[1] // self.config.crop_ratio
        start = int(self.random.integers(2 * padding + 1))
        x = temporal_crop(x, start, self.config.crop_ratio)
        return transform(x, self.draw_shear())


class Strong(Normal):
    """All augmentations of one sample [3, T, V, M]: the extreme view."""

    def __init__(self, config: AugmentConfig, random: np.random.Generator, layout: Layout) -> None:
        super().__init__(config, random)
        self.swap = list(layout.swap)

    def draw_angles(self) -> npt.NDArray[np.floating]:
        limits = np.full(3, self.config.rotation_minor_deg)
        limits[self.random.integers(3)] = self.config.rotation_main_deg
        return np.radians(self.random.uniform(0.0, limits))

    def gate(self, probability: float) -> bool:
        return self.random.random() < probability

    def __call__(self, x: Array) -> Array:
        config, random = self.config, self.random
        x = super().__call__(x)
        if self.gate(config.spatial_flip_prob):
            x = x[:, :, self.swap]
        x = rotate(x, self.draw_angles())
        if self.gate(config.noise_prob):
            x = x + random.normal(0.0, config.noise_std, x.shape).astype(np.float32)
        if self.gate(config.blur_prob):
            sigma = random.uniform(config.blur_sigma_min, config.blur_sigma_max)
            x = blur(x, sigma, config.blur_taps, config.blur_normalize)
        if self.gate(config.axis_mask_prob):
            x = mask_axis(x, int(random.integers(3)))
        if self.gate(config.temporal_flip_prob):
            x = x[:, ::-1]
        return x


class AugmentedViews(Dataset[tuple[Array, Array, Array]]):
    """The extreme, query and key view of each sequence of `data` [S, 3, T, V, M]."""

    def __init__(
        self,
        data: Array,
        layout: Layout,
        config: AugmentConfig | None = None,
        stream: str = "joint",
    ) -> None:
        config = config or AugmentConfig()
        random = np.random.default_rng(0)
        self.data = data
        self.stream = stream
        self.parents = list(layout.parents)
        self.normal = Normal(config, random)
        self.strong = Strong(config, random, layout)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Array, Array, Array]:
        x = self.data[index]
        views = (self.strong(x), self.normal(x), self.normal(x))
        extreme, query, key = (
            np.ascontiguousarray(to_stream(view, self.stream, self.parents)) for view in views
        )
        return extreme, query, key


def batches(
    dataset: AugmentedViews, batch_size: int, workers: int, per_epoch: int | None = None
) -> Iterator[list[Tensor]]:
    """Random batches [extreme, query, key] without end, augmented by worker processes.

    Workers augment ahead within an epoch, of `per_epoch` batches or the whole data set, and rest
    after its last batch until the next one is asked for.
    """
    if per_epoch is None:
        sampler = RandomSampler(dataset)
    else:
        sampler = RandomSampler(dataset, replacement=True, num_samples=per_epoch * batch_size)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_seed_worker,
    )
    while True:
        yield from loader


def _seed_worker(worker: int) -> None:
    info = torch.utils.data.get_worker_info()
    assert info is not None
    # One generator a worker: copies of one would draw the same numbers.
    info.dataset.normal.random = info.dataset.strong.random = np.random.default_rng(info.seed)  # type: ignore[attr-defined]


def batch_of(dataset: AugmentedViews, index: npt.NDArray[np.integer]) -> list[Tensor]:
    """One batch [extreme, query, key] in this process, as a worker makes it."""
    samples = [dataset[int(i)] for i in index]
    return [torch.from_numpy(np.stack(view)) for view in zip(*samples, strict=True)]

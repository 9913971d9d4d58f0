"""skeleton_augment and apply_augment: checks and backends."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, AugmentConfig, AugmentParams

from ._checks import FLOATS, check_dtype, check_range, check_same_device, check_shape
from ._dispatch import REFERENCE, Backend, always, choose

CROP_RATIO = 6
MILLIMETRE = 0.001  # integer data sets are stored in millimetres
PARAM_SHAPES: dict[str, tuple[int, ...]] = {"shear": (3, 3), "rotation_angles": (3,)}
INTEGERS = (torch.int64, torch.int32)
PARAM_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "crop_start": INTEGERS,
    "axis_mask": INTEGERS,
    "spatial_flip": (torch.bool,),
    "temporal_flip": (torch.bool,),
}

APPLY_BACKENDS = (Backend(REFERENCE, reference.apply_augment, always),)
BACKENDS = (Backend(REFERENCE, reference.skeleton_augment, always),)


@lru_cache(maxsize=32)
def _joint_tables(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(layout.swap, device=device),
        torch.tensor(layout.parents, device=device),
    )


def _check_stream(stream: str) -> None:
    if stream not in STREAMS:
        raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")


def _check_joints(name: str, tensor: Tensor, layout: Layout) -> None:
    check_shape(name, tensor, "N", 3, "T", "V", "M")
    if tensor.shape[3] != layout.num_joints:
        raise ValueError(
            f"{name} has {tensor.shape[3]} joints (axis 3), but layout {layout.name!r} has "
            f"{layout.num_joints}"
        )
    if tensor.shape[2] == 0:
        raise ValueError(f"{name} has no frames (axis 2)")


def apply_augment(
    x: Tensor,
    params: AugmentParams,
    *,
    layout: str | Layout,
    stream: str,
    noise: Tensor | None,
    blur_normalize: bool,
    backend: str = "auto",
) -> Tensor:
    layout = get_layout(layout)
    _check_joints("x", x, layout)
    check_dtype("x", x, *FLOATS)
    _check_stream(stream)
    for name, value in vars(params).items():
        if value is not None:
            check_shape(f"params.{name}", value, len(x), *PARAM_SHAPES.get(name, ()))
            check_dtype(f"params.{name}", value, *PARAM_DTYPES.get(name, FLOATS))
            check_same_device(**{"x": x, f"params.{name}": value})
    if params.crop_start is not None:
        check_range("params.crop_start", params.crop_start, 0, 2 * (x.shape[2] // CROP_RATIO))
    if params.axis_mask is not None:
        check_range("params.axis_mask", params.axis_mask, -1, 2)
    if noise is not None:
        check_shape("noise", noise, *x.shape)
        check_same_device(x=x, noise=noise)
        noise = noise.to(x.dtype)
    elif params.noise_std is not None:
        noise = torch.randn_like(x) * params.noise_std.to(x.dtype)[:, None, None, None, None]
    swap, parents = _joint_tables(layout, x.device)
    augmented: Tensor = choose("apply_augment", APPLY_BACKENDS, backend, x)(
        x,
        params,
        swap=swap,
        parents=parents,
        stream=stream,
        noise=noise,
        blur_normalize=blur_normalize,
    )
    return augmented


def skeleton_augment(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int,
    offset: int,
    stream: str,
    dtype: torch.dtype | None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    layout = get_layout(layout)
    _check_joints("data", data, layout)
    check_dtype("data", data, *FLOATS, torch.int16)
    check_shape("index", index, "N")
    check_dtype("index", index, torch.int64, torch.int32)
    check_same_device(data=data, index=index)
    check_range("index", index, 0, len(data) - 1)
    _check_stream(stream)
    if not 0 <= step < 2**32:
        raise ValueError(f"step must lie in 0..2^32-1, got {step}")
    if not 0 <= offset <= 2**32 - len(index):
        raise ValueError(f"offset must lie in 0..2^32-N, got {offset}")
    swap, parents = _joint_tables(layout, data.device)
    views: tuple[Tensor, Tensor, Tensor] = choose("skeleton_augment", BACKENDS, backend, data)(
        data,
        index,
        swap=swap,
        parents=parents,
        config=config,
        seed=seed,
        step=step,
        offset=offset,
        stream=stream,
        scale=1.0 if data.dtype.is_floating_point else MILLIMETRE,
    )
    wanted = dtype or torch.float32
    extreme, query, key = (view.to(wanted) for view in views)
    return extreme, query, key

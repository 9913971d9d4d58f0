"""skeleton_augment: views of sequences, drawn and written in one pass over a resident data set."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import philox
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, VIEWS, AugmentConfig

from ._augment import (
    DTYPES,
    address,
    check_chain,
    check_draws,
    check_joints,
    check_names,
    check_sequences,
    check_streams,
    check_tables,
    joint_table,
    native_chain,
    why_too_large,
)
from ._checks import (
    FLOATS,
    MOST_ELEMENTS,
    check_dense,
    check_dtype,
    check_integer,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend
from ._native import cpp_why_not, cuda_why_not, current_stream
from ._op import Op

MILLIMETER = 0.001  # integer data sets are stored in millimeters
THREE_VIEWS = VIEWS[:3]  # AimCLR's
# What the kernels write; other dtypes are converted from float32.
WRITTEN = (torch.float32, torch.float16, torch.bfloat16)
# What the parameters are drawn from, as one list of the schema.
_AMPLITUDES = tuple(field.name for field in fields(AugmentConfig) if field.type == "float")


class Views(NamedTuple):
    """The usual three views of a batch, each [N, 3, T, V, M].

    Attributes:
        extreme: all augmentations.
        query: cropped, turned (where `AugmentConfig.turn_deg` says so) and sheared.
        key: as query, with draws of its own.
    """

    extreme: Tensor
    query: Tensor
    key: Tensor


class SomeViews:
    """Views that were asked for by name: attributes, and items in the order asked for.

    A view that was not asked for is no attribute.

    Attributes:
        extreme: as in `Views`, like the next two.
        query: see there.
        key: see there.
        strong: all augmentations, with draws of its own.
    """

    extreme: Tensor
    query: Tensor
    key: Tensor
    strong: Tensor

    def __init__(self, views: Sequence[Tensor], names: Sequence[str]) -> None:
        for name, view in zip(names, views, strict=True):
            setattr(self, name, view)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(vars(self).values())

    def __len__(self) -> int:
        return len(vars(self))

    def __getitem__(self, index: int) -> Tensor:
        return list(self)[index]


def named_views(views: Sequence[Tensor], names: Sequence[str]) -> Views | SomeViews:
    """The views by their names."""
    return Views(*views) if tuple(names) == THREE_VIEWS else SomeViews(views, names)


def scale_of(data: Tensor) -> float:
    """What turns stored units to meters."""
    return 1.0 if data.dtype.is_floating_point else MILLIMETER


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `skeleton_augment`.

    Attributes:
        data: [S, 3, T, V, M].
        index: [N], on whose device the views are made.
        swap: [V], each joint's mirror image.
        parents: [V], each joint's neighbor towards the center.
        streams: indices into STREAMS.
        views: indices into VIEWS.
        dtype: of the views, one of WRITTEN.
        key: low and high word of the seed.
        step: of the draws.
        step_tensor: int64 of no dimensions, instead of `step`.
        offset: position of index[0] in the global batch.
        crop_ratio: as in AugmentConfig, like the next two.
        blur_taps: see there.
        blur_normalize: see there.
        amplitudes: AugmentConfig's other fields, in its order.
        backend: name of a compiled backend.
    """

    data: Tensor
    index: Tensor  # type: ignore[assignment]  # not the tuple's method
    swap: Sequence[int]
    parents: Sequence[int]
    streams: Sequence[int]
    views: Sequence[int]
    dtype: torch.dtype
    key: Sequence[int]
    step: int
    step_tensor: Tensor | None
    offset: int
    crop_ratio: int
    blur_taps: int
    blur_normalize: bool
    amplitudes: Sequence[float]
    backend: str


@functools.lru_cache(maxsize=32)
def _check_amplitudes(amplitudes: tuple[float, ...]) -> None:
    """What an AugmentConfig promises: for the op, which gets none."""
    if len(amplitudes) != len(_AMPLITUDES):
        raise ValueError(f"amplitudes must be {', '.join(_AMPLITUDES)}, got {list(amplitudes)}")
    given: dict[str, Any] = dict(zip(_AMPLITUDES, amplitudes, strict=True))
    AugmentConfig(**given)


def _check(call: Call) -> None:
    data, index = call.data, call.index
    check_sequences("data", data, call.swap, call.parents)
    check_dtype("data", data, *FLOATS, torch.int16)
    check_shape("index", index, "N")
    check_dtype("index", index, torch.int64, torch.int32)
    if not (data.is_cpu and index.is_cuda):  # a fake tensor does not know whether it is pinned
        check_same_device(data=data, index=index)
    check_draws(call.streams, call.key, call.step, call.step_tensor)
    if call.step_tensor is not None:
        check_same_device(index=index, step=call.step_tensor)
    views = list(call.views)
    if not views or len(set(views)) < len(views) or not set(views) <= {*range(len(VIEWS))}:
        raise ValueError(f"views must be different ones of 0 to {len(VIEWS) - 1}, got {views}")
    if call.dtype not in WRITTEN:
        raise TypeError(f"dtype must be float32, float16 or bfloat16, got {call.dtype}")
    if not 0 <= call.offset <= 2**32 - index.shape[0]:
        raise ValueError(f"offset must lie in 0..2^32-N, got {call.offset}")
    check_chain(call.crop_ratio, call.blur_taps)
    count = index.shape[0] * math.prod(data.shape[1:])
    if isinstance(count, int) and count >= MOST_ELEMENTS:
        raise ValueError(f"index must make views of fewer than 2^44 elements, got {index.shape[0]}")


def _why_not(data: Tensor, crop_ratio: int, blur_taps: int) -> str | None:
    if data.requires_grad and torch.is_grad_enabled():
        return "it has no gradient for the data"
    return why_too_large(data, crop_ratio, blur_taps)


def _check_values(call: Call) -> None:
    check_range("index", call.index, 0, call.data.shape[0] - 1)
    if call.step_tensor is not None:
        check_range("step", call.step_tensor, 0, 2**32 - 1)


def _prepare(call: Call) -> list[Tensor]:
    data, index = call.data, call.index
    _check(call)
    check_tables(tuple(call.swap), tuple(call.parents))
    _check_amplitudes(tuple(call.amplitudes))
    reason = _why_not(data, call.crop_ratio, call.blur_taps)
    _OP.check_backend(call.backend, index, reason)
    shape = (index.shape[0], *data.shape[1:])
    return [
        data.new_empty(shape, dtype=call.dtype, device=index.device)
        for _ in range(len(call.views) * len(call.streams))
    ]


def _compute(call: Call, views: list[Tensor]) -> None:
    data, index = call.data, call.index
    if data.is_cpu and index.is_cuda and not data.is_pinned():
        check_same_device(data=data, index=index)
    _check_values(call)
    if views[0].numel() == 0:
        return
    if data.is_contiguous():
        index = index.contiguous()
    else:  # only the batch is copied, not the data set
        chosen = index.to(data.device)
        check_range("index", chosen, 0, data.shape[0] - 1)
        data = data[chosen].contiguous().to(index.device)
        index = torch.arange(index.shape[0], device=index.device)
    _OP.forward(call._replace(data=data, index=index), views)


# --- Backends ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _native_settings(amplitudes: tuple[float, ...]) -> dict[str, float]:
    """Members of struct Settings (csrc/common/skeleton_augment.h)."""
    settings = dict(zip(_AMPLITUDES, amplitudes, strict=True))
    settings["blur_sigma_range"] = settings.pop("blur_sigma_max") - settings["blur_sigma_min"]
    return settings


def _native_outputs(call: Call, made: list[Tensor]) -> dict[str, Any]:
    """Members of struct Outputs, which has room for three streams of all views."""
    view = [[0] * len(VIEWS) for _ in STREAMS]
    for i, tensor in enumerate(made):
        view[i // len(call.views)][call.views[i % len(call.views)]] = tensor.data_ptr()
    streams = list(call.streams)
    return {"streams": len(streams), "stream": [*streams, *[0] * (3 - len(streams))], "view": view}


def _compiled(call: Call, views: list[Tensor]) -> None:
    data, index = call.data, call.index
    chain, _ = native_chain(
        (data.shape[2], data.shape[3], data.shape[4]),
        tuple(call.swap),
        tuple(call.parents),
        call.crop_ratio,
        call.blur_taps,
        call.blur_normalize,
        index.device,
    )
    key0, key1 = call.key
    members = {
        "data": data.data_ptr(),
        "data_type": DTYPES[data.dtype],
        "scale": scale_of(data),
        "sequences": data.shape[0],
        "index": index.data_ptr(),
        "index_bytes": index.element_size(),
        "samples": index.shape[0],
        "outputs": _native_outputs(call, views),
        "out_type": DTYPES[call.dtype],
        "chain": chain,
        "settings": _native_settings(tuple(call.amplitudes)),
        "source": {"key0": key0, "key1": key1, "step": call.step, "position": call.offset},
        "step_tensor": address(call.step_tensor),
    }
    library = native.load()
    if index.is_cpu:
        library.skeleton_augment_cpu(**members, threads=torch.get_num_threads())
        return
    with torch.cuda.device(index.device):
        size = library.skeleton_augment_workspace_cuda(**chain, samples=index.shape[0])
        workspace = torch.empty(size, dtype=torch.uint8, device=index.device)
        library.skeleton_augment_cuda(
            **members,
            data_on_host=data.is_cpu,
            workspace=workspace.data_ptr(),
            workspace_bytes=size,
            cuda_stream=current_stream(index),
        )


def _config(call: Call) -> AugmentConfig:
    given: dict[str, Any] = dict(zip(_AMPLITUDES, call.amplitudes, strict=True))
    return AugmentConfig(
        crop_ratio=call.crop_ratio,
        blur_taps=call.blur_taps,
        blur_normalize=call.blur_normalize,
        **given,
    )


def _reference(call: Call) -> list[Tensor]:
    _check(call)
    _check_values(call)
    device = call.index.device
    found = reference.skeleton_augment_streams(
        call.data,
        call.index,
        swap=joint_table(call.swap, device),
        parents=joint_table(call.parents, device),
        config=_config(call),
        seed=call.key[0] | call.key[1] << 32,
        step=call.step if call.step_tensor is None else call.step_tensor,
        offset=call.offset,
        streams=[STREAMS[stream] for stream in call.streams],
        views=[VIEWS[view] for view in call.views],
        scale=scale_of(call.data),
    )
    return [view for views in found for view in views]


BACKENDS = [
    Backend("cuda", None, cuda_why_not, _compiled),
    Backend("cpp", None, cpp_why_not, _compiled),
    Backend(REFERENCE, _reference),
]
_OP = Op("skeleton_augment", BACKENDS)
_OP.define(Call, list[Tensor], _prepare, _compute)


# --- The functions -------------------------------------------------------------------------------


def skeleton_augment(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int = 0,
    stream: str = "joint",
    views: Sequence[str] = THREE_VIEWS,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Views | SomeViews:
    """Draw views of each sequence in a batch, by default AimCLR's three (section 3.2).

    All draws come from Philox4x32-10 keyed by `seed` and counted by (step, position in the global
    batch, view, augmentation): they do not depend on the backend, the device, the number of
    processes or how the batch is split.

    Args:
        data: resident data set [S, 3, T, V, M]; floating point in meters or int16 in millimeters.
            It may stay in pinned host memory while the index is on a GPU, which then reads the
            batch's sequences over the bus.
        index: [N] sequences of the batch, int64 or int32; the views are made on its device.
        layout: skeleton of the joints.
        config: amplitudes and probabilities.
        seed: 64-bit key of the draws.
        step: training step, below 2^32; as an int64 tensor of no dimensions on the index's device
            it is read there, so that a captured CUDA graph can count its own steps.
        offset: position of index[0] in the global batch.
        stream: "joint", "motion" or "bone".
        views: different ones of "extreme" (all augmentations), "query" and "key" (crop, turn and
            shear), and "strong" (all augmentations, too). Each has draws of its own, which do not
            depend on the others; none but these are computed. A GPU makes the strong view beside
            the extreme one in a second launch, which reads the sequences again.
        dtype: of the views; float32 when None.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        Views, with an attribute [N, 3, T, V, M] for each.

    Raises:
        ValueError: a shape, joint count, index (on the CPU), step, stream or view is off; it is
            named. There is no such backend.
        TypeError: data or index has an unsupported dtype.
        BackendError: the backend cannot run.

    Example:
        >>> data = torch.randn(10, 3, 50, 25, 2)
        >>> views = skeleton_augment(data, torch.tensor([3, 7]), layout="ntu-rgb+d",
        ...                          config=AugmentConfig(), seed=0, step=0)
        >>> views.extreme.shape
        torch.Size([2, 3, 50, 25, 2])
    """
    (made,) = skeleton_augment_streams(
        data,
        index,
        layout=layout,
        config=config,
        seed=seed,
        step=step,
        offset=offset,
        streams=(stream,),
        views=views,
        dtype=dtype,
        backend=backend,
    )
    return made


def skeleton_augment_streams(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int = 0,
    streams: Sequence[str] = STREAMS,
    views: Sequence[str] = THREE_VIEWS,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> tuple[Views | SomeViews, ...]:
    """The views of a batch in several streams, from one read and one set of draws.

    Args and errors are those of `skeleton_augment`, but for `streams`: different names of streams.

    Returns:
        One Views for each stream, in the order of `streams`: exactly what as many calls of
        `skeleton_augment` give.

    Example:
        >>> data = torch.randn(10, 3, 50, 25, 2)
        >>> joint, motion, bone = skeleton_augment_streams(
        ...     data, torch.tensor([3, 7]), layout="ntu-rgb+d", config=AugmentConfig(), seed=0,
        ...     step=0)
    """
    layout = get_layout(layout)
    step_tensor = step if isinstance(step, Tensor) else None
    check_dense("data", data)
    check_dense("index", index)
    if step_tensor is not None:
        check_dense("step", step_tensor)
    check_joints("data", data, layout)
    check_type("config", config, AugmentConfig, "an AugmentConfig")
    check_streams(streams)
    check_names("views", views, VIEWS)
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {dtype}")
    call = Call(
        data,
        index,
        layout.swap,
        layout.parents,
        [STREAMS.index(stream) for stream in streams],
        [VIEWS.index(view) for view in views],
        dtype if dtype in WRITTEN else torch.float32,
        philox.split_seed(check_integer("seed", seed, most=2**64 - 1)),
        check_integer("step", step) if not isinstance(step, Tensor) else 0,
        step_tensor,
        check_integer("offset", offset),
        config.crop_ratio,
        config.blur_taps,
        config.blur_normalize,
        [getattr(config, name) for name in _AMPLITUDES],
        backend,
    )
    # The index says where the views go; the data may stay in pinned host memory.
    found = _OP.dispatch(
        call, index, limit=lambda: _why_not(data, config.crop_ratio, config.blur_taps)
    )
    made = [view.to(dtype) for view in found]
    return tuple(
        named_views(made[i : i + len(views)], views) for i in range(0, len(made), len(views))
    )

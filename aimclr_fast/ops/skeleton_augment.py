"""skeleton_augment: checks, backends and the torch op behind the fast ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import philox
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, AugmentConfig

from ._augment import (
    DTYPES,
    address,
    check_chain,
    check_joints,
    check_sequences,
    check_streams,
    check_tables,
    joint_table,
    native_chain,
    unless,
    why_too_large,
)
from ._checks import (
    FLOATS,
    MOST_ELEMENTS,
    check_dense,
    check_dtype,
    check_integer,
    check_memory,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend, always, check_backend, choose
from ._native import cpp_why_not, cuda_why_not, current_stream

MILLIMETRE = 0.001  # integer data sets are stored in millimetres
VIEWS = 3
# What the kernels write; other dtypes are converted from float32.
WRITTEN = (torch.float32, torch.float16, torch.bfloat16)


def scale_of(data: Tensor) -> float:
    """What turns stored units to metres."""
    return 1.0 if data.dtype.is_floating_point else MILLIMETRE


Triple = tuple[Tensor, Tensor, Tensor]


# --- The torch op --------------------------------------------------------------------------------

# What the parameters are drawn from, as one list of the schema.
_AMPLITUDES = tuple(field.name for field in fields(AugmentConfig) if field.type == "float")


@functools.lru_cache(maxsize=32)
def _native_settings(amplitudes: tuple[float, ...]) -> Any:
    return native.load().AugmentSettings(**dict(zip(_AMPLITUDES, amplitudes, strict=True)))


torch.library.define(
    "aimclr_fast::skeleton_augment",
    "(Tensor data, Tensor index, int[] swap, int[] parents, int[] streams, ScalarType dtype,"
    " int[] key, SymInt step, Tensor? step_tensor, SymInt offset, int crop_ratio, int blur_taps,"
    " bool blur_normalize, float[] amplitudes, str backend) -> Tensor[]",
)


class Call(NamedTuple):
    """The op's arguments; see `aimclr_fast.functional.skeleton_augment`.

    Attributes:
        data: [S, 3, T, V, M].
        batch: [N], the index, on whose device the views are made.
        swap: [V], each joint's mirror image.
        parents: [V], each joint's neighbor towards the center.
        streams: places in STREAMS.
        dtype: of the views, one of WRITTEN.
        key: low and high word of the seed.
        step: of the draws.
        step_tensor: int64 of no dimensions, in place of `step`.
        offset: place of index[0] in the global batch.
        crop_ratio: as in AugmentConfig, like the next two.
        blur_taps: see there.
        blur_normalize: see there.
        amplitudes: AugmentConfig's other fields, in its order.
        backend: "cpp" or "cuda".
    """

    data: Tensor
    batch: Tensor
    swap: Sequence[int]
    parents: Sequence[int]
    streams: Sequence[int]
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
    data, index = call.data, call.batch
    check_sequences("data", data, call.swap, call.parents)
    check_dtype("data", data, *FLOATS, torch.int16)
    check_shape("index", index, "N")
    check_dtype("index", index, torch.int64, torch.int32)
    if not (data.is_cpu and index.is_cuda):  # a fake tensor does not know whether it is pinned
        check_same_device(data=data, index=index)
    streams = list(call.streams)
    if not streams or len(set(streams)) < len(streams) or not set(streams) <= {0, 1, 2}:
        raise ValueError(f"streams must be different ones of 0, 1 and 2, got {streams}")
    if call.dtype not in WRITTEN:
        raise TypeError(f"dtype must be float32, float16 or bfloat16, got {call.dtype}")
    if len(call.key) != 2 or not all(0 <= word < 2**32 for word in call.key):
        raise ValueError(f"key must be two words below 2^32, got {list(call.key)}")
    if call.step_tensor is not None:
        check_shape("step", call.step_tensor)
        check_dtype("step", call.step_tensor, torch.int64)
        check_same_device(index=index, step=call.step_tensor)
    if not 0 <= call.step < 2**32:
        raise ValueError(f"step must lie in 0..2^32-1, got {call.step}")
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
    check_range("index", call.batch, 0, call.data.shape[0] - 1)
    if call.step_tensor is not None:
        check_range("step", call.step_tensor, 0, 2**32 - 1)


def _empty_views(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    data, index = call.data, call.batch
    _check(call)
    check_tables(tuple(call.swap), tuple(call.parents))
    _check_amplitudes(tuple(call.amplitudes))
    reason = _why_not(data, call.crop_ratio, call.blur_taps)
    check_backend("skeleton_augment", unless(reason, BACKENDS), call.backend, index)
    shape = (index.shape[0], *data.shape[1:])
    return [
        data.new_empty(shape, dtype=call.dtype, device=index.device)
        for _ in range(VIEWS * len(call.streams))
    ]


def _write_views(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    views = _empty_views(*arguments)
    check_memory(*arguments)
    if call.data.is_cpu and call.batch.is_cuda and not call.data.is_pinned():
        check_same_device(data=call.data, index=call.batch)
    _check_values(call)
    if views[0].numel() == 0:
        return views
    data, index = call.data, call.batch
    if data.is_contiguous():
        index = index.contiguous()
    else:  # only the batch is copied, not the data set
        chosen = index.to(data.device)
        check_range("index", chosen, 0, data.shape[0] - 1)
        data = data[chosen].contiguous().to(index.device)
        index = torch.arange(index.shape[0], device=index.device)
    library = native.load()
    chain, _ = native_chain(
        (data.shape[2], data.shape[3], data.shape[4]),
        tuple(call.swap),
        tuple(call.parents),
        call.crop_ratio,
        call.blur_taps,
        call.blur_normalize,
        index.device,
    )
    native_call = library.SkeletonAugmentCall(
        data=data.data_ptr(),
        data_dtype=DTYPES[data.dtype],
        scale=scale_of(data),
        sequences=data.shape[0],
        index=index.data_ptr(),
        index_bytes=index.element_size(),
        samples=index.shape[0],
        streams=call.streams,
        views=[view.data_ptr() for view in views],
        dtype=DTYPES[call.dtype],
        chain=chain,
        settings=_native_settings(tuple(call.amplitudes)),
        key=call.key,
        step=call.step,
        step_tensor=address(call.step_tensor),
        offset=call.offset,
    )
    if call.backend == "cpp":
        library.skeleton_augment_cpu(native_call, torch.get_num_threads())
        return views
    with torch.cuda.device(index.device):
        size = library.skeleton_augment_workspace(chain, index.shape[0])
        workspace = torch.empty(size, dtype=torch.uint8, device=index.device)
        library.skeleton_augment_cuda(
            native_call, data.is_cpu, workspace.data_ptr(), size, current_stream(index)
        )
    return views


torch.library.register_fake("aimclr_fast::skeleton_augment", _empty_views)
torch.library.impl("aimclr_fast::skeleton_augment", ("cpu", "cuda"), _write_views)


# --- The function --------------------------------------------------------------------------------


def _fast(backend: str, call: Call, _: AugmentConfig) -> list[Triple]:
    views = torch.ops.aimclr_fast.skeleton_augment(*call._replace(backend=backend))
    return [(views[i], views[i + 1], views[i + 2]) for i in range(0, len(views), VIEWS)]


def _reference(call: Call, config: AugmentConfig) -> list[Triple]:
    _check(call)
    _check_values(call)
    device = call.batch.device
    return reference.skeleton_augment_streams(
        call.data,
        call.batch,
        swap=joint_table(call.swap, device),
        parents=joint_table(call.parents, device),
        config=config,
        seed=call.key[0] | call.key[1] << 32,
        step=call.step if call.step_tensor is None else call.step_tensor,
        offset=call.offset,
        streams=[STREAMS[stream] for stream in call.streams],
        scale=scale_of(call.data),
    )


BACKENDS = (
    Backend("cuda", functools.partial(_fast, "cuda"), cuda_why_not),
    Backend("cpp", functools.partial(_fast, "cpp"), cpp_why_not),
    Backend(REFERENCE, _reference, always),
)


def skeleton_augment(
    data: Tensor,
    index: Tensor,
    *,
    layout: str | Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int,
    streams: Sequence[str],
    dtype: torch.dtype | None,
    backend: str = "auto",
) -> list[Triple]:
    layout = get_layout(layout)
    step_tensor = step if isinstance(step, Tensor) else None
    check_dense("data", data)
    check_dense("index", index)
    if step_tensor is not None:
        check_dense("step", step_tensor)
    check_joints("data", data, layout)
    check_type("config", config, AugmentConfig, "an AugmentConfig")
    check_streams(streams)
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {dtype}")
    call = Call(
        data,
        index,
        layout.swap,
        layout.parents,
        [STREAMS.index(stream) for stream in streams],
        dtype if dtype in WRITTEN else torch.float32,
        philox.split_seed(check_integer("seed", seed, most=2**64 - 1)),
        check_integer("step", step) if step_tensor is None else 0,
        step_tensor,
        check_integer("offset", offset),
        config.crop_ratio,
        config.blur_taps,
        config.blur_normalize,
        [getattr(config, name) for name in _AMPLITUDES],
        backend,
    )
    reason = _why_not(data, config.crop_ratio, config.blur_taps)
    # The index says where the views go; the data may stay in pinned host memory.
    found = choose("skeleton_augment", unless(reason, BACKENDS), backend, index)(call, config)
    return [(e.to(dtype), q.to(dtype), k.to(dtype)) for e, q, k in found]

"""skeleton_augment: checks, backends and the torch op behind the fast ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import philox
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import STREAMS, AugmentConfig

from ._checks import (
    FLOATS,
    MOST_ELEMENTS,
    check_dtype,
    check_integer,
    check_range,
    check_same_device,
    check_shape,
    check_type,
)
from ._dispatch import REFERENCE, Backend, always, choose
from ._native import cpp_why_not, cuda_why_not, current_stream

MILLIMETRE = 0.001  # integer data sets are stored in millimetres
VIEWS = 3
MAX_BLUR_TAPS = 127  # csrc/common/skeleton_augment.h
# Element types as the library numbers them: csrc/common/dtypes.h.
DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int16: 4,
}
# What the kernels write; other dtypes are converted from float32.
WRITTEN = (torch.float32, torch.float16, torch.bfloat16)

Triple = tuple[Tensor, Tensor, Tensor]


# --- Shared with apply_augment -------------------------------------------------------------------


# The caches below forget nothing: tables are small and few, and a captured CUDA graph holds their
# addresses.


@functools.cache
def _joint_table(table: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(table, device=device)


def joint_table(table: Sequence[int], device: torch.device) -> Tensor:
    """A layout's swap or parents on a device."""
    if torch.compiler.is_compiling():  # a traced tensor has no values, so none is kept
        return torch.tensor(table, device=device)
    return _joint_table(table, device)


class NativeChain(NamedTuple):
    """What the library needs to know besides tensors and parameters; it points to the tables."""

    chain: Any
    tables: tuple[Tensor, ...]


@functools.cache
def native_chain(
    shape: tuple[int, int, int],
    swap: tuple[int, ...],
    parents: tuple[int, ...],
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
    device: torch.device,
) -> NativeChain:
    """For sequences of `shape` [T, V, M] on `device`."""
    bodies = torch.arange(shape[2], dtype=torch.int32)

    def table(joints: tuple[int, ...]) -> Tensor:
        """For each place joint * M + body of a row, the place of the other joint."""
        places = torch.tensor(joints, dtype=torch.int32)[:, None] * shape[2] + bodies
        return places.flatten().to(device)

    tables = (table(swap), table(parents))
    chain = native.load().AugmentChain(
        *shape, *(t.data_ptr() for t in tables), crop_ratio, blur_taps, blur_normalize
    )
    return NativeChain(chain, tables)


def address(tensor: Tensor | None) -> int:
    """As the library takes it: 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def scale_of(data: Tensor) -> float:
    """What turns stored units to metres."""
    return 1.0 if data.dtype.is_floating_point else MILLIMETRE


def check_streams(streams: Sequence[str]) -> None:
    check_type("streams", streams, list | tuple, "a list of names")
    if not streams:
        raise ValueError(f"streams must name at least one of {', '.join(STREAMS)}")
    for stream in streams:
        if not isinstance(stream, str) or stream not in STREAMS:
            raise ValueError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")
    if len(set(streams)) != len(streams):
        raise ValueError(f"streams must differ, got {', '.join(streams)}")


def check_joints(name: str, tensor: Tensor, layout: Layout) -> None:
    check_shape(name, tensor, "N", 3, "T", "V", "M")
    if tensor.shape[3] != layout.num_joints:
        raise ValueError(
            f"{name} has {tensor.shape[3]} joints (axis 3), but layout {layout.name!r} has "
            f"{layout.num_joints}"
        )
    if tensor.shape[2] == 0:
        raise ValueError(f"{name} has no frames (axis 2)")


def why_too_large(tensor: Tensor, crop_ratio: int, blur_taps: int) -> str | None:
    """Why no compiled backend can augment sequences like those of `tensor`, or None."""
    if blur_taps > MAX_BLUR_TAPS:
        return f"the kernels blur with at most {MAX_BLUR_TAPS} taps, and blur_taps is {blur_taps}"
    _, _, frames, joints, bodies = tensor.shape
    if 9 * frames * joints * bodies >= 2**31:
        return "it counts a sequence's elements in 32 bits, and one has more than 2^31 / 9"
    return None


def unless(reason: str | None, backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """The same backends, of which none but the reference can run if there is a reason."""
    if reason is None:
        return backends

    def refuse(why_not: Callable[[Tensor], str | None]) -> Callable[[Tensor], str | None]:
        return lambda tensor: why_not(tensor) or reason

    return tuple(
        b if b.name == REFERENCE else replace(b, why_not=refuse(b.why_not)) for b in backends
    )


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


def _empty_views(
    data: Tensor,
    index: Tensor,
    swap: Sequence[int],
    parents: Sequence[int],
    streams: Sequence[int],
    dtype: torch.dtype,
    *_: Any,
) -> list[Tensor]:
    return [
        data.new_empty((index.shape[0], *data.shape[1:]), dtype=dtype, device=index.device)
        for _ in range(VIEWS * len(streams))
    ]


def _write_views(
    data: Tensor,
    index: Tensor,
    swap: Sequence[int],
    parents: Sequence[int],
    streams: Sequence[int],
    dtype: torch.dtype,
    key: Sequence[int],
    step: int,
    step_tensor: Tensor | None,
    offset: int,
    crop_ratio: int,
    blur_taps: int,
    blur_normalize: bool,
    amplitudes: Sequence[float],
    backend: str,
) -> list[Tensor]:
    views = _empty_views(data, index, swap, parents, streams, dtype)
    if views[0].numel() == 0:
        return views
    if data.is_contiguous():
        index = index.contiguous()
    else:  # only the batch is copied, not the data set
        data = data[index.to(data.device)].contiguous().to(index.device)
        index = torch.arange(len(index), device=index.device)
    library = native.load()
    chain, _ = native_chain(
        (data.shape[2], data.shape[3], data.shape[4]),
        tuple(swap),
        tuple(parents),
        crop_ratio,
        blur_taps,
        blur_normalize,
        index.device,
    )
    call = library.SkeletonAugmentCall(
        data=data.data_ptr(),
        data_dtype=DTYPES[data.dtype],
        scale=scale_of(data),
        sequences=len(data),
        index=index.data_ptr(),
        index_bytes=index.element_size(),
        samples=len(index),
        streams=streams,
        views=[view.data_ptr() for view in views],
        dtype=DTYPES[dtype],
        chain=chain,
        settings=_native_settings(tuple(amplitudes)),
        key=key,
        step=step,
        step_tensor=address(step_tensor),
        offset=offset,
    )
    if backend == "cpp":
        library.skeleton_augment_cpu(call, torch.get_num_threads())
        return views
    with torch.cuda.device(index.device):
        size = library.skeleton_augment_workspace(chain, len(index))
        workspace = torch.empty(size, dtype=torch.uint8, device=index.device)
        library.skeleton_augment_cuda(
            call, data.is_cpu, workspace.data_ptr(), size, current_stream(index)
        )
    return views


torch.library.register_fake("aimclr_fast::skeleton_augment", _empty_views)
torch.library.impl("aimclr_fast::skeleton_augment", ("cpu", "cuda"), _write_views)


# --- The function --------------------------------------------------------------------------------


def _fast(
    backend: str,
    data: Tensor,
    index: Tensor,
    layout: Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int,
    streams: Sequence[str],
    dtype: torch.dtype,
) -> list[Triple]:
    views = torch.ops.aimclr_fast.skeleton_augment(
        data,
        index,
        layout.swap,
        layout.parents,
        [STREAMS.index(stream) for stream in streams],
        dtype if dtype in WRITTEN else torch.float32,
        philox.split_seed(seed),
        0 if isinstance(step, Tensor) else step,
        step if isinstance(step, Tensor) else None,
        offset,
        config.crop_ratio,
        config.blur_taps,
        config.blur_normalize,
        [getattr(config, name) for name in _AMPLITUDES],
        backend,
    )
    return [(views[i], views[i + 1], views[i + 2]) for i in range(0, len(views), VIEWS)]


def _reference(
    data: Tensor,
    index: Tensor,
    layout: Layout,
    config: AugmentConfig,
    seed: int,
    step: int | Tensor,
    offset: int,
    streams: Sequence[str],
    dtype: torch.dtype,
) -> list[Triple]:
    return reference.skeleton_augment_streams(
        data,
        index,
        swap=joint_table(layout.swap, index.device),
        parents=joint_table(layout.parents, index.device),
        config=config,
        seed=seed,
        step=step,
        offset=offset,
        streams=streams,
        scale=scale_of(data),
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
    check_joints("data", data, layout)
    check_dtype("data", data, *FLOATS, torch.int16)
    check_type("config", config, AugmentConfig, "an AugmentConfig")
    check_shape("index", index, "N")
    check_dtype("index", index, torch.int64, torch.int32)
    if not (data.is_cpu and index.is_cuda and data.is_pinned()):
        check_same_device(data=data, index=index)
    check_streams(streams)
    if isinstance(step, Tensor):
        check_shape("step", step)
        check_dtype("step", step, torch.int64)
        check_same_device(index=index, step=step)
    else:
        check_integer("step", step)
        if not 0 <= step < 2**32:
            raise ValueError(f"step must lie in 0..2^32-1, got {step}")
    check_integer("seed", seed)
    check_integer("offset", offset)
    if not 0 <= offset <= 2**32 - len(index):
        raise ValueError(f"offset must lie in 0..2^32-N, got {offset}")
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
        raise TypeError(f"dtype must be floating point, got {dtype}")
    if not torch.compiler.is_compiling():  # the compiled backends look, too
        if len(index) * data[:1].numel() >= MOST_ELEMENTS:
            raise ValueError(f"index must make views of fewer than 2^44 elements, got {len(index)}")
        check_range("index", index, 0, len(data) - 1)
        if isinstance(step, Tensor):
            check_range("step", step, 0, 2**32 - 1)
    reason = why_too_large(data, config.crop_ratio, config.blur_taps)
    # The index says where the views go; the data may stay in pinned host memory.
    run = choose("skeleton_augment", unless(reason, BACKENDS), backend, index)
    found = run(data, index, layout, config, seed, step, offset, streams, dtype)
    return [(e.to(dtype), q.to(dtype), k.to(dtype)) for e, q, k in found]

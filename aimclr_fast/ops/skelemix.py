"""skelemix: sequences of a batch mixed with each other (SkeleMixCLR)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

import torch
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.reference import philox
from aimclr_fast.reference import skelemix as reference
from aimclr_fast.reference.skelemix import BODY_PARTS, MixConfig, block_rows
from aimclr_fast.reference.skeleton_augment import STREAMS

from ._augment import (
    DTYPES,
    address,
    check_draws,
    check_joints,
    check_streams,
    column_table,
    joint_table,
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


class Mixed(NamedTuple):
    """Mixes of a batch.

    Attributes:
        views: for each stream, [R, N, 3, T, V, M].
        mask: bool [R, T', V], true where a mix has joints of the partner: the encoder's feature map
            in T' = ceil(T / block_frames) rows. The same for all sequences of a mix.
        partner: int64 [R, N], the row of the batch that they are of.
    """

    views: tuple[Tensor, ...]
    mask: Tensor
    partner: Tensor


# --- What the op takes and gives -----------------------------------------------------------------


class Call(NamedTuple):
    """The op's arguments; see `skelemix`. It gives a list: views, mask and partner.

    Attributes:
        query: [N, 3, T, V, M].
        part_of: [V], each joint's body part.
        parents: [V], each joint's neighbor towards the center.
        streams: indices into STREAMS.
        settings: MixConfig's fields, in its order.
        key: low and high word of the seed.
        step: of the draws.
        step_tensor: int64 of no dimensions, instead of `step`.
        backend: name of a compiled backend.
    """

    query: Tensor
    part_of: Sequence[int]
    parents: Sequence[int]
    streams: Sequence[int]
    settings: Sequence[int]
    key: Sequence[int]
    step: int
    step_tensor: Tensor | None
    backend: str


def _config(settings: Sequence[int]) -> MixConfig:
    fields = MixConfig.__dataclass_fields__
    if len(settings) != len(fields):
        raise ValueError(f"settings must be {', '.join(fields)}, got {list(settings)}")
    return MixConfig(*settings)


def _check(call: Call) -> None:
    query = call.query
    check_shape("query", query, "N", 3, "T", "V", "M")
    check_dtype("query", query, *FLOATS)
    samples, _, frames, joints, _ = query.shape
    if samples < 3:
        raise ValueError(
            f"query must have at least 3 sequences, got {samples}: a partner is 1 to N-2 rows away"
        )
    if joints == 0 or joints != len(call.part_of) or joints != len(call.parents):
        raise ValueError(
            f"query has {joints} joints (axis 3), but part_of and parents are of "
            f"{len(call.part_of)} and {len(call.parents)}"
        )
    for name, table, size in (
        ("part_of", call.part_of, BODY_PARTS),
        ("parents", call.parents, len(call.parents)),
    ):
        if not all(0 <= place < size for place in table):
            raise ValueError(f"{name} must lie in 0..{size - 1}, got {list(table)}")
    check_draws(call.streams, call.key, call.step, call.step_tensor)
    if call.step_tensor is not None:
        check_same_device(query=query, step=call.step_tensor)
    config = _config(call.settings)
    rows = block_rows(frames, config.block_frames)
    if rows < config.blocks_max:
        raise ValueError(
            f"query has {frames} frames, which are {rows} blocks of {config.block_frames}, and a "
            f"mix may take {config.blocks_max} (blocks_max)"
        )
    count = config.count * math.prod(query.shape)
    if isinstance(count, int) and count >= MOST_ELEMENTS:
        raise ValueError(f"count must make views of fewer than 2^44 elements, got {config.count}")


def _why_not(query: Tensor) -> str | None:
    if query.requires_grad and torch.is_grad_enabled():
        return "it has no gradient for the query"
    if 3 * math.prod(query.shape[2:]) >= 2**31:
        return "it counts a sequence's elements in 32 bits, and one has 2^31 or more"
    return None


def _check_values(call: Call) -> None:
    if call.step_tensor is not None:
        check_range("step", call.step_tensor, 0, 2**32 - 1)


def _prepare(call: Call) -> list[Tensor]:
    _check(call)
    query, config = call.query, _config(call.settings)
    _OP.check_backend(call.backend, query, _why_not(query))
    samples, _, frames, joints, _ = query.shape
    rows = block_rows(frames, config.block_frames)
    return [
        *(query.new_empty(config.count, *query.shape) for _ in call.streams),
        query.new_empty(config.count, rows, joints, dtype=torch.bool),
        query.new_empty(config.count, samples, dtype=torch.int64),
    ]


def _compute(call: Call, out: list[Tensor]) -> None:
    _check_values(call)
    _OP.forward(call._replace(query=call.query.contiguous()), out)


# --- Backends ------------------------------------------------------------------------------------


def _compiled(call: Call, out: list[Tensor]) -> None:
    query, streams = call.query, list(call.streams)
    *views, mask, partner = out
    config = _config(call.settings)
    samples, _, frames, joints, bodies = query.shape
    spare = 3 - len(streams)
    members = {
        "query": query.data_ptr(),
        "type": DTYPES[query.dtype],
        "samples": samples,
        "shape": {"frames": frames, "joints": joints, "bodies": bodies},
        "parts": joint_table(tuple(call.part_of), query.device).data_ptr(),
        "parents": column_table(tuple(call.parents), bodies, query.device).data_ptr(),
        "settings": vars(config),
        "streams": len(streams),
        "stream": [*streams, *[0] * spare],
        "view": [*(view.data_ptr() for view in views), *[0] * spare],
        "mask": mask.data_ptr(),
        "partner": partner.data_ptr(),
        "key0": call.key[0],
        "key1": call.key[1],
        "step": call.step,
        "step_tensor": address(call.step_tensor),
    }
    library = native.load()
    if query.is_cpu:
        library.skelemix_cpu(**members, threads=torch.get_num_threads())
        return
    with torch.cuda.device(query.device):
        library.skelemix_cuda(**members, cuda_stream=current_stream(query))


def _reference(call: Call) -> list[Tensor]:
    _check(call)
    _check_values(call)
    views, mask, partner = reference.skelemix(
        call.query,
        body_parts=[
            [joint for joint, of in enumerate(call.part_of) if of == part]
            for part in range(BODY_PARTS)
        ],
        parents=joint_table(call.parents, call.query.device),
        config=_config(call.settings),
        seed=call.key[0] | call.key[1] << 32,
        step=call.step if call.step_tensor is None else call.step_tensor,
        streams=[STREAMS[stream] for stream in call.streams],
    )
    return [*views, mask, partner]


BACKENDS = [
    Backend("cuda", None, cuda_why_not, _compiled),
    Backend("cpp", None, cpp_why_not, _compiled),
    Backend(REFERENCE, _reference),
]
_OP = Op("skelemix", BACKENDS)
_OP.define(Call, list[Tensor], _prepare, _compute)


# --- The function --------------------------------------------------------------------------------


def skelemix(
    query: Tensor,
    *,
    layout: str | Layout,
    config: MixConfig,
    seed: int,
    step: int | Tensor,
    streams: Sequence[str] = ("joint",),
    backend: str = "auto",
) -> Mixed:
    """Replace body parts of each sequence, in a stretch of time, by those of another of the batch.

    SkeleMix (Chen et al., 2022): two or three of the layout's five body parts, in some blocks of
    four frames, of both bodies. Each of the R = `config.count` mixes has one set of draws for the
    whole batch: how far away the partner is (1..N-2 rows), which parts, how many blocks and from
    which on. They come from Philox4x32-10 keyed by `seed` and counted by (step, mix), so they do
    not depend on the backend or the device.

    Args:
        query: sequences in joints [N, 3, T, V, M], N >= 3, floating point, as `skeleton_augment`
            makes them.
        layout: skeleton of the joints, with body parts (`Layout.body_parts`).
        config: how many mixes, and how large. A last block shorter than `block_frames` counts.
        seed: 64-bit key of the draws.
        step: training step, below 2^32; as an int64 tensor of no dimensions on the query's device
            it is read there, so that a captured CUDA graph can count its own steps.
        streams: different ones of "joint", "motion" and "bone", made of the mixed joints.
        backend: "auto" for the fastest that can run, or a name.

    Returns:
        Mixed(views, mask, partner): a view [R, N, 3, T, V, M] of the query's dtype for each
        stream, the mask [R, T', V] for `masked_pool`, and the rows [R, N] that the parts are of.

    Raises:
        ValueError: a shape, joint count, step or stream is off, there are fewer than 3 sequences
            or fewer blocks than `config.blocks_max`, or the layout has no body parts; there is no
            such backend.
        TypeError: the query is not floating point.
        BackendError: the backend cannot run; the compiled ones have no gradient.

    Example:
        >>> query = torch.randn(8, 3, 64, 25, 2)
        >>> mixed = skelemix(query, layout="ntu-rgb+d", config=MixConfig(count=3), seed=0, step=0)
        >>> mixed.views[0].shape, mixed.mask.shape
        (torch.Size([3, 8, 3, 64, 25, 2]), torch.Size([3, 16, 25]))
    """
    layout = get_layout(layout)
    step_tensor = step if isinstance(step, Tensor) else None
    check_dense("query", query)
    if step_tensor is not None:
        check_dense("step", step_tensor)
    check_joints("query", query, layout)
    check_type("config", config, MixConfig, "a MixConfig")
    check_streams(streams)
    part_of = {joint: i for i, joints in enumerate(layout.body_parts) for joint in joints}
    call = Call(
        query,
        [part_of[joint] for joint in range(layout.num_joints)],
        layout.parents,
        [STREAMS.index(stream) for stream in streams],
        astuple(config),
        philox.split_seed(check_integer("seed", seed, most=2**64 - 1)),
        check_integer("step", step) if not isinstance(step, Tensor) else 0,
        step_tensor,
        backend,
    )
    *views, mask, partner = _OP.dispatch(call, query, limit=lambda: _why_not(query))
    return Mixed(tuple(views), mask, partner)

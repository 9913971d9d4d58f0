"""Arguments of the public functions, good, unusual and impossible, for functions.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from aimclr_fast.functional import AugmentConfig, AugmentParams, MixConfig, Term
from aimclr_fast.layouts import LAYOUTS, Layout

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
ODD_DTYPES = (torch.int64, torch.bool, torch.complex64, torch.uint8, torch.int32, torch.int16)
HUGE = 2**45  # elements that no memory holds
#: Anything in place of a number, a name or a tensor.
ODD: tuple[Any, ...] = (
    None, -1, 0, 2**31, 2**63, 2**70, -(2**40), 1.5, math.nan, math.inf, "", "x", b"x", [], {},
    (1, 2), True, object(), np.zeros(3),
)  # fmt: skip
ROD = Layout("rod", ("a", "b", "c"), ((1, 0), (2, 1)), 0, (0, 2, 1))
HOSTILE = [False]  # whether the arguments that are being drawn may be odd, or are only unusual

PLAIN = [False]  # whether tensors hold no NaN, no infinity and nothing huge


@st.composite
def tensors(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
    integers: tuple[int, int] | None = None,
) -> Any:
    """A tensor of `shape`: mostly a good one, in any memory; sometimes one that cannot be right."""
    kind = "good"
    if HOSTILE[0]:
        kind = draw(
            st.sampled_from(["good"] * 24 + ["shape", "dtype", "device", "huge", "sparse", "odd"])
        )
    dtype = draw(st.sampled_from(dtypes))
    if kind == "odd":
        return draw(st.sampled_from(ODD))
    if kind == "shape":
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=6)))
    if kind == "dtype":
        dtype = draw(st.sampled_from(FLOATS + ODD_DTYPES))
    if kind == "huge" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        one = torch.zeros([1] * len(shape), dtype=dtype)
        return one.expand([HUGE if i == axis else n for i, n in enumerate(shape)])
    if kind == "device":
        return torch.empty(shape, dtype=dtype, device="meta")
    if integers is not None and dtype not in FLOATS:
        low, high = integers
        values = torch.randint(low, high + 1, shape).to(dtype)
    else:
        values = torch.randn(shape, dtype=torch.float64).to(dtype)
    if kind == "sparse":
        return values.to_sparse()
    special = dtype in FLOATS and values.numel() and not PLAIN[0]
    if special and draw(st.integers(0, 3)) == 0:
        special = draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e30, 1e-40, 0.0]))
        place = draw(st.integers(-1, values.numel() - 1))
        values.view(-1)[place if place >= 0 else slice(None)] = special
    return _in_memory(draw, values)


def _in_memory(draw: st.DrawFn, values: torch.Tensor) -> torch.Tensor:
    how = draw(st.sampled_from(["plain", "plain", "transposed", "steps", "negative", "expanded"]))
    if how == "transposed":
        return values.transpose(0, -1).contiguous().transpose(0, -1) if values.dim() else values
    if how == "steps" and values.dim():
        wide = values.new_zeros([2 * n for n in values.shape])
        wide[tuple(slice(1, None, 2) for _ in values.shape)] = values
        return wide[tuple(slice(1, None, 2) for _ in values.shape)]
    if how == "negative" and values.dtype in (torch.float32, torch.float64):
        return torch.complex(torch.zeros_like(values), -values).conj().imag  # negated when read
    if how == "expanded" and values.dim() and values.numel():
        return values[:1].expand_as(values)
    return values


def pick(draw: st.DrawFn, *good: Any, bad: tuple[Any, ...] = ()) -> Any:
    """One of the good values; in a hostile example now and then a bad or an odd one."""
    if HOSTILE[0] and draw(st.integers(0, 11)) == 0:
        return draw(st.sampled_from(ODD + 4 * bad))
    return draw(st.sampled_from(good))


def size(draw: st.DrawFn, *good: int) -> int:
    """A size that the function takes; in a hostile example now and then none."""
    return 0 if HOSTILE[0] and draw(st.integers(0, 11)) == 0 else draw(st.sampled_from(good))


@st.composite
def eadm_pool(draw: st.DrawFn) -> dict[str, Any]:
    shape = (
        draw(st.integers(0, 6)),
        draw(st.sampled_from([0, 1, 3, 16, 33])),
        size(draw, *range(1, 18)),
        size(draw, 1, 3, 25, 40),
    )
    return {
        "x": draw(tensors(shape, FLOATS)),
        "keep_prob": pick(draw, 0.7, 1.0, 0.01, 1e-300, bad=(2.0,)),
        "e_lambda": pick(draw, 1e-4, 1e-4, 1e-30, 1e30),
    }


@st.composite
def masked_pool(draw: st.DrawFn) -> dict[str, Any]:
    frames, joints = size(draw, *range(1, 14)), size(draw, 1, 3, 25)
    shape = (draw(st.integers(0, 5)), draw(st.sampled_from([0, 1, 3, 33])), frames, joints)
    return {
        "features": draw(tensors(shape, FLOATS)),
        "mask": draw(tensors((frames, joints), (torch.bool,), (0, 1))),
    }


@st.composite
def queue_contrast(draw: st.DrawFn) -> dict[str, Any]:
    n, d = size(draw, *range(1, 7)), draw(st.sampled_from([0, 1, 7, 16, 33]))
    k = draw(st.sampled_from([0, 1, 5, 40, 129, 600]))
    dtypes = draw(st.sampled_from([(torch.float32,), (torch.float64,), FLOATS]))
    names = ("query", "extreme", "dropped", "key")
    return {
        **{name: draw(tensors((n, d), dtypes)) for name in names},
        "queue": draw(tensors((k, d), dtypes)),
        "temperature": pick(draw, 0.07, 1.0, 1e-30, 1e30),
        "topk": pick(draw, 0, min(1, k), min(5, k), k, bad=(k + 1,)),
    }


@st.composite
def terms(draw: st.DrawFn, sets: int) -> list[Term]:
    """Chains of teachers, pairs of negatives, or neither."""
    kind = draw(st.sampled_from(["plain", "chain", "negatives"]))
    found = []
    for at in range(sets):
        term = Term(mines=draw(st.booleans()), positives=draw(st.booleans()))
        if kind == "chain" and at:
            term = term._replace(teacher=draw(st.integers(0, at - 1)))
        if kind == "negatives" and at ^ 1 < sets:
            term = term._replace(negative=at ^ 1)
        found.append(term)
    return found


@st.composite
def queue_losses(draw: st.DrawFn) -> dict[str, Any]:
    streams, sets = size(draw, 1, 1, 2, 3), size(draw, 1, 2, 3, 4)
    n, d = size(draw, *range(1, 7)), draw(st.sampled_from([0, 1, 7, 16, 33]))
    k = draw(st.sampled_from([0, 1, 5, 40, 129, 600]))
    dtypes = draw(st.sampled_from([(torch.float32,), (torch.float64,), FLOATS]))
    learned = draw(terms(sets))

    def nested(count: int) -> Any:
        return [[draw(tensors((n, d), dtypes)) for _ in range(count)] for _ in range(streams)]

    taught = any(term.teacher is not None for term in learned)
    votes = [0, 1, streams] if any(term.mines for term in learned) else [0]
    bad = ([Term(teacher=9)], [Term(negative=0)], [Term(key=3)], [Term(teacher=-1)], [None])
    return {
        "rows": pick(draw, nested(sets), bad=([[]], nested(sets + 1))),
        "keys": pick(draw, nested(1 if taught else draw(st.sampled_from([1, sets])))),
        "queues": pick(draw, [draw(tensors((k, d), dtypes)) for _ in range(streams)]),
        "terms": pick(draw, learned, bad=bad),
        "temperature": pick(draw, 0.07, 1.0, 1e-30, 1e30),
        "topk": pick(draw, 0, min(1, k), min(5, k), k, bad=(k + 1,)),
        "votes": pick(draw, *votes, bad=(streams + 1,)),
    }


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Any, int]:
    layout = pick(draw, ROD, ROD, LAYOUTS["coco"], "coco", bad=("centaur", "/dev/null/x.yaml"))
    return layout, 17 if layout is LAYOUTS["coco"] or isinstance(layout, str) else 3


@st.composite
def apply_augment(draw: st.DrawFn) -> dict[str, Any]:
    layout, joints = draw(layouts())
    n, frames = draw(st.integers(0, 4)), size(draw, 1, 2, 7, 13)
    shape = (n, 3, frames, joints, draw(st.integers(0, 3)))
    ratio = draw(st.sampled_from([1, 2, 6, 100]))
    fields = {
        "crop_start": tensors((n,), (torch.int64, torch.int32), (0, 2 * (frames // ratio))),
        "shear": tensors((n, 3, 3), FLOATS),
        "spatial_flip": tensors((n,), (torch.bool,), (0, 1)),
        "rotation_angles": tensors((n, 3), FLOATS),
        "noise_std": tensors((n,), FLOATS),
        "blur_sigma": tensors((n,), FLOATS),
        "axis_mask": tensors((n,), (torch.int64, torch.int32), (-1, 2)),
        "temporal_flip": tensors((n,), (torch.bool,), (0, 1)),
    }
    given = {name: draw(one) for name, one in fields.items() if draw(st.booleans())}
    return {
        "x": draw(tensors(shape, FLOATS)),
        "params": pick(draw, AugmentParams(**given)),
        "layout": layout,
        "stream": pick(draw, "joint", "motion", "bone"),
        "noise": draw(tensors(shape, FLOATS)) if draw(st.booleans()) else None,
        "crop_ratio": pick(draw, ratio, bad=(2**31, 2**40)),
        "blur_taps": pick(draw, 1, 15, 129, bad=(14, 2**40 + 1)),
        "blur_normalize": pick(draw, True, False),
    }


@st.composite
def skeleton_augment(draw: st.DrawFn) -> dict[str, Any]:
    layout, joints = draw(layouts())
    count = size(draw, *range(1, 6))
    shape = (count, 3, size(draw, 1, 2, 13), joints, draw(st.integers(0, 3)))
    n = draw(st.integers(0, 6)) if count else 0
    index = draw(tensors((n,), (torch.int64, torch.int32), (0, max(count - 1, 0))))
    index = pick(draw, index, bad=tuple(torch.tensor([i]) for i in (-1, count, 2**31, -(2**63))))
    steps = [torch.tensor(step) for step in (5, -1, 2**32)]
    config = AugmentConfig(
        crop_ratio=draw(st.sampled_from([1, 6, 2**31 - 1])),
        blur_taps=draw(st.sampled_from([1, 15, 129])),
        noise_prob=draw(st.sampled_from([0.0, 1.0])),
        noise_std=draw(st.sampled_from([0.0, 0.01, 1e30])),
        turn_deg=draw(st.sampled_from([0.0, 180.0])),
    )
    return {
        "data": draw(tensors(shape, (*FLOATS, torch.int16), (-(2**15), 2**15 - 1))),
        "index": index,
        "layout": layout,
        "config": pick(draw, config),
        "seed": pick(draw, 0, 2**64 - 1, bad=(2**64,)),
        "step": pick(draw, 0, 2**32 - 1, steps[0], bad=(2**32, *steps)),
        "offset": pick(draw, 0, 7, 2**32 - 6, bad=(2**32 - 1,)),
        "stream": pick(draw, "joint", "motion", "bone"),
        "views": pick(
            draw,
            ("extreme", "query", "key"),
            ["strong", "query"],
            ("key",),
            bad=((), ("key", "key"), ("query", 3), "query"),
        ),
        "dtype": pick(draw, None, *FLOATS, bad=(torch.int16,)),
    }


@st.composite
def skeleton_augment_streams(draw: st.DrawFn) -> dict[str, Any]:
    arguments = draw(skeleton_augment())
    del arguments["stream"]
    bad = ((), ("bone", "bone"), ("joint", 3), "joint")
    return {**arguments, "streams": pick(draw, ("joint", "bone"), ["motion"], bad=bad)}


@st.composite
def skelemix(draw: st.DrawFn) -> dict[str, Any]:
    layout = pick(draw, LAYOUTS["coco"], "coco", bad=(ROD, "hand-21", "centaur"))
    joints = 3 if layout is ROD else 21 if layout == "hand-21" else 17
    frames, most = size(draw, 1, 2, 7, 13), draw(st.integers(1, 4))
    block_frames = draw(st.integers(1, max(frames // most, 1)))
    config = MixConfig(
        count=draw(st.integers(1, 3)), parts_min=most, parts_max=4, blocks_min=1,
        blocks_max=min(most, max(frames, 1)), block_frames=block_frames,
    )  # fmt: skip
    bad = MixConfig(blocks_max=99)
    steps = [torch.tensor(step) for step in (5, -1, 2**32)]
    streams_bad = ((), ("bone", "bone"), ("joint", 3), "joint")
    shape = (pick(draw, 3, 4, 7, bad=(0, 2)), 3, frames, joints, draw(st.integers(0, 3)))
    shape = shape if type(shape[0]) is int and 0 <= shape[0] < 9 else (0, *shape[1:])
    return {
        "query": draw(tensors(shape, FLOATS)),
        "layout": layout,
        "config": pick(draw, config, bad=(bad,)),
        "seed": pick(draw, 0, 2**64 - 1, bad=(2**64,)),
        "step": pick(draw, 0, 2**32 - 1, steps[0], bad=(2**32, *steps)),
        "streams": pick(draw, ("joint",), ["bone", "motion"], bad=streams_bad),
    }


@st.composite
def stgcn_block(draw: st.DrawFn) -> dict[str, Any]:
    dtypes = draw(st.sampled_from([(torch.float32,), (torch.float64,)]))
    batch, width = draw(st.integers(0, 3)), size(draw, 1, 3, 8)
    beside = draw(st.sampled_from(["none", "identity", "convolution"]))
    stride = 1 if beside == "identity" else draw(st.sampled_from([1, 2]))
    out = width if beside == "identity" else size(draw, 1, 5, 8, 128)
    frames, joints = size(draw, 1, 2, 9, 14), size(draw, 1, 3, 5)
    parts, taps = size(draw, 1, 3), pick(draw, 1, 3, 9, 31, bad=(2, 4))
    taps = taps if type(taps) is int and 0 < taps < 32 else 3
    count = 3 if beside == "convolution" else 2
    shorter = -(-frames // stride)

    def pair(weight: tuple[int, ...], bias: tuple[int, ...]) -> Any:
        return pick(draw, (draw(tensors(weight, dtypes)), draw(tensors(bias, dtypes))))

    residual: Any = beside
    if beside == "convolution":
        residual = pair((out, width, 1, 1), (out,))
    maybe = st.booleans()
    kept = (batch, out, shorter, joints)
    bits = tensors((-(-math.prod(kept) // 64),), (torch.int64,), (-(2**62), 2**62))
    keep = st.one_of(tensors(kept, (torch.bool, torch.uint8), (0, 1)), bits)
    return {
        "x": draw(tensors((batch, width, frames, joints), dtypes)),
        "adjacency": draw(tensors((parts, joints, joints), dtypes)),
        "spatial": pair((parts * out, width, 1, 1), (parts * out,)),
        "temporal": pair((out, out, taps, 1), (out,)),
        "norms": draw(tensors((count, 2, out), dtypes)),
        "residual": pick(draw, residual),
        "running": draw(tensors((count, 2, out), dtypes)) if draw(maybe) else None,
        "keep": draw(keep) if draw(maybe) else None,
        "keep_prob": pick(draw, 1.0, 0.5),
        "stride": pick(draw, stride),
        "eps": pick(draw, 1e-5, 1e-5, 1e-30, bad=(-1.0,)),
    }


FUNCTIONS: dict[str, Callable[[], st.SearchStrategy[dict[str, Any]]]] = {
    "apply_augment": apply_augment,
    "eadm_pool": eadm_pool,
    "masked_pool": masked_pool,
    "queue_contrast": queue_contrast,
    "queue_losses": queue_losses,
    "skelemix": skelemix,
    "skeleton_augment": skeleton_augment,
    "skeleton_augment_streams": skeleton_augment_streams,
    "stgcn_block": stgcn_block,
}


@st.composite
def arguments_of(draw: st.DrawFn, name: str) -> dict[str, Any]:
    HOSTILE[0] = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 2**32)))
    return draw(FUNCTIONS[name]())

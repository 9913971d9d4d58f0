"""The launches of the published shapes: 128 sequences of two bodies, 50 frames of 25 joints.

    compile_launches(*queue_contrast("bf16", 128, 1))

Code for triton_aot, which runs it with tensors on the meta device.
"""

from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """A module of launchers, and what calls them; `name` is for reports."""

    module: str
    code: str
    name: str


# --- eadm_pool -----------------------------------------------------------------------------------

EADM_POOL = """
x = torch.empty({shape}, dtype={dtype}, device="meta", memory_format={memory_format})
batch, channels, frames, joints = {shape}
pooled = torch.empty(batch, channels, device="meta")
bits = torch.empty(
    (batch, channels, (frames + 7) // 8, joints),
    dtype=torch.uint8, device="meta", memory_format={memory_format},
)
kept = torch.empty(batch, joints, dtype=torch.uint8, device="meta")
scale = torch.empty(1, device="meta")
last = {memory_format} == torch.channels_last
kernels.forward(x, last, 0.7, 1e-4, pooled, pooled, bits, kept, scale)
kernels.backward(pooled, pooled, bits, kept, scale, last, torch.empty_like(x))
"""
NTU_MAP = (256, 256, 13, 25)
MAPS = [NTU_MAP, (64, 256, 75, 25), (8, 64, 1000, 20)]  # what longer sequences leave, too


def eadm_pool(shape: tuple[int, ...], dtype: str, last: bool) -> Program:
    memory_format = "torch.channels_last" if last else "torch.contiguous_format"
    code = EADM_POOL.format(shape=shape, dtype=f"torch.{dtype}", memory_format=memory_format)
    name = f"eadm_pool {'x'.join(map(str, shape))} {dtype}{' channels_last' * last}"
    return Program("aimclr_fast.triton_kernels.eadm_pool", code, name)


# --- masked_pool ---------------------------------------------------------------------------------

MASKED_POOL = """
x = torch.empty({shape}, dtype={dtype}, device="meta", memory_format={memory_format})
mask = torch.empty({shape}[2:], dtype=torch.bool, device="meta")
means = torch.empty({shape}[:2], device="meta")
last = {memory_format} == torch.channels_last
kernels.forward(x, mask, last, means, means)
kernels.backward(means, means, mask, last, torch.empty_like(x))
"""


def masked_pool(shape: tuple[int, ...], dtype: str, last: bool) -> Program:
    memory_format = "torch.channels_last" if last else "torch.contiguous_format"
    code = MASKED_POOL.format(shape=shape, dtype=f"torch.{dtype}", memory_format=memory_format)
    name = f"masked_pool {'x'.join(map(str, shape))} {dtype}{' channels_last' * last}"
    return Program("aimclr_fast.triton_kernels.masked_pool", code, name)


# --- queue_contrast ------------------------------------------------------------------------------

QUEUE_CONTRAST = """
def empty(*size, dtype=torch.float32):
    return torch.empty(*size, dtype=dtype, device="meta")

n, k, d, topk, streams, votes = {n}, {k}, {d}, {topk}, {streams}, {votes}
terms = kernels.Terms(*{terms})
sets, miners = len(terms.teacher), len(terms.miners)
outputs = (
    empty(streams, sets, n), empty(streams, n, miners, topk, dtype=torch.int64),
    empty(streams, n, dtype=torch.int64), empty(streams, sets, n, d),
)
kernels.queue_contrast(
    empty(streams, sets, n, d, dtype={rows}), empty(streams, 1 + max(terms.own_key), n, d),
    [empty(k, d, dtype={queue})] * streams, terms, 0.07, votes, "{precision}", 132, outputs
)
"""


class Asked(NamedTuple):
    """What is asked of the rows: teachers, negatives, aims, keys and miners of the sets."""

    terms: tuple[tuple[int, ...], ...]
    streams: int = 1
    votes: int = 0


AIMCLR = Asked(((-1, 0, 0), (-1,) * 3, (1, 0, 0), (0,) * 3, (0, 1, 2)))
#: Phase 3 of AimCLR++; SkeleMixCLR+, and HiCLR's chain.
METHODS = {
    "aimclr++": Asked(((-1, 0), (-1, -1), (1, 0), (0, 0), (0, 1)), streams=3, votes=2),
    "skelemixclr": Asked(((-1,) * 7, (-1, 2, 1, 4, 3, 6, 5), (1,) * 7, (0, 1, 0, 2, 0, 3, 0), ())),
    "hiclr": Asked(((-1, 0, 1), (-1,) * 3, (1, 0, 0), (0,) * 3, (0, 1, 2))),
}
# Precision, width, topk, dtypes of rows and queue.
QUEUES = [
    ("bf16", 128, 1, "bfloat16", "bfloat16"),
    ("bf16", 128, 1, "float32", "float32"),
    ("bf16", 256, 32, "float32", "float32"),
    ("bf16", 16, 0, "bfloat16", "bfloat16"),
    ("fp16", 256, 5, "float16", "float16"),
    ("fp16", 112, 0, "float16", "float16"),
    ("tf32", 128, 1, "float32", "float32"),
    ("tf32", 256, 0, "float32", "float32"),
    ("tf32", 64, 0, "float32", "float32"),
    ("ieee", 128, 1, "float32", "float32"),
    ("ieee", 256, 0, "float32", "float32"),
    ("ieee", 32, 0, "float32", "bfloat16"),
]
TRAINED = ("tf32", 128, 1, "float32", "float32")  # as training asks, of methods that mine
SIZES = [(128, 32768, 128, 1), (128, 32768, 128, 0), (37, 5003, 256, 32), (512, 8192, 64, 5)]


def queue_contrast(
    precision: str, d: int, topk: int, rows: str, queue: str, n: int = 128, k: int = 32768,
    method: str = "",
) -> Program:  # fmt: skip
    asked = METHODS.get(method, AIMCLR)
    code = QUEUE_CONTRAST.format(
        n=n, k=k, d=d, topk=topk, precision=precision, rows=f"torch.{rows}",
        queue=f"torch.{queue}", **asked._asdict(),
    )  # fmt: skip
    name = f"queue_contrast {precision} {n}x{k}x{d} topk {topk}, {rows} rows, {queue} queue"
    name += f", {method}" if method else ""
    return Program("aimclr_fast.triton_kernels.queue_contrast", code, name)


# --- stgcn_block ---------------------------------------------------------------------------------

STGCN_BLOCK = """
from aimclr_fast.ops import stgcn_block as op
batch, c_in, c_out, frames, joints, taps, stride, residual, training, drop = {block}
groups = 2 if training else 1  # query and extreme view
batch *= groups
half = {precision!r} in ("bf16", "fp16")
def meta(*size, dtype=torch.float32):
    return torch.empty(size, dtype=dtype, device="meta")
def map_of(*size, dtype=torch.bfloat16 if half else torch.float32):
    return meta(*size, dtype=dtype).contiguous(memory_format=torch.channels_last)
shorter, n = -(-frames // stride), 3 if residual == "convolution" else 2
call = op.Call(
    map_of(batch, c_in, frames, joints), meta(3, joints, joints),
    meta(3 * c_out, c_in, 1, 1), meta(3 * c_out), meta(c_out, c_out, taps, 1), meta(c_out),
    meta(n, 2, c_out), meta(c_out, c_in, 1, 1) if n == 3 else None,
    meta(c_out) if n == 3 else None, None if training else meta(n, 2, c_out),
    meta(op.words_of(batch * c_out * shorter * joints), dtype=torch.int64) if drop else None,
    residual == "identity", 2.0, stride, 1e-5, groups, True, None, "triton",
)
saved = op.empty_outputs(call)
kernels.forward(call, saved, {precision!r})
gradient = op.GradientCall(saved.y, *call[:-1], *saved, "triton")
kernels.backward(gradient, op.empty_gradients(gradient), {precision!r})
"""
# Batch of a group, channels in and out, frames, joints, taps, stride, residual, training, dropout.
# The second to fourth block are alike, and the sixth and seventh.
BLOCKS = {
    "1": (256, 3, 16, 50, 25, 9, 1, "none", True, False),
    "2-4": (256, 16, 16, 50, 25, 9, 1, "identity", True, True),
    "5": (256, 16, 32, 50, 25, 9, 2, "convolution", True, True),
    "6-7": (256, 32, 32, 25, 25, 9, 1, "identity", True, True),
    "8": (256, 32, 64, 25, 25, 9, 2, "convolution", True, True),
    "9": (256, 64, 64, 13, 25, 9, 1, "identity", True, True),
    "10": (256, 64, 256, 13, 25, 9, 1, "convolution", True, True),
}


EXACT = ("tf32", "ieee")


def stgcn_block(block: str, precision: str, training: bool = True) -> Program:
    sizes = BLOCKS[block] if training else (*BLOCKS[block][:-2], False, False)
    code = STGCN_BLOCK.format(block=sizes, precision=precision)
    name = f"stgcn_block {block} {precision}{'' if training else ' evaluation'}"
    return Program("aimclr_fast.triton_kernels.stgcn_block", code, name)


def programs() -> list[Program]:
    """All of it."""
    maps = [
        pool(shape, dtype, last)
        for pool in (eadm_pool, masked_pool)
        for shape in MAPS
        for dtype in ("float32", "bfloat16")
        for last in (False, True)
    ]
    blocks = [stgcn_block(block, "bf16") for block in BLOCKS]
    blocks += [stgcn_block(block, precision) for block in ("9", "10") for precision in EXACT]
    blocks.append(stgcn_block("10", "bf16", training=False))
    queues = [queue_contrast(*queue) for queue in QUEUES]
    queues += [queue_contrast(*TRAINED, method=method) for method in METHODS]
    return [*blocks, *maps, *queues]


def real_sizes() -> list[Program]:
    """Those of test_queue_contrast.py::test_real_sizes, which no interpreter runs in time."""
    kinds = [
        ("ieee", "float32"), ("tf32", "float32"), ("bf16", "float32"), ("bf16", "bfloat16"),
        ("fp16", "float16"),
    ]  # fmt: skip
    return [
        queue_contrast(precision, d, topk, dtype, dtype, n, k)
        for precision, dtype in kinds
        for n, k, d, topk in SIZES
    ]

"""skeleton_augment: this package, eager and compiled PyTorch, NumPy sample by sample, the limit.

    pytest benchmarks/bench_skeleton_augment.py --benchmark-only -k "cpu and N128"

Providers:
    cpp, cuda: this package; with "streams", joint, motion and bone at once.
    pinned: cuda, with the data set in pinned host memory.
    eager: the reference, which draws and augments the whole batch in plain PyTorch.
    compiled: the reference through torch.compile.
    numpy: one sample after the other, as data loaders do, with NumPy's own random numbers.
    copy: a copy that moves the bytes that any of them must move: reads each sequence once and
        writes it three times.

Sequences are 3 x 50 x 25 x 2. On a GPU the times are of a replayed CUDA graph with the L2 cache
flushed (extra_info "gpu_us"), and pytest-benchmark's own columns include launches and a
synchronisation. On a CPU torch.set_num_threads decides what the compiled kernel may use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aimclr_fast.functional import AugmentConfig, skeleton_augment, skeleton_augment_streams
from aimclr_fast.layouts import get_layout
from aimclr_fast.ops import skeleton_augment as op
from aimclr_fast.ops._dispatch import explain

SIZES = (32, 128, 512, 4096)
SEQUENCES = 4096
SHAPE = (3, 50, 25, 2)
CPU_LIMIT = {"eager": 512, "compiled": 512, "numpy": 128}  # beyond, it takes seconds
CONFIG = AugmentConfig()
SWAP = list(get_layout("ntu-rgb+d").swap)
Array = npt.NDArray[np.float32]


class Inputs:
    """A resident data set and the index of one batch."""

    def __init__(self, n: int, device: str, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.data = torch.randn(SEQUENCES, *SHAPE, generator=generator).to(device)
        self.index = torch.randint(SEQUENCES, (n,), generator=generator).to(device)
        self.dtype = dtype
        self.step = 0


def package(inputs: Inputs, backend: str, data: Tensor | None = None) -> Any:
    inputs.step += 1
    return skeleton_augment(
        inputs.data if data is None else data,
        inputs.index,
        layout="ntu-rgb+d",
        config=CONFIG,
        seed=0,
        step=inputs.step,
        dtype=inputs.dtype,
        backend=backend,
    )


def streams(inputs: Inputs, backend: str) -> Any:
    inputs.step += 1
    return skeleton_augment_streams(
        inputs.data,
        inputs.index,
        layout="ntu-rgb+d",
        config=CONFIG,
        seed=0,
        step=inputs.step,
        dtype=inputs.dtype,
        backend=backend,
    )


def numpy_view(x: Array, random: np.random.Generator, extreme: bool) -> Array:
    """One view of one sample; the chain of the reference, step by step."""
    frames = x.shape[1]
    padding = frames // CONFIG.crop_ratio
    padded = np.concatenate([x[:, :padding][:, ::-1], x, x[:, -padding:][:, ::-1]], axis=1)
    start = random.integers(2 * padding + 1)
    x = padded[:, start : start + frames]
    shear = random.uniform(-1, 1, (3, 3)) * CONFIG.shear_amplitude
    np.fill_diagonal(shear, 1.0)
    x = np.einsum("ij,jtvm->itvm", shear.astype(np.float32), x)
    if not extreme:
        return x
    if random.random() < CONFIG.spatial_flip_prob:
        x = x[:, :, SWAP]
    limits = np.full(3, CONFIG.rotation_minor_deg)
    limits[random.integers(3)] = CONFIG.rotation_main_deg
    angles = np.radians(random.uniform(0, limits))
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3, dtype=np.float32)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = math.sin(angle), -math.sin(angle)
        x = np.einsum("ij,jtvm->itvm", turn, x)
    if random.random() < CONFIG.noise_prob:
        x = x + random.normal(0.0, CONFIG.noise_std, x.shape).astype(np.float32)
    if random.random() < CONFIG.blur_prob:
        radius = CONFIG.blur_taps // 2
        sigma = random.uniform(CONFIG.blur_sigma_min, CONFIG.blur_sigma_max)
        weights = np.exp(-np.square(np.arange(-radius, radius + 1) / sigma) / 2)
        x = np.apply_along_axis(np.convolve, 1, x, weights, mode="same").astype(np.float32)
    if random.random() < CONFIG.axis_mask_prob:
        x = x.copy()
        x[random.integers(3)] = 0.0
    return x


def numpy_batch(inputs: Inputs) -> list[Array]:
    random = np.random.default_rng(0)
    samples = inputs.data.numpy()[inputs.index.numpy()]
    kinds = (True, False, False)
    return [np.stack([numpy_view(x, random, kind) for x in samples]) for kind in kinds]


def make_provider(name: str, inputs: Inputs) -> Callable[[], Any]:
    if name in ("cpp", "cuda"):
        return lambda: package(inputs, name)
    if name == "streams":
        backend = "cpp" if inputs.index.is_cpu else "cuda"
        return lambda: streams(inputs, backend)
    if name == "pinned":
        data = inputs.data.cpu().pin_memory()
        return lambda: package(inputs, "cuda", data)
    if name == "eager":
        return lambda: package(inputs, "reference")
    if name == "compiled":
        compiled = torch.compile(package, fullgraph=True)
        return lambda: compiled(inputs, "reference")
    if name == "numpy":
        return lambda: numpy_batch(inputs)
    source = inputs.data[inputs.index].to(inputs.dtype).repeat(2, 1, 1, 1, 1)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def why_not(name: str, inputs: Inputs) -> str | None:
    """Why a provider is not timed here, or None."""
    cpu = inputs.index.is_cpu
    if cpu and len(inputs.index) > CPU_LIMIT.get(name, SEQUENCES):
        return "too slow for this size"
    if name == "numpy" and not (cpu and inputs.dtype == torch.float32):
        return "runs on a CPU, in float32"
    if name == "pinned" and cpu:
        return "needs a CUDA device"
    return explain(op.BACKENDS, inputs.index)[name] if name in ("cpp", "cuda") else None


def gpu_microseconds(step: Callable[[], Any]) -> float:
    """Median time of a step in a CUDA graph, with the L2 cache flushed before each."""
    import triton.testing

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return 1e3 * float(triton.testing.do_bench(graph.replay, return_mode="median"))


@pytest.mark.parametrize(
    "provider", ["cpp", "cuda", "streams", "pinned", "eager", "compiled", "numpy", "copy"]
)
@pytest.mark.parametrize("n", SIZES, ids=lambda n: f"N{n}")
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        pytest.param("cpu", torch.float32, id="cpu-float32"),
        pytest.param("cpu", torch.bfloat16, id="cpu-bfloat16"),
        pytest.param("cuda", torch.float32, id="cuda-float32", marks=pytest.mark.cuda),
        pytest.param("cuda", torch.bfloat16, id="cuda-bfloat16", marks=pytest.mark.cuda),
    ],
)
def test_views(benchmark, device, dtype, n, provider):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    inputs = Inputs(n, device, dtype)
    reason = why_not(provider, inputs)
    if reason is not None:
        pytest.skip(reason)
    run = make_provider(provider, inputs)

    def step() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"skeleton_augment {device} {dtype} N={n}"
    benchmark.pedantic(step, rounds=20, warmup_rounds=3)
    written = 9 if provider == "streams" else 3
    elements = n * math.prod(SHAPE)
    benchmark.extra_info["bytes"] = elements * (
        inputs.data.element_size() + written * dtype.itemsize
    )
    if device == "cuda":
        benchmark.extra_info["gpu_us"] = gpu_microseconds(run)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        benchmark.extra_info["extra_bytes"] = torch.cuda.max_memory_allocated() - before

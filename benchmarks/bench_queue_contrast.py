"""queue_contrast, forward and backward: this package, eager PyTorch, public attention, the limit.

    pytest benchmarks/bench_queue_contrast.py --benchmark-only -k "N128"

Providers:
    cpp, triton: this package.
    eager: the losses of equations 8 to 11 in plain PyTorch, with torch.topk for mining.
    attention: torch's scaled_dot_product_attention with keys = values = queue, whose output holds
        the gradients, and torch.topk of the similarities. It yields neither loss nor gradient;
        what it lacks is small beside what it does.
    matmul: the two matrix products alone, the least that any of them multiplies.

On a GPU the times are of a replayed CUDA graph with the L2 cache flushed (extra_info "gpu_us"),
and pytest-benchmark's own columns include launches and a synchronisation.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aimclr_fast.functional import queue_contrast
from aimclr_fast.ops import queue_contrast as op
from aimclr_fast.ops._dispatch import explain
from aimclr_fast.reference.queue_contrast import positive_mask

TEMPERATURE = 0.07
WIDTH = 128
SIZES = [(32, 32768), (128, 32768), (512, 32768), (4096, 32768), (128, 131072), (4096, 131072)]
CPU_LIMIT = 512 * 32768  # rows x keys; beyond, eager runs for seconds and takes gigabytes


class Inputs:
    """Three views that need gradients, their keys, and a queue, all of unit length."""

    def __init__(self, n: int, k: int, device: str, dtype: torch.dtype) -> None:
        generator = torch.Generator(device).manual_seed(0)

        def unit_rows(size: int) -> Tensor:
            rows = torch.randn(size, WIDTH, device=device, generator=generator)
            return F.normalize(rows, dim=1).to(dtype)

        self.views = [unit_rows(n).requires_grad_() for _ in range(3)]
        self.key, self.queue = unit_rows(n), unit_rows(k)


def fused(inputs: Inputs, topk: int, backend: str) -> None:
    out = queue_contrast(
        *inputs.views, inputs.key, inputs.queue, TEMPERATURE, topk, backend=backend
    )
    torch.autograd.grad(out.loss, inputs.views)


def eager(inputs: Inputs, topk: int) -> None:
    key, queue = inputs.key, inputs.queue

    def log_probabilities(rows: Tensor) -> Tensor:
        logits = torch.cat([(rows * key).sum(1, keepdim=True), rows @ queue.T], 1)
        return torch.log_softmax(logits / TEMPERATURE, dim=1)

    log_q, log_e, log_d = map(log_probabilities, inputs.views)
    teacher = log_q.detach().exp()
    positives = torch.zeros_like(teacher)
    positives[:, 0] = 1.0
    if topk:
        with torch.no_grad():
            nearest = [(rows @ queue.T).topk(topk).indices for rows in inputs.views]
            positives = positive_mask(torch.stack(nearest, 1), len(queue)).to(teacher.dtype)
    info_nce = -((log_q * positives).sum(1) / positives.sum(1)).mean()
    d3m = -(teacher * (log_e + log_d)).sum(1).mean()
    torch.autograd.grad(info_nce + d3m / 2, inputs.views)


@torch.no_grad()
def attention(inputs: Inputs, topk: int) -> None:
    rows, queue = torch.cat(inputs.views)[None, None], inputs.queue[None, None]
    F.scaled_dot_product_attention(rows, queue, queue, scale=1 / TEMPERATURE)
    if topk:
        (rows @ queue.mT).topk(topk)


@torch.no_grad()
def matmul(inputs: Inputs, topk: int) -> None:
    torch.cat(inputs.views) @ inputs.queue.T @ inputs.queue


PROVIDERS = {
    "cpp": lambda inputs, topk: fused(inputs, topk, "cpp"),
    "triton": lambda inputs, topk: fused(inputs, topk, "triton"),
    "eager": eager,
    "attention": attention,
    "matmul": matmul,
}


def gpu_microseconds(step) -> float:
    """Median time of a step in a CUDA graph, with the L2 cache flushed before each."""
    import triton.testing

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return 1e3 * float(triton.testing.do_bench(graph.replay, return_mode="median"))


def extra_bytes(step) -> int:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("topk", [0, 1], ids=["plain", "mining"])
@pytest.mark.parametrize(("n", "k"), SIZES, ids=[f"N{n}-K{k}" for n, k in SIZES])
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        pytest.param("cpu", torch.float32, id="cpu-float32"),
        pytest.param("cuda", torch.float32, id="cuda-float32", marks=pytest.mark.cuda),
        pytest.param("cuda", torch.bfloat16, id="cuda-bfloat16", marks=pytest.mark.cuda),
    ],
)
def test_step(benchmark, device, dtype, n, k, topk, provider):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if device == "cpu" and n * k > CPU_LIMIT:
        pytest.skip("too large for a CPU")
    inputs = Inputs(n, k, device, dtype)
    if provider in ("cpp", "triton"):
        reason = explain(op.BACKENDS, inputs.views[0])[provider]
        if reason is not None or (provider, device) == ("triton", "cpu"):
            pytest.skip(reason or "Triton's interpreter is not for timing")

    def step() -> None:
        PROVIDERS[provider](inputs, topk)
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"queue_contrast {device} {dtype} N={n} K={k} topk={topk}"
    benchmark.pedantic(step, rounds=20, warmup_rounds=3)
    benchmark.extra_info["gflop"] = 12e-9 * n * k * WIDTH
    if device == "cuda":
        step_alone = PROVIDERS[provider]
        benchmark.extra_info["gpu_us"] = gpu_microseconds(lambda: step_alone(inputs, topk))
        benchmark.extra_info["extra_bytes"] = extra_bytes(step)

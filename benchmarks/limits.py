"""What the hardware allows, measured in the run that it is compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import torch

from aimclr_fast.nn.precision import use_precision

COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
MATRIX = {"cpu": 2048, "cuda": 8192}
PRECISIONS = ("fp32", "tf32", "bf16")
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """The least a computation must do: bytes read and written once, and operations."""

    bytes: float = 0.0
    flop: float = 0.0
    precision: str = "fp32"


@dataclass(frozen=True)
class Limits:
    """Bytes a second of a copy (read plus written) and FLOP a second of a matrix product."""

    copy: float
    matmul: dict[str, float] = field(default_factory=dict)

    def seconds(self, work: Work) -> float:
        """The time that no implementation beats: the slower of moving and computing."""
        computing = work.flop / self.matmul[work.precision] if work.flop else 0.0
        return max(work.bytes / self.copy, computing)


def set_precision(precision: str) -> None:
    """How float32 products and convolutions are computed on a GPU: exactly, or with tf32."""
    use_precision(precision, torch.device("cuda"))


@lru_cache
def measure(device: str) -> Limits:
    """The limits of "cpu" (with torch's number of threads) or "cuda".

    A copy that fits a cache is faster than this one, so that small cases may pass the limit.
    """
    source = torch.rand(COPY_BYTES[device] // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * COPY_BYTES[device] / _seconds(partial(target.copy_, source), device)
    del source, target

    rates = {}
    size = MATRIX[device]
    for precision in PRECISIONS:
        if device == "cpu" and precision == "tf32":
            continue
        set_precision(precision)
        # Random numbers: zeros run faster than data do.
        a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
        rates[precision] = 2 * size**3 / _seconds(partial(torch.matmul, a, b), device)
    set_precision("fp32")
    return Limits(copy, rates)


def _seconds(run: Callable[[], object], device: str, rounds: int = 7) -> float:
    """Median time of a run, on a GPU by its own clock, after two that warm up."""
    timed = events if device == "cuda" else _wall
    return statistics.median([timed(run) for _ in range(rounds + 2)][2:])


def _wall(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def events(run: Callable[[], object]) -> float:
    """Seconds on the current stream of the GPU."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1e3

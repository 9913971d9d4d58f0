"""Time and memory of a step, alone or in turn with the step it is compared with."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from limits import events

from aimclr_fast.training.graph import capture

ROUNDS = (5, 50)  # fewest and most
FLUSH_BYTES = 256 << 20  # more than any GPU's L2 cache


class Unavailable(Exception):
    """A provider cannot run a case; the message says why."""


@dataclass(frozen=True)
class Step:
    """Something to time.

    Attributes:
        run: does the work, `calls` times over.
        calls: what the time is divided by.
        graph: can be captured in a CUDA graph; if not, launches are part of its GPU time.
        host: works on the host, too, so that only wall time counts.
        workers: has worker processes, whose memory cannot be seen from here.
        warmup: runs before it is as fast as it gets.
        precision: of its products, where that is not the case's.
        eager: does the same work without a graph of its own, whose memory torch does not count.
    """

    run: Callable[[], object]
    calls: int = 1
    graph: bool = True
    host: bool = False
    workers: bool = False
    warmup: int = 1
    precision: str | None = None
    eager: Callable[[], object] | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds a call: median and quartiles of `rounds` rounds."""

    median: float
    low: float
    high: float
    rounds: int
    how: str  # "wall", "graph" or "events"

    @staticmethod
    def of(seconds: Sequence[float], calls: int, how: str) -> Timing:
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return Timing(median / calls, low / calls, high / calls, len(seconds), how)


def synchronized(step: Step, device: str) -> Callable[[], None]:
    def run() -> None:
        step.run()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def stopwatch(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def rounds_within(budget: float, seconds: float) -> int:
    """How many rounds of `seconds` fit the budget, within ROUNDS."""
    fewest, most = ROUNDS
    return max(fewest, min(most, int(budget / max(seconds, 1e-9))))


def large(used: int | None) -> bool:
    """A graph would hold on to so much memory that what it is compared with may not fit."""
    return used is not None and used > torch.cuda.get_device_properties(0).total_memory / 8


def gpu_timings(steps: Sequence[Step], budget: float) -> list[Timing]:
    """Time on the GPU of each step, in turns, each round with a cold L2 cache.

    A step is replayed as a CUDA graph. Where it cannot be captured it is launched as usual between
    two events.
    """
    replays = [_captured(step) for step in steps]
    runs = [replay or step.run for replay, step in zip(replays, steps, strict=True)]
    flush = torch.empty(FLUSH_BYTES // 4, device="cuda")
    torch.cuda.synchronize()
    seconds = sum(stopwatch(synchronized(Step(run), "cuda")) for run in runs)
    rounds = rounds_within(budget, seconds)
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for run, into in zip(runs, times, strict=True):
            flush.zero_()
            into.append(events(run))
    return [
        Timing.of(into, step.calls, "graph" if replay else "events")
        for into, step, replay in zip(times, steps, replays, strict=True)
    ]


def _captured(step: Step) -> Callable[[], None] | None:
    if not step.graph:
        return None

    def run() -> None:
        step.run()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    try:
        graph, _ = capture(run, side)
    except RuntimeError as error:  # out of memory is one
        torch.cuda.empty_cache()
        warnings.warn(f"not captured in a CUDA graph: {str(error).splitlines()[0]}", stacklevel=2)
        return None
    return graph.replay


#: While memory is measured, blocks from this size on come from the system and go back to it.
FRESH_BYTES = 1 << 16
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt
#: What glibc's own thresholds grow to by themselves in a process that frees large blocks.
KEPT_BYTES = {M_TRIM_THRESHOLD: 64 << 20, M_MMAP_THRESHOLD: 32 << 20}
IS_MMAPPED = 2  # in the word before a block


@contextmanager
def fresh_blocks() -> Iterator[None]:
    """Have the allocator (glibc's) keep nothing that is freed, and hand out nothing that it kept.

    Or how far the resident set grows depends on what was freed before: glibc keeps any amount
    between blocks in use, takes a block from it, and the next one, which may not fit, from
    elsewhere, although the first has been freed.

    Raises:
        AttributeError: the C library is another one.
        OSError: another allocator may have been loaded before it.
    """
    if os.environ.get("LD_PRELOAD"):
        raise OSError("LD_PRELOAD is set")
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for threshold in KEPT_BYTES:
        libc.mallopt(threshold, FRESH_BYTES)
    held, size = [], 1 << 40
    while size >= FRESH_BYTES:  # takes what is kept, without touching it
        block = libc.malloc(size)
        kept = block and not ctypes.c_size_t.from_address(block - 8).value & IS_MMAPPED
        if kept:
            held.append(block)
        else:
            libc.free(block)
            size //= 2
    try:
        yield
    finally:
        for block in held:
            libc.free(block)
        for threshold, size in KEPT_BYTES.items():
            libc.mallopt(threshold, size)


def extra_bytes(step: Step, device: str) -> int | None:
    """Memory that a step needs beyond what was there before, at its peak.

    On a GPU what torch allocates. On the CPU the growth of the process's resident memory, whoever
    allocated it; None where Linux does not tell, where the allocator is not glibc's, or where
    workers allocate.
    """
    run = step.eager or step.run
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if step.workers:
        return None
    try:
        with fresh_blocks():
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            before = _status("VmRSS")
            run()
            return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {field}")

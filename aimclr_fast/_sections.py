"""Named parts of a training step, for the profiler. They cost next to nothing otherwise."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function

_active: SectionTimer | None = None


class SectionTimer:
    """Adds up the time of each section while it is active; on a GPU, the GPU's own time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._milliseconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        if not self._cuda:
            began = time.perf_counter()
            yield
            self._milliseconds[name] += 1e3 * (time.perf_counter() - began)
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((name, begin, end))

    def milliseconds(self) -> dict[str, float]:
        """Total of each section, in the order of first use; waits for the GPU."""
        if self._cuda:
            torch.cuda.synchronize()
        for name, begin, end in self._events:
            self._milliseconds[name] += begin.elapsed_time(end)
        self._events.clear()
        return dict(self._milliseconds)


@contextmanager
def timing(timer: SectionTimer) -> Iterator[None]:
    """Have `timer` see every section inside."""
    global _active
    _active = timer
    try:
        yield
    finally:
        _active = None


@contextmanager
def section(name: str) -> Iterator[None]:
    """A part of the step: a range in traces, and a row of the active timer."""
    if _active is None:
        yield
        return
    with record_function(name), _active.timed(name):
        yield

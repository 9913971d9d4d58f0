"""The code that times on a GPU, run with stand-ins for torch.cuda: its calls, not its numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import limits
import measure
import pytest
import torch
from measure import Step

from aimclr_fast.training import graph


class Event:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.seconds - self.seconds)


class Stream:
    device = SimpleNamespace(index=0)

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


class Graph:
    """What is replayed is nothing; how often is counted."""

    made: ClassVar[list[Graph]] = []

    def __init__(self) -> None:
        self.replays = 0
        self.made.append(self)

    def replay(self) -> None:
        self.replays += 1


class Generator:
    def clone_state(self) -> str:
        return "state"

    def graphsafe_set_state(self, state: str) -> None:
        assert state == "state"


CAPTURES = False


@contextmanager
def capturing(graph: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    global CAPTURES
    CAPTURES = True
    try:
        yield
    finally:
        CAPTURES = False


def on_cpu(make: Any) -> Any:
    return staticmethod(lambda *sizes, device=None, **options: make(*sizes, **options))


class FakeTorch:
    """torch, but its GPU is the CPU."""

    cuda = SimpleNamespace(
        CUDAGraph=Graph,
        Event=Event,
        Stream=Stream,
        current_stream=Stream,
        default_generators=[Generator()],
        empty_cache=lambda: None,
        get_device_properties=lambda _: SimpleNamespace(total_memory=1 << 20),
        graph=capturing,
        max_memory_allocated=lambda: 1 << 18,
        memory_allocated=lambda: 1 << 17,
        reset_peak_memory_stats=lambda: None,
        set_stream=lambda stream: None,
        stream=lambda stream: nullcontext(),
        synchronize=lambda: None,
    )
    empty, rand, randn = map(on_cpu, (torch.empty, torch.rand, torch.randn))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@pytest.fixture
def gpu(monkeypatch):
    for module in (limits, measure, graph):
        monkeypatch.setattr(module, "torch", FakeTorch())
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(measure, "FLUSH_BYTES", 1 << 10)
    monkeypatch.setattr(limits, "set_precision", lambda precision: None)
    monkeypatch.setattr(limits, "COPY_BYTES", {"cuda": 1 << 20})
    monkeypatch.setattr(limits, "MATRIX", {"cuda": 64})


def test_events_give_seconds(gpu):
    assert 0.02 <= limits.events(lambda: time.sleep(0.02)) < 1.0


def test_limits_are_measured_in_each_precision(gpu):
    found = limits.measure.__wrapped__("cuda")
    assert found.copy > 0
    assert set(found.matmul) == {"fp32", "tf32", "bf16"}


def test_captured_steps_are_replayed_and_others_launched(gpu):
    ran = []

    def cannot_be_captured() -> None:
        if CAPTURES:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        ran.append(1)

    steps = [
        Step(lambda: None, calls=2),
        Step(cannot_be_captured),
        Step(lambda: None, graph=False),
    ]
    with pytest.warns(UserWarning, match="not captured in a CUDA graph: operation not permitted"):
        timings = measure.gpu_timings(steps, 0.0)
    assert [timing.how for timing in timings] == ["graph", "events", "events"]
    fewest = measure.ROUNDS[0]
    assert {timing.rounds for timing in timings} == {fewest}
    assert Graph.made[0].replays == fewest + 1  # one to see how long it takes
    assert len(ran) == fewest + 2  # and one before the attempt


def test_memory_is_what_torch_allocated(gpu):
    assert measure.extra_bytes(Step(lambda: None, workers=True), "cuda") == 1 << 17
    assert measure.large(1 << 18)
    assert not measure.large(1 << 16)

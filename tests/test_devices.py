"""Work beside other work on a GPU; without one it runs in its turn."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast import _devices
from aimclr_fast._devices import Fork
from aimclr_fast.training.graph import capture


def work(x: torch.Tensor, aside: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What the branch makes of x, and what is made beside it."""
    x = x + 1
    fork = Fork(x.device, aside=aside)
    beside = x
    for _ in range(50):
        beside = beside.cos()
    with fork.branch():
        result = x
        for _ in range(50):
            result = result.sin()
    fork.join(result)
    return 2 * result, beside


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_branch_changes_no_result(device):
    x = torch.randn(1 << 16, device=device)
    for one, other in zip(work(x, aside=True), work(x, aside=False), strict=True):
        assert torch.equal(one, other)


def test_the_branch_waits_and_is_waited_for(monkeypatch):
    """On streams that only say what they are asked for."""
    said: list[str] = []

    class Stream:
        device = torch.device("cuda", 0)

        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            said.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            said.append(f"on {self.name}")

        def __exit__(self, *_: object) -> None:
            said.append("back")

    class Result:
        def record_stream(self, stream: Stream) -> None:
            said.append(f"result is used on {stream.name}")

    main, side = Stream("main"), Stream("side")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(_devices, "_side_stream", lambda device: side)
    fork = Fork(main.device)
    said.append("main goes on")
    with fork.branch():
        said.append("work")
    fork.join(Result())
    assert said == [
        "side waits for main", "main goes on", "on side", "work", "back",
        "main waits for side", "result is used on main",
    ]  # fmt: skip


@pytest.mark.cuda
def test_a_branch_is_captured_with_the_rest():
    x = torch.randn(1 << 16, device="cuda")
    found: list[torch.Tensor] = []

    def step() -> None:
        found[:] = work(x, aside=True)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph, _ = capture(step, stream)
    for _ in range(3):
        x.normal_()
        graph.replay()
        for one, other in zip(found, work(x, aside=False), strict=True):
            assert torch.equal(one, other)

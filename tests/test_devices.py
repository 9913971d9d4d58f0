"""Work beside other work on a GPU; without one it runs in its turn."""

from __future__ import annotations

import pytest
import torch

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

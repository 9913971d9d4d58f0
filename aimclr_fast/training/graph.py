"""A training step as a CUDA graph: launched as a whole, without Python in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP = (
    3  # steps run one kernel at a time: they compile kernels and allocate the optimiser's state
)


class GraphedStep:
    """Runs a step, from the fourth time on as a captured graph.

    The step reads and writes the same tensors each time, asks nothing of the host, and counts
    nothing in Python. The first calls run it as it is, so that no step is taken twice or lost. If
    it cannot be captured, it goes on as it is and `why_not` says why.

    Args:
        step: a function of no arguments that returns a tensor.
    """

    def __init__(self, step: Callable[[], Tensor]) -> None:
        self._step = step
        self._calls = 0
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self._stream = torch.cuda.Stream()
        self.why_not: str | None = None

    def __call__(self) -> Tensor:
        """One step; the tensor it returns is overwritten by the next one."""
        if self._calls < WARMUP or self.why_not is not None:
            self._calls += 1
            return self.alone()
        if self._captured is None:
            try:
                self._captured = self._capture()
            except RuntimeError as error:
                torch.cuda.synchronize()
                self.why_not = str(error).splitlines()[0]
                return self.alone()
        graph, output = self._captured
        graph.replay()
        return output

    def alone(self) -> Tensor:
        """One step, kernel by kernel."""
        if self.why_not is not None:
            return self._step()
        # On the stream of the capture, where autograd will look for its gradients.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            output = self._step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            output = self._step()
        return graph, output

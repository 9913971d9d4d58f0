"""A training step as a CUDA graph: launched as a whole, without Python in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Steps before the capture: they compile kernels and allocate the optimizer's state.
WARMUP = 3


def capture(
    step: Callable[[], Tensor | None], cuda_stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Tensor | None]:
    """Capture a step on a CUDA stream, without running it.

    Raises:
        RuntimeError: it cannot be captured. The current CUDA stream and the random generator are
            restored, which torch does not do.
    """
    generator = torch.cuda.default_generators[cuda_stream.device.index]
    current, state = torch.cuda.current_stream(), generator.clone_state()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=cuda_stream, capture_error_mode="thread_local"):
            output = step()
    except RuntimeError:
        torch.cuda.set_stream(current)
        generator.graphsafe_set_state(state)
        torch.cuda.synchronize()
        raise
    return graph, output


class GraphedStep:
    """Runs a step, from the fourth time on as a captured graph.

    The step must read and write the same tensors each time, must not wait for the device, and must
    not change state in Python. The first calls run it kernel by kernel, so that no step is repeated
    or lost. If it cannot be captured, all calls do, and `why_not` says why.

    The step, a function of no arguments that returns a tensor, is passed to each call and not
    stored: its owner holds this object, and the reference cycle would live until the garbage
    collector runs.

    Args:
        device: the GPU it runs on, which must be the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._calls = 0
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self._cuda_stream = torch.cuda.Stream(device)
        self.why_not: str | None = None

    def __call__(self, step: Callable[[], Tensor]) -> Tensor:
        """One step; the next call overwrites the tensor that it returns."""
        if self._calls < WARMUP or self.why_not is not None:
            self._calls += 1
            return self.alone(step)
        if self._captured is None:
            try:
                graph, output = capture(step, self._cuda_stream)
            except RuntimeError as error:
                self.why_not = str(error).splitlines()[0]
                return self.alone(step)
            assert output is not None, "a step returns a tensor"
            self._captured = graph, output
        graph, output = self._captured
        graph.replay()
        return output

    def free(self) -> None:
        """Destroy the graph whatever still refers to it; a later step captures another."""
        if self._captured is not None:
            self._captured[0].reset()
            self._captured = None

    def alone(self, step: Callable[[], Tensor]) -> Tensor:
        """One step, kernel by kernel."""
        if self.why_not is not None:
            return step()
        # On the CUDA stream of the capture, where autograd will expect its gradients.
        self._cuda_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._cuda_stream):
            output = step()
        torch.cuda.current_stream().wait_stream(self._cuda_stream)
        return output

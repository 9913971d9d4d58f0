"""Devices by name, and work beside other work on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

TYPES = ("cpu", "cuda")


def usable_device(name: str) -> torch.device:
    """`name` as a device that works here; a GPU with a number becomes the current one.

    Args:
        name: cpu, cuda, cuda:N, or auto for a GPU where there is one.

    Raises:
        ValueError: there is no such device, or it cannot be used.
    """
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in TYPES:
            raise RuntimeError(f"it must be auto, {', '.join(TYPES)} or cuda:N")
        torch.zeros(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs belong to the current one
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {asked!r}, which cannot be used here: {reason}") from error
    return device


class Fork:
    """A branch of the work on a GPU that is to run beside what the current stream is given next.

    It begins where the object is made. In a captured graph it becomes a branch of the graph.
    Without a GPU, or with `aside` false, what is inside simply runs in its turn.

    Args:
        device: of the tensors.
        aside: whether to leave the current stream.
    """

    def __init__(self, device: torch.device, aside: bool = True) -> None:
        self._stream = _side_stream(device) if aside and device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What is inside depends on nothing that the current stream was given since the fork."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def join(self, *results: Tensor) -> None:
        """The current stream waits for the branch, whose results it uses from here on."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for result in results:  # or their memory could be handed out again on the side
            result.record_stream(current)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)

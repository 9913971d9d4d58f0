"""Several processes that train as one: their messages, and what happens when one is lost.

Each process (rank) takes its share of the global batch. A step exchanges two messages: the mean of
gradients, running statistics and losses, as one tensor, and the keys. The gradient of an encoder
this small (1.5 MB) takes one message as long as its latency, so there is nothing to gain from
sending parts of it early, as DistributedDataParallel does; and a step stays one CUDA graph.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from aimclr_fast._errors import Error

TIMEOUT = timedelta(minutes=30)
# torch 2.13 has a new name for it.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class RankLostError(Error, RuntimeError):
    """Another process of the job has ended or cannot be reached."""


class OtherRankError(Error, RuntimeError):
    """Another process has failed, and reports its error itself."""


class Ranks:
    """The processes of a job, one for each GPU. Made by `join`; by itself, a job of one process.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        local_rank: of this process among those on its machine.
        local_size: number of processes on its machine.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1
    ) -> None:
        self.rank, self.size = rank, size
        self.local_rank, self.local_size = local_rank, local_size
        # A second group, so that hosts can agree without waiting for their GPUs.
        self._hosts = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None

    @property
    def first(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(abort=kind is not None)

    def close(self, *, abort: bool = False) -> None:
        """Leave the job; CUDA graphs that hold its messages must be gone.

        Args:
            abort: after an error: do not wait for messages that another process may never receive.
        """
        if self.size == 1:
            return
        world = dist.group.WORLD
        if abort and world is not None and dist.get_backend() == "nccl":
            world.abort()
        else:
            dist.destroy_process_group()

    # --- Between devices, in the order of the ranks ----------------------------------------------

    def share(self, rows: Tensor) -> Tensor:
        """This rank's part of [N, ...], N a multiple of the size."""
        return rows.tensor_split(self.size)[self.rank]

    def mean_(self, tensor: Tensor) -> Tensor:
        """The mean over the ranks, in place; bitwise the same on all of them."""
        if self.size > 1:
            with _noticing():
                dist.all_reduce(tensor)
            tensor.div_(self.size)
        return tensor

    def gather(self, rows: Tensor) -> Tensor:
        """The [N, ...] of all ranks, the same N on each, as [size * N, ...]."""
        if self.size == 1:
            return rows
        parts = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        with _noticing():
            _all_gather(parts, rows.contiguous())
        return parts

    def __call__(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks; differentiable if the loss is the sum of each rank's."""
        total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
        return total

    # --- Between hosts ---------------------------------------------------------------------------

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Which flags are set on any rank."""
        if self.size == 1:
            return flags
        tensor = torch.tensor(flags, dtype=torch.uint8)
        with _noticing():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._hosts)
        return tuple(map(bool, tensor.tolist()))

    def collect(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _noticing():
            dist.all_gather_object(values, value, group=self._hosts)
        return values

    def from_first(self, value: Any) -> Any:
        """The first rank's value."""
        if self.size == 1:
            return value
        values = [value]
        with _noticing():
            dist.broadcast_object_list(values, group=self._hosts)
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """An error in the block on one rank is raised on all ranks.

        Nothing may be exchanged inside. The lowest rank with an error raises it; all others raise
        `OtherRankError`.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as met:
            error = met
        failed = [error is not None for error in self.collect(error and str(error))]
        if not any(failed):
            return
        try:
            if error is None or failed.index(True) != self.rank:
                raise OtherRankError("another process has met an error")
            raise error
        finally:
            del error  # its traceback holds this frame


def join(device: str) -> Ranks:
    """Join the job that torchrun has started, or be a job of one process.

    Args:
        device: as configured; with GPUs the ranks talk through NCCL, on CPUs through gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "MASTER_ADDR" not in os.environ:
        return Ranks()
    gpus = not device.startswith("cpu") and torch.cuda.is_available()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    with _noticing():
        dist.init_process_group("nccl" if gpus else "gloo", timeout=TIMEOUT)
        return Ranks(
            dist.get_rank(), size, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", size))
        )


def average_(ranks: Ranks, groups: Sequence[Sequence[Tensor]]) -> None:
    """Replace tensors by their means over the ranks, all in one message."""
    tensors = [tensor for group in groups for tensor in group]
    message = ranks.mean_(torch.cat([tensor.flatten() for tensor in tensors]))
    parts = message.split([tensor.numel() for tensor in tensors])
    rows = [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
    torch._foreach_copy_(tensors, rows)


@contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Without gloo's source location and advice.
        reason = re.sub(r"^\[[^]]*\] ", "", str(error)).splitlines()[0].partition(". ")[0]
        raise RankLostError(
            f"another process of the job has ended or cannot be reached ({reason})"
        ) from error


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        with _noticing():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        with _noticing():
            dist.all_reduce(total)
        return total

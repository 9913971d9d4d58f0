"""Where the sequences of a run are kept, and how a batch of them reaches the augmentation."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aimclr_fast._errors import Error

PLACEMENTS = ("auto", "device", "pinned", "mmap")
SHARE = 0.5  # part of the free memory that data may take


class PlacementError(Error, ValueError):
    """The data cannot be kept in the requested memory."""


class Placed(NamedTuple):
    """Sequences [S, 3, T, V, M] where they will be read.

    Attributes:
        data: on the training device, in pinned host memory, or mapped from the file.
        where: "device", "pinned" or "mmap".
        reason: why, for messages.
    """

    data: Tensor
    where: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Rows `index` [N] of `data` [S, 3, T, V, M]."""

    data: Tensor
    index: Tensor


def place_sequences(
    positions: npt.NDArray[np.generic], device: torch.device, choice: str, processes: int = 1
) -> Placed:
    """Keep the sequences in the fastest memory that is large enough, or where `choice` says.

    Args:
        positions: [S, 3, T, V, M], maybe mapped from a file.
        device: what trains.
        choice: "device"; "pinned" (host memory that the GPU reads in place); "mmap" (left in the
            file; the next batch is read while this one is trained on); "auto".
        processes: number of processes on this machine, each of which keeps its own copy.

    Raises:
        PlacementError: pinned memory without a GPU, or more than the device has free.
    """
    size = positions.nbytes
    if device.type != "cuda":
        if choice == "pinned":
            raise PlacementError("pinned memory is read by a GPU, and this runs on the CPU")
        free = _free_host_memory() / processes
        if choice == "mmap" or (choice == "auto" and size > SHARE * free):
            return Placed(_mapped(positions), "mmap", _sizes(size, free, "memory"))
        return Placed(torch.from_numpy(np.array(positions)), "device", _sizes(size, free, "memory"))

    free = torch.cuda.mem_get_info(device)[0]
    sizes = _sizes(size, free, "GPU memory")
    # Integers are millimeters, and stay so.
    halved = positions.dtype == np.float32 and size > SHARE * free
    needed = size // 2 if halved else size
    if choice == "device" or (choice == "auto" and needed <= SHARE * free):
        if needed > free:
            raise PlacementError(f"the device cannot hold the data: {sizes}")
        reason = f"{sizes}; kept as float16" if halved else sizes
        dtype = torch.float16 if halved else None
        empty = torch.empty(positions.shape, dtype=dtype or _dtype(positions), device=device)
        return Placed(_filled(empty, positions), "device", reason)
    free = _free_host_memory() / processes
    needed = 1 << (size - 1).bit_length()  # torch pins powers of two
    if choice == "pinned" or (choice == "auto" and needed <= SHARE * free):
        if needed > free:
            raise PlacementError(f"{_sizes(needed, free, 'memory')}, as pinned memory")
        empty = torch.empty(positions.shape, dtype=_dtype(positions), pin_memory=True)
        reason = f"{sizes}; the GPU reads host memory in place"
        return Placed(_filled(empty, positions), "pinned", reason)
    return Placed(_mapped(positions), "mmap", f"{sizes}, {_gigabytes(free)} of memory")


def batches(placed: Placed, index: list[Tensor], device: torch.device) -> Iterator[Batch]:
    """The batches of an epoch; rows left in a file are read one batch ahead.

    Args:
        placed: the sequences.
        index: for each batch the samples [N] in it.
        device: where the batches are needed.
    """
    if not index:  # a run resumed at the end of an epoch
        return
    if placed.where != "mmap":
        for rows in index:
            yield Batch(placed.data, rows.to(device, non_blocking=True))
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as reader:
        ahead: Future[Tensor] | None = None
        for now, after in zip(index, [*index[1:], None], strict=True):
            rows = ahead.result() if ahead is not None else _read(placed.data, now, device)
            ahead = None if after is None else reader.submit(_read, placed.data, after, device)
            rows = rows.to(device, non_blocking=True)
            yield Batch(rows, torch.arange(len(now), device=device))


def _read(data: Tensor, index: Tensor, device: torch.device) -> Tensor:
    rows = data.index_select(0, index)
    return rows.pin_memory() if device.type == "cuda" else rows


def _mapped(positions: npt.NDArray[np.generic]) -> Tensor:
    if not isinstance(positions, np.memmap):
        raise PlacementError(
            "only a store's positions.npy can be mapped; the positions of this one are compressed, "
            "turned or joined, and so in memory"
        )
    with warnings.catch_warnings():
        # torch has no read-only tensors. Nothing writes to this one, and a mapping that could be
        # written to would be counted against memory, which it may exceed.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(positions)


def _dtype(positions: npt.NDArray[np.generic]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, positions.dtype)).dtype


def _filled(target: Tensor, positions: npt.NDArray[np.generic], rows: int = 4096) -> Tensor:
    """`target`, filled piece by piece: there may be no memory for a second copy."""
    for first in range(0, len(positions), rows):
        piece = torch.from_numpy(np.array(positions[first : first + rows]))
        target[first : first + rows].copy_(piece)
    return target


def _free_host_memory() -> float:
    """In bytes; infinity if unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return math.inf


def _gigabytes(size: float) -> str:
    if math.isinf(size):
        return "an unknown amount"
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def _sizes(size: float, free: float, memory: str) -> str:
    return f"{_gigabytes(size)} of sequences, {_gigabytes(free)} of {memory} free"

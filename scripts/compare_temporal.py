"""Time a block with its temporal convolution direct and over frequencies (compare_temporal.sh)."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from aimclr_fast import native
from aimclr_fast.functional import stgcn_block

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import results

BATCH, JOINTS, PARTS, TAPS = 32, 25, 3, 9
# Widths of the published encoder with its frames there, and one between.
SHAPES = ((16, 50), (32, 25), (64, 13), (128, 13), (256, 13))
ROUNDS = 12


def load(path: str) -> None:
    """Use this library in place of the package's."""
    spec = importlib.util.spec_from_file_location("_native", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    native.load = lambda: module


def seconds(channels: int, frames: int) -> tuple[float, float]:
    """Of the forward and of the backward pass of a block without dropout."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, channels, frames, JOINTS).to(torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    adjacency = torch.eye(JOINTS).roll(1, 0).repeat(PARTS, 1, 1).requires_grad_()

    def convolution(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        weight = 0.05 * torch.randn(*shape)
        return weight.requires_grad_(), torch.zeros(shape[0], requires_grad=True)

    spatial = convolution(PARTS * channels, channels, 1, 1)
    temporal = convolution(channels, channels, TAPS, 1)
    norms = torch.stack([torch.ones(2, channels), torch.zeros(2, channels)], 1).requires_grad_()
    start = time.perf_counter()
    y, _ = stgcn_block(x, adjacency, spatial, temporal, norms, residual="identity", backend="cpp")
    between = time.perf_counter()
    y.backward(torch.ones_like(y))
    return between - start, time.perf_counter() - between


def serve(path: str) -> None:
    load(path)
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(*seconds(*map(int, line.split())), flush=True)


def rows(paths: list[str]) -> Iterator[dict[str, object]]:
    """One process a library, asked in turns."""
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for path in paths
    ]  # fmt: skip
    for channels, frames in SHAPES:
        found: list[list[list[float]]] = [[], []]
        for turn in range(ROUNDS + 2):
            for server, into in zip(servers, found, strict=True):
                assert server.stdin is not None
                assert server.stdout is not None
                server.stdin.write(f"{channels} {frames}\n")
                server.stdin.flush()
                times = [1e3 * float(word) for word in server.stdout.readline().split()]
                if turn >= 2:
                    into.append(times)
        for at, name in enumerate(("forward", "backward")):
            direct, frequencies = ([each[at] for each in one] for one in found)
            ratios = [a / b for a, b in zip(direct, frequencies, strict=True)]
            yield {
                "level": native.load().cpu_level(),
                "channels": channels,
                "frames": frames,
                "pass": name,
                "direct_ms": round(statistics.median(direct), 2),
                "frequencies_ms": round(statistics.median(frequencies), 2),
                "direct_over_frequencies": round(statistics.median(ratios), 2),
            }
    for server in servers:
        server.communicate()


def main() -> None:
    if len(sys.argv) == 2:
        serve(sys.argv[1])
        return
    *paths, out = sys.argv[1:]
    found = [{**row, **results.machine_cells()} for row in rows(paths)]
    results.write_cells(Path(out), found, list(found[0]))
    print(*(tuple(row.values()) for row in found), sep="\n")


if __name__ == "__main__":
    main()

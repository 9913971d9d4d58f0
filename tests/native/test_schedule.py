"""How much of many threads has work in the encoder's blocks: a simulated schedule.

`simulated_blocks.cpp` runs the passes of stgcn_block with kernels that count what they would
compute, and hands items to threads in the order in which they would be free. What is left out is
what no thread shares: under a percent of a step in one thread.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from missing import compiler, require
from native.conftest import ROOT

from aimclr_fast.nn import STGCN

HERE = Path(__file__).parent
BODIES, FRAMES, JOINTS = 2, 50, 25


class Pass(NamedTuple):
    name: str
    cost: float  # of all work, in multiply-adds
    length: float  # until the last thread is done
    regions: int
    bytes: int  # of the workspace


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    require(compiler(), "no C++ compiler was found")
    binary = tmp_path_factory.mktemp("schedule") / "simulated_blocks"
    ours = ROOT / "csrc/cpu/stgcn_block"
    sources = [HERE / "simulated_blocks.cpp", *sorted(ours.glob("stgcn_block_*ward.cpp"))]
    built = subprocess.run(
        [compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror",
         "-I", str(HERE / "simulated"), "-I", str(ROOT / "csrc"), *sources, "-o", str(binary)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return binary


@cache
def passes(program: Path, samples: int, threads: int) -> list[Pass]:
    """Both passes of each block of the published encoder."""
    lines, frames = [], FRAMES
    for block in STGCN("ntu-rgb+d").blocks:
        shapes = {name: value.shape for name, value in block.named_parameters()}
        (rows, width), (out, _, taps) = (
            shapes[f"{name}.weight"][:count]
            for name, count in (("spatial.conv", 2), ("temporal", 3))
        )
        sizes = [samples * BODIES, threads, width, out, frames, JOINTS, rows // out, taps]
        lines.append(" ".join(map(str, (*sizes, block.stride, int("residual.0.weight" in shapes)))))
        frames = -(-frames // block.stride)
    done = subprocess.run(
        [program], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        name, *numbers = line.split()
        found.append(Pass(name, *map(float, numbers[:2]), *map(int, numbers[2:])))
    assert len(found) == 2 * len(lines)
    return found


def used(found: list[Pass], threads: int) -> float:
    """The share of all threads' time in which they have work."""
    return sum(each.cost for each in found) / (threads * sum(each.length for each in found))


@pytest.mark.parametrize(
    ("samples", "threads", "least"),
    [(16, 2, 0.99), (16, 16, 0.95), (64, 16, 0.95), (64, 64, 0.85), (16, 64, 0.5)],
)
def test_many_threads_have_work(program, samples, threads, least):
    """At 16 sequences a sample is the smallest part of most passes: 32 samples, 64 threads."""
    found = passes(program, samples, threads)
    assert used(found, threads) > least
    assert all(used([each], threads) > least - 0.15 for each in found)


def test_memory_and_regions_stay_few(program):
    few, many = passes(program, 16, 2), passes(program, 64, 64)
    assert max(each.bytes for each in few) < 80 << 20
    assert max(each.bytes for each in many) < 600 << 20
    # Of the parallel regions of two threads, many are only some hundred microseconds long.
    assert sum(each.regions for each in few) < 250
    assert sum(each.regions for each in many) < 200

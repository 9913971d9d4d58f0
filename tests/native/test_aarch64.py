"""stgcn_block on 64-bit ARM: by GNU's cross compiler and QEMU's user mode, where both are there.

`apt-get install g++-aarch64-linux-gnu qemu-user-static` installs them on Debian.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from native.conftest import ROOT
from ops.test_stgcn_block import Case, assert_equal, converted, leaves, make, run

COMPILER = shutil.which("aarch64-linux-gnu-g++")
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="aarch64-linux-gnu-g++ was not found"),
    pytest.mark.skipif(QEMU is None, reason="qemu-aarch64 was not found"),
]
CASES = [
    Case(2, 16, 16, 6, 25, taps=5, drop=False),
    Case(5, 16, 32, 6, 9, stride=2, residual="convolution", drop=False),
    Case(5, 32, 32, 10, 5, taps=7, drop=False),  # over frequencies
    Case(2, 5, 7, 4, 3, residual="convolution", drop=False),  # channels that fill no vector
]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    binary = tmp_path_factory.mktemp("aarch64") / "block_pipe"
    cpu = ROOT / "csrc/cpu"
    sources = [*sorted((cpu / "stgcn_block").glob("*.cpp")), cpu / "levels.cpp"]
    built = subprocess.run(
        [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread",
         "-DAIMCLR_LEVEL=baseline", "-I", str(ROOT / "csrc"),
         str(Path(__file__).with_name("block_pipe.cpp")), *sources, "-o", str(binary)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return binary


def by_channels(name: str, value: torch.Tensor) -> torch.Tensor:
    """A map as the library has it, [B, T, V, C], and everything else as it is."""
    return value.permute(0, 2, 3, 1) if name in ("x", "y") else value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(program, case, dtype):
    exact = make(case)
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints).double()
    wanted = run(converted(exact, torch.float64), grad, "reference")
    inputs = [by_channels(name, value) for name, value in leaves(exact).items()]
    inputs.append(by_channels("y", grad))
    residual = case.residual == "convolution"
    sizes = (
        case.batch,
        case.channels,
        case.out,
        case.frames,
        case.joints,
        3,
        case.taps,
        case.stride,
    )
    options = dtype == torch.float64, residual, 3, *sizes
    done = subprocess.run(
        [QEMU, program, *(str(int(each)) for each in options)],
        input=b"".join(each.to(dtype).contiguous().numpy().tobytes() for each in inputs),
        capture_output=True, check=True,
    )  # fmt: skip
    values = torch.from_numpy(np.frombuffer(done.stdout, str(dtype).removeprefix("torch.")).copy())
    got = {}
    for name, expected in wanted.items():
        as_there = by_channels(name, expected)
        got[name] = values[: as_there.numel()].view(as_there.shape)
        values = values[as_there.numel() :]
        if name in ("x", "y"):
            got[name] = got[name].permute(0, 3, 1, 2)
    assert len(values) == 0
    assert_equal(got, wanted, case, dtype)

"""How kernels are launched, and the order of a block's phases: C++ programs that need no GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

from missing import compiler, nvcc, require
from native.conftest import ROOT

HERE = Path(__file__).parent


def run(builder: str, program: Path, folder: Path, *options: str) -> None:
    binary = folder / program.stem
    command = [builder, "-std=c++17", "-O1", "-I", str(ROOT / "csrc"), *options]
    built = subprocess.run(
        [*command, str(program), "-o", str(binary)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(binary)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_launches(tmp_path):
    """Shared memory is allowed for all threads, errors are reported once and not swallowed."""
    require(nvcc(), "nvcc was not found, nor the headers that come with it")
    # The program brings its own runtime.
    options = ("--cudart=none", "-Xcompiler=-Wall,-Wextra,-Werror,-pthread")
    run(nvcc(), HERE / "launch_checks.cpp", tmp_path, *options)


def test_a_block_reads_nothing_of_the_next_sample(tmp_path):
    require(compiler(), "no C++ compiler was found")
    run(compiler(), HERE / "phase_checks.cpp", tmp_path, "-Wall", "-Wextra", "-Werror")

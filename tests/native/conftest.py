"""The CUDA build that the tests of this folder look into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from missing import nvcc, require

from aimclr_fast import native

ROOT = Path(__file__).resolve().parents[2]
ARCHS = ("80", "90")  # that each library under test has, at least


def installed_library() -> Path | None:
    """The library in use, if it holds the CUDA code of this very source tree."""
    if not native.cuda_compiled():
        return None
    library = native.load()
    current = library.source_digest == native.source_digest(ROOT / "csrc")
    has_archs = set(ARCHS) <= set(library.cuda_archs.split(","))
    return Path(str(library.__file__)) if current and has_archs else None


def build_library(build: Path) -> Path:
    import pybind11

    defines = {
        "AIMCLR_CUDA": "ON",
        "AIMCLR_CUDA_ARCHS": ";".join(ARCHS),
        "AIMCLR_WERROR": "ON",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
    for command in (
        [*configure, *(f"-D{name}={value}" for name, value in defines.items())],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    (library,) = build.glob("_native*.so")
    return library


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with every file of csrc/cuda: the one in use if it is up to date, or a new one."""
    installed = installed_library()
    if installed is not None:
        return installed
    require(nvcc(), "nvcc was not found, so the CUDA sources cannot be compiled")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one build for all workers
    with FileLock(shared / "cuda-build.lock"):
        return build_library(shared / "cuda-build")

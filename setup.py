"""Builds the native library with CMake; everything else is in pyproject.toml.

Environment variables:
    AIMCLR_NATIVE: ON (default), or OFF to install the Python code alone.
    AIMCLR_CUDA: AUTO (default; CUDA kernels where nvcc works), ON or OFF.
    AIMCLR_CUDA_ARCHS: AUTO (default; this machine's GPUs, or all where there is none), ALL, or GPU
        architectures such as "80;90".
    AIMCLR_WERROR: ON to treat compiler warnings as errors.
    AIMCLR_GLIBC_STUBS: for wheels, the folder that scripts/glibc_stubs.py wrote.
"""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools

# Before setup() reads pyproject.toml, whose license an older one calls a wrong configuration. Only
# builds without isolation get here with one.
if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"aimclr_fast: building needs setuptools 77 or newer, and this is {setuptools.__version__}."
        " Run pip install 'setuptools>=77', or leave out --no-build-isolation."
    )

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
NAME = "aimclr_fast._native"
FAILED = """
aimclr_fast: the native library could not be built: {reason}
  It needs a C++17 compiler, CMake 3.24 or newer, Ninja and pybind11.
  Without a working CUDA compiler:  AIMCLR_CUDA=OFF pip install .
  Without any compiler:             AIMCLR_NATIVE=OFF pip install .   (PyTorch reference only)
"""


def switch(name: str, default: str, *choices: str) -> str:
    value = os.environ.get(name, default).upper()
    value = {"1": "ON", "TRUE": "ON", "0": "OFF", "FALSE": "OFF"}.get(value, value)
    if value not in choices:
        raise SystemExit(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def kept_pybind11(build: Path) -> Path:
    """The CMake folder of a copy of pybind11 in `build`.

    pip's isolated builds unpack pybind11 under a new path each time, and all bindings would be
    compiled again.
    """
    import pybind11

    package, cmake = Path(pybind11.__file__).parent, Path(pybind11.get_cmake_dir())
    if not cmake.is_relative_to(package):  # a Linux distribution's, which stays where it is
        return cmake
    kept = build / f"pybind11-{pybind11.__version__}"
    if not kept.is_dir():
        new = build / "pybind11.new"  # renamed once it is complete
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(package, new)
        new.rename(kept)
    return kept / cmake.relative_to(package)


def cmake_options(build: Path) -> dict[str, str]:
    source_digest = runpy.run_path(str(ROOT / "aimclr_fast" / "native.py"))["source_digest"]
    ninja = shutil.which("ninja")
    if ninja is None:
        raise RuntimeError("ninja was not found")
    return {
        # Given each time, since pip's isolated builds move these between runs.
        "CMAKE_MAKE_PROGRAM": ninja,
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": str(kept_pybind11(build)),
        "AIMCLR_CUDA": switch("AIMCLR_CUDA", "AUTO", "AUTO", "ON", "OFF"),
        "AIMCLR_CUDA_ARCHS": os.environ.get("AIMCLR_CUDA_ARCHS") or "AUTO",
        "AIMCLR_WERROR": switch("AIMCLR_WERROR", "OFF", "ON", "OFF"),
        "AIMCLR_GLIBC_STUBS": os.environ.get("AIMCLR_GLIBC_STUBS", ""),
        "AIMCLR_SOURCE_DIGEST": source_digest(ROOT / "csrc"),
    }


class CMakeBuild(build_ext):
    """Builds the one extension in build/cmake-<interpreter>, which later builds reuse."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name != NAME:
            super().build_extension(ext)
            return
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        try:
            defines = [f"-D{name}={value}" for name, value in cmake_options(build).items()]
            self.cmake("-S", ROOT, "-B", build, "-G", "Ninja", *defines)
            self.cmake("--build", build)
            self.cmake("--install", build, "--prefix", target)
        except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            raise SystemExit(FAILED.format(reason=error)) from error

    def cmake(self, *arguments: object) -> None:
        subprocess.run(["cmake", *map(str, arguments)], check=True)


class FreshBuild(build):
    """Drops what an earlier build left, so that a removed module cannot slip into a wheel."""

    def run(self) -> None:
        if Path(self.build_lib).resolve().is_relative_to(ROOT / "build"):
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


native = switch("AIMCLR_NATIVE", "ON", "ON", "OFF") == "ON"
setup(
    # The sources are CMake's; listing none here keeps setuptools from looking at them.
    ext_modules=[Extension(NAME, sources=[])] if native else [],
    cmdclass={"build": FreshBuild, "build_ext": CMakeBuild},
)

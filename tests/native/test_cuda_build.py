"""nvcc compiles every CUDA source, and its kernels are in the library for each architecture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from cuda_usage import usages
from native.conftest import ARCHS, ROOT

CSRC = ROOT / "csrc"
KERNEL = re.compile(r"__global__\s+(?:__launch_bounds__\([^)]*\)\s*)?void\s+"
                    r"(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")  # fmt: skip
SOURCES = sorted((CSRC / "cuda").rglob("*.cu"))


@pytest.fixture(scope="session")
def kernels(cuda_library: Path) -> dict[tuple[str, str], set[str]]:
    """(source file, architecture) -> mangled names of the kernels compiled for it."""
    found = defaultdict(set)
    for usage in usages(cuda_library):
        found[usage.source, usage.arch].add(usage.name)
    return found


def test_the_library_names_its_architectures(cuda_library, kernels):
    archs = facts(cuda_library)[1].split(",")
    assert archs == sorted({arch for _, arch in kernels}, key=int)


def test_there_are_cuda_sources():
    assert SOURCES


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_are_compiled(source, kernels):
    names = KERNEL.findall(source.read_text())
    assert len(names) == source.read_text().count("__global__"), "a kernel this test cannot parse"
    assert names
    archs = {arch for _, arch in kernels}
    assert archs >= set(ARCHS)
    for arch in archs:
        compiled = kernels[source.name, arch]
        missing = [
            name
            for name in names
            # A mangled name holds each identifier after its length.
            if not any(f"{len(name)}{name}" in mangled for mangled in compiled)
        ]
        assert not missing, f"sm_{arch} has {sorted(compiled)}"


def facts(library: Path) -> list[str]:
    """Whether the library has CUDA kernels, and for which architectures."""
    code = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
library = importlib.util.module_from_spec(spec)
spec.loader.exec_module(library)
print(library.cuda_compiled, library.cuda_archs)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(library)],
        capture_output=True,
        text=True,
        cwd=library.parent,
        env={name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_imports_without_a_driver(cuda_library):
    """No CUDA library is linked dynamically, so the same file serves machines without a GPU."""
    compiled, archs = facts(cuda_library)
    assert compiled == "True"
    assert set(ARCHS) <= set(archs.split(","))

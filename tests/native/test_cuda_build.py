"""nvcc compiles every CUDA source, and its kernels are in the library for each architecture."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from cuda_usage import Usage, named, usages
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
    _, archs, _ = facts(cuda_library)
    assert archs.split(",") == sorted({arch for _, arch in kernels}, key=int)


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
    """Whether the library has CUDA kernels, for which architectures, and what compiled it."""
    code = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
library = importlib.util.module_from_spec(spec)
spec.loader.exec_module(library)
print(library.cuda_compiled, library.cuda_archs, library.compiler, sep="\\n")
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
    return done.stdout.splitlines()


def test_imports_without_a_driver(cuda_library):
    """No CUDA library is linked dynamically, so the same file serves machines without a GPU."""
    compiled, archs, _ = facts(cuda_library)
    assert compiled == "True"
    assert set(ARCHS) <= set(archs.split(","))


def test_the_committed_table_is_of_these_kernels(cuda_library):
    """What another compiler makes of them takes other registers and memory."""
    with (ROOT / "benchmarks" / "results" / "cuda_kernels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    _, archs, compiler = facts(cuda_library)
    columns = Usage._fields if rows[0]["compiler"] == compiler else ("source", "arch", "name")
    wanted = {tuple(row[c] for c in columns) for row in rows if row["arch"] in archs.split(",")}
    found = {tuple(str(getattr(u, c)) for c in columns) for u in named(cuda_library)}
    assert found == wanted, "run scripts/cuda_report.py --csv benchmarks/results/cuda_kernels.csv"

"""Tests for a GPU are found on machines that have torch and pytest, but not all that users have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from children import child_environment

ROOT = Path(__file__).resolve().parents[1]
# What parses commands, writes other formats and builds packages: no kernel needs it.
ABSENT = (
    *("jsonargparse", "docstring_parser", "typeshed_client"),
    *("safetensors", "onnx", "onnxscript", "onnxruntime", "build"),
)
# A plugin, so that it is there before any conftest.py.
BLOCK = f"""\
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def collected(expression: str, *options: str, **env: str) -> list[str]:
    """Names of the tests that `-m expression` finds in tests and benchmarks."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, "-m", expression, *options, "tests", "benchmarks"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=child_environment(**env),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^\S+::.*$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_gpu_tests_need_few_packages(tmp_path):
    (tmp_path / "absent_packages.py").write_text(BLOCK)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    found = collected("cuda", "-p", "absent_packages", PYTHONPATH=path)
    # By this expression conftest.py does not know that files without such tests can be left out.
    assert found == collected("not not cuda")
    assert len(found) > 500


@pytest.mark.slow
def test_smoke_tests_cover_each_op_and_a_captured_step():
    found = collected("cuda and smoke")
    assert 10 <= len(found) <= 30
    ops = {path.stem for path in (ROOT / "aimclr_fast" / "ops").glob("[!_]*.py")}
    files = {name.partition("::")[0] for name in found}
    assert all(any(f"test_{op}" in file for file in files) for op in ops)
    for needed in ("test_steps_are_captured", "test_golden_places"):
        assert any(needed in name for name in found), needed


# The first test costs its process the GPU; the others fail if they run in that process.
LOST = """\
import os, torch, pytest

def test_loses_it():
    def synchronize():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    torch.cuda.is_initialized, torch.cuda.synchronize = lambda: True, synchronize
    assert False, "the kernel went wrong"

@pytest.mark.parametrize("n", range(3))
def test_has_it(n):
    assert not torch.cuda.is_initialized()
"""


@pytest.mark.slow
def test_a_worker_that_lost_the_gpu_is_replaced(tmp_path):
    (tmp_path / "test_lost.py").write_text(LOST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    env = child_environment()
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "tests"), env.get("PYTHONPATH")]))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "conftest",
        "-n",
        "1",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the kernel went wrong" in done.stdout
    assert "3 passed" in done.stdout

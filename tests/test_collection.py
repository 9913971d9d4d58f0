"""Tests for a GPU are found on machines that have torch and pytest, but not all that users have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
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


def collected(
    expression: str, *options: str, folders: Sequence[str] = ("tests", "benchmarks"), **env: str
) -> list[str]:
    """Names of the tests that `-m expression` finds."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, "-m", expression, *options, *folders],
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
def test_modules_are_imported_without_what_only_commands_need(tmp_path):
    (tmp_path / "absent_packages.py").write_text(BLOCK)
    own = [str(tmp_path), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, own))
    code = "import absent_packages, test_launches; test_launches.test_modules_are_imported()"
    env = child_environment(PYTHONPATH=path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_smoke_tests_cover_each_op_and_a_captured_step():
    found = collected("cuda and smoke")
    assert 10 <= len(found) <= 30
    ops = {path.stem for path in (ROOT / "aimclr_fast" / "ops").glob("[!_]*.py")}
    files = {name.partition("::")[0] for name in found}
    assert all(any(f"test_{op}" in file for file in files) for op in ops)
    for needed in ("test_steps_are_captured", "test_golden_places"):
        assert any(needed in name for name in found), needed


@pytest.mark.slow
def test_each_op_of_a_step_is_tested_at_its_published_sizes():
    found = collected("cuda and published", folders=["tests/ops"])
    ops = {path.stem for path in (ROOT / "aimclr_fast" / "ops").glob("[!_]*.py")}
    for op in ops - {"philox", "apply_augment"}:  # no step calls these
        assert any(op in name for name in found), op
    assert any("test_a_step_in_bf16" in name for name in found)


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


# Tests that lack something, and what; the first file imports Triton at its top.
LACKING = {
    "tests/ops/test_eadm_pool_kernels.py": "needs Triton",
    "tests/ops/test_eadm_pool.py::test_empty": "needs Triton",
    "tests/ops/test_triton_interpreter.py": "needs Triton",
    "tests/ops/test_triton_launches.py::test_the_list_has_every_kernel": "needs Triton",
    "tests/native/test_launch.py::test_launches": "nvcc was not found",
    "tests/native/test_launch.py::test_a_block_reads_nothing_of_the_next_sample": (
        "no C++ compiler was found"
    ),
    "tests/native/test_philox.py::test_known_answer": "needs the native library",
}


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine without Triton, CUDA toolkit, compiler and native library."""
    folder = tmp_path_factory.mktemp("bare")
    # Every Python imports it, those that tests start as well.
    (folder / "sitecustomize.py").write_text(BLOCK.replace(repr(ABSENT), "('triton',)"))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    hidden = dict.fromkeys(("CUDACXX", "CXX", "CUDA_HOME"), "/no/such/program")
    return {**hidden, "PYTHONPATH": path, "AIMCLR_NATIVE": "OFF", "AIMCLR_EXPECT_GPU": ""}


@pytest.mark.slow
def test_all_tests_are_found_on_a_bare_machine(bare_machine):
    found = collected("(cuda or not cuda)", **bare_machine, CI="")
    assert len(found) > 3000
    assert not any("test_eadm_pool_kernels" in name for name in found)  # it cannot even be imported


@pytest.mark.slow
@pytest.mark.parametrize("expected", ["", "true"], ids=["a developer's", "CI"])
def test_what_is_lacking_is_skipped_but_fails_in_ci(bare_machine, expected):
    done = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsfE", "--tb=no"),
         *("-m", "not cuda", "--continue-on-collection-errors", *LACKING)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=child_environment(**bare_machine, CI=expected),
        check=False,
    )  # fmt: skip
    assert done.returncode == (1 if expected else 0), done.stdout + done.stderr
    assert "passed" not in done.stdout
    for test, reason in LACKING.items():
        wanted = (
            f"(FAILED|ERROR) {test}" if expected else rf"SKIPPED \[\d+\] .*: {re.escape(reason)}"
        )
        assert re.search(f"^{wanted}", done.stdout, re.MULTILINE), (test, done.stdout)

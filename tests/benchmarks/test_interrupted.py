"""A benchmark that fails, ends its process or loses the GPU costs no figure, and runs once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import results
import torch
from children import child_environment

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Providers that do well, raise, end the process, and come after that.
BENCH = """\
import os
import limits
from harness import Bench, cases
from limits import Work
from measure import Step

limits.COPY_BYTES = {"cpu": 1 << 20}
limits.MATRIX = {"cpu": 64}

def raises():
    raise ValueError("no such luck")

BENCH = Bench(
    op="some",
    cases=cases([{"N": 1}], "cpu", "fp32"),
    inputs=lambda case: None,
    work=lambda case: Work(bytes=1.0),
    providers={
        "well": lambda inputs: Step(lambda: None),
        "raises": lambda inputs: Step(raises),
        "ends": lambda inputs: Step(lambda: os._exit(7)),
        "later": lambda inputs: Step(lambda: None),
    },
)

@BENCH.parametrize()
def test_some(compare, case, provider):
    compare(BENCH, case, provider)
"""


def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path):
    (tmp_path / "bench_some.py").write_text(BENCH)
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n")
    env = child_environment()
    paths = [str(BENCHMARKS), str(BENCHMARKS.parent), env.get("PYTHONPATH")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "conftest", "-q"]
    command += ["--add", "--budget", "0", "--results", "run", "--results-dir", str(tmp_path)]

    def run() -> tuple[int, dict[str, str]]:
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        rows = [row for row in results.read(tmp_path / "run.csv") if row["op"] == "some"]
        return done.returncode, {row["provider"]: row["status"] for row in rows}

    ended = {"well": "ok", "raises": "failed", "ends": results.BEGUN}
    assert run() == (7, ended)
    measured = results.read(tmp_path / "run.csv")
    assert run() == (0, ended | {"later": "ok"})
    assert results.read(tmp_path / "run.csv")[: len(measured)] == measured


@pytest.fixture
def conftest():
    spec = importlib.util.spec_from_file_location("bench_conftest", BENCHMARKS / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_process_that_lost_the_gpu_ends(conftest, monkeypatch):
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    conftest.leave_if_lost("cpu")
    with pytest.raises(pytest.exit.Exception, match="illegal memory access") as ended:
        conftest.leave_if_lost("cuda")
    assert ended.value.returncode not in importlib.import_module("gpu_check").PYTEST_CODES
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    conftest.leave_if_lost("cuda")


def test_memory_is_that_of_the_step_without_its_graph():
    """A replayed graph allocates nothing that torch would count."""
    import measure

    ran: list[str] = []
    step = measure.Step(lambda: ran.append("run"), eager=lambda: ran.append("eager"))
    measure.extra_bytes(step, "cpu")
    assert ran == ["eager"]

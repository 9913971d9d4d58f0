"""What the benchmarks measure is what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import limits
import measure
import numpy as np
import pytest
import results
import torch
from children import child_environment
from harness import Bench, Case, backends, capped, cases, compiled_once, in_bf16
from limits import Limits, Work
from measure import Step, Timing, Unavailable

from aimclr_fast import native
from aimclr_fast.ops._dispatch import Backend, always

ROOT = Path(__file__).resolve().parents[2]


def test_timing_is_of_one_call():
    timing = Timing.of([4.0, 1.0, 3.0, 2.0, 5.0], calls=2, how="wall")
    assert (timing.low, timing.median, timing.high) == (1.0, 1.5, 2.0)
    assert timing.rounds == 5


def test_rounds_fit_the_budget():
    fewest, most = measure.ROUNDS
    assert measure.rounds_within(2.0, 0.1) == 20
    assert measure.rounds_within(2.0, 100.0) == fewest
    assert measure.rounds_within(2.0, 0.0) == most


def test_stopwatch():
    assert 0.02 <= measure.stopwatch(lambda: time.sleep(0.02)) < 1.0


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_extra_memory_is_the_peak(library):
    size = 48 << 20

    def run() -> None:
        for _ in range(3):  # one after the other, not together
            block = (
                torch.ones(size, dtype=torch.uint8) if library == "torch" else np.ones(size, "b")
            )
            del block

    used = measure.extra_bytes(Step(run), "cpu")
    assert used is not None
    assert size * 0.9 < used < size * 1.5
    assert measure.extra_bytes(Step(lambda: None), "cpu") < size * 0.1
    assert measure.extra_bytes(Step(run, workers=True), "cpu") is None


def test_extra_memory_is_not_told_of_another_allocator(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    assert measure.extra_bytes(Step(lambda: None), "cpu") is None


@pytest.mark.parametrize("seed", range(6))
def test_extra_memory_does_not_depend_on_what_was_freed_before(seed):
    """With gaps between blocks in use, and with nothing but what the allocator may have kept."""
    size, random = 8 << 20, Random(seed)

    def run() -> None:
        for _ in range(3):
            torch.ones(size, dtype=torch.uint8)

    torch.ones(31 << 20, dtype=torch.uint8)  # freed: from now on, glibc keeps blocks of this size
    sizes = [random.randrange(1 << 20, 4 * size) for _ in range(12)]
    blocks = [torch.ones(each, dtype=torch.uint8) for each in sizes]
    random.shuffle(blocks)
    for left in (6, 0):
        del blocks[left:]
        used = measure.extra_bytes(Step(run), "cpu")
        assert used is not None
        assert size * 0.9 < used < size * 1.5


def test_limit_is_the_slower_of_moving_and_computing():
    machine = Limits(copy=10.0, matmul={"fp32": 100.0, "bf16": 1000.0})
    assert machine.seconds(Work(bytes=20.0, flop=100.0)) == 2.0
    assert machine.seconds(Work(bytes=20.0, flop=500.0)) == 5.0
    assert machine.seconds(Work(bytes=20.0, flop=5000.0, precision="bf16")) == 5.0
    assert machine.seconds(Work()) == 0.0


def test_measured_limits_are_plausible(monkeypatch):
    monkeypatch.setattr(limits, "COPY_BYTES", {"cpu": 16 << 20})
    monkeypatch.setattr(limits, "MATRIX", {"cpu": 256})
    found = limits.measure.__wrapped__("cpu")
    assert 1e8 < found.copy < 1e13
    assert set(found.matmul) == {"fp32", "bf16"}
    assert all(1e7 < rate < 1e15 for rate in found.matmul.values())


def test_providers_say_why_they_cannot_run():
    registered = (
        Backend("triton", lambda x: x, lambda x: None),
        Backend("cuda", lambda x: x, lambda x: "no device"),
        Backend("reference", lambda x: x, always),
    )
    case = cases([{"N": 2}], "cpu", "fp32")[0]
    assert str(case) == "cpu-fp32-N2"
    made = backends(registered, lambda inputs: inputs, lambda inputs, name: (name, inputs))
    assert list(made) == ["reference", "compiled", "triton", "cuda"]
    bench = Bench("op", [case], lambda case: torch.ones(1), lambda case: Work(), made)
    assert bench.step("reference", case, torch.ones(1)).run()[0] == "reference"
    with pytest.raises(Unavailable, match="no device"):
        bench.step("cuda", case, torch.ones(1))
    with pytest.raises(Unavailable, match="interpreter"):
        bench.step("triton", case, torch.ones(1))


def test_providers_in_bf16_are_those_of_float32_with_another_case(monkeypatch):
    class Inputs:
        def __init__(self, case: Case) -> None:
            self.case = case

    found = []

    def ours(inputs: Inputs) -> Step:
        found.append(inputs.case.precision)
        return Step(lambda: None)

    providers = {"ours": ours, **in_bf16(ours=ours)}
    all_cases = cases([{"N": 2}], "cpu", "fp32") + cases([{"N": 2}], "cuda", "bf16")
    bench = Bench("op", all_cases, Inputs, lambda case: Work(), providers)
    names = [param.id for param in bench.parametrize().args[1]]
    assert names == ["cpu-fp32-N2-ours", "cpu-fp32-N2-ours_bf16", "cuda-bf16-N2-ours"]
    inputs = Inputs(all_cases[0])
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: None)
    steps = [bench.step(name, inputs.case, inputs) for name in providers]
    assert [step.precision for step in steps] == [None, "bf16"]
    assert found == ["fp32", "bf16"]
    assert inputs.case.precision == "fp32"
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    with pytest.raises(Unavailable, match="this processor lacks them"):
        bench.step("ours_bf16", inputs.case, inputs)


def test_capped_providers():
    class Inputs:
        def __init__(self, n: int) -> None:
            self.case = Case("", {"N": n})

    step = Step(lambda: None)
    small = capped(lambda inputs: step, "too large", lambda inputs: inputs.case["N"] < 3)
    assert small(Inputs(2)) is step
    with pytest.raises(Unavailable, match="too large"):
        small(Inputs(3))
    once = compiled_once({"compiled": lambda inputs: step}, {"N": 2})["compiled"]
    assert once(Inputs(2)) is step
    with pytest.raises(Unavailable, match="N=2 alone"):
        once(Inputs(3))


def test_a_baseline_that_fails_costs_nobody_a_figure(tmp_path):
    """When it is warmed up, and when it is timed."""
    (tmp_path / "conftest.py").write_text((ROOT / "benchmarks" / "conftest.py").read_text())
    (tmp_path / "test_some.py").write_text(FAILING_BASELINE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--budget", "0.01"]
    command += ["--results", "run", "--results-dir", str(tmp_path), str(tmp_path)]
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    env = child_environment() | {"PYTHONPATH": path}
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the baseline failed: RuntimeError('worker died')") == 2
    found = [row for row in results.read(tmp_path / "run.csv") if row["op"] == "some"]
    assert len(found) == 2
    for row in found:
        assert row["ms"]
        assert not row["baseline_ms"]
    # By the rate of the precision that the products were in.
    assert [float(row["limit_ms"]) for row in found] == [5e3, 20e3]


FAILING_BASELINE = """
import limits
import pytest
from harness import Bench, Case
from limits import Limits, Work
from measure import Step

limits.measure = lambda device: Limits(1.0, {"fp32": 1.0, "bf16": 4.0})


@pytest.mark.parametrize("calls", [0, 1])
def test_some(compare, calls):
    left = [calls]

    def baseline():
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("worker died")

    providers = {
        "ours": lambda inputs: Step(lambda: None, precision=["bf16", None][calls]),
        "baseline": lambda inputs: Step(baseline, warmup=1),
    }
    case = Case(f"calls{calls}", {})
    bench = Bench("some", [case], lambda _: None, lambda _: Work(1.0, 20.0), providers, ("ours",))
    compare(bench, case, "ours")
"""


@pytest.mark.slow
def test_benchmarks_run_and_write_results(tmp_path):
    command = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(ROOT / "benchmarks")),
        *("--benchmark-only", "-q", "--budget", "0.01", "-k", "cpu and eadm_pool and N32"),
        *("--results", "run", "--results-dir", str(tmp_path)),
    ]
    # A run of its own, whoever runs the tests: pytest-benchmark measures nothing under xdist.
    env = child_environment()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["provider"]: row for row in results.read(tmp_path / "run.csv")}
    assert {"torch", "baseline", "reference", "cpp", "floor"} <= set(rows)
    assert "triton" not in rows
    for name in ("baseline", "reference", "cpp", "floor"):
        row = rows[name]
        assert float(row["ms"]) > 0
        assert (row["status"], row["how"]) == ("ok", "wall")
        assert float(row["share"]) == pytest.approx(float(row["limit_ms"]) / float(row["ms"]), 1e-3)
    assert rows["cpp"]["package"] == "1"
    ratio = float(rows["cpp"]["baseline_ms"]) / float(rows["cpp"]["ms"])
    assert float(rows["cpp"]["speedup"]) == pytest.approx(ratio, 1e-3)
    assert rows["baseline"]["speedup"] == rows["baseline"]["baseline_ms"] == ""
    assert float(rows["baseline"]["extra_mb"]) > float(rows["cpp"]["extra_mb"])

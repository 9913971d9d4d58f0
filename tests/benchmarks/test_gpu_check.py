"""The GPU check ends in time and leaves what it measured, however it ends: with stubs for a GPU."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpu_check
import pytest
import results
from children import child_environment

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("out")
# In place of the interpreter: benchmarks write a row, and all use their time up, whatever they are
# asked. STUB_QUICK names parts that end at once; the first LOSES runs of a benchmark lose the GPU.
STUB = f"""#!{sys.executable}
import os, signal, sys, time
from pathlib import Path

arguments = sys.argv[1:]
if arguments[0].endswith("gpu_check.py"):
    os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])
if arguments[0] == "-c":
    sys.exit(0)
signal.signal(signal.SIGINT, signal.SIG_IGN)
here = Path(__file__).parent
with (here / "pids").open("a") as file:
    file.write(f"{{os.getpid()}}\\n")
if "--results" in arguments:
    sys.path.insert(0, {str(ROOT / "benchmarks")!r})
    import results
    name, folder = (arguments[arguments.index(f"--{{o}}") + 1] for o in ("results", "results-dir"))
    path = Path(folder, f"{{name}}.csv")
    there = results.read(path) if path.exists() else []
    keywords = arguments[arguments.index("-k") + 1]
    op = Path(arguments[4]).stem.removeprefix("bench_")
    results.write_cells(path, [*there, {{"op": op, "case": keywords, "ms": "1"}}])
    if len(there) < int(os.environ.get("LOSES", 0)):
        exec(os.environ["ENDING"])
if any(word in " ".join(arguments) for word in os.environ.get("STUB_QUICK", "").split()):
    sys.exit(0)
time.sleep(120)
"""


@pytest.fixture
def start(tmp_path):
    """Starts the script with stubs in place of the interpreter and of compute-sanitizer."""
    for name in ("python", "compute-sanitizer"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)

    def run(budget: float, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / "benchmarks" / "gpu_check.sh")],
            env=os.environ
            | {"PYTHON": str(tmp_path / "python"), "OUT": str(tmp_path / OUT)}
            | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "BUDGET": str(budget)}
            | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    yield run
    for pid in living(tmp_path):
        os.kill(pid, signal.SIGKILL)


def living(folder: Path) -> list[int]:
    """Processes that a run started and that are still there."""
    pids = (folder / "pids").read_text().split() if (folder / "pids").exists() else []
    return [int(pid) for pid in pids if running(int(pid))]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def rows(folder: Path) -> list[str]:
    path = folder / OUT / "gpu.csv"
    return [row["op"] for row in results.read(path)] if path.exists() else []


def statuses(folder: Path) -> dict[str, str]:
    lines = (folder / OUT / "status.txt").read_text().splitlines()
    return {name: note for name, _, note in (line.partition(" ") for line in lines)}


def wait_for_rows(folder: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(rows(folder)) < count:
        assert time.monotonic() < until, "no rows"
        time.sleep(0.05)


@pytest.mark.slow
def test_parts_that_use_all_their_time_leave_their_figures(start, tmp_path):
    budget, names = 24.0, "launches step ops-bf16 memcheck"  # of each kind, and two that measure
    plan = gpu_check.chosen(gpu_check.first_run(tmp_path / "gpu.csv"), names)
    began = time.monotonic()
    run = start(budget, PARTS=names)
    said, _ = run.communicate()
    limit = sum(part.seconds for part in plan) * budget / gpu_check.WHOLE
    assert time.monotonic() - began < limit + 2
    assert run.returncode == 1, said
    assert list(statuses(tmp_path)) == [part.name for part in plan]
    assert all("FAILED: out of time" in note for note in statuses(tmp_path).values())
    assert rows(tmp_path) == ["train_step", "eadm_pool"]
    assert living(tmp_path) == []
    found = sorted(file.name for file in (tmp_path / OUT).iterdir())
    assert found == ["gpu.csv", "log.txt", "status.txt"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_its_figures(start, tmp_path, signum):
    run = start(585, STUB_QUICK="train_step", PARTS="step ops-bf16 ops-fp32")
    wait_for_rows(tmp_path, 2)
    run.send_signal(signum)
    run.communicate()
    assert rows(tmp_path) == ["train_step", "eadm_pool"]
    assert statuses(tmp_path)["step"].strip().startswith("ok")
    if signum == signal.SIGKILL:
        return
    assert run.returncode == 128 + signum
    assert "stopped" in statuses(tmp_path)["ops-bf16"]
    assert "ops-fp32" not in statuses(tmp_path)
    assert living(tmp_path) == []


@pytest.mark.parametrize("ending", ["sys.exit(70)", "os.abort()"])
def test_what_a_process_that_dies_leaves_is_run_in_a_new_one(start, tmp_path, ending):
    run = start(585, STUB_QUICK="bench_", LOSES="2", ENDING=ending, PARTS="step encoder")
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert rows(tmp_path) == ["train_step"] * 3 + ["stgcn_block"]


def test_a_part_that_is_not_there_is_refused(start):
    run = start(10, PARTS="step stepp")
    said, _ = run.communicate()
    assert run.returncode == 1
    assert "PARTS: there is no stepp; choose from: environment build" in said


def test_commands_are_tested_where_they_can_be(tmp_path):
    (tests,) = gpu_check.chosen(gpu_check.first_run(tmp_path / "gpu.csv"), "tests")
    assert tests.arguments[tests.arguments.index("-m", 1) + 1] == "cuda"
    fewer = gpu_check.without_commands(tests)
    assert fewer[fewer.index("-m", 1) + 1] == "cuda and not commands"


def test_figures_of_an_earlier_run_are_kept_apart(start, tmp_path):
    for _ in range(2):
        start(585, STUB_QUICK="bench_", PARTS="step").communicate()
        assert rows(tmp_path) == ["train_step"]
    assert (tmp_path / OUT / "gpu_before.csv").exists()


def test_wheels_are_for_the_run_alone(tmp_path):
    said = gpu_check.install(tmp_path, tmp_path / "into", sys.executable)
    assert said == f"FAILED: no wheels in {tmp_path}"
    assert gpu_check.can_import(["json"], sys.executable, dict(os.environ))
    assert not gpu_check.can_import(["json", "no_such"], sys.executable, dict(os.environ))


def test_helpers_that_hang_are_given_up(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    (tmp_path / "some.whl").touch()
    monkeypatch.setattr(gpu_check, "HELPED", 0.1)
    said = gpu_check.install(tmp_path, tmp_path / "into", str(python))
    assert said.startswith("FAILED: not done in")
    assert not gpu_check.can_import(["json"], str(python), dict(os.environ))


def test_a_process_that_cannot_be_killed_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    class Stuck:
        pid = 2**30

        def wait(self, timeout: float) -> int:
            raise subprocess.TimeoutExpired("stuck", timeout)

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Stuck())
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    check = gpu_check.Check(tmp_path, sys.executable, gpu_check.WHOLE, {})
    check.run(gpu_check.Part("part", 1.0, ("part",)))
    assert "out of time" in (tmp_path / "status.txt").read_text()
    assert "did not end when killed" in capsys.readouterr().out


@pytest.mark.parametrize("plan", [gpu_check.first_run, gpu_check.second_run])
def test_limits_fit_the_whole(plan, tmp_path):
    parts = plan(tmp_path / "gpu.csv")
    assert sum(part.seconds for part in parts) <= gpu_check.WHOLE - 10
    assert {part.name: part.seconds for part in parts}.get("memcheck", 90) >= 90
    for part in parts:
        for argument in part.arguments:
            if re.match(r"(tests|benchmarks)\b", argument):
                assert (ROOT / argument).exists(), argument


def test_a_first_run_begins_with_what_matters_most(tmp_path):
    names = [part.name for part in gpu_check.first_run(tmp_path / "gpu.csv")]
    headline = ["environment", "build", "launches", "published", "step"]
    profiles = ["profile-default", "profile-triton"]
    rest = ["smoke", "ops-bf16", "ops-fp32", "encoder", "tests", "memcheck"]
    assert names == headline + profiles + rest
    assert gpu_check.second_run(tmp_path / "gpu.csv")[-1].name == "compiled"


BENCHES = [
    "train_step",
    "stgcn_block",
    "eadm_pool",
    "masked_pool",
    "queue_contrast",
    "queue_losses",
    "skeleton_augment",
    "skelemix",
    "all_ops",
]


def gpu_cases(op: str) -> list[str]:
    module = importlib.import_module(f"bench_{op}")
    parameters = module.BENCH.parametrize().args[1]
    return [p.id for p in parameters if any(mark.name == "cuda" for mark in p.marks)]


@pytest.mark.parametrize("op", BENCHES)
def test_the_published_case_comes_first_and_compilation_last(op):
    found = gpu_cases(op)
    assert found[0].startswith("cuda-bf16-N128")
    compiled = ["compiled" in case for case in found]
    assert compiled == sorted(compiled)
    precisions = [case.split("-")[1] for case in found if "compiled" not in case]
    assert list(dict.fromkeys(precisions))[:2] == ["bf16", "fp32"]


def test_every_benchmark_of_a_gpu_is_in_some_part(tmp_path):
    csv = tmp_path / "gpu.csv"
    parts = [*gpu_check.first_run(csv), *gpu_check.second_run(csv)]
    run = {argument for part in parts for argument in part.arguments}
    files = sorted((ROOT / "benchmarks").glob("bench_*.py"))
    ops = [file.stem.removeprefix("bench_") for file in files]
    of_gpu = {f"benchmarks/bench_{op}.py" for op in ops if gpu_cases(op)}
    assert len(of_gpu) > 8
    assert of_gpu <= run


STEPS = ("package", "triton", "baseline", "reference")


def test_the_step_is_timed_with_each_encoder():
    first = [f"cuda-bf16-N128-S1-{who}" for who in STEPS]
    assert gpu_cases("train_step")[: len(first)] == first


def collected(part: gpu_check.Part) -> list[str]:
    """Names of the tests that a part runs."""
    command = [sys.executable, *(a for a in part.arguments if a not in ("-q", "-v"))]
    done = subprocess.run(
        [*command, "-q", "--collect-only"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=child_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^\S+::.*$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_parts_choose_the_cases_they_are_named_for(tmp_path):
    plan = {part.name: part for part in gpu_check.first_run(tmp_path / "gpu.csv")}
    ours = {
        "N128": ("baseline", "reference", "cpp", "triton", "floor"),
        "N128-K32768-topk1": ("baseline", "reference", "cpp", "triton", "attention", "floor"),
    }
    expected = {
        "step": [f"cuda-bf16-N128-S1-{who}" for who in STEPS],
        "ops-bf16": [
            *(f"cuda-bf16-{case}-{who}" for case, providers in ours.items() for who in providers),
            *(f"cuda-bf16-N128-{who}" for who in ("baseline", "cuda", "cpp", "floor", "pinned")),
        ],
    }
    for name, cases in expected.items():
        assert [test.rpartition("[")[2][:-1] for test in collected(plan[name])] == cases
    few: dict[str, int] = {}
    for test in collected(plan["memcheck"]):
        few[test.partition("[")[0]] = few.get(test.partition("[")[0], 0) + 1
    assert set(few.values()) == {1, 2}
    first = list(dict.fromkeys(name.partition("::")[0] for name in few))
    assert first == list(gpu_check.SANITIZED)

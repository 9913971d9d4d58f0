"""Everything that needs a GPU, in parts: one that fails leaves the figures of the others.

    benchmarks/gpu_check.sh              # results in benchmarks/results/gpu, or in $OUT

A first run takes at most ten minutes and begins with what matters most: a launch of each op, tests
of the kernels at the published sizes, the training step; then come the ops, all tests marked
`cuda`, and memcheck. A second run (SECOND=1) is racecheck, other sizes and precisions, inference,
and torch.compile of the reference.

Needs torch, NumPy, PyYAML, rich, scikit-learn, SciPy, Matplotlib, Triton, nvcc, CMake, Ninja,
pybind11, pytest, pytest-benchmark and pytest-xdist; no network, and no installation of this
package. Tests of what else is missing are skipped. A native library that is already
built for the GPU is used as it is.

OUT     folder of the results: gpu.csv (gpu_second.csv), status.txt, log.txt, profile.txt, traces
SECOND  1 for the second run
BUDGET  seconds for the whole (585); all limits shrink and grow with it
PARTS   some of the parts, by name (all)
WHEELS  folder of wheels that are missing here, installed for this run alone
PYTHON  the interpreter (the one that runs this file)
AIMCLR_COMMIT  the commit that the results name, where there is no .git

Each part is a process group of its own, with a limit; what one leaves unused goes to the next.
Figures are written as soon as they are measured, status.txt after each part, both by rename, so
that they are there however the run ends. The exit code is 1 if any part failed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
WHOLE = 585.0  # seconds that the limits of a plan may add up to: a margin under ten minutes
GRACE = 0.1  # share of a limit that a part is given to sum up, once interrupted
RUNS = 4  # of benchmarks whose process dies: the next one skips the cases that were begun
REAPED = 10.0  # seconds in which a killed process must end
HELPED = 60.0  # seconds for installing wheels, and for a look at what can be imported
PYTEST_CODES = range(6)  # how pytest ends of itself
LOG_BYTES = 1_000_000  # of a part's output, its end
PARSERS = ("jsonargparse", "docstring_parser", "typeshed_client")
PUBLISHED = "N128 and not topk0 and not K131072 and not streams"
# The backends in C++ for CUDA, then those in Triton.
SANITIZED = (
    *("tests/native/test_philox.py", "tests/ops/test_skeleton_augment.py"),
    *("tests/ops/test_apply_augment.py", "tests/ops/test_skelemix.py"),
    *("tests/ops/test_eadm_pool.py", "tests/ops/test_masked_pool.py"),
    *("tests/ops/test_queue_contrast.py", "tests/ops/test_queue_losses.py"),
    *("tests/ops/test_enqueue.py", "tests/ops/test_stgcn_block_kernels.py"),
)
# What compiles or differentiates numerically takes too long under a sanitizer.
SLOW = "compile or opcheck or gradcheck or graph or every_combination or real_size"


@dataclass(frozen=True)
class Part:
    """A command line, after the interpreter's name, and its limit in seconds of `WHOLE`."""

    name: str
    seconds: float
    arguments: tuple[str, ...]
    before: tuple[str, ...] = ()  # the interpreter
    env: dict[str, str] = field(default_factory=dict)


def pytest(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-p", "no:cacheprovider", *arguments)


def tests(name: str, seconds: float, workers: int, *arguments: str) -> Part:
    # A worker that can no longer use the GPU is replaced, so the remaining tests still run.
    options = ["-n", str(workers), "-o", "faulthandler_timeout=30"]
    return Part(name, seconds, pytest(*options, *arguments))


def bench(name: str, seconds: float, ops: Iterable[str], keywords: str, into: Path) -> Part:
    files = [f"benchmarks/bench_{op}.py" for op in ops]
    options = ["-q", "-m", "cuda", "-k", keywords, "--benchmark-only", "--budget", "0.15", "--add"]
    results = ["--results", into.stem, "--results-dir", str(into.parent)]
    return Part(name, seconds, pytest(*files, *options, *results))


def sanitizer(tool: str, seconds: float) -> Part:
    # Without torch's cache a kernel that leaves its tensor leaves the allocation, too.
    env = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    command = (
        *(program, "--tool", tool, "--target-processes", "all"),
        *("--error-exitcode", "9", "--print-limit", "20"),
    )
    tests = pytest("-v", "-m", "cuda", "--few", "2", "-k", f"not ({SLOW})", *SANITIZED)
    return Part(tool, seconds, tests, command, env)


def task(name: str, seconds: float, *arguments: str) -> Part:
    return Part(name, seconds, ("benchmarks/gpu_tasks.py", *arguments))


def without_commands(part: Part) -> tuple[str, ...]:
    """A part's arguments, less the tests that call command lines."""
    return tuple("cuda and not commands" if each == "cuda" else each for each in part.arguments)


def first_run(csv: Path) -> list[Part]:
    """The parts of a first run, what matters most first; figures go to `csv`."""
    out = str(csv.parent)
    ops = ("eadm_pool", "queue_contrast", "skeleton_augment")
    # The reference of skeleton_augment takes long, and says little.
    here = f"{PUBLISHED} and not compiled and not (skeleton_augment and reference)"
    workers = max(2, min(8, (os.cpu_count() or 2) // 2))
    few = min(4, workers)  # each takes seconds to start
    return [
        task("environment", 20, "environment"),
        task("build", 70, "build"),
        tests("launches", 35, few, "-v", "tests/test_launches.py"),
        tests("published", 50, few, "-v", "-m", "cuda and published", "tests"),
        bench("step", 80, ["train_step"], "bf16 and N128 and S1", csv),
        task("profile-default", 20, "profile", "default", out),
        task("profile-triton", 20, "profile", "triton", out),
        tests("smoke", 35, few, "-v", "-m", "cuda and smoke", "tests"),
        bench("ops-bf16", 40, ops, f"bf16 and {here}", csv),
        bench("ops-fp32", 30, ops, f"fp32 and {here}", csv),
        bench("encoder", 20, ["stgcn_block"], "bf16 and not compiled", csv),
        tests("tests", 65, workers, "-q", "-m", "cuda", "--dist", "loadfile", "tests"),
        sanitizer("memcheck", 90),
    ]


def second_run(csv: Path) -> list[Part]:
    """What a first run leaves out, compilation last."""
    ops = ("eadm_pool", "queue_contrast", "skeleton_augment")
    of_methods = ("masked_pool", "skelemix", "queue_losses")  # those that AimCLR has no use for
    compiled = ("stgcn_block", "eadm_pool", "masked_pool", "queue_contrast", "queue_losses")
    return [
        task("environment", 25, "environment"),
        task("build", 70, "build"),
        sanitizer("racecheck", 90),
        bench("steps", 95, ["train_step"], "not (bf16 and N128 and S1)", csv),
        bench("of-methods", 40, of_methods, "N128 and not compiled", csv),
        bench("ops", 85, ops, f"not compiled and not ({PUBLISHED})", csv),
        bench("encoders", 35, ["stgcn_block"], "not bf16 and not compiled", csv),
        bench("inference", 35, ["embedding"], "cuda", csv),
        bench("whole", 30, ["all_ops"], "cuda", csv),
        bench("compiled", 70, compiled, "compiled", csv),
    ]


class Check:
    """A run of parts, and the files that tell of it.

    Args:
        out: folder of the results.
        python: the interpreter of the parts.
        budget: seconds for the whole.
        env: of the parts.
    """

    def __init__(self, out: Path, python: str, budget: float, env: dict[str, str]) -> None:
        self.out, self.python, self.scale, self.env = out, python, budget / WHOLE, env
        self.failed = False
        self.lines: list[str] = []
        self.deadline = time.monotonic()  # of the part that runs

    def run(self, part: Part) -> None:
        """Run one part until it ends or its time is over, and note how it went."""
        began = time.monotonic()
        self.deadline += part.seconds * self.scale
        left = self.deadline - began
        print(f"\n== {part.name} (at most {left:.0f} s)", flush=True)
        log = self.out / "running.log"
        note = "FAILED: stopped"
        try:
            with log.open("ab") as file:
                for _ in range(RUNS):
                    code = self._process(part, file)
                    if code is None or code in PYTEST_CODES or "--add" not in part.arguments:
                        break
            note = "ok" if code == 0 else "FAILED: out of time" if code is None else ""
            note = note or f"FAILED: exit code {code}"
        finally:
            self.failed |= note != "ok"
            self.note(f"{part.name:<16} {note} ({time.monotonic() - began:.0f} s)")
            self._keep_log(part.name, log, shown=note != "ok")

    def _process(self, part: Part, log: object) -> int | None:
        """The exit code, or None if it was ended."""
        command = [*part.before, self.python, *part.arguments]
        limit = self.deadline - time.monotonic()
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.env | part.env,
                stdin=subprocess.DEVNULL,
                stdout=log,  # type: ignore[call-overload]
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            print(error, flush=True)
            return 127
        try:
            # An interrupt first, so that pytest still says what it saw.
            grace = part.seconds * self.scale * GRACE
            for wait, ending in ((limit - grace, signal.SIGINT), (grace, signal.SIGKILL)):
                try:
                    code = process.wait(max(wait, 0.0))
                    return None if ending == signal.SIGKILL else code
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, ending)
            return None
        finally:
            with suppress(ProcessLookupError):  # all that it has started
                os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(REAPED)
            except subprocess.TimeoutExpired:  # in the driver, which SIGKILL does not interrupt
                print(f"process {process.pid} did not end when killed", flush=True)

    def note(self, line: str) -> None:
        """Add a line to status.txt."""
        print(line, flush=True)
        self.lines.append(line)
        temporary = self.out / "status.tmp"
        temporary.write_text("".join(f"{each}\n" for each in self.lines), encoding="utf-8")
        temporary.replace(self.out / "status.txt")

    def _keep_log(self, name: str, log: Path, shown: bool) -> None:
        text = log.read_bytes()[-LOG_BYTES:]
        with (self.out / "log.txt").open("ab") as file:
            file.write(f"== {name}\n".encode() + text + b"\n")
        log.unlink()
        if shown:
            lines = text.decode("utf-8", "replace").splitlines()[-25:]
            print("\n".join(lines), flush=True)


def stop(signum: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def install(wheels: Path, into: Path, python: str) -> str:
    """Unpack wheels beside what is installed, for this run alone; says how that went."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        return f"FAILED: no wheels in {wheels}"
    pip = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    try:
        done = subprocess.run(
            [*pip, "--target", str(into), *files],
            capture_output=True, text=True, check=False, timeout=HELPED,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"FAILED: not done in {HELPED:.0f} s"
    return "ok" if done.returncode == 0 else f"FAILED: {done.stderr.strip()}"


def can_import(names: Sequence[str], python: str, env: dict[str, str]) -> bool:
    code = f"import importlib.util as u; assert all(map(u.find_spec, {list(names)!r}))"
    try:
        done = subprocess.run(
            [python, "-c", code], env=env, capture_output=True, check=False, timeout=HELPED
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def chosen(parts: Sequence[Part], names: str) -> list[Part]:
    """The parts that are named, in their own order; all, if none is."""
    wanted = names.split()
    unknown = set(wanted) - {part.name for part in parts}
    if unknown:
        known = " ".join(part.name for part in parts)
        sys.exit(f"PARTS: there is no {', '.join(sorted(unknown))}; choose from: {known}")
    return [part for part in parts if not wanted or part.name in wanted]


def show(csv: Path) -> None:
    """Print the tables of what was measured."""
    import tables

    try:
        if csv.exists():
            tables.show(str(csv))
    except (KeyError, ValueError) as error:
        print(f"{csv}: {error!r}")


def main() -> int:
    out = Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results" / "gpu").resolve()
    python = os.environ.get("PYTHON") or sys.executable
    second = os.environ.get("SECOND", "") not in ("", "0")
    csv = out / ("gpu_second.csv" if second else "gpu.csv")
    plan = (second_run if second else first_run)(csv)
    parts = chosen(plan, os.environ.get("PARTS", ""))
    out.mkdir(parents=True, exist_ok=True)
    for name in ("log.txt", "running.log", "status.txt", "profile.txt"):
        (out / name).unlink(missing_ok=True)
    if csv.exists():  # benchmarks leave out what is in there
        csv.replace(csv.with_stem(f"{csv.stem}_before"))
    packages = Path(tempfile.mkdtemp())
    env = os.environ | {
        "AIMCLR_EXPECT_GPU": "1",  # what finds none fails, and is not skipped
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)]),
        "PYTHONUNBUFFERED": "1",
    }
    check = Check(out, python, float(os.environ.get("BUDGET") or WHOLE), env)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    try:
        wheels = os.environ.get("WHEELS")
        if wheels:
            said = install(Path(wheels), packages, python)
            check.failed |= said != "ok"
            check.note(f"{'wheels':<16} {said}")
        if not can_import(PARSERS, python, env):
            check.note(f"no tests of commands: one of {', '.join(PARSERS)} is missing")
            parts = [replace(part, arguments=without_commands(part)) for part in parts]
        for part in parts:
            check.run(part)
    finally:
        shutil.rmtree(packages, ignore_errors=True)
        for left in out.glob("*.tmp"):  # of a process that was killed while it wrote
            left.unlink()
        show(csv)
        print("\n" + "\n".join(check.lines), flush=True)
    return int(check.failed)


if __name__ == "__main__":
    sys.exit(main())

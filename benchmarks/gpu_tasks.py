"""Parts of gpu_check.py that are no tests: they run on the GPU machine, each in its own process.

python benchmarks/gpu_tasks.py environment
python benchmarks/gpu_tasks.py build
python benchmarks/gpu_tasks.py profile ENCODER OUT     # default or triton
"""

from __future__ import annotations

import gzip
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import bench_train_step
import results
import torch
from harness import Case, cases
from rich.console import Console

from aimclr_fast import native
from aimclr_fast.training.profile import profile_steps, trace_steps

ROOT = Path(__file__).resolve().parents[1]
HEADLINE = cases([{"N": 128, "S": 1}], "cuda", "bf16")[0]
STEPS = 20


def environment() -> bool:
    """Print what there is; whether torch sees a GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    for command in (query, [os.environ.get("CUDACXX", "nvcc"), "--version"]):
        try:
            subprocess.run(command, check=False)
        except OSError as error:
            print(error)
    shared = shutil.disk_usage("/dev/shm").total >> 20 if Path("/dev/shm").is_dir() else 0
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, /dev/shm of {shared} MB")
    for field, value in results.asdict(results.this_machine()).items():
        print(f"{field}: {value}")
    if results.this_machine().commit == "unknown":
        print("warning: the results will name no commit; AIMCLR_COMMIT gives it")
    if not torch.cuda.is_available():
        print("torch sees no CUDA device")
        return False
    about = torch.cuda.get_device_properties(0)
    print(f"{about.multi_processor_count} multiprocessors, {about.total_memory >> 20} MB")
    return True


def build() -> bool:
    """Build the native library for this GPU, unless it is there, and compile Triton's kernels of
    the headline beside it; whether both went well.
    """
    building = None
    if up_to_date():
        print("the native library is built from these sources and runs here: not built again")
    else:
        env = os.environ | {"AIMCLR_CUDA": "ON"}
        env.setdefault("AIMCLR_CUDA_ARCHS", architecture())
        print(f"building for sm_{env['AIMCLR_CUDA_ARCHS']}", flush=True)
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        building = subprocess.Popen(command, cwd=ROOT, env=env)
    well = True
    if torch.cuda.is_available():
        began = time.perf_counter()
        try:
            step_without_library("triton", HEADLINE)
            print(f"Triton's kernels of a step: {time.perf_counter() - began:.1f} s", flush=True)
        except Exception:
            traceback.print_exc()
            well = False
    return (building is None or building.wait() == 0) and well


def up_to_date() -> bool:
    """There is a library of these sources that runs on this GPU."""
    if not native.available():
        return False
    if native.load().source_digest != native.source_digest(ROOT / "csrc"):
        return False
    return native.why_cuda_unusable() is None


def architecture() -> str:
    if not torch.cuda.is_available():
        return "90"
    return "{}{}".format(*torch.cuda.get_device_capability())


def step_without_library(encoder_backend: str | None, case: Case) -> None:
    """A training step on random views; on a GPU all but augmentation is torch and Triton."""
    training = bench_train_step.pretraining(bench_train_step.Inputs(case), encoder_backend)
    shape = (case["N"], *bench_train_step.SHAPE)
    views = {name: torch.randn(shape, device=case.device) for name in ("extreme", "query", "key")}
    step = torch.zeros((), dtype=torch.int64, device=case.device)
    for learner in training.learners:
        learner.model.train()
        training.learn(learner, dict.fromkeys(learner.models, views), step, bench_train_step.TOPK)


def profile(encoder: str, out: Path, case: Case = HEADLINE, steps: int = STEPS) -> None:
    """Add where a step's time goes to OUT/profile.txt, and write OUT/trace-ENCODER.json.gz."""
    backend = None if encoder == "default" else encoder
    training = bench_train_step.pretraining(bench_train_step.Inputs(case), backend)
    with tempfile.TemporaryDirectory() as folder:
        table = profile_steps(training, steps)
        text = io.StringIO()
        Console(file=text, width=80).print(table)
        about = f"{case}, {encoder} encoder, commit {results.this_machine().commit}"
        if case.device == "cuda":
            about += f", {results.this_machine().gpu}, graph: {training.graph_why_not or 'yes'}"
        with (out / "profile.txt").open("a", encoding="utf-8") as file:
            file.write(f"{about}\n{text.getvalue()}\n")
        print(f"{about}\n{text.getvalue()}", flush=True)
        trace = Path(folder, "trace.json")
        print(trace_steps(training, steps, trace), flush=True)
        if trace.exists():
            (out / f"trace-{encoder}.json.gz").write_bytes(gzip.compress(trace.read_bytes()))


def main(name: str, *arguments: str) -> int:
    if name == "environment":
        return int(not environment())
    if name == "build":
        return int(not build())
    encoder, out = arguments
    profile(encoder, Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Kill a tiny run again and again, resume it each time, and compare its weights bit for bit.

    python scripts/kill_and_resume.py --kills 30

Kills are SIGKILL at random moments, every other one while a checkpoint is being written. Then a
run on a disk that is full, one stopped by SIGTERM and one by Ctrl-C. Exits with 1 if weights or
metrics differ from those of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # optimizers import it; here once for all processes

from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.train import command_line
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.metrics import read_metrics

CONFIG = """\
data: {store: STORE, split: odd-even}
model: {channels: 2, features: 8, embedding: 8, dropout: 0.5, queue_size: 32, momentum: 0.99}
optim: {epochs: EPOCHS, batch_size: 8, lr: 0.01, schedule: cosine, mining_epoch: 2}
monitor: {knn_every: 1, linear_probe: false}
save_every: 1
save_steps: 1
keep: 2
threads: 1
"""
MOST_FILES = 2 + 1 + 1  # keep, the best, and one being written


def write_shortened(store: Path, every: int) -> None:
    """A store of every so-many-th embedded sequence, with a sixth of its frames."""
    full = open_embedded("ui_prmd")
    rows = np.arange(0, len(full), every)
    write_store(
        store,
        np.array(full.positions)[rows][:, :, ::6],
        {name: column[rows] for name, column in full.samples.items()},
        layout=full.layout,
        classes=full.class_names,
        splits={},
        source="UI-PRMD",
        licence="ODC-PDDL 1.0",
        citation="",
    )


def prepare(folder: Path, epochs: int) -> None:
    """A store of a few sequences, and a config for it."""
    write_shortened(folder / "store", 25)
    (folder / "tiny.yaml").write_text(
        CONFIG.replace("STORE", "store").replace("EPOCHS", str(epochs))
    )


def start(folder: Path, run: str, setup: Callable[[], None] = lambda: None) -> int:
    """Train in a process of its own, which says nothing; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with (folder / f"{run}.txt").open("a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        setup()
        arguments = ["--config", "tiny.yaml", "--output", run, "--resume", "auto"]
        os.chdir(folder)
        command_line(arguments)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def running(child: int) -> bool:
    """Whether the child still runs; it stays there to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def outcome(folder: Path, run: str) -> tuple[str, list[dict[str, float]]]:
    """Checksum of all that was learned, and the metrics but for times and memory."""
    state = load_checkpoint(folder / run / "checkpoint.pt")
    weights = digest([state["models"], state["optimizers"], state["epoch"], state["step"]])
    machine = {"steps_per_second", "memory_mb"}
    lines = read_metrics(folder / run)
    return weights, [{k: v for k, v in line.items() if k not in machine} for line in lines]


def half_written(run: Path) -> set[Path]:
    return set(run.glob(".next.pt.*"))


def kill_again_and_again(folder: Path, kills: int, longest: float, rng: random.Random) -> Counter:
    """Kill run "killed" `kills` times, starting another one whenever it comes to its end."""
    counts: Counter[str] = Counter()
    name, run = "killed-0", folder / "killed-0"
    while counts["kills"] < kills:
        left = half_written(run)  # by the process that was killed before
        child = start(folder, name)
        during_write = counts["kills"] % 2 == 1
        began, moment = time.monotonic(), rng.uniform(0.0, longest)
        while running(child):
            waited = time.monotonic() - began > moment
            if waited and (not during_write or half_written(run) - left):
                os.kill(child, signal.SIGKILL)
                break
            if not during_write:
                time.sleep(0.001)
        code = exit_code(child)
        files = len(list(run.glob("*.pt")))  # hidden ones, too
        counts["most checkpoint files"] = max(counts["most checkpoint files"], files)
        if code == -signal.SIGKILL:
            counts["kills"] += 1
            counts["of them with a checkpoint half written"] += bool(half_written(run) - left)
            counts["of them before the first checkpoint"] += not (run / "checkpoint.pt").exists()
        elif code == 0:
            counts["runs that ended between kills"] += 1
            name = f"killed-{counts['runs that ended between kills']}"
            run = folder / name
        else:
            raise SystemExit(
                f"a run ended with code {code}:\n{(folder / f'{name}.txt').read_text()}"
            )
    code = exit_code(start(folder, name))
    counts["last exit code"] = code
    return counts


def asked_to_stop(folder: Path, name: str, signum: int, moment: float) -> int:
    child = start(folder, name)
    while not (folder / name / "checkpoint.pt").exists():
        time.sleep(0.005)
    time.sleep(moment)
    os.kill(child, signum)
    return exit_code(child)


def full_disk() -> None:
    """No file may grow beyond 8 kB, as on a disk that is full: checkpoints are larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def others(folder: Path, rng: random.Random, check: Callable[[str, str], None]) -> list[str]:
    """Signals and a full disk; returns what went wrong besides the results."""
    failures = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        run = f"stopped-{signum.name}"
        code = asked_to_stop(folder, run, signum, rng.uniform(0.0, 0.2))
        if code != 128 + signum:
            failures.append(f"{signum.name}: exit code {code}")
        exit_code(start(folder, run))
        check(run, f"stopped by {signum.name} (exit code {code})")

    code = exit_code(start(folder, "full", full_disk))
    print(f"full disk: exit code {code}")
    if code != 2:
        failures.append(f"full disk: exit code {code}")
    exit_code(start(folder, "full"))
    check("full", "full disk, then room")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=6, help="of the run, of five steps each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-kills", action="store_true", help="no signals, no full disk")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures: list[str] = []

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.epochs)
        began = time.monotonic()
        if exit_code(start(folder, "undisturbed")) != 0:
            raise SystemExit((folder / "undisturbed.txt").read_text())
        seconds = time.monotonic() - began
        expected = outcome(folder, "undisturbed")
        print(f"undisturbed: {seconds:.1f} s, {expected[1][-1]['step']} steps", flush=True)

        def check(run: str, what: str) -> None:
            if outcome(folder, run) != expected:
                failures.append(what)
            print(f"{what}: {'DIFFERS' if what in failures else 'the same, bit for bit'}")

        rng = random.Random(options.seed)
        counts = kill_again_and_again(folder, options.kills, seconds, rng)
        for what, count in counts.items():
            print(f"  {what}: {count}")
        if counts["most checkpoint files"] > MOST_FILES:
            failures.append("too many checkpoint files")
        for number in range(counts["runs that ended between kills"] + 1):
            check(f"killed-{number}", f"killed run {number}")

        if not options.only_kills:
            failures += others(folder, rng, check)
    if failures:
        raise SystemExit(f"FAILED: {', '.join(failures)}")


if __name__ == "__main__":
    main()

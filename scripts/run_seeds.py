"""Run a training recipe with several seeds; print and save mean and standard deviation.

    python scripts/run_seeds.py --seeds 0 1 2 --csv results.csv -- --optim.epochs 20

Everything after -- goes to `python -m aimclr_fast.train`. With --runs FOLDER the runs are kept, and
started again none is repeated that is whole. Several at a time (--jobs) should have --threads 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

from aimclr_fast.training.checkpoint import written_whole

COLUMNS = ("knn_1", "knn_20", "linear")
Scores = dict[str, dict[str, float]]


class Run(NamedTuple):
    """How a run ended."""

    scores: Scores
    seconds: float
    about: dict[str, object]


class Planned(NamedTuple):
    """A run, and the folder that it is or will be in."""

    seed: int
    arguments: list[str]
    output: Path

    @property
    def command(self) -> list[str]:
        return [*self.arguments, "--seed", str(self.seed)]

    @property
    def record(self) -> Path:
        """Written when the run has ended: what it was asked, and what it ran on."""
        return self.output / "recorded.json"

    def recorded(self) -> dict[str, object] | None:
        if not self.record.exists():
            return None
        about: dict[str, object] = json.loads(self.record.read_text())
        return about

    def train(self) -> Run:
        """Scores by row and column, seconds, and what it ran on."""
        about = self.recorded()
        if about is None:
            print(f"{self.output}: {' '.join(self.command)}", flush=True)
            program = [sys.executable, "-m", "aimclr_fast.train", "--resume", "auto"]
            ended = subprocess.run([*program, *self.command, "--output", str(self.output)])
            if ended.returncode:
                raise SystemExit(f"{self.output}: training ended with {ended.returncode}")
            about = {
                "command": self.command,
                "date": date.today().isoformat(),
                "torch": torch.__version__,
                "device": "cuda" if torch.cuda.is_available() else f"{platform.machine()} CPU",
            }
            with written_whole(self.record) as temporary:
                temporary.write_text(json.dumps(about))
        results = json.loads((self.output / "results.json").read_text())
        if not results["scores"]:
            raise SystemExit("the store has no labels: there is nothing to compare")
        return Run(results["scores"], results["seconds"], about)

    def lines(self, run: Run) -> list[dict[str, object]]:
        """One line of the csv file for each row of a run, with what it ran on."""
        about: dict[str, object] = {"seconds": run.seconds, "arguments": " ".join(self.arguments)}
        about |= {name: value for name, value in run.about.items() if name != "command"}
        return [
            {
                "seed": self.seed,
                "row": row,
                **{name: round(values[name], 4) for name in COLUMNS},
                **about,
            }
            for row, values in run.scores.items()
        ]


def train_all(planned: Sequence[Planned], jobs: int, done: Callable[[list[Run]], None]) -> None:
    """Train each, `jobs` at a time; `done` is told the runs so far whenever one more has ended.

    After a failure no other run is begun.
    """
    for run in planned:
        about = run.recorded()
        if about is not None and about["command"] != run.command:
            sys.exit(f"{run.output} holds a run with other arguments: choose another folder")
    stop = threading.Event()

    def train(run: Planned) -> Run | None:
        if stop.is_set():
            return None
        try:
            return run.train()
        except BaseException:
            stop.set()
            raise

    finished: list[Run] = []
    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(train, run) for run in planned]:
            ended = future.result()
            if ended is not None:  # those after a failure, which is raised before
                finished.append(ended)
                done(finished)


def add_options(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--csv", type=Path, help="where to save every run's numbers")
    parser.add_argument("--runs", type=Path, help="a folder to keep the runs in")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (%(default)s)")
    parser.add_argument("arguments", nargs="*", help="for the training command, after --")


def mean_and_spread(values: Sequence[float]) -> str:
    """Of shares, in percent: the mean, and the standard deviation of several."""
    percent = [100 * value for value in values]
    spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.1f}{spread}"


def cells(runs: Sequence[Run], row: str) -> str:
    """Mean and standard deviation of a row's columns over the runs, as cells of Markdown."""
    return " | ".join(
        mean_and_spread([run.scores[row][column] for run in runs]) for column in COLUMNS
    )


def save(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows of the same columns as a csv, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, [0, 1, 2])
    options = parser.parse_args()

    runs: list[Run] = []

    def done(finished: list[Run]) -> None:
        runs[:] = finished
        if options.csv:
            pairs = zip(planned, finished, strict=False)
            save(options.csv, [line for plan, run in pairs for line in plan.lines(run)])

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        planned = [Planned(s, options.arguments, folder / f"seed{s}") for s in options.seeds]
        train_all(planned, options.jobs, done)
    print(f"\n| features | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    for row in runs[0].scores:
        print(f"| {row} | {cells(runs, row)} |")
    print(f"\n{len(runs)} runs of {statistics.median(r.seconds for r in runs):.0f} s (median)")


if __name__ == "__main__":
    main()

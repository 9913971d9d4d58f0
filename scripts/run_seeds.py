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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import torch

from aimclr_fast.training.checkpoint import written_whole

COLUMNS = ("knn_1", "knn_20", "linear")
Scores = dict[str, dict[str, float]]
Run = tuple[Scores, float]


def train(seed: int, arguments: list[str], output: Path) -> Run:
    """Scores of one run by row and column, and its seconds."""
    command = [*arguments, "--seed", str(seed)]
    finished, asked = output / "results.json", output / "arguments.json"
    if finished.exists() and asked.exists():
        if json.loads(asked.read_text()) != command:
            sys.exit(
                f"{output} holds a run with other arguments: remove it, or choose another folder"
            )
    else:
        print(f"{output}: {' '.join(command)}", flush=True)
        program = [sys.executable, "-m", "aimclr_fast.train", "--resume", "auto"]
        subprocess.run([*program, *command, "--output", str(output)], check=True)
        asked.write_text(json.dumps(command))
    results = json.loads(finished.read_text())
    return results["scores"], results["seconds"]


def train_all(runs: Sequence[tuple[int, list[str], Path]], jobs: int) -> list[Run]:
    """`train` of each seed, arguments and output, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda run: train(*run), runs))


def add_options(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--csv", type=Path, help="where to save every run's numbers")
    parser.add_argument("--runs", type=Path, help="a folder to keep the runs in")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (%(default)s)")
    parser.add_argument("arguments", nargs="*", help="for the training command, after --")


def cells(runs: Sequence[Run], row: str) -> str:
    """Mean and standard deviation of a row's columns over the runs, as cells of Markdown."""
    found = []
    for column in COLUMNS:
        values = [100 * scores[row][column] for scores, _ in runs]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        found.append(f"{statistics.mean(values):.1f}{spread}")
    return " | ".join(found)


def lines(seed: int, run: Run, arguments: list[str]) -> list[dict[str, object]]:
    """One line of the csv file for each row of a run, with what it ran on."""
    scores, seconds = run
    about = {
        "seconds": seconds,
        "arguments": " ".join(arguments),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "device": "cuda" if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
    }
    return [
        {"seed": seed, "row": row, **{name: round(values[name], 4) for name in COLUMNS}, **about}
        for row, values in scores.items()
    ]


def save(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, [0, 1, 2])
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        planned = [(s, options.arguments, folder / f"seed{s}") for s in options.seeds]
        runs = train_all(planned, options.jobs)
    print(f"\n| features | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    for row in runs[0][0]:
        print(f"| {row} | {cells(runs, row)} |")
    print(f"\n{len(runs)} runs of {statistics.median(s for _, s in runs):.0f} s (median)")
    if options.csv:
        pairs = zip(options.seeds, runs, strict=True)
        save(options.csv, [line for pair in pairs for line in lines(*pair, options.arguments)])


if __name__ == "__main__":
    main()

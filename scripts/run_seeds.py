"""Run a training recipe with several seeds; print and save mean and standard deviation.

    python scripts/run_seeds.py --seeds 0 1 2 --csv results.csv -- --optim.epochs 20

Everything after -- goes to `python -m aimclr_fast.train`.
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
from datetime import date
from pathlib import Path

import torch

from aimclr_fast.training.checkpoint import written_whole

COLUMNS = ("knn_1", "knn_20", "linear")
Scores = dict[str, dict[str, float]]


def train(seed: int, arguments: list[str], folder: Path) -> tuple[Scores, float]:
    """Scores of one run by row and column, and its seconds."""
    output = folder / f"seed{seed}"
    command = [sys.executable, "-m", "aimclr_fast.train", *arguments]
    subprocess.run([*command, "--seed", str(seed), "--output", str(output)], check=True)
    results = json.loads((output / "results.json").read_text())
    return results["scores"], results["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--csv", type=Path, help="where to save every run's numbers")
    parser.add_argument("arguments", nargs="*", help="for the training command, after --")
    options = parser.parse_args()

    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(seed, options.arguments, Path(folder)) for seed in options.seeds]
    print(f"\n| features | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    for row in runs[0][0]:
        cells = []
        for column in COLUMNS:
            values = [100 * scores[row][column] for scores, _ in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        print(f"| {row} | {' | '.join(cells)} |")
    print(f"\n{len(runs)} runs of {statistics.median(s for _, s in runs):.0f} s (median)")
    if options.csv:
        save(options.csv, options.seeds, runs, options.arguments)


def save(
    path: Path, seeds: list[int], runs: list[tuple[Scores, float]], arguments: list[str]
) -> None:
    """One line a seed and row, with what it ran on."""
    about = {
        "arguments": " ".join(arguments),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "device": "cuda" if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
    }
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["seed", "row", *COLUMNS, "seconds", *about])
        writer.writeheader()
        for seed, (scores, seconds) in zip(seeds, runs, strict=True):
            for row, values in scores.items():
                rounded = {name: round(value, 4) for name, value in values.items()}
                writer.writerow({"seed": seed, "row": row, **rounded, "seconds": seconds, **about})


if __name__ == "__main__":
    main()

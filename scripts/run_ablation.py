"""Train each row of AimCLR's ablation with several seeds; print and save the table.

    python scripts/run_ablation.py --seeds 0 1 2 3 4 --csv ablation.csv -- --threads 1

Everything after -- goes to `python -m aimclr_fast.train`, before what a row asks for. Runs are kept
and repeated as in run_seeds.py.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

from run_seeds import COLUMNS, Run, add_options, cells, lines, save, train_all

# Each row adds a part to the one before.
ROWS = {
    "SkeletonCLR": "--method skeletonclr",
    "+ extreme view in InfoNCE": "--model.eadm false --model.d3m false --model.nnm false",
    "D3M instead": "--model.eadm false --model.nnm false",
    "+ EADM": "--model.nnm false",
    "+ NNM: AimCLR": "",
}
# Each lacks one part of the whole.
LEFT_OUT = {
    "AimCLR without the extreme view": "--model.extreme false --model.eadm false --model.d3m false",
    "AimCLR without D3M": "--model.d3m false",
    "AimCLR without EADM": "--model.eadm false",
}


def folder_name(row: str) -> str:
    """`+ EADM` is kept in eadm."""
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, [0, 1, 2, 3, 4])
    parser.add_argument(
        "--mining-epoch",
        type=int,
        default=45,
        help="first epoch with mining, where a row mines (%(default)s: the default recipe's last "
        "fifth, which by itself does not mine)",
    )
    parser.add_argument("--leave-one-out", action="store_true", help="also without each one part")
    options = parser.parse_args()

    rows = ROWS | (LEFT_OUT if options.leave_one_out else {})
    shared = [f"--optim.mining_epoch={options.mining_epoch}", *options.arguments]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        names = [(seed, name) for seed in options.seeds for name in rows]
        planned = [
            (seed, [*shared, *rows[name].split()], folder / folder_name(name) / f"seed{seed}")
            for seed, name in names
        ]
        finished = train_all(planned, options.jobs)
    if not all(scores for scores, _ in finished):
        sys.exit("the store has no labels: there is nothing to compare")
    runs: dict[str, list[Run]] = {name: [] for name in rows}
    saved: list[dict[str, object]] = []
    for (seed, name), (_, arguments, _), run in zip(names, planned, finished, strict=True):
        runs[name].append(run)
        saved += [{"method": name, **line} for line in lines(seed, run, arguments)]
    if options.csv:
        save(options.csv, saved)

    print(f"\n| method | {' | '.join(COLUMNS)} | seconds |\n|---|{'---:|' * (len(COLUMNS) + 1)}")
    # The same for every method: a seed's weights before training.
    (first, *_) = runs.values()
    for row in first[0][0]:
        if row != "pretrained encoder":
            print(f"| {row} | {cells(first, row)} | |")
    for name, found in runs.items():
        seconds = statistics.median(seconds for _, seconds in found)
        print(f"| {name} | {cells(found, 'pretrained encoder')} | {seconds:.0f} |")
    print(f"\n{len(options.seeds)} seeds: {', '.join(map(str, options.seeds))}")


if __name__ == "__main__":
    main()

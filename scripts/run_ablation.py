"""Train each row of AimCLR's ablation with several seeds; print and save the table.

    python scripts/run_ablation.py --seeds 0 1 2 3 4 --csv ablation.csv -- --threads 1

Everything after -- goes to `python -m aimclr_fast.train --config ui_prmd`, before what a row asks
for. Runs are kept and repeated as in run_seeds.py.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from pathlib import Path

from run_seeds import COLUMNS, Planned, Run, add_options, cells, save, train_all

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
    mining = f"--optim.mining_epoch={options.mining_epoch}"
    shared = ["--config", "ui_prmd", mining, *options.arguments]
    names = [(seed, name) for seed in options.seeds for name in rows]
    runs: dict[str, list[Run]] = {}

    def done(finished: list[Run]) -> None:
        runs.clear()
        saved: list[dict[str, object]] = []
        for (_, name), plan, run in zip(names, planned, finished, strict=False):
            runs.setdefault(name, []).append(run)
            saved += [{"method": name, **line} for line in plan.lines(run)]
        if options.csv:
            save(options.csv, saved)

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        planned = [
            Planned(
                seed, [*shared, *rows[name].split()], folder / folder_name(name) / f"seed{seed}"
            )
            for seed, name in names
        ]
        train_all(planned, options.jobs, done)

    print(f"\n| method | {' | '.join(COLUMNS)} | seconds |\n|---|{'---:|' * (len(COLUMNS) + 1)}")
    # The same for every method: a seed's weights before training.
    (first, *_) = runs.values()
    for row in first[0].scores:
        if not row.startswith("pretrained"):
            print(f"| {row} | {cells(first, row)} | |")
    for name, found in runs.items():
        seconds = statistics.median(run.seconds for run in found)
        for row in found[0].scores:
            if row.startswith("pretrained"):  # one more with monitor.pool
                readout = row.removeprefix("pretrained").removeprefix(" encoder")
                print(f"| {name}{readout} | {cells(found, row)} | {seconds:.0f} |")
    print(f"\n{len(options.seeds)} seeds: {', '.join(map(str, options.seeds))}")


if __name__ == "__main__":
    main()

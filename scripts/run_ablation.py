"""Train each row of AimCLR's ablation with several seeds; print and save the table.

    python scripts/run_ablation.py --seeds 0 1 2 3 4 --csv ablation.csv -- --threads 1

Everything after -- goes to `python -m aimclr_fast.train`, before what a row asks for. The csv file
grows with every finished run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from run_seeds import COLUMNS, Run, cells, lines, save, train

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--mining-epoch",
        type=int,
        default=45,
        help="first epoch with mining, where a row mines (%(default)s: the default recipe's last "
        "fifth, which by itself does not mine)",
    )
    parser.add_argument("--leave-one-out", action="store_true", help="also without each one part")
    parser.add_argument("--csv", type=Path, help="where to save every run's numbers")
    parser.add_argument("arguments", nargs="*", help="for the training command, after --")
    options = parser.parse_args()

    rows = ROWS | (LEFT_OUT if options.leave_one_out else {})
    runs: dict[str, list[Run]] = {name: [] for name in rows}
    saved: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for number, (name, switches) in enumerate(rows.items()):
                mining = f"--optim.mining_epoch={options.mining_epoch}"
                arguments = [mining, *options.arguments, *switches.split()]
                print(f"\n== {name}, seed {seed}", flush=True)
                run = train(seed, arguments, Path(folder, f"row{number}-seed{seed}"))
                if not run[0]:
                    sys.exit("the store has no labels: there is nothing to compare")
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

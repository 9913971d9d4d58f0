"""What another precision costs in accuracy: a recipe with the same seeds in both, paired.

    python scripts/compare_precisions.py --runs runs/precisions --csv precisions.csv --jobs 2 \
        -- --threads 1

trains the default recipe with five seeds in fp32 and in bf16, and prints for each readout of the
pretrained encoder (kNN and linear, test samples) the means, and mean and standard deviation of the
differences by seed, in points. --csv gets every run's numbers, --differences the last table. With
--runs FOLDER the runs are kept, and started again none is repeated that is whole. Everything after
-- goes to `python -m aimclr_fast.train`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from run_seeds import COLUMNS, Planned, Run, add_options, cells, save, train_all

from aimclr_fast.training.run import PRETRAINED

Pairs = Sequence[tuple[Run, Run]]


def differences(pairs: Pairs) -> list[dict[str, object]]:
    """A line for each readout of the pretrained encoder and column of the closing table: in points,
    the second run of each pair minus the first.
    """
    lines: list[dict[str, object]] = []
    rows = [row for row in pairs[0][0].scores if row.startswith(PRETRAINED)]
    for row in rows:
        for column in COLUMNS:
            each = [100 * (b.scores[row][column] - a.scores[row][column]) for a, b in pairs]
            spread = statistics.stdev(each) if len(each) > 1 else 0.0
            lines.append(
                {
                    "row": row,
                    "column": column,
                    "mean_difference": round(statistics.mean(each), 2),
                    "standard_deviation": round(spread, 2),
                    "standard_error": round(spread / len(each) ** 0.5, 2),
                    "pairs": len(each),
                }
            )
    return lines


def table(lines: Sequence[dict[str, object]]) -> str:
    """The differences as Markdown: mean ± standard deviation."""
    text = [f"| difference | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for row in dict.fromkeys(line["row"] for line in lines):
        found = [
            f"{line['mean_difference']:+.1f} ± {line['standard_deviation']:.1f}"
            for line in lines
            if line["row"] == row
        ]
        text.append(f"| {row} | {' | '.join(found)} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, [0, 1, 2, 3, 4])
    parser.add_argument("--differences", type=Path, help="where to save the differences (csv)")
    parser.add_argument(
        "--precisions", nargs=2, default=["fp32", "bf16"], help="the first is subtracted"
    )
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        planned = [  # pairs after one another, so that what is there early can be compared
            Planned(seed, [*options.arguments, "--precision", name], folder / f"{name}-seed{seed}")
            for seed in options.seeds
            for name in options.precisions
        ]
        runs: list[Run] = []

        def done(finished: list[Run]) -> None:
            runs[:] = finished
            pairs = list(zip(planned, finished, strict=False))
            if options.csv:
                save(options.csv, [line for plan, run in pairs for line in plan.lines(run)])

        train_all(planned, options.jobs, done)
    first, second = runs[::2], runs[1::2]
    lines = differences(list(zip(first, second, strict=True)))
    if options.differences:
        save(options.differences, lines)
    print(f"\n| features | precision | {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * len(COLUMNS)}")
    for row in dict.fromkeys(line["row"] for line in lines):
        for name, of in zip(options.precisions, (first, second), strict=True):
            print(f"| {row} | {name} | {cells(of, str(row))} |")
    print(f"\n{options.precisions[1]} minus {options.precisions[0]}, by seed:\n\n{table(lines)}")


if __name__ == "__main__":
    main()

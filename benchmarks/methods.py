"""The CPU step of each method beside AimCLR's: time, ratio, passes of the encoder, time a pass.

    python benchmarks/methods.py             # all methods: some minutes on cores with nothing else
    python benchmarks/methods.py hiclr       # one, and no file is written

The rows of all go to benchmarks/results/methods.csv. The ratio is of medians timed in turns.
"""

from __future__ import annotations

import re
import sys

import results
from step import measured
from tables import markdown

COLUMNS = ("method", "ms a step", "of AimCLR's", "passes", "ms a pass")


def main(words: list[str]) -> None:
    rows = measured("methods", words)
    if not words:
        results.write_cells(results.FOLDER / "methods.csv", rows)
    print(markdown(list(COLUMNS)))
    print(markdown(["---", *["---:"] * (len(COLUMNS) - 1)]))
    for row in rows:
        if row["package"] == "1":
            print(markdown(cells(row)))


def cells(row: dict[str, str]) -> list[str]:
    found = re.fullmatch(r"N\d+-P(\d+)-(.+)", row["case"])
    assert found is not None
    passes, method = int(found[1]), found[2]
    if not row["ms"]:
        return [method, row["status"], "", str(passes), ""]
    ms = float(row["ms"])
    ratio = f"{ms / float(row['baseline_ms']):.2f}" if row["baseline_ms"] else ""
    return [method, f"{ms:.4g}", ratio, str(passes), f"{ms / passes:.3g}"]


if __name__ == "__main__":
    main(sys.argv[1:])

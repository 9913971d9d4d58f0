"""The training step, ours and the baseline's in one run: time, sequences a second, share of the
limit, memory.

    python benchmarks/step.py                # what this machine has
    python benchmarks/step.py N128 bf16      # some of it: cases whose names hold these words
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import results
from tables import markdown, megabytes

HERE = Path(__file__).parent
COLUMNS = ("case", "who", "ms a step", "sequences/s", "speed-up", "of the limit", "extra memory")


def main(words: list[str]) -> None:
    rows = [row for row in measured("train_step", words) if row["op"] == "train_step"]
    print(markdown(list(COLUMNS)))
    print(markdown(["---", "---", *["---:"] * (len(COLUMNS) - 2)]))
    for row in rows:
        print(markdown(cells(row)))


def measured(op: str, words: list[str]) -> list[dict[str, str]]:
    """The rows of a benchmark, of the cases whose names hold the words, and of the limits."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", str(HERE / f"bench_{op}.py"), "-q"]
        command += ["--benchmark-only", "--results", op, "--results-dir", folder]
        command += ["-k", " and ".join(words)] if words else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = Path(folder, f"{op}.csv")
        if not found.exists():
            sys.exit(done.stdout + done.stderr)
        return results.read(found)


def cells(row: dict[str, str]) -> list[str]:
    case = f"{row['device']} {row['precision']} {row['case']}"
    if not row["ms"]:
        return [case, row["provider"], row["status"], *[""] * 4]
    ms = float(row["ms"])
    batch = int(row["case"].split("-")[0].removeprefix("N"))
    speedup = f"{float(row['speedup']):.3g}×" if row["speedup"] else ""
    share = f"{100 * float(row['share']):.0f} %" if row["share"] else ""
    rate = f"{1e3 * batch / ms:,.0f}"
    return [case, row["provider"], f"{ms:.4g}", rate, speedup, share, megabytes(row)]


if __name__ == "__main__":
    main(sys.argv[1:])

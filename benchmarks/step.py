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
    with tempfile.TemporaryDirectory() as folder:
        rows = measured("train_step", words, Path(folder, "step.csv"))
    print(markdown(list(COLUMNS)))
    print(markdown(["---", "---", *["---:"] * (len(COLUMNS) - 2)]))
    for row in rows:
        print(markdown(cells(row)))


def measured(op: str, words: list[str], into: Path) -> list[dict[str, str]]:
    """The rows of an op's benchmark, of the cases whose names hold the words; also in a file."""
    command = [sys.executable, "-m", "pytest", str(HERE / f"bench_{op}.py"), "-q"]
    command += ["--benchmark-only", "--results", into.stem, "--results-dir", str(into.parent)]
    command += ["-k", " and ".join(words)] if words else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not into.exists():
        sys.exit(done.stdout + done.stderr)
    return [row for row in results.read(into) if row["op"] == op]


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

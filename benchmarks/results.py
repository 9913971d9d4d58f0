"""Rows of a run, what they were measured on, and the CSV files that keep them.

python benchmarks/results.py FOLDER INTO.csv    # the runs of a folder as one file
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
BASELINE = "baseline"
FLOOR = "floor"  # the copy or matrix product that no implementation can do without
BF16 = "_bf16"  # ends the name of a provider that computes in bf16 in a CPU case of fp32
LIMITS = "limits"  # the op of rows that hold the hardware's limits
BEGUN = "did not finish"  # the status of a case while it runs, and of one that ended the process
KEY = ("op", "device", "precision", "case", "provider")


@dataclass(frozen=True)
class Row:
    """One provider of one case. Times are medians; None is written as an empty cell.

    Attributes:
        op: benchmark, or "limits".
        device: "cpu" or "cuda".
        precision: "fp32", "tf32" or "bf16".
        case: sizes.
        provider: who computed it.
        package: 1 where that is this package.
        status: "ok", or what went wrong; BEGUN while it runs.
        ms: milliseconds, on a GPU by its own clock where `how` is not "wall".
        low_ms, high_ms: quartiles.
        how: "wall", "graph" (replayed) or "events" (launched).
        wall_ms: by the host's clock, waiting for the device.
        baseline_ms: the baseline's median, measured in turns with this one.
        speedup: baseline_ms / ms.
        limit_ms: the least time by the limits measured in this run.
        share: limit_ms / ms.
        rate: bytes or FLOP a second; the limit itself in rows of "limits".
        extra_mb: peak memory beyond the inputs, 10^6 bytes.
        rounds: how often it was timed.
    """

    op: str
    device: str
    precision: str
    case: str
    provider: str
    package: int = 0
    status: str = "ok"
    ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    how: str = ""
    wall_ms: float | None = None
    baseline_ms: float | None = None
    speedup: float | None = None
    limit_ms: float | None = None
    share: float | None = None
    rate: float | None = None
    extra_mb: float | None = None
    rounds: int = 0


@dataclass(frozen=True)
class Machine:
    """What a run ran on; the same in each of its rows."""

    cpu: str
    gpu: str
    threads: int
    python: str
    torch: str
    triton: str
    numpy: str
    commit: str
    date: str


@lru_cache
def this_machine() -> Machine:
    import numpy  # here, since what joins files and makes tables needs neither
    import torch

    return Machine(
        cpu=_cpu_name(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        triton=_triton_version(),
        numpy=numpy.__version__,
        commit=_commit(),
        date=date.today().isoformat(),
    )


def write(path: Path, rows: Iterable[Row]) -> None:
    """All rows of a run as one CSV file, whole or not at all."""
    write_cells(path, map(cells, rows))


def add(path: Path, rows: Iterable[Row]) -> None:
    """Put rows into a file that may have some, in place of those for the same thing.

    Of a limit, the first row is kept: each process of a run measures it.
    """
    found = {key(row): row for row in (read(path) if path.exists() else ())}
    for row in map(cells, rows):
        if row["op"] != LIMITS or key(row) not in found:
            found[key(row)] = row
    write_cells(path, found.values())


def cells(row: Row) -> dict[str, str]:
    """A row and its machine as they are written."""
    return {name: _cell(value) for name, value in asdict(row).items()} | machine_cells()


def machine_cells() -> dict[str, str]:
    """What a run ran on, as it is written in each of its rows."""
    return {name: _cell(value) for name, value in asdict(this_machine()).items()}


def key(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row is for."""
    return tuple(row[name] for name in KEY)


def write_cells(
    path: Path, rows: Iterable[Mapping[str, object]], names: Sequence[str] | None = None
) -> None:
    """Write a csv whole or not at all; by default with the columns of a `Row` and its machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        usual = [field.name for field in (*fields(Row), *fields(Machine))]
        writer = csv.DictWriter(file, usual if names is None else names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def join(paths: Iterable[Path], into: Path) -> None:
    """Several files as one; of rows for the same thing, such as a limit, the first that was timed
    is kept.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in (row for path in paths for row in read(path)):
        if key(row) not in found or (row["ms"] and not found[key(row)]["ms"]):
            found[key(row)] = row
    write_cells(into, found.values())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _triton_version() -> str:
    try:
        import triton
    except ImportError:
        return ""
    return str(triton.__version__)


def _commit() -> str:
    """The commit measured, with a + where sources differ from it."""
    given = os.environ.get("AIMCLR_COMMIT")
    if given:
        return given
    git = ["git", "-C", str(FOLDER.parent)]
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":!results"]
    try:
        name = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run([*git, *changed], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if dirty else "")


if __name__ == "__main__":
    folder, into = map(Path, sys.argv[1:])
    join(sorted(folder.glob("*.csv")), into)
    if not any(row["ms"] for row in read(into)):
        sys.exit(f"{folder}: no benchmark was timed")

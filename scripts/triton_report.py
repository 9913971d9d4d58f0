"""What the compiled Triton kernels take of a GPU, without one: registers, spills, shared memory.

    python scripts/triton_report.py --csv benchmarks/results/triton_aot.csv
    python scripts/triton_report.py --archs 90 --only "stgcn_block 10 bf16"

Compiles every kernel that the published shapes launch (tests/triton_published.py) with the Triton
that is installed, and counts how many programs run at once. With --tests, what the `cuda` tests
launch, too. Exits with 1 if a kernel spills registers or takes more
registers or shared memory than a block can have.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import results  # noqa: E402
from gpus import PROCESSORS  # noqa: E402
from triton_aot import (  # noqa: E402
    Launch,
    compile_launches,
    compile_recorded,
    distinct,
    recorded_launches,
)
from triton_published import programs, real_sizes  # noqa: E402

FIELDS = (
    "triton", "arch", "case", "kernel", "warps", "registers", "local_bytes", "shared_bytes",
    "programs", "at_once", "rounds",
)  # fmt: skip


def _at_once(launch: Launch) -> int:
    return PROCESSORS[launch.arch].at_once(launch.registers, launch.warps, launch.shared_bytes)


def row(case: str, launch: Launch, version: str) -> dict[str, object]:
    at_once = _at_once(launch)
    rounds = f"{launch.programs / at_once:.2f}" if launch.programs and at_once else ""
    return {
        "triton": version,
        "case": case,
        "at_once": at_once,
        "rounds": rounds,
        **{name: getattr(launch, name) for name in FIELDS if hasattr(launch, name)},
    }


def fault(launch: Launch) -> str | None:
    if launch.local_bytes:
        return f"spills: {launch}"
    if launch.shared_bytes > PROCESSORS[launch.arch].block_shared:
        return f"too much shared memory: {launch}"
    if _at_once(launch) == 0:
        return f"too many registers or warps: {launch}"
    return None


def main() -> int:
    import triton

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", type=int, nargs="+", default=list(PROCESSORS))
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--tests", action="store_true", help="compile what the cuda tests launch")
    parser.add_argument("--csv", type=Path, help="where the table is written")
    options = parser.parse_args()
    unknown = set(options.archs) - set(PROCESSORS)
    if unknown:
        parser.error(f"--archs: no data of {sorted(unknown)}, known are {sorted(PROCESSORS)}")

    rows: list[dict[str, object]] = []
    faults: list[str] = []

    def add(case: str, launches: list[Launch]) -> None:
        found = [f"{case}: {told}" for told in map(fault, launches) if told]
        print(f"{case}: {len(launches)} launches, {len(found)} faults", flush=True)
        print(*found, sep="\n", end="\n" if found else "", flush=True)
        faults.extend(found)
        rows.extend(row(case, launch, triton.__version__) for launch in distinct(launches))

    for program in programs():
        if options.only is None or options.only in program.name:
            add(program.name, compile_launches(program.module, program.code, options.archs))
    if options.tests:
        for program in real_sizes():
            add(program.name, compile_launches(program.module, program.code, options.archs))
        add("cuda tests", compile_recorded(recorded_launches(), options.archs))
    if options.csv:
        results.write_cells(options.csv, rows, FIELDS)
    print(f"Triton {triton.__version__}: {len(rows)} kernels, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

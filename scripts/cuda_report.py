"""What the compiled CUDA kernels take of a GPU, without one: registers, spills, shared memory.

    AIMCLR_CUDA=ON AIMCLR_CUDA_ARCHS=ALL pip install .
    python scripts/cuda_report.py --csv benchmarks/results/cuda_kernels.csv

Reads the machine code of the library that is installed. Exits with 1 if a kernel spills registers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import results  # noqa: E402
from cuda_usage import Usage, named  # noqa: E402

from aimclr_fast import native  # noqa: E402

FIELDS = ("compiler", *Usage._fields)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="where the table is written")
    options = parser.parse_args()
    if not native.cuda_compiled():
        parser.error(f"no CUDA kernels to report: {native.why_cuda_unusable()}")
    library = native.load()
    file = Path(str(library.__file__))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    found = named(file)
    print(f"{len(found)} kernels for {library.cuda_archs}, by {library.compiler}")
    if options.csv:
        rows = ({"compiler": library.compiler, **usage._asdict()} for usage in found)
        results.write_cells(options.csv, rows, FIELDS)
    spilled = [usage for usage in found if usage.spills or usage.local]
    print(*spilled, sep="\n", end="\n" if spilled else "")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env bash
# Measures every CPU timing of README.md and of baseline/README.md, and fills their tables: some
# minutes on cores that have nothing else to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What the tables do not show takes most of the time of a full run.
shown="cpu and not compiled and not reference and not N4096 and not topk0 and not attention and not methods"
measure() {
    python -m pytest benchmarks -q --benchmark-only --results-dir "$scratch" "$@"
}
measure -k "$shown and not train_step" --budget 0.8 --results ops
measure -k "$shown and train_step" --budget 3 --results train_step
python benchmarks/results.py "$scratch" benchmarks/results/cpu.csv
python benchmarks/compare_baseline.py --save
python benchmarks/tables.py

"""scripts/compare_readouts.py: the rows and what they are measured on."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_readouts.py"


def test_rows_of_each_readout(evaluated, tmp_path):
    file = tmp_path / "readouts.csv"
    command = [sys.executable, str(SCRIPT), "joint.pt", "joint1.pt", "--csv", str(file)]
    options = ["--data", "store", "--split", "odd-even", "--readouts", "mean", "joints"]
    shown = subprocess.run(
        [*command, *options], cwd=evaluated, capture_output=True, text=True, check=True
    ).stdout
    with file.open(newline="") as opened:
        raw, *rows = csv.DictReader(opened)
    assert raw["features"] == "raw poses"
    assert [(row["features"], row["pool"], row["seed"]) for row in rows] == [
        (features, pool, seed)
        for seed in ("0", "1")
        for features in ("pretrained", "untrained")
        for pool in ("mean", "joints")
    ]
    mean = sum(float(row["linear"]) for row in rows[0::4]) / 2
    assert "| pretrained | joint | mean | " in shown
    line = next(
        line for line in shown.splitlines() if line.startswith("| pretrained | joint | mean")
    )
    assert float(line.split("|")[-2].split("±")[0]) == pytest.approx(100 * mean, abs=0.06)

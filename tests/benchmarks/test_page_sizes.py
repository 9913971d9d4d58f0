"""The committed sizes of pages and files keep their limits and are of what is there."""

from __future__ import annotations

import csv
from pathlib import Path

from aimclr_fast.inference.pretrained import pretrained_file

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "page_sizes.csv"


def test_sizes_are_below_their_limits():
    with RESULTS.open(encoding="utf-8") as file:
        rows = {(row["file"], row["sequences"]): row for row in csv.DictReader(file)}
    assert int(rows["report", "2000"]["bytes"]) < 5e6
    assert int(rows["report", "1000"]["bytes"]) < int(rows["report", "2000"]["bytes"])
    assert all(not row["limit"] or int(row["bytes"]) < int(row["limit"]) for row in rows.values())
    assert {name for name, _ in rows} >= {"timeline", "neighbors", "encoder as ONNX, int8"}
    assert {len(row["date"]) for row in rows.values()} == {10}
    assert all(row["commit"] and row["torch"] for row in rows.values())
    shipped = pretrained_file("ui_prmd")
    assert shipped is not None
    assert int(rows["encoder", ""]["bytes"]) == shipped.stat().st_size

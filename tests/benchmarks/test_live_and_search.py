"""Times of live motion and of the search come with what they were measured on."""

from __future__ import annotations

from dataclasses import asdict

import results
import search
import streaming
import torch


def test_each_row_says_what_it_was_measured_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # of this process
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(streaming, "ANSWERS", 12)
    monkeypatch.setattr(search, "COUNTS", (200,))
    streaming.main()
    search.main()
    machine = {name: str(value) for name, value in asdict(results.this_machine()).items()}
    for name in ("streaming", "search"):
        for row in results.read(tmp_path / f"{name}.csv"):
            assert machine.items() <= row.items()
    assert {row["recall"] for row in results.read(tmp_path / "search.csv")} == {"1.0000"}

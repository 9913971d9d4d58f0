"""Tables say what the committed results say; results are written whole and read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import results
import tables
from results import Row

ROOT = Path(__file__).resolve().parents[2]
CASE = {"op": "eadm_pool", "device": "cpu", "precision": "fp32", "case": "N128"}
ROWS = [
    Row("limits", "cpu", "", "copy", "torch", rate=2.4e10),
    Row("limits", "cpu", "fp32", "matmul", "torch", rate=3.2e11),
    Row(**CASE, provider="baseline", ms=560.0, extra_mb=1104.0),
    Row(**CASE, provider="floor", ms=7.25),
    Row(**CASE, provider="cpp", package=1, ms=28.0, speedup=20.04, share=0.25, extra_mb=85.2),
    Row(**CASE, provider="triton", package=1, status="out of memory"),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    results.write(tmp_path / "some.csv", ROWS)
    return tmp_path


def test_written_results_are_read_back(folder):
    assert [path.name for path in folder.iterdir()] == ["some.csv"]
    rows = results.read(folder / "some.csv")
    assert [row["provider"] for row in rows] == [row.provider for row in ROWS]
    machine = results.this_machine()
    for row in rows:
        assert (row["torch"], row["commit"]) == (machine.torch, machine.commit)
        assert int(row["threads"]) == machine.threads
    assert rows[4]["ms"] == "28"
    assert rows[5]["ms"] == ""


def test_files_are_joined(folder):
    more = [ROWS[0], Row(**{**CASE, "case": "N32"}, provider="cpp", ms=1.0)]
    results.write(folder / "more.csv", more)
    results.join([folder / "some.csv", folder / "more.csv"], folder / "all.csv")
    rows = results.read(folder / "all.csv")
    assert len(rows) == len(ROWS) + 1
    assert rows[: len(ROWS)] == results.read(folder / "some.csv")
    assert rows[-1]["case"] == "N32"


def test_show_prints_every_table(folder, capsys):
    tables.show(str(folder / "some.csv"))
    printed = capsys.readouterr().out
    assert "GB/s" in printed
    assert "**28**" in printed


def test_table_of_times(folder):
    lines = tables.table("some/eadm_pool", folder).splitlines()
    assert lines[0].startswith("| case | baseline | cpp | triton | floor | speed-up |")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [
        "N128", "560", "**28**", "out of memory", "7.25", "20×", "25 %", "1.1 GB → 85.2 MB",
    ]  # fmt: skip
    assert results.this_machine().cpu in lines[-1]


def test_table_of_limits(folder):
    text = tables.table("some/limits", folder)
    assert "| cpu: copy, read + written | 24 GB/s |" in text
    assert "| cpu: matrix product, fp32 | 0.32 TFLOP/s |" in text


def test_rendering_is_stable_and_touches_nothing_else(folder):
    text = "before\n<!-- table:some/eadm_pool -->\nold\n<!-- /table -->\nafter\n"
    once = tables.render(text, folder)
    assert once.startswith("before\n<!-- table:some/eadm_pool -->\n| case |")
    assert once.endswith("<!-- /table -->\nafter\n")
    assert "old" not in once
    assert tables.render(once, folder) == once
    assert tables.render("no table", folder) == "no table"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- table:some/eadm_pool -->\n",
        "<!-- table:none/eadm_pool -->\n<!-- /table -->",
        "<!-- table:some/other -->\n<!-- /table -->",
        "<!-- table:some/eadm_pool:bf16 -->\n<!-- /table -->",
    ],
    ids=["not closed", "no file", "no op", "no precision"],
)
def test_a_table_without_results_is_an_error(folder, text):
    with pytest.raises(tables.TableError):
        tables.render(text, folder)


def test_check_fails_on_a_stale_table(folder, monkeypatch, capsys):
    monkeypatch.setattr(tables.render, "__defaults__", (folder,))
    page = folder / "page.md"
    page.write_text("<!-- table:some/eadm_pool -->\n<!-- /table -->\n")
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check", str(page)])
    assert tables.main() == 1
    assert "out of date" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tables.py", str(page)])
    assert tables.main() == 0
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check", str(page)])
    assert tables.main() == 0


def test_readme_is_up_to_date():
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""Tables say what the committed results say; results are written whole and read back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import predict
import pytest
import results
import step_walk
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


def test_of_a_run_cut_short_before_the_baseline_all_tables_are_printed(tmp_path, capsys):
    """A row of the package holds the baseline's time, which it was timed in turns with."""
    bad = Row(**{**CASE, "op": "bad"}, provider="cpp", package=1, ms=1.0, baseline_ms="?")
    results.write(tmp_path / "cut.csv", [GPU_ROWS[2], bad, *ROWS])
    tables.show(str(tmp_path / "cut.csv"))
    printed = capsys.readouterr().out
    assert "| N128, S1 | 60 | **25** | 2.4× |" in printed
    assert "cut.csv: ValueError" in printed
    assert "**28**" in printed


def test_table_of_times(folder):
    lines = tables.table("some/eadm_pool", folder).splitlines()
    assert lines[0].startswith("| case | baseline | cpp | triton | floor | speed-up |")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [
        "N128", "560", "**28**", "out of memory", "7.25", "20×", "25 %", "1.1 GB → 85.2 MB",
    ]  # fmt: skip
    assert results.this_machine().cpu in lines[-1]


def test_memory_in_bf16_is_shown_beside_that_in_fp32(tmp_path):
    half = Row(**CASE, provider="cpp_bf16", package=1, ms=14.0, speedup=40.0, extra_mb=43.0)
    results.write(tmp_path / "some.csv", [*ROWS, half])
    row = tables.table("some/eadm_pool", tmp_path).splitlines()[2]
    assert "| 560 | 28 | out of memory | **14** |" in row
    assert row.endswith("| 1.1 GB → 85.2 MB → 43 MB |")


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


def test_predictions_are_the_sums_of_their_files():
    def of(rows):
        return [row for row in rows if row.encoder == "triton"]

    launches, read, written = step_walk.totals(of(step_walk.read()))
    line = f"| `triton` | {launches:,} | {read / 1e9:.1f} | {written / 1e9:.1f} |"
    assert line in tables.table("step_walk").splitlines()
    rows = of(predict.read(predict.RESULTS / "predict_h100.csv"))
    total = predict.total(rows)
    line = f"| `triton` | {total.kernels:,} | {total.gigabytes:.1f} | {total.ms:.1f} |"
    text = tables.table("predict_h100")
    assert f"{line} {total.reuse_ms:.1f} |" in text
    assert text.endswith(f"\n\nCommit {rows[0].commit}; {rows[0].versions}.\n")
    *_, last = tables.table("predict_h100/bounds").splitlines()
    assert last.startswith("| `triton` |")
    cells = [float(cell) for cell in last.split("|")[2:-1]]
    assert sum(cells) == pytest.approx(total.ms, abs=0.2)


STEP = {"op": "train_step", "device": "cuda", "precision": "bf16"}
GPU_ROWS = [
    Row("limits", "cuda", "", "copy", "torch", rate=4.3e12),
    Row("limits", "cuda", "bf16", "matmul", "torch", rate=7.9e14),
    Row(**STEP, case="N128-S1", provider="package", package=1, ms=25.0, baseline_ms=60.0,
        speedup=2.4, share=0.05, extra_mb=2500.0, how="wall"),
    Row(**STEP, case="N128-S1", provider="triton", package=1, ms=12.5, baseline_ms=61.0,
        speedup=4.88, share=0.1, extra_mb=900.0, how="wall"),
    Row(**STEP, case="N128-S1", provider="baseline", ms=60.5, extra_mb=4200.0, how="wall"),
    Row(**STEP, case="N32-S1", provider="package", package=1, ms=9.0),
    Row(**STEP, case="N1024-S1", provider="package", package=1, status="out of memory"),
    Row(**STEP, case="N1024-S1", provider="triton", package=1, status=results.BEGUN),
    Row(**{**STEP, "precision": "fp32"}, case="N128-S1", provider="package", package=1, ms=50.0),
]  # fmt: skip
GPU_MACHINE = results.Machine(
    cpu="Some Xeon, 16 cores",
    gpu="NVIDIA H100",
    threads=16,
    python="3.12.3",
    torch="2.11.0+cu130",
    triton="3.6.0",
    numpy="2.5.2",
    commit="abc1234",
    date="2026-12-01",
)


def test_a_gpu_run_of_several_processes_fills_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "this_machine", lambda: GPU_MACHINE)
    path = tmp_path / "gpu.csv"
    results.add(path, [*GPU_ROWS[:2], replace(GPU_ROWS[2], ms=None, status=results.BEGUN)])
    results.add(path, [replace(GPU_ROWS[0], rate=1.0), *GPU_ROWS[2:]])
    rows = results.read(path)
    assert len(rows) == len(GPU_ROWS)
    assert rows[0]["rate"] == "4.3e+12"  # each process measures it; the first stays
    assert (rows[2]["ms"], rows[2]["status"]) == ("25", "ok")
    assert {row["gpu"] for row in rows} == {"NVIDIA H100"}

    page = "".join(
        f"<!-- table:gpu/{name} -->\n<!-- /table -->\n"
        for name in ("limits", "train_step:bf16", "train_step:fp32")
    )
    text = tables.render(page, tmp_path)
    assert "| cuda: copy, read + written | 4,300 GB/s |" in text
    assert "| cuda: matrix product, bf16 | 790 TFLOP/s |" in text
    assert (
        "| case | baseline | package | triton | speed-up | of the limit | extra memory |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| N32, S1 |  | **9** |  |  |  |  |\n"
        "| N128, S1 | 61 | 25 | **12.5** | 4.88× | 10 % | 4.2 GB → 900 MB |\n"
        "| N1024, S1 |  | out of memory | did not finish |  |  |  |\n"
    ) in text
    machine = "NVIDIA H100, Some Xeon, 16 cores; torch 2.11.0+cu130, Triton 3.6.0, Python 3.12.3"
    assert f"milliseconds on {machine}, commit abc1234, 2026-12-01." in text
    assert tables.render(text, tmp_path) == text


def test_of_joined_runs_what_was_timed_is_kept(tmp_path):
    failed = replace(GPU_ROWS[2], ms=None, status=results.BEGUN)
    results.write(tmp_path / "gpu.csv", [GPU_ROWS[0], failed])
    results.write(tmp_path / "gpu_second.csv", [replace(GPU_ROWS[0], rate=1.0), GPU_ROWS[2]])
    results.join(sorted(tmp_path.glob("*.csv")), tmp_path / "all.csv")
    limit, step = results.read(tmp_path / "all.csv")
    assert (limit["rate"], step["ms"]) == ("4.3e+12", "25")


def test_tables_need_no_torch():
    """So that they are made at once after a run, and where only the results are."""
    code = "import sys; sys.modules.update(torch=None, numpy=None); import tables"
    folder = ROOT / "benchmarks"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=folder, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr

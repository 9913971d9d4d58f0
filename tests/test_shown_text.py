"""What the commands print: brackets, colons and bytes in paths and names stay what they are."""

from __future__ import annotations

import ast
import io
import os
from pathlib import Path

import numpy as np
import pytest
from data.readers.recordings import motion
from rich.progress import Progress, TextColumn
from rich.table import Table

from aimclr_fast._console import plain_console
from aimclr_fast.classify import command_line as classify
from aimclr_fast.evaluate import command_line as evaluate
from aimclr_fast.export import command_line as export
from aimclr_fast.prepare import command_line as prepare
from aimclr_fast.report import command_line as report
from aimclr_fast.search import command_line as search
from aimclr_fast.train import command_line as train

PACKAGE = Path(__file__).resolve().parents[1] / "aimclr_fast"
NAME = "[red]x[/y]:smile:"
SMALL = [
    "--model.channels=4", "--model.features=8", "--model.embedding=8", "--model.queue_size=32",
    "--optim.epochs=1", "--optim.batch_size=2", "--optim.mining_epoch=1", "--monitor.knn_every=1",
    "--monitor.linear_probe=false", "--threads=1",
]  # fmt: skip


def calls() -> list[tuple[str, Path, ast.Call]]:
    """Every call in the package by the last part of what is called."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found.append((name, path, node))
    return found


def test_no_console_or_progress_bar_of_the_package_reads_markup():
    """Tables are rendered by their console, so that this holds for them as well."""
    found = calls()
    assert {path.name for name, path, _ in found if name == "Console"} == {"_console.py"}
    columns = [(path, call) for name, path, call in found if name == "TextColumn"]
    assert columns
    for path, call in columns:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("markup") == "False", f"{path}:{call.lineno}"
    assert not {"from_markup", "render_markup"} & {name for name, _, _ in found}


def test_lines_tables_and_bars_show_names_as_they_are():
    out = io.StringIO()
    console = plain_console(file=out, width=200, force_terminal=True, color_system=None)
    console.print(NAME, soft_wrap=True)
    table = Table(title=f"title {NAME}")
    table.add_column(f"column {NAME}")
    table.add_row(f"cell {NAME}")
    console.print(table)
    with Progress(TextColumn("{task.fields[name]}", markup=False), console=console) as bar:
        bar.add_task("x", name=f"bar {NAME}")
    for place in ("title", "column", "cell", "bar"):
        assert f"{place} {NAME}" in out.getvalue()


def recordings(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(8):
        np.save(folder / f"s{index}.npy", motion(index * 100, frames=12))
    (folder / "labels.csv").write_text(
        "name,label,subject\n" + "".join(f"s{i},[b]{'ab'[i // 2 % 2]}[/c],{i % 2}\n"
                                         for i in range(8))
    )  # fmt: skip
    return folder


def run_all(folder: Path, capsys, output: str) -> dict[str, str]:
    """What every command prints in a folder."""
    shown = {}

    def call(name, command, *arguments):
        command([*map(str, arguments)])
        shown[name] = capsys.readouterr().out

    source, store, run = recordings(folder / "in"), folder / "st", Path(output)
    call("prepare", prepare, "folder", source, store, "--layout=ui-prmd", "--jobs=1")
    call("inspect", prepare, "inspect", store, "--out", folder / "drawn")
    call("train", train, f"--data.store={store}", "--split=odd-even",
         f"--output={run}", *SMALL)  # fmt: skip
    options = ["--data", store, "--split", "odd-even", "--k=[1]"]
    checkpoint = run / "checkpoint.pt"
    results = folder / "r.csv"
    call("evaluate", evaluate, "knn", checkpoint, *options, f"--output={folder}/ev",
         f"--csv={results}")  # fmt: skip
    call("table", evaluate, "table", results)
    call("export", export, checkpoint, "--out", run / "encoder.safetensors")
    call("report", report, run, "--out", folder / "report.html")
    call("search", search, store, source, "--encoder", checkpoint, "--out", folder / "near")
    call("classify", classify, source, "--encoder", checkpoint, "--out", folder / "answers")
    return shown


def test_every_command_in_a_folder_with_brackets(tmp_path, capsys):
    folder = tmp_path / NAME
    shown = run_all(folder, capsys, str(folder / "run"))
    for name in (
        "prepare",
        "inspect",
        "train",
        "evaluate",
        "report",
        "search",
        "classify",
        "export",
    ):
        assert str(folder) in shown[name], name
    again = next(line for line in shown["train"].splitlines() if "again" in line)
    assert f"--config '{folder}/run/config.yaml'" in again


def test_every_command_in_a_folder_whose_name_is_not_utf8(tmp_path, capsys, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.chdir(tmp_path)
    shown = run_all(folder, capsys, "run")
    assert "8 sequences" in shown["prepare"]
    for command, arguments in (
        (train, [f"--data.store={folder / 'st'}", f"--output={folder / 'run'}"]),
        (export, ["run/checkpoint.pt", "--out", str(folder / "encoder.safetensors")]),
    ):
        with pytest.raises(SystemExit) as caught:
            command(arguments)
        assert caught.value.code == 2
        assert "caf\\xe9" in capsys.readouterr().err
    assert not (folder / "run").exists()

"""Evaluations whose results cannot be saved: found before measuring, or no number is lost."""
# ruff: noqa: E402

from __future__ import annotations

import multiprocessing
import resource
import signal
import tempfile

import numpy as np
import pytest
import torch

for library in ("jsonargparse", "rich", "sklearn", "scipy", "matplotlib"):
    pytest.importorskip(library, reason="not on every GPU machine")

from encoders import checkpoint, save
from rich.console import Console

from aimclr_fast.data import open_embedded, open_store, write_store
from aimclr_fast.evaluate import command_line
from aimclr_fast.evaluation import report
from aimclr_fast.evaluation.labeled_data import LabeledData
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import knn
from aimclr_fast.evaluation.report import Report
from aimclr_fast.evaluation.results import read_results, save_results
from aimclr_fast.inference.head_file import save_head


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store of a few sequences and a checkpoint of each of two streams."""
    folder = tmp_path_factory.mktemp("outputs")
    full = open_embedded()
    rows = np.arange(0, 2000, 25)
    write_store(
        folder / "store",
        np.array(full.positions)[rows][:, :, ::5],
        {name: full.samples[name][rows] for name in ("name", "label", "subject")},
        layout=full.layout,
        classes=full.class_names,
    )
    for stream in ("joint", "bone"):
        save(checkpoint(full, stream=stream), folder / f"{stream}.pt")
    return folder


def refused(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        command_line([*arguments, "--data", "store", "--split", "odd-even", "--threads", "1"])
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.err.count("\n") == 1, shown.err
    return shown


OUTPUT = ["--output", "joint.pt/out"], "output joint.pt/out cannot be written: Not a directory"
CSV = [
    (["--csv", "joint.pt/x.csv"], "joint.pt/x.csv: Not a directory: joint.pt"),
    (["--csv", "store"], "store: Is a directory"),
    (["--csv", "store/samples.csv"], "store/samples.csv: has other columns"),
]


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        *((protocol, *case) for protocol in ("knn", "linear") for case in (OUTPUT, *CSV)),
        ("figures", *OUTPUT),  # they add to no csv
    ],
)
def test_where_nothing_can_be_saved_nothing_is_measured(
    place, monkeypatch, capsys, protocol, options, message
):
    monkeypatch.chdir(place)
    monkeypatch.setattr(LabeledData, "features", lambda *_: pytest.fail("measured too early"))
    assert message in refused(capsys, [protocol, "joint.pt", *options]).err
    assert not (place / "evaluations").exists()


def test_a_disk_that_is_full_by_then_costs_no_number(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full = OSError(28, "No space left on device")

    def save(folder, rows, about):
        if folder == tmp_path / "out":
            raise full
        return save_results(folder, rows, about)

    monkeypatch.setattr(report, "save_results", save)
    options = ["--output", str(tmp_path / "out"), "--csv", str(tmp_path / "results.csv")]
    shown = refused(capsys, ["knn", "joint.pt", "--k", "[1]", *options])
    assert "pretrained joint: knn_1" in shown.out
    assert f"not written: {tmp_path / 'out'}: No space left on device; the numbers are" in shown.err
    (elsewhere,) = tmp_path.glob("evaluation-*/results.json")
    assert shown.err.endswith(f"the numbers are in {elsewhere}\n")
    rows = read_results([elsewhere]) + read_results([tmp_path / "results.csv"])
    assert rows[0].identity == rows[1].identity
    assert rows[1].metrics == pytest.approx(rows[0].metrics, abs=1e-6)


def test_a_csv_that_was_changed_meanwhile_is_named(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    csv = tmp_path / "results.csv"
    plain = Report.add

    def add(self, *arguments, **options):
        csv.write_text("a,b\n")
        plain(self, *arguments, **options)

    monkeypatch.setattr(Report, "add", add)
    options = ["--output", str(tmp_path / "out"), "--csv", str(csv)]
    error = refused(capsys, ["knn", "joint.pt", "--k", "[1]", *options]).err
    assert f"not written: {csv}: has other columns" in error
    assert f"the numbers are in {tmp_path / 'out' / 'results.json'}" in error
    assert len(read_results([tmp_path / "out" / "results.json"])) == 1


def test_a_full_disk_does_not_end_the_process(tmp_path):
    """As torch's own writer of files does."""

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        tensors = {"weight": torch.zeros(9, 99), "bias": torch.zeros(9)}
        about = {"stream": "joint", "checkpoint_sha256": ""}
        with pytest.raises(OSError, match="File too large"):
            save_head(tmp_path / "head.pt", tensors, ["c"] * 9, **about)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not list(tmp_path.iterdir())


def test_a_classifier_that_cannot_be_saved_costs_no_number(place, tmp_path, monkeypatch, capsys):
    def save(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(place)
    monkeypatch.setattr(report, "save_head", save)
    options = ["--output", str(tmp_path / "out"), "--csv", str(tmp_path / "results.csv")]
    error = refused(capsys, ["linear", "joint.pt", "bone.pt", "--epochs", "1", *options]).err
    assert error.count("No space left on device") == 2
    assert len(read_results([tmp_path / "results.csv"])) == 2


def test_two_evaluations_of_one_second_keep_their_folders(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, options = open_store(place / "store"), EvaluationOptions(split="odd-even")
    about = (options, knn.Config(), store, torch.device("cpu"), Console(quiet=True))
    reports = [Report("knn", *about) for _ in range(2)]
    reports[1].folder = reports[0].folder  # by its name, which is the time
    first, second = (one.make_folder() for one in reports)
    assert first != second
    assert reports[1].make_folder() == second

"""Results files and tables: what is written is what is read, and what it comes to."""

from __future__ import annotations

import csv
import errno
import fcntl
import multiprocessing
import os
import resource
import signal
from dataclasses import asdict, replace

import pytest

from aimclr_fast.config import TrainConfig
from aimclr_fast.evaluation.finetuning import FinetuneConfig
from aimclr_fast.evaluation.provenance import config_checksum
from aimclr_fast.evaluation.results import (
    ResultsError,
    Row,
    append_results,
    check_results_csv,
    data_checksum,
    read_results,
    save_results,
)
from aimclr_fast.evaluation.tables import latex, make_tables, markdown

ROW = Row(
    "linear", "my_set", "xsub", "pretrained", "joint", epoch=40, run_seed=0, checkpoint="a.pt",
    checkpoint_sha256="aa", metrics={"top1_last": 0.5, "top1_best": 0.6},
    details={"best_epoch": 3},
)  # fmt: skip
SECOND = replace(ROW, run_seed=1, checkpoint_sha256="bb", metrics={"top1_last": 0.7})
FORK = multiprocessing.get_context("fork")
UNTRAINED = replace(ROW, features="untrained", epoch=None, checkpoint="", checkpoint_sha256="")


def test_csv_and_json_hold_the_same_rows(tmp_path):
    append_results(tmp_path / "new" / "results.csv", [ROW, SECOND], "today")
    append_results(tmp_path / "new" / "results.csv", [UNTRAINED], "tomorrow")
    file = save_results(tmp_path, [ROW, SECOND, UNTRAINED], {"seed": 0})
    from_csv = read_results([tmp_path / "new" / "results.csv"])
    from_json = read_results([file])
    assert [replace(row, details={}) for row in from_json] == from_csv
    assert from_json[0] == ROW
    with (tmp_path / "new" / "results.csv").open() as lines:
        dates = [line["date"] for line in csv.DictReader(lines)]
    assert dates == ["today"] * 3 + ["tomorrow"] * 2


def test_the_same_measurement_counts_once_the_later_one(tmp_path):
    again = replace(ROW, checkpoint="moved/a.pt", metrics={"top1_last": 0.4})
    save_results(tmp_path, [ROW], {})
    append_results(tmp_path / "results.csv", [again], "now")
    (row,) = read_results([tmp_path / "results.json", tmp_path / "results.csv"])
    assert row == replace(again, details={})


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "{", '{"rows": [{"x": 1}]}', "\xff"])
def test_other_files_are_refused_by_name(tmp_path, content):
    file = tmp_path / ("odd.json" if content.startswith("{") else "odd.csv")
    file.write_text(content, encoding="latin-1")
    with pytest.raises(ResultsError, match=r"odd\.(csv|json)"):
        read_results([file])
    if file.suffix == ".csv":
        with pytest.raises(ResultsError, match=r"odd\.csv"):
            append_results(file, [ROW], "now")


def no_locks(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_rows_are_added_where_the_file_system_has_no_locks(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", no_locks(number))
    file = tmp_path / "results.csv"
    append_results(file, [ROW], "today")
    append_results(file, [SECOND], "today")
    assert [row.run_seed for row in read_results([file])] == [0, 1]
    assert [one.name for one in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("number", [None, errno.ENOSYS])
def test_several_processes_add_whole_rows(tmp_path, number):
    """All start with no file: one of them writes the header."""
    file = tmp_path / "results.csv"

    def add(seed):
        if number is not None:
            fcntl.flock = no_locks(number)
        for draw in range(8):
            append_results(file, [replace(ROW, run_seed=seed, draw=draw)], "now")

    runs = [FORK.Process(target=add, args=(seed,)) for seed in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    rows = read_results([file])
    assert sorted((row.run_seed, row.draw) for row in rows) == [
        (seed, draw) for seed in range(3) for draw in range(8)
    ]
    assert all(row.metrics == ROW.metrics for row in rows)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    file = tmp_path / "results.csv"
    append_results(file, [ROW], "today")
    before = file.read_bytes()

    def add():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, resource.RLIM_INFINITY))
        with pytest.raises(ResultsError, match=r"results.csv: File too large$"):
            append_results(file, [ROW], "today")

    run = FORK.Process(target=add)
    run.start()
    run.join(60)
    assert run.exitcode == 0
    assert file.read_bytes() == before


def test_a_path_that_is_not_utf8_costs_no_row(tmp_path):
    append_results(tmp_path / "results.csv", [replace(ROW, checkpoint="a\udce9.pt")], "today")
    (row,) = read_results([tmp_path / "results.csv"])
    assert row.checkpoint == r"a\udce9.pt"


def test_whether_rows_can_be_added_is_known_before(tmp_path):
    file = tmp_path / "new" / "results.csv"
    check_results_csv(file)
    assert not file.parent.exists()
    append_results(file, [ROW], "today")
    before = file.read_bytes()
    check_results_csv(file)
    assert file.read_bytes() == before
    with pytest.raises(ResultsError, match=r"Not a directory: \S*results.csv$"):
        check_results_csv(file / "under" / "a" / "file.csv")
    with pytest.raises(ResultsError, match="Is a directory"):
        check_results_csv(tmp_path)
    file.write_text("a,b\n")
    with pytest.raises(ResultsError, match="other columns"):
        check_results_csv(file)


def test_tables_average_over_runs():
    (table,) = make_tables([ROW, SECOND, UNTRAINED])
    assert table.title == "linear, my_set xsub (%)"
    assert table.header == ("features", "stream", "top-1 last", "top-1 best", "n")
    assert table.rows[0] == ("pretrained", "joint", "60.0 ± 14.1", "60.0", "2")
    assert table.rows[1] == ("untrained", "joint", "50.0", "60.0", "1")
    text = markdown(table)
    assert (
        "| features | stream | top-1 last | top-1 best | n |\n| --- | --- | ---: | ---: | ---: |"
        in text
    )
    assert "| pretrained | joint | 60.0 ± 14.1 | 60.0 | 2 |" in text


def test_latex_is_escaped():
    rows = [replace(ROW, setting="10% labels"), replace(SECOND, setting="10% labels")]
    text = latex(make_tables(rows)[0])
    assert r"\begin{tabular}{lllrrr}" in text
    assert r"my\_set xsub (\%)" in text
    assert r"pretrained & joint & 10\% labels & 60.0 $\pm$ 14.1 & 60.0 & 2 \\" in text


def test_tables_keep_evaluations_and_settings_apart():
    tables = make_tables([ROW, replace(ROW, evaluation="knn", metrics={"knn_1": 0.25})])
    assert [t.header[-2] for t in tables] == ["top-1 best", "kNN-1"]
    (table,) = make_tables([ROW, replace(SECOND, setting="lr=1")])
    assert [row[2] for row in table.rows] == ["-", "lr=1"]


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({"epoch": 80}, ["epoch 40", "epoch 80"]),
        ({"config": "1a2b3c4d"}, ["config ?", "config 1a2b3c4d"]),
        ({"epoch": 80, "config": "1a"}, ["epoch 40, config ?", "epoch 80, config 1a"]),
    ],
)
def test_other_epochs_and_configurations_are_not_averaged(change, settings):
    (table,) = make_tables([ROW, replace(SECOND, **change), UNTRAINED])
    assert [row[2] for row in table.rows] == [*settings, "-"]
    assert [row[-1] for row in table.rows] == ["1", "1", "1"]


def test_other_data_of_the_same_name_are_another_table():
    titles = [t.title for t in make_tables([ROW, replace(SECOND, data_sha256="ab" * 32)])]
    assert titles == [
        "linear, my_set xsub (%), data without checksums",
        "linear, my_set xsub (%), data abababab",
    ]


def test_configurations_differ_in_what_changes_the_encoder():
    def checksum(run, features="pretrained", scratch=None):
        return config_checksum(run, features, scratch or FinetuneConfig())

    run = {"method": "aimclr", "seed": 0, "output": "a", "model": {"topk": 1, "channels": 16},
           "data": {"store": "x/set", "stream": "joint", "frame_step": 2}}  # fmt: skip
    same = run | {
        "seed": 1,
        "output": "b",
        "data": run["data"] | {"store": "set", "stream": "bone"},
    }
    assert checksum(same) == checksum(run)
    other = run | {"method": "skeletonclr"}
    assert checksum(other) != checksum(run)
    assert checksum(run | {"model": {"topk": 2, "channels": 16}}) != checksum(run)
    assert checksum(other, "untrained") == checksum(run, "untrained")
    wide = run | {"model": {"topk": 1, "channels": 32}}
    assert checksum(wide, "untrained") != checksum(run, "untrained")
    assert checksum(wide, "raw poses") == checksum(run, "raw poses")
    longer = FinetuneConfig(epochs=99)
    assert checksum(run, "supervised", longer) != checksum(run, "supervised")


def test_fields_that_change_nothing_learned_do_not_tell_encoders_apart():
    """Rows that 0.1.0 wrote keep their checksums: this one is of its version."""
    run = asdict(TrainConfig())
    expected = "8dfe1146"
    checksums = {
        config_checksum(run | {name: value}, "pretrained", FinetuneConfig())
        for name, value in {"keep": 9, "max_skipped": 1, "threads": 3, "monitor": {}}.items()
    }
    assert checksums == {expected}
    other = run | {"precision": "bf16"}
    assert config_checksum(other, "pretrained", FinetuneConfig()) != expected
    over_ranks = run | {"batch_statistics": "synchronized"}  # a value that 0.1.0 spelled otherwise
    assert config_checksum(over_ranks, "pretrained", FinetuneConfig()) == "b67ef612"


def test_a_stores_checksum_covers_its_files():
    one = {"checksums": {"positions.npy": "1", "samples.csv": "2"}}
    assert data_checksum(one) != data_checksum({"checksums": {**one["checksums"], "b": "1"}})
    assert data_checksum({}) == ""

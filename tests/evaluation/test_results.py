"""Results files and tables: what is written is what is read, and what it comes to."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from aimclr_fast.evaluation.finetune import FinetuneConfig
from aimclr_fast.evaluation.protocols import config_checksum
from aimclr_fast.evaluation.results import (
    ResultsError,
    Row,
    append_results,
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


def test_a_stores_checksum_covers_its_files():
    one = {"checksums": {"positions.npy": "1", "samples.csv": "2"}}
    assert data_checksum(one) != data_checksum({"checksums": {**one["checksums"], "b": "1"}})
    assert data_checksum({}) == ""

"""Results files and tables: what is written is what is read, and what it comes to."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

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


def test_a_stores_checksum_covers_its_files():
    one = {"checksums": {"positions.npy": "1", "samples.csv": "2"}}
    assert data_checksum(one) != data_checksum({"checksums": {**one["checksums"], "b": "1"}})
    assert data_checksum({}) == ""

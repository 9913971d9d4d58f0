"""A store that nobody aligned, from training to evaluation: raw poses are shown aligned as well."""

import json
from pathlib import Path

import pytest

from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.evaluate import command_line as evaluate
from aimclr_fast.train import command_line as train

TINY = (
    "--split", "odd-even", "--model.channels", "2", "--model.features", "8",
    "--model.embedding", "8", "--model.queue_size", "16", "--optim.batch_size", "16",
    "--optim.epochs", "1", "--monitor.knn_every", "0", "--threads", "1", "--device", "cpu",
)  # fmt: skip
STORES = {"ui_prmd": "aligned", "ui_prmd_unaligned": "unaligned"}
ROWS = slice(0, 2000, 25)
ALIGNED = "raw poses, aligned"


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in STORES:
        full = open_embedded(name)
        write_store(
            STORES[name],
            full.positions[ROWS][:, :, ::4],
            {column: values[ROWS] for column, values in full.samples.items()},
            layout=full.layout,
            classes=full.class_names,
            preprocessing=full.preprocessing,
        )


def test_raw_poses_are_shown_aligned_where_nobody_did(stores, capsys):
    scores = {}
    for store in ("aligned", "unaligned"):
        train(["--data", store, *TINY, "--output", f"run{store}"])
        scores[store] = json.loads(Path(f"run{store}/results.json").read_text())["scores"]
    capsys.readouterr()
    assert list(scores["aligned"])[:2] == ["raw poses", "untrained encoder"]
    assert list(scores["unaligned"])[:3] == ["raw poses", ALIGNED, "untrained encoder"]
    assert scores["unaligned"][ALIGNED] != scores["unaligned"]["raw poses"]

    evaluate(
        ["knn", "rununaligned/checkpoint.pt", "--data", "unaligned", "--baselines",
         "--scratch.epochs", "1", "--k", "[1,20]", "--output", "out", "--threads", "1"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert f"│ {ALIGNED} " in shown
    rows = {
        row["features"]: row for row in json.loads(Path("out/results.json").read_text())["rows"]
    }
    for name in ("raw poses", ALIGNED):
        assert rows[name]["stream"] == ""
        for metric, value in rows[name]["metrics"].items():
            assert value == pytest.approx(scores["unaligned"][name][metric])
    assert rows[ALIGNED]["config"] == rows["raw poses"]["config"]


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("linear", ["--epochs", "1"]),
        (
            "semi",
            ["--labels", "[1]", "--draws", "1", "--tune", "linear", "--finetune.epochs", "1"],
        ),
        ("ensemble", ["--linear.epochs", "1"]),
    ],
)
def test_aligned_poses_are_treated_as_raw_poses(stores, capsys, protocol, options):
    train(["--data", "unaligned", *TINY, "--streams", "joint,bone", "--output", "run",
           "--monitor.linear_probe", "false", "--monitor.raw_poses", "false"])  # fmt: skip
    evaluate(
        [protocol, "run/checkpoint.pt", "--data", "unaligned", "--baselines", "--output", "out",
         "--scratch.epochs", "1", "--threads", "1", *options]
    )  # fmt: skip
    capsys.readouterr()
    rows = json.loads(Path("out/results.json").read_text())["rows"]
    raw, aligned = ([r for r in rows if r["features"] == name] for name in ("raw poses", ALIGNED))
    assert len(raw) == len(aligned) == 1
    for field in ("lr", "standardize", "setting"):
        assert raw[0]["details"].get(field) == aligned[0]["details"].get(field)

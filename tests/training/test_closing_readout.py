"""The closing table by another readout than the published one: monitor.pool and monitor.scale."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.train import command_line as train

FLAGS = (
    "--data", "store", "--split", "odd-even", "--model.channels", "2", "--model.features", "8",
    "--model.embedding", "8", "--model.queue_size", "32", "--optim.batch_size", "16",
    "--optim.epochs", "2", "--monitor.knn_every", "1", "--monitor.raw_poses", "false",
    "--threads", "1", "--device", "cpu",
)  # fmt: skip
POOL = ("--monitor.pool", "mean+joints", "--monitor.scale", "standardize")


@pytest.fixture
def place(tmp_path, monkeypatch):
    full = open_embedded()
    rows = np.flatnonzero(full.labels < 4)[::4]
    write_store(
        tmp_path / "store",
        full.positions[rows][:, :, ::6],
        {name: column[rows] for name, column in full.samples.items()},
        layout=full.layout,
    )
    monkeypatch.chdir(tmp_path)


def scores_of(folder):
    return json.loads(Path(folder, "results.json").read_text())["scores"]


def test_both_readouts_stand_in_the_table_and_the_published_one_chooses(place, capsys):
    train([*FLAGS, "--output", "plain"])
    train([*FLAGS, *POOL, "--method", "aimclr++", "--streams", "joint,bone", "--output", "two"])
    train([*FLAGS, *POOL, "--output", "pooled"])
    shown = capsys.readouterr().out
    assert "aimclr++, store odd-even, joint, bone streams, test set" in shown
    assert "aimclr, store odd-even, joint stream, test set" in shown
    found = scores_of("pooled")
    readout = "mean+joints, standardize"
    assert list(found) == [
        "untrained encoder", f"untrained, {readout}",
        "pretrained encoder", f"pretrained, {readout}",
    ]  # fmt: skip
    assert f"│ pretrained, {readout} │" in shown
    for kind in ("untrained", "pretrained"):
        assert found[f"{kind}, {readout}"].keys() == {"knn_1", "knn_20", "linear"}
        assert 0 < found[f"{kind}, {readout}"]["knn_1"] != found[f"{kind} encoder"]["knn_1"]
    assert {row: found[row] for row in scores_of("plain")} == scores_of("plain")
    assert list(scores_of("two"))[4:] == [
        "pretrained encoder, joint", f"pretrained, {readout}, joint",
        "pretrained encoder, bone", f"pretrained, {readout}, bone",
    ]  # fmt: skip
    best = [torch.load(f"{run}/best.pt", weights_only=True) for run in ("plain", "pooled")]
    assert best[0]["epoch"] == best[1]["epoch"]


def test_a_resumed_run_may_have_another_readout(place, capsys):
    train([*FLAGS, *POOL, "--output", "run"])
    (before,) = (v for n, v in scores_of("run").items() if n.startswith("pretrained,"))
    train(["--resume", "run", *POOL])
    (again,) = (v for n, v in scores_of("run").items() if n.startswith("pretrained,"))
    assert again == before
    # Rows of the old readout are gone, and the untrained encoder is there no longer.
    train(["--resume", "run", "--monitor.pool", "max", "--monitor.scale", "none"])
    found = scores_of("run")
    assert list(found) == ["untrained encoder", "pretrained encoder", "pretrained, max"]
    train([*FLAGS, "--monitor.pool", "max", "--output", "whole"])
    assert {row: scores_of("whole")[row] for row in found} == found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--monitor.pool", "median"], "monitor.pool: readout 'median' must be one of mean, max"),
        (["--monitor.scale", "whiten"], "monitor.scale is 'whiten', but must be one of none"),
        (["--monitor.scale", "center"], "monitor.scale is 'center', but must be none without"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(place, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        train([*FLAGS, *flags, "--output", "run"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_parts_of_a_skeleton_without_parts_are_refused_before_training(place, capsys):
    meta = json.loads(Path("store/meta.json").read_text())
    joints = [f"joint_{i}" for i in range(22)]
    edges = [[i, 0] for i in range(1, 22)]
    meta["layout"] = {"name": "star", "joints": joints, "edges": edges, "center": 0, "swap": []}
    meta["layout"]["swap"] = list(range(22))
    Path("store/meta.json").write_text(json.dumps(meta))
    with pytest.raises(SystemExit):
        train([*FLAGS, "--monitor.pool", "parts", "--output", "run"])
    assert "monitor.pool: layout 'star' has no body parts" in capsys.readouterr().err
    assert not Path("run").exists()

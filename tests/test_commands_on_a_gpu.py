"""The commands on a GPU. They are imported by the tests alone, since not every GPU machine has
what parses commands: deselect them there with `-m "cuda and not commands"`.
"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from small_data import write_evaluated, write_tiny

from aimclr_fast.data import resolve_store
from aimclr_fast.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.cuda, pytest.mark.commands]

RUN = {
    "data": {"store": "store", "split": "odd-even"},
    "model": {"channels": 2, "features": 8, "embedding": 8, "queue_size": 32},
    "optim": {"epochs": 2, "batch_size": 8, "mining_epoch": 2},
    "monitor": {"knn_every": 0, "linear_probe": False},
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    from aimclr_fast.train import command_line

    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))

    def run(*arguments: str) -> None:
        given = ["--config", "run.yaml", "--output", "run", "--device", "cuda", *arguments]
        command_line(given)

    return run


@pytest.mark.parametrize("encoder", ["reference", "triton"])
def test_train(train, tmp_path, encoder):
    train("--encoder_backend", encoder)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (state["epoch"], state["step"]) == (2, 6)


def test_profile(train, tmp_path, capsys):
    train("--profile", "2")
    assert "as training runs it" in capsys.readouterr().out
    assert (tmp_path / "run" / "trace.json").stat().st_size > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluate(tmp_path, monkeypatch, precision):
    from aimclr_fast.evaluate import command_line

    monkeypatch.chdir(tmp_path)
    write_evaluated(tmp_path)
    options = ["--data", "store", "--split", "odd-even", "--output", "out", "--k", "[1]"]
    options += ["--precision", precision]
    command_line(["knn", "joint.pt", "--device", "cuda", *options])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["device"] == "cuda"


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """A folder of two sequences of the data that the encoder in the package learned from."""
    monkeypatch.chdir(tmp_path)
    store = resolve_store("ui_prmd_unaligned")
    (tmp_path / "in").mkdir()
    for row in (3, 20):
        x = store.as_tensor(row)[..., 0].permute(1, 2, 0).numpy()
        np.save(tmp_path / "in" / f"{row:02}.npy", x)
    return store


def rows_of(file) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_classify(recordings, tmp_path):
    from aimclr_fast.classify import command_line

    command_line(["in", "--encoder=ui_prmd", "--unknown=0.05", "--why", "--device=cuda"])
    found = rows_of(tmp_path / "answers" / "answers.csv")
    assert [row["recording"] for row in found] == ["03", "20"]
    assert all(row["label"] and row["nearest"] and row["because"] for row in found)
    assert (tmp_path / "answers" / "timeline.html").exists()


def test_search(recordings, tmp_path):
    from aimclr_fast.search import command_line

    command_line(["ui_prmd_unaligned", "in", "--encoder=ui_prmd", "--k=2", "--device=cuda"])
    names = recordings.samples["name"].tolist()
    found = rows_of(tmp_path / "neighbors" / "neighbors.csv")
    assert [row["name"] for row in found if row["rank"] == "1"] == [names[3], names[20]]


@pytest.mark.parametrize("more", [[], ["--finetune", "--epochs=1"]])
def test_learn(recordings, tmp_path, more):
    from aimclr_fast import load_encoder
    from aimclr_fast.learn import command_line

    names, labels = recordings.samples["name"], recordings.labels
    lines = [f"{names[row]},{labels[row] % 3}" for row in range(0, len(names), 25)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label", *lines]))
    files = ["ui_prmd_unaligned", "labels.csv", "--out=mine.safetensors"]
    command_line([*files, "--encoder=ui_prmd", "--device=cuda", *more])
    assert load_encoder("mine.safetensors", device="cuda").class_names == ("0", "1", "2")


def test_report(train, tmp_path):
    """Of a run on a GPU."""
    from aimclr_fast.report import command_line

    train("--monitor.knn_every", "1", "--monitor.linear_probe", "true")
    command_line(["run"])
    assert (tmp_path / "run" / "report.html").stat().st_size > 0

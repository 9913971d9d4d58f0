"""The commands on a GPU. They are imported by the tests alone, since not every GPU machine has
what parses commands: deselect them there with `-m "cuda and not commands"`.
"""

from __future__ import annotations

import json

import pytest
import yaml
from small_data import write_evaluated, write_tiny

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


def test_evaluate(tmp_path, monkeypatch):
    from aimclr_fast.evaluate import command_line

    monkeypatch.chdir(tmp_path)
    write_evaluated(tmp_path)
    options = ["--data", "store", "--split", "odd-even", "--output", "out", "--k", "[1]"]
    command_line(["knn", "joint.pt", "--device", "cuda", *options])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["device"] == "cuda"

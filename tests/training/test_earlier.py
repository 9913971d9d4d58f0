"""A checkpoint of version 0.1.0, two streams killed within their second epoch, goes on."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
import torch
import yaml
from small_data import write_tiny

from aimclr_fast.train import command_line
from aimclr_fast.training import pretrain
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics

SAVED = Path(__file__).parent / "earlier/checkpoint.pt.xz"
STEP, STEPS = 4, 6


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """The folder of the run, and the content of its checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.pt").write_bytes(lzma.decompress(SAVED.read_bytes()))
    state = load_checkpoint(run / "checkpoint.pt")
    (run / "run.json").write_text("{}")
    (run / "config.yaml").write_text(yaml.safe_dump(state["config"]))
    monkeypatch.setattr(pretrain, "data_identity", lambda *_: state["data"])
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)
    return run, state


def test_it_goes_on_where_it_was(earlier, monkeypatch):
    run, state = earlier
    met = []

    def started(self, batch):
        if not met:
            own = self.streams
            met.append(
                {
                    "models": {name: one.model.state_dict() for name, one in own.items()},
                    "momenta": {
                        name: [of["momentum_buffer"] for of in one.optimizer.state.values()]
                        for name, one in own.items()
                    },
                    "draws": [self.place_state()["ranks"], torch.get_rng_state()],
                    "place": (self.epoch, self.step, self.phase),
                }
            )
            met[0] = digest(met[0])
        return plain(self, batch)

    plain = Pretraining.train_step
    monkeypatch.setattr(Pretraining, "train_step", started)
    command_line(["--resume", str(run)])
    momenta = {
        name: [of["momentum_buffer"] for of in one["state"].values()]
        for name, one in state["optimizers"].items()
    }
    expected = {
        "models": state["models"],
        "momenta": momenta,
        "draws": [state["place"]["ranks"], state["torch_rng"]],
        "place": (2, STEP, 1),
    }
    assert met == [digest(expected)]
    last = load_checkpoint(run / "checkpoint.pt")
    assert (last["epoch"], last["step"]) == (2, STEPS)
    assert last["place"]["seconds"] > state["place"]["seconds"]
    assert read_metrics(run)[-1]["epoch"] == 2


def test_another_configuration_is_refused(earlier, capsys):
    run, _ = earlier
    with pytest.raises(SystemExit):
        command_line(["--resume", str(run), "--model.temperature", "0.1", "--max_skipped", "3"])
    error = capsys.readouterr().err
    assert "holds another run: model.temperature is 0.07 there and 0.1 here" in error
    assert "max_skipped" not in error

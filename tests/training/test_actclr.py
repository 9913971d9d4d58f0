"""ActCLR's second phase as a command: it trains from a first phase, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_data import write_tiny

from aimclr_fast.nn import get_method
from aimclr_fast.train import command_line
from aimclr_fast.training import pretrain
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics

TINY = {
    "data": {"store": "store", "split": "odd-even"},
    "model": {"channels": 2, "features": 4, "embedding": 16, "queue_size": 32, "dropout": 0.0},
    "optim": {"epochs": 2, "batch_size": 16, "lr": 0.01, "mining_epoch": 0},
    "mix": {"blocks_min": 1, "blocks_max": 2},
    "monitor": {"knn_every": 0, "linear_probe": False},
    "threads": 1,
    "device": "cpu",
}


def test_the_command_trains_from_a_first_phase(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    streams = ["--config", "tiny.yaml", "--streams", "joint,motion"]
    command_line([*streams, "--method", "skeletonclr", "--output", "first"])
    second = [*streams, "--method", "actclr", "--start", "first/checkpoint.pt"]
    capsys.readouterr()
    command_line([*second, "--output", "run"])
    said = capsys.readouterr().out
    assert ", actclr\n" in said
    assert "2 epochs of 1 step of 16, all augmentations\n" in said
    line = read_metrics(Path("run"))[-1]
    for stream in ("joint", "motion"):
        losses = [line[f"{stream}/{name}"] for name in get_method("actclr").losses]
        assert all(loss > 0 for loss in losses)
        assert line[f"{stream}/loss"] == pytest.approx(sum(losses), rel=1e-5)
    states = [load_checkpoint(f"{run}/checkpoint.pt")["models"] for run in ("first", "run")]
    assert states[0]["joint"].keys() == states[1]["joint"].keys()
    assert digest(states[0]) != digest(states[1])


class KilledError(BaseException):
    """Stands for SIGKILL: nothing gets to save."""


def test_a_killed_run_ends_as_if_undisturbed(tmp_path, monkeypatch):
    """Killed in the middle and at the end of an epoch, in stages with other views."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    recipe = TINY | {
        "model": TINY["model"] | {"dropout": 0.5},
        "optim": TINY["optim"] | {"epochs": 4, "batch_size": 8},
        "actionlet": {"stages": [1, 2, 3], "late_epoch": 3},
        "save_steps": 2,
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)
    command_line(["--config", "tiny.yaml", "--optim.epochs", "1", "--output", "first"])
    second = ["--config", "tiny.yaml", "--method", "actclr", "--start", "first/checkpoint.pt"]

    def outcome(output: str) -> str:
        state = load_checkpoint(f"{output}/checkpoint.pt")
        return digest([state[name] for name in ("models", "optimizers", "epoch", "step")])

    command_line([*second, "--output", "undisturbed"])
    plain, seen = Pretraining.train_step, []

    def disturbed(self: Pretraining, batch: Any) -> Any:
        report = plain(self, batch)
        seen.append((self.epoch, self.step))
        if self.step in (5, 6, 11) and seen.count(seen[-1]) == 1:
            raise KilledError
        return report

    monkeypatch.setattr(Pretraining, "train_step", disturbed)
    killed = [*second, "--output", "killed", "--resume", "auto"]
    for _ in range(3):
        with pytest.raises(KilledError):
            command_line(killed)
    command_line(killed)
    assert {step for epoch, step in seen if seen.count((epoch, step)) > 1} == {5, 6, 11}
    assert {epoch for epoch, _ in seen} == {1, 2, 3, 4}
    assert outcome("killed") == outcome("undisturbed")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "start is left out, but actclr is a second phase"),
        (["--mix.blocks_max", "9"], "mix.blocks_max is 9, but must be at most"),
        (["--actionlet.form", "dot"], "actionlet.form is 'dot', but must be one of cosine, rel"),
        (["--actionlet.neighbors_share", "0"], "actionlet.neighbors_share is 0.0, but must be in"),
        (["--actionlet.late_epoch", "-1"], "actionlet.late_epoch is -1, but must be at least 0"),
        (["--actionlet.stages", "[3,2,9]"], "actionlet.stages is [3, 2, 9], but must be 3 ascend"),
        (["--actionlet.stages", "[-1,2,9]"], "actionlet.stages is [-1, 2, 9], but must be 3 asc"),
        (["--actionlet.stages", "[2,9]"], "actionlet.stages is [2, 9], but must be 3 ascending"),
        (["--model.eadm", "true"], "model.eadm is True, but the method has no such part"),
    ],
)
def test_what_it_cannot_do_is_refused(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    start = ["--start", "first.pt"] if flags else []
    with pytest.raises(SystemExit) as ended:
        command_line(["--config", "tiny.yaml", "--method", "actclr", *start, *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err

"""Runs that are stopped, killed or go wrong: they resume exactly, or say what is the matter."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from refusals import refusal
from small_data import SPOILED, write_tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aimclr_fast.train import command_line
from aimclr_fast.training import pretrain, run_folder
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics
from aimclr_fast.training.progress import TrainProgress
from aimclr_fast.training.run_folder import data_identity

ROOT = Path(__file__).resolve().parents[2]
# Dropout, mining and a schedule: all that an exact resumption could lose.
TINY = """\
data: {store: STORE, split: odd-even}
model: {channels: 2, features: 8, embedding: 8, dropout: 0.5, queue_size: 32, momentum: 0.99}
optim: {epochs: 2, batch_size: 8, lr: 0.01, schedule: cosine, mining_epoch: 2}
monitor: {knn_every: 1, linear_probe: false}
save_every: 1
threads: 1
"""
STEPS = 2 * 3
MACHINE = {"steps_per_second", "memory_mb"}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing gets to save."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_tiny(folder / "store")
    write_tiny(folder / "spoilt", spoil=True)
    (folder / "tiny.yaml").write_text(TINY.replace("STORE", "store"))
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)  # half of the time of a run


@pytest.fixture(scope="module")
def undisturbed(tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny)
        train("undisturbed")
        return outcome("undisturbed")


def train(output: str, *arguments: str) -> None:
    command_line(["--config", "tiny.yaml", "--output", output, "--resume", "auto", *arguments])


def outcome(output: str):
    """All that was learned, and the metrics but for times and memory."""
    state = load_checkpoint(Path(output, "checkpoint.pt"))
    learned = digest([state["models"], state["optimizers"], state["epoch"], state["step"]])
    lines = read_metrics(Path(output))
    return learned, [{k: v for k, v in line.items() if k not in MACHINE} for line in lines]


def disturb(monkeypatch, step: int, what) -> None:
    """Do `what` after this many steps of the next process."""
    plain = Pretraining.train_step

    def disturbed(self, batch):
        report = plain(self, batch)
        if self.step == step:
            what()
        return report

    monkeypatch.setattr(Pretraining, "train_step", disturbed)


def killed(*_):
    raise KilledError


def kill(monkeypatch, output: str, step: int, *arguments: str) -> None:
    with monkeypatch.context() as patch:
        disturb(patch, step, killed)
        with pytest.raises(KilledError):
            train(output, *arguments)


refused = functools.partial(refusal, command_line)


def test_a_killed_run_ends_as_if_undisturbed(undisturbed, monkeypatch, capsys):
    """Killed before the first checkpoint, within the first epoch and within the last."""
    output, options = "killed", ("--save_steps", "2")
    for step in (1, 3, 5):
        kill(monkeypatch, output, step, *options)
    capsys.readouterr()
    train(output, *options)
    assert "after step 4" in capsys.readouterr().out
    assert outcome(output) == undisturbed
    board = EventAccumulator(str(Path(output, "tensorboard"))).Reload()
    assert [event.step for event in board.Scalars("loss")] == [3, 6]


@pytest.mark.parametrize("steps", [4, 2])
def test_a_budget_of_steps_ends_within_an_epoch_and_resumes(monkeypatch, capsys, steps):
    options = ("--optim.steps", str(steps), "--save_steps", "1")
    train(f"whole-{steps}", *options)
    assert f"{steps} steps in all" in capsys.readouterr().out
    learned, lines = outcome(f"whole-{steps}")
    state = load_checkpoint(Path(f"whole-{steps}", "checkpoint.pt"))
    assert (state["step"], state["epoch"]) == (steps, -(-steps // 3))
    assert [line["step"] for line in lines] == [0, *{min(3, steps), steps}]
    assert 0 < lines[-1]["lr"] <= 0.01 / 2  # of the last step, on a cosine over these steps
    for step in (1, steps):
        kill(monkeypatch, f"cut-{steps}", step, *options)
    train(f"cut-{steps}", *options)
    assert outcome(f"cut-{steps}") == (learned, lines)


def test_killed_between_a_checkpoint_and_the_scores_of_its_epoch(undisturbed, monkeypatch):
    from aimclr_fast.training.monitor import Monitor

    plain = Monitor.score
    with monkeypatch.context() as patch:
        calls = []
        patch.setattr(
            Monitor,
            "score",
            lambda *a, **k: killed() if len(calls) == 2 else (calls.append(1), plain(*a, **k))[1],
        )
        with pytest.raises(KilledError):
            train("unscored")
    assert load_checkpoint("unscored/checkpoint.pt")["step"] == 6
    assert len(read_metrics(Path("unscored"))) == 2
    train("unscored")
    assert outcome("unscored") == undisturbed


def test_a_signal_saves_first(undisturbed, monkeypatch, capsys):
    output, signum = "stopped", signal.SIGTERM
    with monkeypatch.context() as patch:
        disturb(patch, 5, lambda: signal.raise_signal(signum))
        with pytest.raises(SystemExit) as ended:
            train(output)
    assert ended.value.code == 128 + signum
    shown = capsys.readouterr().err
    assert f"saved at step 5; resume with: python -m aimclr_fast.train --resume {output}" in shown
    assert shown.count("\n") == 1
    command_line(["--resume", output])
    assert outcome(output) == undisturbed


def test_a_signal_while_scoring_saves_at_once(undisturbed, monkeypatch):
    from aimclr_fast.training.monitor import Monitor

    with monkeypatch.context() as patch:
        plain = Monitor.score

        def score(self, encoder, **options):
            if encoder.backbone.input_norm.num_batches_tracked:  # not before training
                signal.raise_signal(signal.SIGINT)
            return plain(self, encoder, **options)

        patch.setattr(Monitor, "score", score)
        with pytest.raises(SystemExit) as ended:
            train("scoring", "--save_every", "3")
    assert ended.value.code == 130
    assert load_checkpoint("scoring/checkpoint.pt")["step"] == 3
    train("scoring")
    assert outcome("scoring") == undisturbed


def test_a_damaged_checkpoint_is_passed_over(undisturbed, tiny, capsys):
    shutil.copytree(tiny / "undisturbed", tiny / "damaged")
    newest, best = tiny / "damaged/checkpoint.pt", tiny / "damaged/best.pt"
    state = load_checkpoint(newest)
    torch.save({**state, "step": 5, "sha256": "0" * 64}, newest)
    train("damaged")
    shown = " ".join(capsys.readouterr().out.split())
    assert "checkpoint.pt: damaged: its content differs from its checksum; the one before" in shown
    assert outcome("damaged") == undisturbed
    assert sorted(tiny.glob("damaged/*.pt")) == [best, newest, tiny / "damaged/previous-1.pt"]
    for file in (newest, tiny / "damaged/previous-1.pt"):
        file.write_bytes(file.read_bytes()[:-200])
    error = refused(capsys, "--resume", "damaged")
    assert "checkpoint.pt: not a readable" in error
    assert "previous-1.pt: not a readable" in error


def test_the_newest_are_kept_and_no_more(monkeypatch):
    """Also where the process dies between the renamings: the newest is found under some name."""
    options = ("--keep", "2", "--save_steps", "1", "--optim.epochs", "1")
    train("kept", *options)
    steps = {f.name: load_checkpoint(f)["step"] for f in Path("kept").glob("*.pt")}
    assert steps == {"checkpoint.pt": 3, "previous-1.pt": 2, "best.pt": 3}

    renamings, plain = [], os.replace
    with monkeypatch.context() as patch:

        def replace(old, new):
            renamings.append(new)
            return killed() if len(renamings) == 10 else plain(old, new)

        patch.setattr(run_folder.os, "replace", replace)
        with pytest.raises(KilledError):
            train("renaming", *options)
    names = {f.name for f in Path("renaming").glob("*.pt")}
    assert names == {"next.pt", "previous-1.pt"}  # the third is whole, the second has moved on
    train("renaming", *options)
    assert outcome("renaming")[0] == outcome("kept")[0]
    assert {f.name: load_checkpoint(f)["step"] for f in Path("renaming").glob("*.pt")} == steps


def test_a_disk_that_is_full_costs_nothing_that_was_saved(undisturbed, monkeypatch, capsys):
    full = OSError(28, "No space left on device")

    def write_bytes(self, content):
        Path.write_text(self, "half a checkpoint")
        raise full

    with monkeypatch.context() as patch:
        disturb(patch, 4, lambda: patch.setattr(Path, "write_bytes", write_bytes))
        error = refused(capsys, "--config", "tiny.yaml", "--output", "full")
    assert "full: checkpoint not written (No space left on device)" in error
    assert load_checkpoint("full/checkpoint.pt")["step"] == 3
    assert not list(Path("full").glob(".*.pt"))
    train("full")
    assert outcome("full") == undisturbed


def test_another_run_is_refused_and_nothing_is_lost(undisturbed, tiny, capsys):
    before = {file: file.read_bytes() for file in tiny.glob("undisturbed/*.*")}
    here = ("--config", "tiny.yaml", "--output", "undisturbed")
    assert "--resume auto" in refused(capsys, *here)
    error = refused(capsys, *here, "--resume", "auto", "--optim.lr", "0.02", "--seed", "1")
    assert "optim.lr is 0.01 there and 0.02 here; seed is 0 there and 1 here" in error
    error = refused(capsys, *here, "--resume", "auto", "--data.store", "spoilt")
    assert "positions.npy is" in error
    assert {file: file.read_bytes() for file in tiny.glob("undisturbed/*.*")} == before
    train("undisturbed", "--keep", "3")  # what does not change the run may change


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "auto"], "output, the run's folder, is not given"),
        (["--resume", "store"], "--resume store: holds no run"),
        (["--resume=nowhere"], "--resume nowhere: holds no run"),
        (
            ["--resume", "auto", "--output", "store"],
            "store is not empty, but holds no run to resume",
        ),
    ],
)
def test_where_there_is_nothing_to_go_on_with(arguments, message, capsys):
    assert message in refused(capsys, "--config", "tiny.yaml", *arguments)


def test_two_processes_do_not_share_a_folder(monkeypatch, capsys):
    def another():
        assert "another process is training in it" in refused(
            capsys, "--config", "tiny.yaml", "--output", "shared", "--resume", "auto"
        )

    disturb(monkeypatch, 2, another)
    train("shared", "--optim.epochs", "1")


def test_a_sample_that_is_not_finite_is_skipped_or_named(tiny, capsys):
    """Its step leaves weights, momentum, queue and running statistics as they were."""
    train("spoilt-run", "--data.store", "spoilt")
    assert read_metrics(Path("spoilt-run"))[-1]["skipped"] == 2
    state = load_checkpoint("spoilt-run/checkpoint.pt")
    for what in (state["models"]["joint"], state["optimizers"]["joint"]["state"]):
        tensors = [t for t in what.values() if torch.is_tensor(t)] or [
            one["momentum_buffer"] for one in what.values()
        ]
        assert all(tensor.isfinite().all() for tensor in tensors)
    assert int(state["models"]["joint"]["queue_ptr"]) == (STEPS - 2) * 8 % 32
    options = ("--config", "tiny.yaml", "--data.store", "spoilt", "--max_skipped", "1")
    error = refused(capsys, *options, "--output", "named")
    assert "since their info_nce, d3m_extreme, d3m_dropped, gradient became nan or inf" in error
    assert f"samples {SPOILED} hold coordinates that are not finite" in error


def without_none(fields):
    """Whether fields that were not given are written or left out does not matter."""
    if not isinstance(fields, dict):
        return fields
    return {name: without_none(value) for name, value in fields.items() if value is not None}


def test_the_folder_says_how_to_run_it_again(undisturbed, tiny, capsys):
    """That the same configuration gives the same bits is held by tests/test_train.py."""
    command = json.loads((tiny / "undisturbed/run.json").read_text())["reproduce"].split()
    assert command[:3] == ["python", "-m", "aimclr_fast.train"]
    with pytest.raises(SystemExit) as ended:
        command_line([*command[3:], "--print_config"])
    assert not ended.value.code
    again = yaml.safe_load(capsys.readouterr().out)
    first = yaml.safe_load((tiny / "undisturbed/config.yaml").read_text())
    assert without_none({**again, "output": "undisturbed"}) == without_none(first)


def test_sigkill_in_earnest():
    """The script that kills a run 30 times, with two kills."""
    options = ("--kills", "2", "--only-kills", "--epochs", "2")
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts/kill_and_resume.py"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "kills: 2\n" in result.stdout
    assert "DIFFERS" not in result.stdout


def test_a_run_killed_before_its_config_was_written_goes_on(undisturbed):
    shutil.copytree("undisturbed", "cut")
    Path("cut", "config.yaml").unlink()
    train("cut")
    assert Path("cut", "config.yaml").is_file()
    assert outcome("cut")[0] == undisturbed[0]


def test_a_run_of_a_version_that_knew_no_rule_for_gaps_goes_on(undisturbed, monkeypatch):
    def prepared(steps):
        known = {"preprocessing": steps}
        monkeypatch.setattr(pretrain, "data_identity", lambda *a: data_identity(*a) | known)

    prepared({"frames": 50, "rotate": "exact"})
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, "earlier", 5)
    prepared({"frames": 50, "rotate": "exact", "gaps": "fill"})
    train("earlier")
    assert outcome("earlier")[0] == undisturbed[0]


def test_a_finished_run_only_measures_again(undisturbed, monkeypatch, capsys):
    """Its total time does not shrink to that of its last checkpoint, and no epoch is announced."""
    begun = []
    monkeypatch.setattr(TrainProgress, "begin_epoch", lambda self: begun.append(self))
    shutil.copytree("undisturbed", "finished")
    results = Path("finished/results.json")
    before = json.loads(results.read_text())
    results.write_text(json.dumps(before | {"seconds": 1000.0}))
    train("finished")
    shown = capsys.readouterr().out
    assert not begun
    assert "epoch 2/2" not in shown
    assert "epoch 2: kNN-1" in shown
    after = json.loads(results.read_text())
    assert 1000.0 <= after.pop("seconds") < 1100.0
    assert after == {name: value for name, value in before.items() if name != "seconds"}
    assert outcome("finished") == undisturbed


@pytest.mark.parametrize("step", [5, 1], ids=["checkpoint", "run.json alone"])
def test_a_run_of_a_version_that_said_protocol_goes_on(undisturbed, monkeypatch, step):
    kill(monkeypatch, "old-words", step)
    run = Path("old-words")
    for name, old, new in (
        ("config.yaml", "  split:", "  protocol:"),
        ("run.json", '"split"', '"protocol"'),
    ):
        text = (run / name).read_text()
        assert text.count(old) == 1
        (run / name).write_text(text.replace(old, new))
    for file in run.glob("*.pt"):
        state = load_checkpoint(file)
        state["config"]["data"]["protocol"] = state["config"]["data"].pop("split")
        torch.save({**state, "sha256": digest(state)}, file)
    command_line(["--resume", "old-words"])
    assert outcome("old-words")[0] == undisturbed[0]
    shutil.rmtree(run)

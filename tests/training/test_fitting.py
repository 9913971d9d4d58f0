"""What a configuration leaves to the data, and the recipe for small sets."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_data import write_tiny

from aimclr_fast.config import TrainConfig
from aimclr_fast.data import write_store
from aimclr_fast.train import command_line
from aimclr_fast.training import pretrain
from aimclr_fast.training.checkpoint import load_checkpoint
from aimclr_fast.training.fitting import fitted
from aimclr_fast.training.job import validate

TINY = ("--model.channels=2", "--model.features=8", "--model.embedding=8", "--threads=1")


def left_open(**optim) -> TrainConfig:
    """All that may be null is null."""
    config = TrainConfig()
    config.data = replace(config.data, split=None, frame_step=None, sided=None)
    config.model = replace(config.model, queue_size=None)
    config.optim = replace(config.optim, **{"batch_size": None, "mining_epoch": None, **optim})
    config.votes = replace(config.votes, epoch=None)
    config.actionlet = replace(config.actionlet, stages=None, late_epoch=None)
    return config


@pytest.mark.parametrize(
    ("samples", "batch", "queue"),
    [(1, 1, 1), (3, 1, 3), (20, 8, 16), (100, 32, 96), (1000, 64, 960), (10**6, 64, 32768)],
)
def test_batch_and_queue_lie_within_the_training_samples(samples, batch, queue):
    config, chosen = fitted(left_open(), samples, 50, "xsub", ["a", "b"])
    assert (config.optim.batch_size, config.model.queue_size) == (batch, queue)
    validate(config, samples)
    assert f"optim.batch_size {batch}: there are {samples} training samples" in chosen
    assert "data.split xsub: the first that the store has" in chosen


def test_the_queue_holds_whole_batches_of_the_batch_that_is_given():
    config, _ = fitted(left_open(batch_size=30), 100, 50, "xsub", [])
    assert (config.optim.batch_size, config.model.queue_size) == (30, 90)


@pytest.mark.parametrize(
    ("frames", "goal", "step"), [(50, 17, 3), (64, 17, 4), (17, 17, 1), (9, 17, 1), (100, 50, 2)]
)
def test_the_frame_step_leaves_about_as_many_frames_as_wanted(frames, goal, step):
    config = left_open()
    config.data.frames = goal
    config, chosen = fitted(config, 100, frames, "all", [])
    assert config.data.frame_step == step
    assert f"data.frame_step {step}: leaves {len(range(0, frames, step))} of {frames}" in chosen[1]


@pytest.mark.parametrize(
    ("steps", "epochs", "mining", "votes"),
    [(None, 300, 151, 226), (24, 2, 2, 2), (25, 3, 2, 3), (1, 1, 1, 1)],
)
def test_epochs_follow_from_steps_and_mining_from_epochs(steps, epochs, mining, votes):
    config, _ = fitted(left_open(steps=steps, batch_size=8), 100, 50, "xsub", [])
    assert (config.optim.epochs, config.optim.mining_epoch) == (epochs, mining)
    assert config.votes.epoch == votes


@pytest.mark.parametrize(
    ("epochs", "stages", "late"),
    [(350, [100, 200, 300], 200), (35, [10, 20, 30], 20), (7, [2, 4, 6], 4), (1, [0, 1, 1], 1)],
)
def test_actionlets_stages_are_shares_of_the_run(epochs, stages, late):
    asked = left_open(epochs=epochs)
    _, chosen = fitted(asked, 100, 50, "xsub", [])
    assert not any("actionlet" in line for line in chosen), "another method has none"
    asked.method = "actclr"
    config, chosen = fitted(asked, 100, 50, "xsub", [])
    assert (config.actionlet.stages, config.actionlet.late_epoch) == (stages, late)
    assert f"actionlet.stages {stages}: the same shares of the run as published" in chosen
    validate(config, 100)


@pytest.mark.parametrize(
    ("classes", "sided"),
    [
        (["Swipe left", "swipe right", "push"], True),
        (["raise_arm_l", "raise_arm_r"], True),
        (["KickLeft", "KickRight"], True),
        (["step leftwards", "step rightwards"], True),
        (["right arm swipe to the left", "right arm swipe to the right"], True),
        (["wave right hand", "clap"], False),
        (["clap", "wave"], False),
        (["bright light", "b light"], False),
        (["run", "learn"], False),
        ([], True),
        (["20001", "20002"], True),
    ],
)
def test_left_and_right_are_not_swapped_where_classes_differ_by_side(classes, sided):
    config, chosen = fitted(left_open(), 100, 50, "xsub", classes)
    assert config.data.sided is sided
    assert config.augment.spatial_flip_prob == (0.0 if sided else 0.5)
    (line,) = (line for line in chosen if line.startswith("data.sided"))
    assert line.startswith(f"data.sided {str(sided).lower()}: ")


def test_flags_leave_fields_open(tmp_path, monkeypatch):
    """All that may be null can be made so on the command line, over a file that gives it."""
    asked, config = left_open(), tmp_path / "given.yaml"
    config.write_text(yaml.safe_dump(asdict(TrainConfig())))
    null = [
        f"--{group}.{name}=null"
        for group, fields in asdict(asked).items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if value is None and getattr(getattr(TrainConfig(), group), name) is not None
    ]
    assert len(null) == 9
    assert configured(monkeypatch, f"--config={config}", *null) == asked


def test_what_is_given_is_kept():
    config, chosen = fitted(TrainConfig(), 100, 50, "all", ["left", "right"])
    assert config == TrainConfig()
    assert not chosen


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    """Of the embedded skeleton, and of 20 joints, without labels and splits."""
    folder = tmp_path_factory.mktemp("fitting")
    write_tiny(folder / "labeled")
    rng = np.random.default_rng(0)
    names = {"name": np.array([f"s{i}" for i in range(100)])}
    for name, count in (("blind", 100), ("twenty", 20)):
        rows = {"name": names["name"][:count]}
        write_store(folder / name, rng.normal(size=(count, 3, 24, 20, 1)), rows, layout="kinect-v1")
    return folder


@pytest.mark.parametrize("store", ["labeled", "blind", "twenty"])
def test_the_small_recipe_trains_on_any_store(stores, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)
    begin = ["--config", "small", "--data", str(stores / store), "--output", str(tmp_path / "a")]
    command_line([*begin, "--optim.steps=3", *TINY])
    said = capsys.readouterr().out
    saved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    state = load_checkpoint(tmp_path / "a" / "checkpoint.pt")
    for config in (saved, state["config"]):
        for name in ("data.split", "data.frame_step", "data.sided", "optim.batch_size",
                     "model.queue_size"):  # fmt: skip
            group, field = name.split(".")
            assert config[group][field] is not None
            assert f"{name} {str(config[group][field]).lower()}: " in said
    assert state["step"] == 3
    # Finished, it resumes by the same command; its own config needs no choice, and trains alike.
    command_line([*begin, "--optim.steps=3", *TINY, "--resume=auto"])
    capsys.readouterr()
    again = str(tmp_path / "b")
    command_line(["--config", str(tmp_path / "a" / "config.yaml"), "--output", again])
    assert "data.frame_step" not in capsys.readouterr().out
    other = load_checkpoint(tmp_path / "b" / "checkpoint.pt")
    for name, weights in state["models"]["joint"].items():
        assert weights.equal(other["models"]["joint"][name])


def configured(monkeypatch, *arguments: str) -> TrainConfig:
    configs: list[TrainConfig] = []
    with monkeypatch.context() as patch:
        patch.setattr("aimclr_fast.train.pretrain", lambda config, *_: configs.append(config))
        command_line(list(arguments))
    return configs[0]


def test_nw_ucla_is_the_small_recipe_on_its_store(monkeypatch):
    own = configured(monkeypatch, "--config", "nw_ucla")
    small = configured(monkeypatch, "--config=small", "--data=stores/nw_ucla")
    assert own == small
    changed = configured(monkeypatch, "--config=nw_ucla", "--optim.lr", "0.5")
    assert (changed.optim.lr, changed.optim.steps) == (0.5, small.optim.steps)


def test_epochs_that_are_given_go_before_the_steps_of_a_config(monkeypatch):
    for flags in (["--optim.epochs=5"], ["--optim.epochs", "5"]):
        config = configured(monkeypatch, "--config", "small", *flags)
        assert (config.optim.epochs, config.optim.steps) == (5, None)
    config = configured(monkeypatch, "--config=small", "--optim.epochs=5", "--optim.steps=7")
    assert config.optim.steps == 7


@pytest.mark.parametrize("method", ["aimclr", "aimclr++", "skeletonclr", "skelemixclr", "hiclr"])
def test_the_small_recipe_takes_other_methods(method, monkeypatch):
    config = configured(monkeypatch, "--config", "small", "--method", method)
    validate(fitted(config, 100, 50, "xsub", [])[0], 100)


def test_too_few_samples_are_told_of_the_small_recipe(stores, capsys):
    """For the batch, which cannot be, and for the queue, which can."""
    with pytest.raises(SystemExit):
        command_line(["--data", str(stores / "twenty"), "--split=all"])
    error = capsys.readouterr().err
    assert "at most the number of training samples (20); --config small fits such sets" in error
    flags = ["--data", str(stores / "twenty"), "--split=all", "--optim.batch_size=8", "--profile=1"]
    for queue, told in ((24, True), (16, False)):
        output = str(stores / f"queue-{queue}")
        command_line([*flags, f"--model.queue_size={queue}", "--output", output, *TINY])
        said = capsys.readouterr().out
        assert ("model.queue_size is 24, more than the 20 training samples" in said) == told
        assert ("--config small" in said) == told

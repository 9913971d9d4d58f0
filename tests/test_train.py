"""The training command, end to end on a small store, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from aimclr_fast import load_encoder, native
from aimclr_fast.data import open_embedded, open_store, write_store
from aimclr_fast.inference.features import encode
from aimclr_fast.layouts import get_layout
from aimclr_fast.train import command_line
from aimclr_fast.training.checkpoint import digest, load_checkpoint
from aimclr_fast.training.metrics import read_metrics
from aimclr_fast.training.monitor import Monitor, Scores

TINY = """\
data: {store: STORE, split: odd-even, stream: joint}
model: {channels: 4, features: 8, embedding: 8, dropout: 0.0, queue_size: 32, momentum: 0.99}
optim: {epochs: 3, batch_size: 16, lr: 0.01, schedule: cosine, mining_epoch: 2}
monitor: {knn_every: 2, raw_poses: true}
threads: 1
"""
QUICK = ("--monitor.raw_poses", "false", "--monitor.linear_probe", "false")


def train(*arguments: str, cwd) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aimclr_fast.train", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A store of every tenth embedded sequence, shortened, and a config for it."""
    folder = tmp_path_factory.mktemp("tiny")
    full = open_embedded("ui_prmd")
    rows = np.arange(0, len(full), 10)
    write_store(
        folder / "store",
        np.array(full.positions)[rows][:, :, ::4],
        {name: column[rows] for name, column in full.samples.items()},
        layout=full.layout,
        classes=full.class_names,
        splits={},
        source="test",
        licence="test",
        citation="test",
    )
    (folder / "tiny.yaml").write_text(TINY.replace("STORE", str(folder / "store")))
    return folder


@pytest.fixture(scope="module")
def finished(tiny):
    result = train("--config", "tiny.yaml", "--output", "run", cwd=tiny)
    assert result.returncode == 0, result.stderr
    return result


def test_prints_progress_scores_and_places(finished):
    out = finished.stdout
    assert "100 training and 100 test sequences" in out
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3" in out
    for row in ("raw poses", "untrained encoder", "pretrained encoder"):
        assert row in out
    assert finished.stderr == ""


def test_the_checkpoint_is_an_encoder_ready_for_sequences(finished, tiny):
    encoder = load_encoder(tiny / "run" / "checkpoint.pt")
    store = open_store(tiny / "store")
    x = store.as_tensor(slice(0, 3))
    features = encoder(x.permute(0, 4, 2, 3, 1), preprocessed=True)
    assert torch.equal(features, encode(encoder.model.encoder, x))
    assert encoder.traits.frames == 13


def test_saves_all_it_says(finished, tiny):
    run = tiny / "run"
    for line in finished.stdout.split("saved:\n")[1].splitlines():
        assert (tiny / line.split()[-1]).exists(), line
    metrics = read_metrics(run)
    assert [line["epoch"] for line in metrics] == [0, 1, 2, 3]
    for name in ("loss", "info_nce", "d3m_extreme", "d3m_dropped", "lr", "steps_per_second"):
        assert all(np.isfinite(line[name]) for line in metrics[1:]), name
    assert "knn_1" not in metrics[1]
    assert {"knn_1", "knn_20"} <= metrics[2].keys()
    scores = json.loads((run / "results.json").read_text())["scores"]
    assert scores["pretrained encoder"].keys() == {"knn_1", "knn_20", "linear", "selection"}
    assert any((run / "tensorboard").iterdir())
    state = load_checkpoint(run / "checkpoint.pt")
    assert (state["epoch"], state["step"]) == (3, 18)
    assert state["config"]["optim"]["batch_size"] == 16
    assert state["layout"]["name"] == "ui-prmd"


def test_the_same_seed_gives_the_same_weights_from_the_saved_config(finished, tiny, monkeypatch):
    """The run's own config.yaml reproduces it in another process, bit for bit on the CPU."""
    monkeypatch.chdir(tiny)
    command_line(["--config", "run/config.yaml", "--output", "again", *QUICK])
    first, second = (load_checkpoint(tiny / run / "checkpoint.pt") for run in ("run", "again"))
    for name, tensor in first["models"]["joint"].items():
        assert torch.equal(tensor, second["models"]["joint"][name]), name


def scored(monkeypatch, chosen_by, on_test):
    """Let the encoders score these after each epoch, the untrained one first."""
    numbers = iter(zip(chosen_by, on_test, strict=True))

    def score(*_, **__):
        selection, test = next(numbers)
        return Scores(knn_1=test, knn_20=test, selection=selection)

    monkeypatch.setattr(Monitor, "score", score)


def test_best_is_not_chosen_on_test_samples(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    scored(monkeypatch, (0.9, 0.2, 0.7, 0.5), (0.1, 0.8, 0.3, 0.9))
    options = ("--monitor.knn_every", "1", *QUICK, "--save_every", "1", "--keep", "3")
    command_line(["--config", "tiny.yaml", "--output", "chosen", *options])
    assert load_checkpoint("chosen/best.pt")["epoch"] == 2
    best = json.loads((tiny / "chosen/results.json").read_text())["best"]
    on = "the training samples, in 5 folds that part the subjects"
    assert best == {"name": "knn_20", "on": on, "score": 0.7, "epoch": 2}
    out = " ".join(capsys.readouterr().out.split())
    assert f"best.pt: epoch 2, chosen by kNN-20 (70.0 %) on {on}" in out
    assert "epoch 2: kNN-1 30.0 % kNN-20 30.0 % on test samples" in out

    # What an earlier version chose on test samples is not compared with.
    state = load_checkpoint("chosen/previous-2.pt")
    assert state["epoch"] == 1
    state["place"]["best"] = {"name": "knn_20", "score": 0.99, "epoch": 1}
    for row in state["place"]["rows"].values():
        row.pop("selection", None)
    for file in (tiny / "chosen").glob("previous-*.pt"):
        file.unlink()
    torch.save({**state, "sha256": digest(state)}, "chosen/checkpoint.pt")
    scored(monkeypatch, (0.4, 0.3, 0.2), (0.1, 0.2, 0.3))
    command_line(["--config", "tiny.yaml", "--output", "chosen", *options, "--resume", "auto"])
    assert load_checkpoint("chosen/best.pt")["epoch"] == 1


def test_a_diverged_run_says_so_and_keeps_its_checkpoint(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    arguments = ["--config", "tiny.yaml", "--output", "diverged", "--save_every", "1"]
    with pytest.raises(SystemExit) as ended:
        command_line([*arguments, *QUICK, "--optim.lr", "1e30"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "5 steps in a row were skipped" in error
    assert "info_nce" in error
    assert "its samples are" in error
    assert "optim.lr" in error
    assert not (tiny / "diverged" / "checkpoint.pt").exists()  # none is better than a broken one


def test_a_store_without_labels_trains(tiny, monkeypatch, capsys):
    full = open_store(tiny / "store")
    write_store(
        tiny / "unlabeled",
        np.array(full.positions),
        {"name": full.samples["name"]},
        layout=full.layout,
        classes=None,
        splits={},
        source="test",
        licence="test",
        citation="test",
    )
    monkeypatch.chdir(tiny)
    arguments = ["--config", "tiny.yaml", "--data.store", "unlabeled", "--split", "all"]
    command_line([*arguments, "--optim.epochs", "1", "--output", "blind"])
    shown = capsys.readouterr().out
    assert "kNN" not in shown
    assert "1 epoch of 12 steps of 16" in shown
    assert json.loads((tiny / "blind" / "results.json").read_text())["scores"] == {}
    assert load_checkpoint(tiny / "blind" / "checkpoint.pt")["epoch"] == 1


def test_a_split_that_tests_on_its_training_samples_says_so(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    run = ["--config", "tiny.yaml", *QUICK, "--optim.epochs", "1", "--monitor.knn_every", "0"]
    command_line([*run, "--split", "all", "--output", "all"])
    shown = capsys.readouterr().out
    assert "note: split all tests on samples that it trains on" in shown
    assert "measuring the untrained encoder ..." in shown  # and no raw poses
    command_line([*run, "--output", "apart"])
    assert "trains on:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nope"], "--config nope: no such file, and not one of"),
        (["--optim.lrr", "1"], "optim.lrr"),
        (["--optim.lr", "fast"], "optim.lr"),
        (["--augment.noise_prob", "2"], "noise_prob must lie in [0, 1], got 2.0"),
        (["--data", "nowhere"], "'nowhere' is neither an embedded data set"),
        (["--split", "xview"], "store: unknown split 'xview'"),
        (["--optim.batch_size", "101", "--model.queue_size", "200"], "optim.batch_size is 101"),
        (["--device", "toaster"], "device is 'toaster'"),
        (["--output", "tiny.yaml/run"], "tiny.yaml/run"),
        (["--output", "store"], "output store exists and is not an empty folder"),
        (["--backend", "fpga"], "unknown backend 'fpga'"),
        (["--streams", "joint,joint"], "data.stream is 'joint,joint'"),
        (["--method", "skeletonclr", "--model.eadm", "true"], "eadm is on, but extreme is off"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tiny, arguments, message, monkeypatch, capsys):
    if "--config" not in arguments:
        arguments = ["--config", "tiny.yaml", *arguments]
    monkeypatch.chdir(tiny)
    with pytest.raises(SystemExit) as ended:
        command_line(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1, error


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"optim: [1, }", "line 1"), (b"\xff\xfe\x00", "not readable"), (b"- a", "holds no fields")],
)
def test_broken_config_files_are_named(tiny, content, message, monkeypatch, capsys):
    (tiny / "broken.yaml").write_bytes(content)
    monkeypatch.chdir(tiny)
    with pytest.raises(SystemExit):
        command_line(["--config", "broken.yaml"])
    error = capsys.readouterr().err
    assert "--config broken.yaml" in error
    assert message in error
    assert error.count("\n") == 1, error


def test_a_mistake_through_the_shell(tiny):
    result = train("--config", "tiny.yaml", "--optim.lr", "fast", cwd=tiny)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr


def test_print_config_can_be_read_back(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line(["--config", "ntu60", "--optim.lr", "0.05", "--print_config"])
    assert not ended.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["optim"]["lr"] == 0.05
    assert config["data"]["split"] == "xsub"


def test_help_names_every_group(capsys):
    with pytest.raises(SystemExit):
        command_line(["--help"])
    shown = capsys.readouterr().out
    for field in ("--data.store", "--augment.shear_amplitude", "--model.queue_size", "--optim.lr"):
        assert field in shown
    assert "ntu60, nw_ucla" in " ".join(shown.split())


def test_skeletonclr_says_so_and_logs_the_same_names(tiny, finished, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    arguments = ["--config", "tiny.yaml", "--output", "plain", "--method", "skeletonclr"]
    command_line([*arguments, *QUICK, "--optim.epochs", "1"])
    assert "joint stream, skeletonclr\n" in capsys.readouterr().out
    (line,) = read_metrics(tiny / "plain")[1:]
    assert line.keys() >= read_metrics(tiny / "run")[1].keys()
    assert line["loss"] == line["info_nce"] > 0.0
    assert line["d3m_extreme"] == line["d3m_dropped"] == 0.0
    assert load_checkpoint(tiny / "plain" / "checkpoint.pt")["config"]["method"] == "skeletonclr"


def test_streams_train_side_by_side_as_alone(tiny, finished, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    command_line(["--config", "tiny.yaml", "--output", "both", "--streams", "bone,joint", *QUICK])
    shown = capsys.readouterr().out
    assert "bone, joint streams" in shown
    for row in ("pretrained encoder, joint", "pretrained encoder, bone"):
        assert row in shown
    both, alone = (load_checkpoint(tiny / run / "checkpoint.pt") for run in ("both", "run"))
    assert list(both["models"]) == list(both["optimizers"]) == ["bone", "joint"]
    for name, tensor in alone["models"]["joint"].items():
        assert torch.equal(both["models"]["joint"][name], tensor), name
    both, alone = (read_metrics(tiny / run)[-1] for run in ("both", "run"))
    for name in ("loss", "info_nce", "knn_20"):
        assert both[f"joint/{name}"] == alone[name], name
        assert both[name] == pytest.approx((both[f"joint/{name}"] + both[f"bone/{name}"]) / 2)


def test_profile_says_where_the_time_of_a_step_goes(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    command_line(["--config", "tiny.yaml", "--output", "profiled", "--profile", "2"])
    shown = capsys.readouterr().out
    for section in ("augment", "forward, key view", "losses", "backward", "optimizer", "idle"):
        assert section in shown
    events = json.loads((tiny / "profiled" / "trace.json").read_text())["traceEvents"]
    assert {"augment", "backward"} <= {event.get("name") for event in events}
    assert not (tiny / "profiled" / "checkpoint.pt").exists()


@pytest.mark.parametrize("error", [RuntimeError("no CUPTI\nhere"), OSError(28, "disk full")])
def test_a_profile_is_shown_where_nothing_can_be_traced(tiny, error, monkeypatch, capsys):
    def refuse(*_, **__):
        raise error

    monkeypatch.chdir(tiny)
    monkeypatch.setattr("aimclr_fast.training.profile.profile", refuse)
    output = f"untraced-{type(error).__name__}"
    command_line(["--config", "tiny.yaml", "--output", output, "--profile", "1"])
    shown = capsys.readouterr().out
    assert "a step of 16 sequences, 1 step" in shown
    assert "as training runs it" in shown
    assert f"warning: no trace: {str(error).splitlines()[0]}" in shown
    assert "here" not in shown
    assert not (tiny / output / "trace.json").exists()


def test_bf16_is_refused_where_the_cpu_lacks_it(tiny, monkeypatch, capsys):
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    with pytest.raises(SystemExit) as ended:
        command_line(["--config", "tiny.yaml", "--output", "half", "--precision", "bf16"])
    assert ended.value.code == 2
    refused = "precision is 'bf16', but this processor lacks them. Give --precision fp32"
    assert refused in capsys.readouterr().err
    assert not (tiny / "half").exists()


def test_no_arguments_mean_the_default_recipe(monkeypatch):
    started = []
    monkeypatch.setattr("aimclr_fast.train.pretrain", lambda config, *_: started.append(config))
    command_line([])
    assert started[0].data.store == "ui_prmd_unaligned"
    assert started[0].augment.turn_deg == 180
    assert started[0].model.queue_size == 960


@pytest.mark.parametrize(
    ("flags", "turn", "method"),
    [
        (["--data", "ui_prmd"], 0, "aimclr"),
        (["--data=ui_prmd_unaligned"], 180, "aimclr++"),
        (["--data.store", "stores/mine"], 0, "aimclr"),
        (["--data", "ui_prmd", "--config", "ui_prmd_unaligned"], 180, "aimclr++"),
    ],
)
def test_views_are_turned_by_default_where_the_embedded_cameras_are_not_aligned(
    flags, turn, method, monkeypatch
):
    started = []
    monkeypatch.setattr("aimclr_fast.train.pretrain", lambda config, *_: started.append(config))
    command_line(flags)
    assert (started[0].augment.turn_deg, started[0].method) == (turn, method)


def test_flat_poses_are_not_turned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    positions = np.random.default_rng(0).normal(size=(8, 3, 6, 17, 1)).astype(np.float32)
    positions[:, 2] = 0
    samples = {"name": list("abcdefgh"), "label": [0, 1] * 4}
    write_store(tmp_path / "flat", positions, samples, layout=get_layout("coco"))
    flags = ["--config", "small", "--data", "flat", "--augment.turn_deg", "30"]
    with pytest.raises(SystemExit) as ended:
        command_line(flags)
    assert ended.value.code == 2
    assert "poses of layout coco are flat: give --augment.turn_deg 0" in capsys.readouterr().err

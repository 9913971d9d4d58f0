"""Stores of one layout as one: names, classes, splits and positions; training and evaluating."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aimclr_fast.data import (
    StoreError,
    get_split_rule,
    resolve_store,
    split,
    validation,
    write_store,
)
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.evaluate import command_line as evaluate
from aimclr_fast.prepare import command_line as prepare
from aimclr_fast.train import command_line as train

JOINTS = 20
SMALL = [
    "--model.channels=4", "--model.features=8", "--model.embedding=8", "--model.queue_size=16",
    "--optim.epochs=1", "--optim.batch_size=4", "--optim.mining_epoch=1", "--monitor.knn_every=1",
    "--monitor.linear_probe=false", "--threads=1",
]  # fmt: skip


def write(folder: Path, classes=("walk", "wave"), *, count=8, bodies=1, frames=6, seed=0, **more):
    random = np.random.default_rng(seed)
    given = {
        "layout": "kinect-v1",
        "splits": {
            "xsub": {"column": "subject", "train": [0]},
            "own": {"column": "x", "train": [0]},
        },
        "preprocessing": Preprocessing(frames=frames, rotate="exact"),
        **more,
    }
    samples = {
        "name": [f"s{i}" for i in range(count)],
        "subject": [i % 2 for i in range(count)],
        "height": [1 + i for i in range(count)],
        **({} if classes is None else {"label": [i // 2 % 2 for i in range(count)]}),
    }
    positions = random.standard_normal((count, 3, frames, JOINTS, bodies)).astype(np.float32)
    positions = given.pop("positions", positions)
    return write_store(folder, positions, samples, classes=classes, **given)


def joined(*folders: Path):
    return resolve_store(",".join(map(str, folders)))


def test_samples_follow_each_other_under_the_names_of_their_stores(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", ("wave", "run"), count=6, seed=1)
    both = joined(tmp_path / "a", tmp_path / "b")
    assert len(both) == 14
    np.testing.assert_array_equal(both.positions, np.concatenate([a.positions, b.positions]))
    assert both.samples["name"].tolist()[7:9] == ["a/s7", "b/s0"]
    assert both.samples["store"].tolist() == ["a"] * 8 + ["b"] * 6
    assert both.samples["subject"].tolist()[6:10] == ["a/0", "a/1", "b/0", "b/1"]
    assert both.samples["height"].tolist() == [*range(1, 9), *range(1, 7)]
    assert both.class_names == ("walk", "wave", "run")
    assert both.labels is not None
    assert both.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 2, 2, 1, 1]
    assert both.preprocessing == a.preprocessing
    assert both.checksums()["a/positions.npy"] == a.checksums()["positions.npy"]
    assert both.spec == f"{tmp_path / 'a'},{tmp_path / 'b'}"
    assert joined(tmp_path / "b", tmp_path / "a").samples["name"].tolist()[0] == "b/s0"


def test_a_split_is_that_of_each_store(tmp_path):
    a, b = (
        write(tmp_path / "a"),
        write(tmp_path / "b", splits={"xsub": {"column": "subject", "train": [1]}}),
    )
    both = joined(tmp_path / "a", tmp_path / "b")
    for side, (one, other) in enumerate(zip(split(a, "xsub"), split(b, "xsub"), strict=True)):
        np.testing.assert_array_equal(split(both, "xsub")[side], np.concatenate([one, other + 8]))
    assert set(both.meta["splits"]) == {"xsub", "odd-even"}
    assert len(split(both, "all")[0]) == 16
    with pytest.raises(ValueError, match="unknown split 'own'"):
        get_split_rule("own", both)


def test_validation_samples_stay_so(tmp_path):
    rule = {"column": "height", "train": [1, 2], "val": [3], "test": [4, 5]}
    for name in "ab":
        write(tmp_path / name, splits={"s": rule})
    both = joined(tmp_path / "a", tmp_path / "b")
    assert [found.tolist() for found in split(both, "s")] == [[0, 1, 8, 9], [3, 4, 11, 12]]
    held = validation(both, "s")
    assert held is not None
    assert held.tolist() == [2, 10]


def test_units_and_bodies_are_brought_together(tmp_path):
    a = write(tmp_path / "a", bodies=2)
    meters = np.full((8, 3, 6, JOINTS, 1), 1234, np.int16)
    write(tmp_path / "b", positions=meters)
    both = joined(tmp_path / "a", tmp_path / "b")
    assert both.positions.dtype == np.float32
    assert both.positions.shape == (16, 3, 6, JOINTS, 2)
    np.testing.assert_array_equal(both.positions[:8], a.positions)
    np.testing.assert_allclose(both.as_tensor().numpy()[8:, ..., 0], 1.234, rtol=1e-6)
    assert not both.positions[8:, ..., 1].any()
    short = joined(tmp_path / "b", tmp_path / "b" / ".." / "b")
    assert short.positions.dtype == np.int16
    assert set(short.samples["store"].tolist()) == {"b-1", "b-2"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layout": "msr-action3d"}, "different layouts, kinect-v1 and msr-action3d: .* --to"),
        ({"frames": 7}, "6 and 7 frames: .* --frames"),
        ({"classes": None}, "b has no labels"),
        (
            {"preprocessing": Preprocessing(6, "exact", normalize="sequence")},
            "prepared differently",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(more, message, tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", **more)
    with pytest.raises(StoreError, match=message):
        joined(tmp_path / "a", tmp_path / "b")


def test_each_store_is_named_once_and_must_be_there(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(StoreError, match="a store is named twice"):
        joined(tmp_path / "a", tmp_path / "a")
    with pytest.raises(StoreError, match="is neither an embedded data set"):
        joined(tmp_path / "a", tmp_path / "none")
    comma = write(tmp_path / "c,d")
    assert resolve_store(tmp_path / "c,d").path == comma.path


def test_train_and_evaluate_join_stores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write(tmp_path / name, count=16, frames=20, seed=ord(name))
    train(["--data=a,b", "--split=xsub", *SMALL, "--output=run", "--data.frame_step=1"])
    assert "a+b: 16 training and 16 " in capsys.readouterr().out
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["store"] == f"{tmp_path / 'a'},{tmp_path / 'b'}"
    evaluate(["knn", "run/checkpoint.pt", "--device=cpu", "--k=[1]"])
    assert "split xsub, by which run/checkpoint.pt was trained" in capsys.readouterr().out
    # One of the two: its training samples are not tested on either.
    evaluate(["knn", "run/checkpoint.pt", "--data=a", "--device=cpu", "--k=[1]"])
    assert "split xsub, by which run/checkpoint.pt was trained" in capsys.readouterr().out
    prepare(["check", "a,b"])
    prepare(["inspect", "a,b", "--out=drawn"])
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == [
        "a+b.gif",
        "a+b.html",
        "a+b.png",
    ]
    assert not (tmp_path / "a+b").exists()

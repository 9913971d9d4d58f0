"""The examples run, and the one that spells the method out computes what the package computes."""

from __future__ import annotations

import io
import json
import lzma
import runpy
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from aimclr_fast import data, functional, load_encoder, nn
from aimclr_fast.data.joint_mapping import map_joints
from aimclr_fast.layouts import get_layout

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
OLD = ROOT / "tests" / "old_files" / "ec33432"


def example(name: str) -> dict[str, object]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def call(name: str, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.fixture(scope="module")
def few():
    store = data.open_embedded("ui_prmd")
    return store.as_tensor(slice(0, 16))[:, :, ::6].contiguous(), store.layout


def test_pretrain_takes_the_steps_of_the_package(few):
    """One epoch of two steps, with mining, against nn.AimCLR under the same draws."""
    sequences, layout = few
    settings = {"batch_size": 8, "queue_size": 24, "width": 2}
    torch.manual_seed(0)
    trained, (loss,) = example("pretrain")["pretrain"](sequences, layout, 1, **settings)

    torch.manual_seed(0)
    encoder = nn.SkeletonEncoder(nn.STGCN(layout, channels=2, features=16, dropout=0.0), 64)
    model = nn.AimCLR(encoder, embedding=64, queue_size=24, momentum=0.99)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.03, momentum=0.9)
    losses = []
    for step, batch in enumerate(torch.randperm(16).split(8)):
        config = functional.AugmentConfig()
        output = model(
            *functional.skeleton_augment(
                sequences, batch, layout=layout, config=config, seed=0, step=step
            ),
            topk=1,  # where there is one epoch, it mines
        )
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        model.enqueue(output.keys)
        losses.append(output.loss.item())
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    for name, weight in encoder.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_pretrain_as_a_command(monkeypatch, capsys):
    whole = data.open_embedded("ui_prmd")
    train, test = data.split(whole, "xsub")
    monkeypatch.setattr(data, "split", lambda *_: (train[::15], test[::50]))
    call("pretrain", monkeypatch, "--epochs", 1)
    out = capsys.readouterr().out
    assert "epoch 1/1: loss " in out
    assert 0 <= float(out.rpartition("kNN-1 ")[2].split()[0]) <= 100


def test_encode_gives_the_features_of_recordings(tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(lzma.decompress((OLD / "run" / "checkpoint.pt.xz").read_bytes()))
    recordings = sorted((OLD / "recordings").glob("*.npy"))
    features = example("encode")["main"](checkpoint, *recordings)
    assert features.shape == (2, 8)
    call("encode", monkeypatch, checkpoint, *recordings)
    assert f"{recordings[0]}  1.000" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"none\.pt: no such checkpoint"):
        call("encode", monkeypatch, tmp_path / "none.pt", *recordings)
    with pytest.raises(SystemExit, match="Run it with"):
        call("encode", monkeypatch)


def test_examples_are_linked():
    for name, pages in {
        "pretrain": ("README.md", "docs/methods.md"),
        "encode": ("README.md", "docs/encoder.md"),
        "live_udp": ("docs/encoder.md",),
        "pipeline": ("docs/encoder.md",),
    }.items():
        for page in pages:
            assert f"examples/{name}.py" in (ROOT / page).read_text(encoding="utf-8"), page


def test_pipeline_searches_and_scores(monkeypatch, capsys):
    split = data.split
    monkeypatch.setattr(data, "split", lambda *given: [rows[::25] for rows in split(*given)])
    call("pipeline", monkeypatch, "--steps", 1)
    said = capsys.readouterr().out
    assert "chosen on other training subjects: {'logisticregression__C': " in said
    assert 0 <= float(said.rpartition("accuracy ")[2].split()[0]) <= 100


def live(monkeypatch, capsys, frames, encoder="ui_prmd"):
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("".join(json.dumps(one) + "\n" for one in frames))
    )
    call("live_udp", monkeypatch, encoder, 10, 4, 1)
    said = capsys.readouterr()
    return [json.loads(line) for line in said.out.splitlines()], said.err


def test_live_takes_openpose_and_mediapipe(monkeypatch, capsys):
    """The same motion in other programs' forms has the answers of a recording in these joints."""
    poses = data.open_embedded("ui_prmd").as_tensor(0)[..., 0].permute(1, 2, 0).numpy()[:40]
    own = get_layout("ui-prmd")
    for name in ("openpose-25", "openpose", "mediapipe"):
        layout = get_layout(name)
        joints = map_joints(own, layout)
        theirs = np.ones((len(poses), layout.num_joints, 3))
        for ours, other in joints.named:
            theirs[:, layout.joints.index(other)] = poses[:, own.joints.index(ours)]
        back = theirs[:, list(joints.source)]
        expected = load_encoder("ui_prmd", device="cpu").classify([back])
        down = theirs * [1, -1, -1]
        frames = []
        for t, joints in enumerate(down.tolist()):
            if name == "mediapipe":
                landmarks = [dict(zip("xyz", joint, strict=True)) for joint in joints]
                people = {"pose_world_landmarks": landmarks if t % 2 else [landmarks]}
            else:
                points = [number for joint in joints for number in (*joint, 0.9)]
                people = {"people": [{"person_id": [3], "pose_keypoints_3d": points}]}
            frames.append({"time": t / 10, **people})
        (answer,), errors = live(monkeypatch, capsys, frames)
        assert not errors
        assert answer["person"] == (0 if name == "mediapipe" else 3)
        assert answer["class"] == expected.names[0]
        assert answer["probability"] == pytest.approx(float(expected.probabilities.max()), abs=1e-3)


def test_live_says_what_it_cannot_take(monkeypatch, capsys):
    frame = example("live_udp")["frame"]
    own = get_layout("ui-prmd")
    zero = [0.1, 0.2, 0.3, 0.0]
    _, people = frame(json.dumps({"time": 1, "people": [{"pose_keypoints_3d": zero * 25}]}), own)
    assert np.isnan(people[0]).all()  # nobody is followed; no joint was seen
    _, people = frame(json.dumps({"time": 1, "people": {"a": [None, [1, 2, None]]}}), own)
    np.testing.assert_array_equal(people["a"], [[np.nan] * 3, [1, 2, np.nan]])
    _, errors = live(
        monkeypatch,
        capsys,
        [
            {"time": 0, "people": [{"pose_keypoints_3d": zero * 7}]},
            {"time": 0, "people": [{"pose_keypoints_2d": [1, 2, 0.5]}]},
            {"time": 0, "pose_world_landmarks": [{"x": 0, "y": 0, "z": 0}]},
            [],
        ],
    )
    assert (
        "line 1: ValueError: pose_keypoints_3d: 7 key points, but OpenPose has 25 or 18" in errors
    )
    assert "line 2: ValueError: pose_keypoints_3d: 0 key points" in errors
    assert "line 3: ValueError: 1 joints, but mediapipe has 33" in errors
    assert errors.count("\n") == 4


def test_live_answers_each_window_and_outlives_a_bad_line(tmp_path, monkeypatch, capsys):
    poses = data.open_embedded("ui_prmd").as_tensor(0)[..., 0].permute(1, 2, 0).tolist()
    frames = [json.dumps({"time": t / 10, "people": {"7": poses[t]}}) for t in range(50)]
    hidden = [*poses[45][:7], None, *poses[45][8:]]
    frames[45] = json.dumps({"time": 4.5, "people": {"7": hidden}})
    frames[3:3] = [
        "{",
        '{"time": 0.3}',
        '{"time": 0.3, "people": [[[1, 2, 3]]]}',
        '{"time": 0.3, "people": {"7": [[1, 2, 3]]}}',
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(frames) + "\n"))
    call("live_udp", monkeypatch, "ui_prmd", 10, 4, 1)
    said = capsys.readouterr()
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [(a["person"], a["start"], a["end"]) for a in answers] == [
        ("7", 0.0, 3.9),
        ("7", 1.0, 4.9),
    ]
    assert all(0 < a["probability"] <= 1 and ", " in a["class"] for a in answers)
    assert [line.split(":")[0] for line in said.err.splitlines()] == [
        f"line {number}" for number in (4, 5, 6, 7)
    ]
    with pytest.raises(SystemExit, match=r"live_udp\.py: .* --udp PORT"):
        call("live_udp", monkeypatch, "ui_prmd", 10, 4, 1, "--tcp", 9)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(lzma.decompress((OLD / "run" / "checkpoint.pt.xz").read_bytes()))
    with pytest.raises(SystemExit, match=r"has no classifier: python -m aimclr_fast\.learn"):
        call("live_udp", monkeypatch, checkpoint, 10, 4, 1)


def test_live_listens_to_udp(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    received = example("live_udp")["lines"]("--udp", port)
    with (
        ThreadPoolExecutor(1) as pool,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        line = pool.submit(next, received)
        while not line.done():
            sender.sendto(b'{"time": 1, "people": {}}', ("127.0.0.1", port))
            time.sleep(0.01)
    assert json.loads(line.result()) == {"time": 1, "people": {}}

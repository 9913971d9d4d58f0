"""What a run does not start from, and that each refusal says what would do."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_data import save_model

from aimclr_fast.config import ConfigError, DataConfig, ModelConfig, TrainConfig
from aimclr_fast.inference.checkpoints import fresh_encoder
from aimclr_fast.inference.head_file import save_head
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.nn import AimCLR
from aimclr_fast.training.checkpoint import load_checkpoint, save_checkpoint
from aimclr_fast.training.job import Job
from aimclr_fast.training.start import starting_encoders
from aimclr_fast.training.streams import StreamState

OWN = ModelConfig(channels=4, features=8, embedding=4, queue_size=8)
HERE = get_layout("ui-prmd")


def encoders_of(job: Job, layout: Layout) -> dict[str, Any]:
    learners = [StreamState(job, layout, torch.zeros(()), names) for names in job.together]
    return {name: model.query_encoder for one in learners for name, model in one.models.items()}


def started(
    given: object,
    *,
    method: str = "aimclr",
    stream: str = "joint",
    layout: Layout = HERE,
    **model: Any,
) -> dict[str, Any]:
    config = TrainConfig(method=method, data=DataConfig(stream=stream), model=replace(OWN, **model))
    job = Job(config, torch.device("cpu"))
    return starting_encoders(str(given), job, layout, encoders_of(job, layout))


def refused(given: object, **run: Any) -> str:
    with pytest.raises(ConfigError) as seen:
        started(given, **run)
    message = str(seen.value)
    assert message.startswith("start: ")
    assert "\n" not in message
    return message


def save_run(path: Path, method: str, streams: str, **model: Any) -> None:
    """What a run of this method leaves, untrained."""
    config = TrainConfig(
        method=method, data=DataConfig(stream=streams), model=replace(OWN, **model)
    )
    encoders = encoders_of(Job(config, torch.device("cpu")), HERE)
    models = {name: torch.nn.ModuleDict({"query_encoder": one}) for name, one in encoders.items()}
    about = {"config": config, "layout": HERE.to_dict(), "epoch": 1, "step": 1}
    save_checkpoint(path, models=models, optimizers={}, **about)


def test_a_folder_stands_for_its_checkpoint(tmp_path):
    save_model(tmp_path / "checkpoint.pt", ["joint", "bone"])
    for given in (tmp_path, tmp_path / "checkpoint.pt"):
        (encoder,) = started(given, stream="bone").values()
        for name, value in encoder.state_dict().items():
            theirs = load_checkpoint(tmp_path / "checkpoint.pt")["models"]["bone"]
            assert torch.equal(theirs[f"query_encoder.{name}"], value)


@pytest.mark.parametrize(
    ("name", "value", "theirs"),
    [
        ("channels", 8, 4),
        ("features", 16, 8),
        ("embedding", 5, 4),
        ("temporal_kernel", 3, 9),
        ("graph", "directed", "spatial"),
    ],
)
def test_a_size_that_differs_is_named_with_its_flag(name, value, theirs, tmp_path):
    save_model(tmp_path / "first.pt", ["joint"])
    assert refused(tmp_path / "first.pt", **{name: value}).endswith(
        f"does not fit: model.{name} is {theirs!r} there and {value!r} here: "
        f"give --model.{name} {theirs}"
    )


def test_all_sizes_that_differ_are_named_at_once(tmp_path):
    save_model(tmp_path / "first.pt", ["joint"])
    message = refused(tmp_path / "first.pt", channels=8, features=16)
    assert message.endswith("give --model.channels 4 --model.features 8")


def test_nothing_is_loaded_where_a_later_stream_does_not_fit(tmp_path):
    """The message comes before any weight of the run is replaced."""
    save_run(tmp_path / "first.pt", "aimclr++", "joint,motion")
    config = TrainConfig(data=DataConfig(stream="joint,motion"), model=OWN)
    job = Job(config, torch.device("cpu"))
    own = encoders_of(job, HERE)
    before = {name: encoder.state_dict() for name, encoder in own.items()}
    before = {name: {k: v.clone() for k, v in one.items()} for name, one in before.items()}
    with pytest.raises(ConfigError, match="the head of the motion stream"):
        starting_encoders(str(tmp_path / "first.pt"), job, HERE, own)
    for name, encoder in own.items():
        for key, value in encoder.state_dict().items():
            assert torch.equal(before[name][key], value)


@pytest.mark.parametrize("there", ["coco", "kinect-v1"])
def test_another_layout_is_named_beside_the_own(there, tmp_path):
    save_model(tmp_path / "first.pt", ["joint"], layout=there)
    joints = get_layout(there).num_joints
    assert refused(tmp_path / "first.pt", channels=8).endswith(
        f"has encoders of layout '{there}' ({joints} joints), but the data have layout 'ui-prmd' "
        f"(22 joints): give --data a store of layout '{there}', or --start a run on layout "
        "'ui-prmd'"
    )


def test_a_layout_of_the_same_name_with_other_joints_is_another_one(tmp_path):
    save_model(tmp_path / "first.pt", ["joint"])
    joints = list(HERE.joints)
    joints[3], joints[4] = joints[4], joints[3]
    renamed = replace(HERE, joints=tuple(joints), parts=None)
    message = refused(tmp_path / "first.pt", layout=renamed)
    assert (
        "layout 'ui-prmd' (22 joints), whose joints, edges or swap differ: give --data" in message
    )


@pytest.mark.parametrize(
    ("first", "run", "match"),
    [
        (
            ("skelemixclr", "joint", {}),
            {},
            "is (linear 8 to 8, batch norm, ReLU, linear 8 to 4) there and (linear 8 to 8, ReLU, "
            "linear 8 to 4) here: give --model.norm_head true",
        ),
        (("aimclr", "joint", {}), {"method": "skelemixclr"}, "give --model.norm_head false"),
        (
            ("skelemixclr", "joint", {}),
            {"method": "actclr"},
            "start from a run with --model.norm_head false",
        ),
        (
            ("aimclr", "joint,motion", {}),
            {"method": "aimclr++", "stream": "joint,motion"},
            "the head of the motion stream is (linear 8 to 8, ReLU, linear 8 to 4) there and "
            "(linear 8 to 8, ReLU, (linear 8 to 8, ReLU, linear 8 to 4)) here: "
            "give --model.share_head false",
        ),
        (
            ("aimclr++", "joint,motion", {}),
            {"method": "aimclr++", "stream": "joint,motion", "share_head": False},
            "give --model.share_head true",
        ),
        (
            ("aimclr++", "joint,motion", {}),
            {"stream": "motion"},
            "start from a run with --model.share_head false",
        ),
    ],
)
def test_a_head_of_other_layers_is_named_with_what_settles_it(first, run, match, tmp_path):
    method, streams, model = first
    save_run(tmp_path / "first.pt", method, streams, **model)
    message = refused(tmp_path / "first.pt", **run)
    assert match in message
    flag, _, value = message.partition("--model.")[2].partition(" ")
    of_run = {flag: value == "true"}
    if ": give --model." in message:  # and the flag settles it
        assert started(tmp_path / "first.pt", **run | of_run)
    else:
        save_run(tmp_path / "second.pt", method, streams, **model | of_run)
        assert started(tmp_path / "second.pt", **run)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ("motion", "no motion stream; it holds joint, bone: give --streams joint,bone"),
        ("bone,motion", "no motion stream; it holds joint, bone: give --streams bone"),
    ],
)
def test_a_stream_that_is_missing_is_named(stream, message, tmp_path):
    save_model(tmp_path / "first.pt", ["joint", "bone"])
    assert message in refused(tmp_path / "first.pt", stream=stream)


def test_what_is_no_checkpoint_of_a_run_is_named(tmp_path):
    wanted = "give the checkpoint.pt of a run, or its folder"
    torch.save({"format": 2}, tmp_path / "old.pt")
    torch.save([1], tmp_path / "list.pt")
    official = {"encoder_q.st_gcn_networks.0.gcn.conv.weight": torch.ones(1)}
    torch.save(official, tmp_path / "official.pt")
    weights = {"weight": torch.zeros(2, 8), "bias": torch.zeros(2)}
    head = tmp_path / "head.pt"
    save_head(head, weights, ["a", "b"], stream="joint", checkpoint_sha256="")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("a.safetensors", "a.onnx", "a.pt2"):
        (tmp_path / name).write_bytes(b"\x00")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "best.pt").write_bytes(b"")
    for name, message in {
        "none.pt": "no such checkpoint",
        "old.pt": f"not a checkpoint of aimclr_fast (format 3); {wanted}",
        "list.pt": f"not a checkpoint of aimclr_fast (format 3); {wanted}",
        "text.pt": "not a readable checkpoint",
        "official.pt": f"a checkpoint of the authors' program, not of a run; {wanted}",
        "head.pt": f"a classifier, which has no encoder; {wanted}",
        "a.safetensors": f"an exported encoder, which has no projection head; {wanted}",
        "a.onnx": "an exported encoder",
        "a.pt2": "an exported encoder",
        "empty": "the folder has no checkpoint.pt; it holds best.pt",
        "n" * 300: "File name too long",
    }.items():
        assert refused(tmp_path / name).startswith(f"start: {tmp_path / name}: {message}"), name


def test_a_damaged_checkpoint_is_named(tmp_path):
    save_model(tmp_path / "first.pt", ["joint"])
    state = load_checkpoint(tmp_path / "first.pt")
    torch.save(state, tmp_path / "unsigned.pt")
    assert "its content differs from its checksum" in refused(tmp_path / "unsigned.pt")
    made = fresh_encoder(dataclasses.asdict(OWN), HERE)
    with torch.no_grad():
        next(made.parameters()).fill_(float("nan"))
    about = {"config": TrainConfig(model=OWN), "layout": HERE.to_dict(), "epoch": 1, "step": 1}
    models = {"joint": AimCLR(made, embedding=4, queue_size=8)}
    save_checkpoint(tmp_path / "spoiled.pt", models=models, optimizers={}, **about)
    assert "holds values that are not finite" in refused(tmp_path / "spoiled.pt")

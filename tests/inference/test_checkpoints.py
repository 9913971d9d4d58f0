"""Encoders out of checkpoints: the weights that were saved, and clear refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aimclr_fast._checkpoint import CheckpointError
from aimclr_fast.config import ModelConfig, TrainConfig
from aimclr_fast.inference.checkpoints import encoder_from, fresh_encoder
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import AimCLR
from aimclr_fast.training.job import Job
from aimclr_fast.training.streams import build_model

TINY = ModelConfig(channels=4, features=8, embedding=4, queue_size=16)


def model(seed: int) -> AimCLR:
    encoder = fresh_encoder(dataclasses.asdict(TINY), get_layout("coco"), seed=seed)
    return AimCLR(encoder, embedding=4, queue_size=16)


@pytest.fixture
def state():
    return {
        "models": {"joint": model(1).state_dict(), "bone": model(2).state_dict()},
        "config": dataclasses.asdict(TrainConfig(model=TINY)),
        "layout": get_layout("coco").to_dict(),
    }


def test_the_named_streams_query_encoder_in_eval_mode(state):
    for seed, stream in ((1, "joint"), (2, "bone")):
        loaded = encoder_from(state, stream)
        assert not loaded.encoder.training
        assert loaded.layout == get_layout("coco")
        assert loaded.stream == stream
        for name, tensor in model(seed).query_encoder.state_dict().items():
            assert torch.equal(loaded.encoder.state_dict()[name], tensor), name


def test_a_single_stream_needs_no_name(state):
    del state["models"]["bone"]
    assert encoder_from(state).stream == "joint"


def test_a_seeded_encoder_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (fresh_encoder(dataclasses.asdict(TINY), get_layout("coco"), seed=s)
                            for s in (5, 5, 6))  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    weights = [e.backbone.blocks[0].spatial.conv.weight for e in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("init", ["copy", "official"])
def test_the_weights_that_a_run_starts_from(init):
    config = TrainConfig(model=dataclasses.replace(TINY, init=init))
    torch.manual_seed(3)
    started = build_model(Job(config, torch.device("cpu")), get_layout("ui-prmd")).query_encoder
    ours = fresh_encoder(dataclasses.asdict(config.model), get_layout("ui-prmd"), seed=3)
    for name, tensor in started.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("break_it", "stream", "message"),
    [
        (lambda s: None, "motion", "no motion stream; it holds joint, bone"),
        (lambda s: None, None, "several streams"),
        (lambda s: s.pop("layout"), "joint", "do not fit.*layout"),
        (lambda s: s["config"]["model"].update(features=16), "joint", "do not fit"),
        (lambda s: s.update(models=[1]), 1, "do not fit"),
    ],
)
def test_refusals(state, break_it, stream, message):
    break_it(state)
    with pytest.raises(CheckpointError, match=message):
        encoder_from(state, stream)

"""load_encoder: checkpoints with the authors' names that other people's training has saved."""

from __future__ import annotations

import argparse
import re
import warnings

import pytest
import torch

from aimclr_fast import load_encoder
from aimclr_fast._checkpoint import CheckpointError
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder
from aimclr_fast.nn.official import from_official, to_official

WEIGHT = "st_gcn_networks.3.tcn.2.weight"
STREAMS = ("joint", "motion", "bone")


def one(seed):
    """An authors' pretraining state dict: query and key encoder, queue and pointer."""
    torch.manual_seed(seed)
    encoder = SkeletonEncoder(STGCN("ntu-rgb+d", channels=2, features=8), embedding=4)
    state = to_official(AimCLR(encoder, embedding=4, queue_size=16).state_dict())
    for name in state:  # as after training: the key encoder is not a copy
        if name.startswith("encoder_k.") and name.endswith(WEIGHT):
            state[name] = state[name] + 1
    return state


@pytest.fixture(scope="module")
def states():
    return [one(seed) for seed in range(3)]


def several(states, query, key):
    """All three in one state dict; `query` and `key` name each stream's encoders."""
    state = {}
    for stream, own in zip(STREAMS, states, strict=True):
        for name, tensor in own.items():
            prefix, _, rest = name.partition(".")
            template = {"encoder_q": query, "encoder_k": key}.get(prefix)
            state[f"{template[stream]}.{rest}" if template else f"{stream}_{name}"] = tensor
    return state


def named(template, joint):
    names = {stream: template.format(stream) for stream in STREAMS}
    return names | ({"joint": joint} if joint else {})


NAMINGS = {
    "suffix": (named("encoder_q_{}", "encoder_q"), named("encoder_k_{}", "encoder_k")),
    "every suffix": (named("encoder_q_{}", None), named("encoder_k_{}", None)),
    "prefix": (named("{}.encoder_q", None), named("{}.encoder_k", None)),
    "middle": (named("{}_encoder_q", "encoder_q"), named("{}_encoder_k", "encoder_k")),
    "letters": (
        {"joint": "encoder_q_j", "motion": "encoder_q_m", "bone": "encoder_q_b"},
        {"joint": "encoder_k_j", "motion": "encoder_k_m", "bone": "encoder_k_b"},
    ),
    "a key's word around": (named("target.encoder_q_{}", None), named("target.encoder_k_{}", None)),
    "words": (named("student.{}", None), named("teacher.{}", None)),
}
WRAPPINGS = {
    "as it is": lambda state: state,
    "DataParallel": lambda state: {f"module.{n}": t for n, t in state.items()},
    "compiled": lambda state: {f"_orig_mod.{n}": t for n, t in state.items()},
    "both": lambda state: {f"module._orig_mod.{n}": t for n, t in state.items()},
    "parts compiled": lambda state: {
        re.sub(r"\.(A$|data_bn|edge|st_gcn|fc)", r"._orig_mod.\1", n): t for n, t in state.items()
    },
    "in a model": lambda state: {f"model.{n}": t for n, t in state.items()},
    "state_dict": lambda state: {"state_dict": state, "epoch": 300, "optimizer": {"state": {}}},
    "model": lambda state: {"model": {f"module.{n}": t for n, t in state.items()}, "args": ["x"]},
    "deep": lambda state: {"checkpoint": {"net": {"weights": state}}},
}


def weight_of(encoder):
    return encoder.model.encoder.backbone.state_dict()["blocks.3.temporal.weight"]


@pytest.mark.parametrize(
    ("naming", "wrapping"),
    [*((naming, "as it is") for naming in NAMINGS), *(("suffix", one) for one in WRAPPINGS)],
)
def test_each_stream_has_its_own_weights(tmp_path, states, naming, wrapping):
    torch.save(WRAPPINGS[wrapping](several(states, *NAMINGS[naming])), tmp_path / "x.pt")
    for stream, own in zip(STREAMS, states, strict=True):
        encoder = load_encoder(tmp_path / "x.pt", stream=stream)
        assert encoder.traits.stream == stream
        assert torch.equal(weight_of(encoder), own[f"encoder_q.{WEIGHT}"])
    with pytest.raises(CheckpointError, match=r"x.pt: .*none was named; it holds joint \(.*motion"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_one_encoder_under_any_wrapping(tmp_path, states, wrapping):
    torch.save(WRAPPINGS[wrapping](states[0]), tmp_path / "x.pt")
    for stream in (None, "bone"):  # the file does not say
        encoder = load_encoder(tmp_path / "x.pt", stream=stream)
        assert encoder.traits.stream == (stream or "joint")
        assert torch.equal(weight_of(encoder), states[0][f"encoder_q.{WEIGHT}"])
    linear = {n: t for n, t in states[0].items() if n.startswith("encoder_q.") and ".fc." not in n}
    linear |= {"encoder_q.fc.weight": torch.zeros(60, 8), "encoder_q.fc.bias": torch.zeros(60)}
    torch.save(WRAPPINGS[wrapping](linear), tmp_path / "linear.pt")
    assert len(load_encoder(tmp_path / "linear.pt").class_names) == 60


@pytest.mark.parametrize(
    ("prefix", "own", "warns"),
    [
        ("m", "joint", True), ("model_b", "joint", True), ("j", "joint", False),
        ("motion_encoder", "motion", True), ("bone.encoder_q", "bone", True),
        ("net", "joint", False), ("joint_net", "joint", False),
    ],
)  # fmt: skip
def test_the_stream_of_a_lone_encoder(tmp_path, states, prefix, own, warns):
    lone = {n: t for n, t in two(states, prefix, "other").items() if not n.startswith("other")}
    torch.save(lone, tmp_path / "x.pt")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert load_encoder(tmp_path / "x.pt").traits.stream == own
    assert [f"{prefix} is taken for the {own} stream" in str(w.message) for w in said] == (
        [True] if warns else []
    )
    for stream in STREAMS:
        assert load_encoder(tmp_path / "x.pt", stream=stream).traits.stream == stream


def test_a_lone_encoder_of_two_words_needs_the_stream(tmp_path, states):
    both = two(states, "joint_motion", "other")
    torch.save({n: t for n, t in both.items() if "other" not in n}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="may be of the joint or motion stream: say stream="):
        load_encoder(tmp_path / "x.pt")
    assert load_encoder(tmp_path / "x.pt", stream="bone").traits.stream == "bone"


@pytest.mark.parametrize("key", ["{}", "{}_state_dict"])
def test_a_state_dict_for_each_stream(tmp_path, states, key):
    content = {key.format(stream): own for stream, own in zip(STREAMS, states, strict=True)}
    torch.save({"models": content, "epoch": 3}, tmp_path / "x.pt")
    for stream, own in zip(STREAMS, states, strict=True):
        encoder = load_encoder(tmp_path / "x.pt", stream=stream)
        assert encoder.traits.stream == stream
        assert torch.equal(weight_of(encoder), own[f"encoder_q.{WEIGHT}"])
    with pytest.raises(CheckpointError, match="none was named; it holds joint"):
        load_encoder(tmp_path / "x.pt")


def test_a_state_dict_under_data_parallel_fits_the_model(states):
    plain = from_official(states[0])
    wrapped = from_official({f"module.{name}": tensor for name, tensor in states[0].items()})
    assert wrapped.keys() == plain.keys()


def two(states, first, second):
    rename = {first: states[0], second: states[1]}
    return {
        name.replace("encoder_q", prefix, 1): tensor
        for prefix, state in rename.items()
        for name, tensor in state.items()
        if name.startswith("encoder_q.")
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: two(s, "encoder_q_bone", "encoder_q"), r"no motion stream; it holds bone \(enc"),
        (lambda s: two(s, "encoder_q", "encoder_q_2"), "do not tell their streams: encoder_q, enc"),
        (lambda s: two(s, "encoder_q_joint_motion", "encoder_q"), "do not tell their streams"),
        (lambda s: two(s, "bone.a", "bone.b"), r"do not tell their streams: bone\.a, bone\.b"),
        (lambda s: two(s, "a", "b"), "do not tell their streams: a, b; save"),
        (lambda s: two(s, "model_a", "model_b"), "do not tell their streams: model_a, model_b"),
        (lambda s: two(s, "encoder_q", "m.net"), "do not tell their streams: encoder_q, m.net"),
        (
            lambda s: two(s, "motion.encoder_q", "joint.encoder_q")
            | {f"motion.encoder_q.{WEIGHT}": s[0][f"encoder_q.{WEIGHT}"] * torch.nan},
            rf"motion\.encoder_q\.{WEIGHT} holds values that are not finite",
        ),
        (lambda s: {"a": s[0], "ema": s[1]}, "has encoders in 'a' and 'ema'; save the one"),
        (lambda s: s[0] | {"module.encoder_q.A": s[1]["encoder_q.A"]}, "encoder_q.A is there twic"),
        (
            lambda s: {n: t for n, t in s[0].items() if n.startswith("encoder_k")},
            r"no query encoder \(encoder_q\.\*\); it holds encoder_k",
        ),
        (
            lambda s: {n: t for n, t in two(s, "q_motion", "e").items() if "data_bn" not in n},
            "do not fit an encoder: .*input_norm.weight",
        ),
        (
            lambda s: two(s, "encoder_q", "encoder_q_motion") | {"encoder_q_motion.lstm.w": 1},
            "unknown parameter 'lstm.w'",
        ),
        (
            lambda s: {n.replace("st_gcn_networks", "layers"): t for n, t in s[0].items()},
            "not a checkpoint of aimclr_fast .*, nor one with the names .*it holds queue, .* more",
        ),
        (lambda s: [1, 2], "nor one with the names .*; it holds list"),
        (lambda s: {}, "it holds nothing"),
        (
            lambda s: {"state_dict": s[0], "args": argparse.Namespace(lr=1)},
            "it holds argparse.Namespace, and only tensors and plain containers are read",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_was_found(tmp_path, states, make, message):
    torch.save(make(states), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"(?s)x.pt: .*{message}"):
        load_encoder(tmp_path / "x.pt", stream="motion")

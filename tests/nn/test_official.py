"""The converter, over every name and shape in the authors' released checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder
from aimclr_fast.nn.official import (
    build_encoder,
    encoder_from_official,
    from_official,
    official_encoder,
    to_official,
)

LISTINGS = Path(__file__).parents[1] / "golden"


def listing(kind: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((LISTINGS / f"official_{kind}_state_dict.json").read_text())
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def published_model() -> AimCLR:
    return AimCLR(SkeletonEncoder(STGCN(), 128))


def test_pretraining_checkpoint_fits_the_model_and_comes_back():
    theirs = listing("pretrain")
    model = published_model()
    model.load_state_dict(from_official(theirs))  # strict: every name, every shape
    back = to_official(model.state_dict())
    assert set(back) == set(theirs)
    for name, value in theirs.items():
        if torch.is_floating_point(back[name]):
            assert torch.equal(back[name], value), name


def test_linear_checkpoint_fits_an_encoder():
    encoder = SkeletonEncoder(STGCN(), 60, projection=False)
    encoder.load_state_dict(encoder_from_official(listing("linear")))


def test_query_encoder_of_a_pretraining_checkpoint():
    SkeletonEncoder(STGCN(), 128).load_state_dict(encoder_from_official(listing("pretrain")))


def test_a_checkpoint_without_query_encoder_is_refused():
    with pytest.raises(ValueError, match=r"no query encoder.*module\.encoder_q\.A"):
        encoder_from_official({"module.encoder_q.A": torch.zeros(1)})


@pytest.mark.parametrize("name", ["encoder_q.fcx", "encoder_x.fc.0.weight", "lstm.weight"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=name.split(".")[-1]):
        from_official({name: torch.zeros(1)})


@pytest.fixture
def trained_together(golden):
    return golden("aimclrpp/state").tree("before/")


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_one_of_three_streams_with_a_shared_head(trained_together, stream):
    """As for `load_encoder`: the head of motion and bone has three layers."""
    found = official_encoder(trained_together, stream)
    encoder = build_encoder(found.weights)
    named = "encoder_q" if stream == "joint" else f"encoder_q_{stream}"
    last = "fc.2.weight" if stream == "joint" else "fc.2.2.weight"
    assert torch.equal(list(encoder.head.parameters())[-2], trained_together[f"{named}.{last}"])
    x = torch.randn(2, 3, 16, 25, 2)
    encoder(x)
    ours = from_official(trained_together, stream)
    assert {"queue", "queue_ptr"} < ours.keys()
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(ours[f"query_encoder.{name}"], value), name


@pytest.mark.parametrize(
    ("method", "strategy"), [("skelemixclr", "directed"), ("hiclr", "spatial")]
)
def test_encoders_of_other_methods(golden, method, strategy):
    """A head with a batch norm and a graph of its own; edge weights that count from 1."""
    theirs = golden(f"{method}/state").tree("before/")
    encoder = build_encoder(official_encoder(theirs).weights)
    adjacency = torch.from_numpy(encoder.backbone.layout.adjacency(strategy))
    assert torch.equal(encoder.backbone.adjacency, adjacency)
    own = {name: value for name, value in theirs.items() if name.startswith("encoder_q.")}
    state = encoder.state_dict()
    assert len(own) == len([name for name in state if not name.endswith("num_batches_tracked")])
    last = "encoder_q.edge_importance10" if method == "hiclr" else "encoder_q.edge_importance.9"
    assert torch.equal(state["backbone.edge_importance.9"], theirs[last])


@pytest.mark.parametrize(
    "weights",
    [
        {"head.9.weight": torch.zeros(2, 2)},
        {"head.x.weight": torch.zeros(2, 2)},
        {"head.0.weight": torch.zeros(2, 2, 2)},
        {"head.bias": torch.zeros(2)},
    ],
)
def test_heads_of_other_kinds_are_refused(golden, weights):
    theirs = official_encoder(golden("hiclr/state").tree("before/")).weights
    theirs = {name: value for name, value in theirs.items() if not name.startswith("head.")}
    with pytest.raises(ValueError, match="head"):
        build_encoder({**theirs, **weights})

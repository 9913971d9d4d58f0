"""The converter, over every name and shape in the authors' released checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder
from aimclr_fast.nn.official import encoder_from_official, from_official, to_official

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

"""Features computed in bf16 on a CPU: float32, near those of float32, and only where asked for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoders import TINY, checkpoint, save
from refusals import refusal
from torch import Tensor

from aimclr_fast import load_encoder, native
from aimclr_fast.data import open_embedded
from aimclr_fast.evaluate import command_line
from aimclr_fast.evaluation.representation import RAW, Representation
from aimclr_fast.export import export
from aimclr_fast.inference.features import encode
from aimclr_fast.nn.readouts import READOUTS
from aimclr_fast.ops import stgcn_block as block_op

ALL = "+".join(READOUTS)


@pytest.fixture(scope="module")
def store():
    return open_embedded()


@pytest.fixture
def file(tmp_path, store):
    return save(checkpoint(store), tmp_path / "checkpoint.pt")


@pytest.fixture
def rows(store):
    """Eight of the store's sequences as a user has them: [N, M, T, V, 3]."""
    return store.as_tensor(np.arange(0, 2000, 250)).permute(0, 4, 2, 3, 1).contiguous()


@pytest.fixture
def dtypes(monkeypatch):
    """Of the maps that blocks in C++ were given."""
    found: set[torch.dtype] = set()
    plain = block_op._cpp

    def spied(name: str, call: Any, **others: Tensor) -> None:
        found.add(call.x.dtype)
        plain(name, call, **others)

    monkeypatch.setattr(block_op, "_cpp", spied)
    return found


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_features_are_float32_and_near(bf16_cpu, file, rows, dtypes):
    wanted = load_encoder(file, pool=ALL, device="cpu")(rows, preprocessed=True)
    assert dtypes == {torch.float32}
    dtypes.clear()
    found = load_encoder(file, pool=ALL, device="cpu", precision="bf16")(rows, preprocessed=True)
    assert dtypes == {torch.bfloat16}
    assert found.dtype == torch.float32
    assert 0 < relative(found, wanted) < 0.02
    # Means are not rounded to bfloat16; what of `max` can be is exact.
    mean, largest = found[:, : TINY.features], found[:, TINY.features : 2 * TINY.features]
    assert not torch.equal(mean, mean.bfloat16().float())
    assert torch.equal(largest, largest.bfloat16().float())


def test_a_classifier_is_applied_in_float32(bf16_cpu, file, rows):
    weight = torch.randn(3, TINY.features, generator=torch.Generator().manual_seed(0))
    about = (weight, torch.zeros(3), ["a", "b", "c"])
    found = load_encoder(file, device="cpu", precision="bf16").with_classifier(*about)
    assert found.model.precision == "bf16"
    features, probabilities, _ = found.classify(rows, preprocessed=True)
    torch.testing.assert_close(probabilities, (features @ weight.T).softmax(1))


def test_a_written_encoder_computes_in_float32(bf16_cpu, file, tmp_path):
    encoder = load_encoder(file, device="cpu", precision="bf16")
    assert export(encoder, tmp_path / "encoder.safetensors", "safetensors") < 1e-5
    assert encoder.model.precision == "bf16"


def test_what_cannot_be_is_refused(monkeypatch, file):
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    with pytest.raises(ValueError, match="precision is 'bf16', but this processor lacks them"):
        load_encoder(file, device="cpu", precision="bf16")
    with pytest.raises(ValueError, match="precision is 'auto', but must be fp32 or bf16"):
        load_encoder(file, device="cpu", precision="auto")
    monkeypatch.undo()
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: None)
    with pytest.raises(ValueError, match="but folded='fp32' says what is computed in"):
        load_encoder(file, device="cpu", precision="bf16", folded="fp32")


def test_encode_leaves_the_encoder_as_it_was(bf16_cpu, file, store, dtypes):
    encoder = load_encoder(file, device="cpu").model.encoder
    data = store.as_tensor(slice(0, 40))
    wanted, found = encode(encoder, data), encode(encoder, data, precision="bf16")
    assert dtypes == {torch.float32, torch.bfloat16}
    assert found.dtype == torch.float32
    assert 0 < relative(found, wanted) < 0.02
    assert torch.equal(encode(encoder, data), wanted)


def test_evaluate_says_what_it_computed_in(bf16_cpu, evaluated, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(evaluated)
    options = ["joint.pt", "--data", "store", "--split", "odd-even", "--threads", "1"]
    options += ["--csv", str(tmp_path / "results.csv"), "--precision", "bf16"]
    command_line(["knn", *options, "--k", "[1]", "--output", str(tmp_path / "out")])
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert row["setting"] == "precision=bf16"
    data: Any = SimpleNamespace(precision="bf16")
    assert Representation(RAW, None, "", data).setting == ""
    capsys.readouterr()
    message = refusal(command_line, capsys, "finetune", *options, "--output", tmp_path / "tuned")
    assert "fine-tuning trains the encoder in float32: leave out --precision" in message
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    message = refusal(command_line, capsys, "knn", *options, "--output", tmp_path / "other")
    assert "precision is 'bf16', but this processor lacks them" in message

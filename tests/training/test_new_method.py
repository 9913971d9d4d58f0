"""A new method is one file: added, trained with, and removed again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from small_data import write_tiny

from aimclr_fast import nn
from aimclr_fast.nn import get_method, method_names
from aimclr_fast.train import command_line, parser
from aimclr_fast.training import pretrain
from aimclr_fast.training.checkpoint import load_checkpoint
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics

# With a loss, a trained parameter and phases of its own.
SOURCE = '''\
"""Classification among the queue's keys, and rows near their keys."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from aimclr_fast.nn.methods import Method, plain_encoder
from aimclr_fast.nn.momentum import MomentumContrast, unit


class Output(NamedTuple):
    loss: Tensor
    info_nce: Tensor
    distance: Tensor
    keys: Tensor
    neighbors: Tensor


class Near(MomentumContrast):
    def __init__(self, encoder, **options):
        super().__init__(encoder, **options)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, extreme, query, key, phase):
        row = unit(self.query_encoder(query))
        with torch.no_grad():
            self.update_key_encoder()
            keys = unit(self.key_encoder(key))
        logits = torch.cat([(row * keys).sum(1, keepdim=True), row @ self.queue.T], 1)
        target = torch.zeros(len(row), dtype=torch.int64, device=row.device)
        info_nce = nn.functional.cross_entropy(logits / self.temperature, target)
        distance = (self.weight * row - keys).square().sum(1).mean()
        loss = info_nce + (distance if phase == "both" else 0 * distance)
        return Output(loss, info_nce, distance, keys, target.new_zeros(len(row), 1, 0))


class NearMethod(Method):
    summary = "rows near their keys"
    losses = {"info_nce": "InfoNCE", "distance": "squared distance"}

    def build(self, layout, recipe):
        model = recipe.model
        return Near(
            plain_encoder(layout, model),
            embedding=model.embedding,
            queue_size=model.queue_size,
            momentum=model.momentum,
        )

    def phase(self, recipe, epoch):
        return "both" if epoch > 1 else "alone"


METHOD = NearMethod()
'''
TINY = {
    "data": {"store": "store", "split": "odd-even"},
    "model": {"channels": 2, "features": 4, "embedding": 4, "queue_size": 32},
    "optim": {"epochs": 2, "batch_size": 16, "lr": 0.01},
    "monitor": {"knn_every": 0, "linear_probe": False},
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture
def near(tmp_path, monkeypatch):
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "near.py").write_text(SOURCE)
    (folder / "_draft.py").write_text("METHOD = None")
    (folder / "helpers.py").write_text("NOT_A_METHOD = 1")
    monkeypatch.setattr(nn, "__path__", [*nn.__path__, str(folder)])
    yield
    for name in ("near", "helpers"):
        sys.modules.pop(f"aimclr_fast.nn.{name}", None)
        vars(nn).pop(name, None)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return ["--config", "tiny.yaml", "--method", "near"]


def test_one_file_is_a_method(near, tiny, monkeypatch, capsys):
    phases, plain = [], Pretraining.train_step

    def noted(self, batch):
        phases.append(self.phase)
        return plain(self, batch)

    monkeypatch.setattr(Pretraining, "train_step", noted)
    assert {"aimclr", "near", "skelemixclr+"} < set(method_names())
    assert not {"helpers", "_draft"} & set(method_names())
    assert "near: rows near their keys" in " ".join(parser().format_help().split())
    command_line([*tiny, "--output", "run"])
    shown = capsys.readouterr().out
    assert "joint stream, near\n" in shown
    assert "2 epochs of 1 step of 16" in shown
    assert phases == ["alone", "both"]
    state = load_checkpoint("run/checkpoint.pt")
    assert state["step"] == 2
    assert float(state["models"]["joint"]["weight"]) != 1.0  # in the second phase alone
    lines = read_metrics(Path("run"))
    for line in lines[1:]:
        assert {"loss", "info_nce", "distance", "gradient_norm"} <= line.keys()
        assert "d3m_extreme" not in line
    assert lines[2]["loss"] == pytest.approx(lines[2]["info_nce"] + lines[2]["distance"], rel=1e-5)
    assert Path("run/curves.png").exists()


def test_it_has_none_of_aimclrs_parts(near, tiny, capsys):
    with pytest.raises(SystemExit):
        command_line([*tiny, "--output", "parts", "--model.eadm", "true"])
    assert "model.eadm is True, but the method has no such part" in capsys.readouterr().err


def test_once_removed_it_is_refused(tiny, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        command_line([*tiny, "--output", "gone"])
    assert ended.value.code == 2
    assert (
        "method is 'near', but must be one of actclr, aimclr, aimclr++" in capsys.readouterr().err
    )
    with pytest.raises(
        ValueError, match=r"unknown method 'near': choose from actclr, aimclr, aimclr\+\+"
    ):
        get_method("near")

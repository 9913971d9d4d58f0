"""Protocols on a GPU, called as functions: what parses commands need not be installed there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from small_data import write_evaluated

from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import get_protocol
from aimclr_fast.evaluation.run import evaluate_checkpoints


def quick(protocol: str) -> Any:
    """A configuration of few epochs and draws."""
    config = get_protocol(protocol).config()
    if protocol == "figures":
        linear = replace(config.linear, epochs=2)
        return replace(config, linear=linear, labels=[2, 4], draws=1, samples=20)
    if protocol == "knn":
        return replace(config, k=[1, 3])
    if protocol == "semi":
        tuning = replace(config.finetune, epochs=1)
        return replace(config, labels=[2], draws=2, finetune=tuning)
    return replace(config, epochs=1) if hasattr(config, "epochs") else config


@pytest.mark.cuda
@pytest.mark.parametrize("protocol", ["knn", "linear", "finetune", "semi", "retrieval", "figures"])
def test_protocols(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_evaluated(tmp_path)
    options = EvaluationOptions(
        data="store", split="odd-even", device="cuda", output="out", csv="results.csv", threads=1
    )
    console = Console(quiet=True)
    evaluate_checkpoints(get_protocol(protocol), ["joint.pt"], options, quick(protocol), console)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["device"] == "cuda"

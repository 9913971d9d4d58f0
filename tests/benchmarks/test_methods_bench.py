"""What the benchmark of the methods calls a pass of the encoder, and how it shows it."""

from __future__ import annotations

from dataclasses import replace

import bench_methods
import methods
import numpy as np
import pytest
import results
import torch
from bench_train_step import SHAPE, training_loop

from aimclr_fast.nn import STGCN, method_names


def test_every_method_is_measured():
    assert sorted(bench_methods.PASSES) == method_names()


@pytest.mark.parametrize(("method", "passes"), bench_methods.PASSES.items())
def test_the_passes_are_those_of_a_step(method, passes, monkeypatch):
    """A forward pass counts 1, with its backward pass 3, which has twice the products."""
    config = bench_methods.config_of(method)
    small = replace(config.model, channels=2, features=4, embedding=16, queue_size=64)
    config = replace(config, model=small, optim=replace(config.optim, batch_size=4))
    data = np.random.default_rng(0).standard_normal((8, *SHAPE)).astype(np.float32)
    training = training_loop(data, config, torch.device("cpu"))
    forward, seen = STGCN.forward, []

    def counted(self: STGCN, x: torch.Tensor, *more: object) -> torch.Tensor:
        found = forward(self, x, *more)
        seen.append((3 if found.requires_grad else 1) * len(x) / 4)
        return found

    monkeypatch.setattr(STGCN, "forward", counted)
    next(training.train_epoch())
    average = [own for own in seen if own < 1]  # ActCLR's, of the batch
    assert len(average) == (method == "actclr")
    assert sum(seen) - sum(average) == passes


def test_a_row_shows_time_a_pass_and_the_ratio():
    row = {"case": "N16-P10-hiclr", "ms": "2000", "baseline_ms": "1400", "status": "ok"}
    assert methods.cells(row) == ["hiclr", "2000", "1.43", "10", "200"]
    lost = row | {"ms": "", "status": "out of memory"}
    assert methods.cells(lost) == ["hiclr", "out of memory", "", "10", ""]


@pytest.mark.parametrize("words", [[], ["hiclr"]])
def test_only_the_rows_of_all_methods_are_kept(words, tmp_path, monkeypatch, capsys):
    about = ("methods", "cpu", "fp32", "N16-P10-hiclr", "package")
    row = results.cells(results.Row(*about, package=1, ms=2.0, baseline_ms=1.0))
    monkeypatch.setattr(methods, "measured", lambda *_: [row])
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    methods.main(words)
    assert "| hiclr | 2 | 2.00 | 10 | 0.2 |" in capsys.readouterr().out
    assert (tmp_path / "methods.csv").exists() == (not words)

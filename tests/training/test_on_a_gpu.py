"""A whole run on a GPU, called as a function: what parses commands need not be installed there."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from small_data import write_tiny

from aimclr_fast.config import (
    DataConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from aimclr_fast.training import pretrain as module
from aimclr_fast.training.checkpoint import load_checkpoint
from aimclr_fast.training.metrics import read_metrics
from aimclr_fast.training.pretrain import pretrain

EPOCHS, STEPS = 6, 3  # of an epoch


@pytest.mark.cuda
@pytest.mark.parametrize("graph", [True, False])
def test_samples_that_are_not_finite_are_skipped(graph, tmp_path, monkeypatch):
    """The step sees it itself, without asking the host."""
    monkeypatch.setattr(module, "draw_curves", lambda *_: None)
    write_tiny(tmp_path / "spoiled", spoil=True)
    config = TrainConfig(
        data=DataConfig(store=str(tmp_path / "spoiled"), split="odd-even"),
        model=ModelConfig(channels=2, features=8, embedding=8, queue_size=32, momentum=0.99),
        optim=OptimConfig(epochs=EPOCHS, batch_size=8, lr=0.01, schedule="cosine", mining_epoch=2),
        monitor=MonitorConfig(knn_every=1, linear_probe=False),
        device="cuda",
        cuda_graph=graph,
        output=str(tmp_path / "run"),
        threads=1,
    )
    folder = pretrain(config, Console(quiet=True))
    skipped = int(read_metrics(folder)[-1]["skipped"])
    assert 2 <= skipped <= EPOCHS  # an epoch leaves some samples out
    state = load_checkpoint(Path(folder, "checkpoint.pt"))
    tensors = state["models"]["joint"].values()
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert int(state["models"]["joint"]["queue_ptr"]) == (EPOCHS * STEPS - skipped) * 8 % 32

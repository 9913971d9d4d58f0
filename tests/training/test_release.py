"""What a GPU holds goes in time: CUDA graphs before the process group, on errors as well."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_gpu import PretendStream
from rich.console import Console

from aimclr_fast.config import (
    DataConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from aimclr_fast.layouts import get_layout
from aimclr_fast.training import distributed, graph, pretrain
from aimclr_fast.training.distributed import Ranks
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place_sequences
from aimclr_fast.training.run import DivergedError, Run

CPU = torch.device("cpu")
SMALL = ModelConfig(channels=4, features=8, embedding=16, queue_size=512, dropout=0.0)


class StandIn:
    """Stands for a captured graph; `alive` counts those that nobody has destroyed."""

    alive = 0

    def __init__(self) -> None:
        StandIn.alive += 1

    def replay(self) -> None: ...

    def reset(self) -> None:
        StandIn.alive -= 1


class Graphed(Pretraining):
    """Takes steps on the CPU by the way of a GPU: three by themselves, then a captured graph."""

    def train_step(self, batch):
        report = self._graphed_step(batch, 0.01)
        self.step += 1
        return report


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", PretendStream)
    monkeypatch.setattr(torch.cuda, "current_stream", PretendStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(graph, "capture", lambda step, stream: (StandIn(), step()))
    monkeypatch.setattr(StandIn, "alive", 0)


def training_of(kind: type[Pretraining]) -> Pretraining:
    config = TrainConfig(model=SMALL, optim=OptimConfig(batch_size=4), backend="reference")
    placed = place_sequences(np.zeros((24, 3, 12, 22, 1), np.float32), CPU, "device")
    return kind(Job(config, CPU), get_layout("ui-prmd"), placed, torch.arange(24))


@pytest.mark.parametrize("kind", [Pretraining, Graphed])
@pytest.mark.parametrize("steps", [0, 6])
def test_a_training_goes_when_nobody_refers_to_it(kind, steps):
    training_of(kind)  # the first optimizer imports much of torch, and errors met there keep frames
    gc.collect()
    gc.disable()
    try:
        training = training_of(kind)
        for _, report in zip(range(steps), training.train_epoch(), strict=False):
            assert report.shape == (1, 9)
        assert StandIn.alive == (kind is Graphed and steps > 3)
        about = [training, *training._graphs.values(), training.streams["joint"].model]
        gone = [weakref.ref(one) for one in about]
        del training, about
        assert [one() for one in gone] == [None] * len(gone)
    finally:
        gc.enable()


def test_a_freed_graph_is_captured_again():
    training = training_of(Graphed)
    for _ in training.train_epoch():
        pass
    assert StandIn.alive == 1
    training.free_graphs()
    assert StandIn.alive == 0
    for _ in training.train_epoch():
        pass
    assert StandIn.alive == 1
    training.config.optim.mining_epoch = 1
    next(training.train_epoch())  # another step, so another graph
    assert StandIn.alive == 0


def test_an_epoch_with_other_views_has_another_graph(monkeypatch):
    """They take `Sampled.epoch` when they are captured."""
    captured = []
    training = training_of(Graphed)
    method, plain = training.job.method, training.augment

    def noted(*args):
        captured.append(training.epoch)
        return plain(*args)

    monkeypatch.setattr(training, "augment", noted)
    monkeypatch.setattr(method, "augmentation", lambda _, epoch: epoch > 2)
    for _ in range(4):
        for _ in training.train_epoch():
            pass
    # Three steps by themselves and the capture; the second and fourth epoch replay the graph.
    assert captured == [1] * 4 + [3] * 4
    assert StandIn.alive == 1


class Recorded(Ranks):
    """Notes how many graphs are left where the process group would be destroyed."""

    left: list[tuple[int, bool]]

    def close(self, *, abort: bool = False) -> None:
        self.left.append((StandIn.alive, abort))


@pytest.mark.parametrize("error", [None, DivergedError, RuntimeError, KeyboardInterrupt])
def test_graphs_go_before_the_process_group(monkeypatch, tmp_path, error):
    config = TrainConfig(
        data=DataConfig(frame_step=10),
        model=SMALL,
        optim=OptimConfig(epochs=1, batch_size=200),
        monitor=MonitorConfig(knn_every=0, linear_probe=False),
        output=str(tmp_path / "run"),
        device="cpu",
        backend="reference",
    )
    seen = []

    def train(run: Run) -> None:
        plain(run)
        seen.append(StandIn.alive)
        if error is not None:
            raise error("met in training")

    plain, ranks = Run.train, Recorded()
    ranks.left = []
    monkeypatch.setattr(Run, "train", train)
    monkeypatch.setattr(pretrain, "Pretraining", Graphed)
    monkeypatch.setattr(pretrain, "join", lambda device: ranks)
    console = Console(quiet=True)
    if error is None:
        pretrain.pretrain(config, console)
    else:
        with pytest.raises(error) as caught:
            pretrain.pretrain(config, console)
        assert caught.traceback  # its frames are alive, and the training with them
    assert seen == [1]
    assert ranks.left == [(0, error is not None)]


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
@pytest.mark.parametrize("abort", [False, True])
def test_after_an_error_nobody_waits_for_messages(monkeypatch, backend, abort):
    said = []
    world = SimpleNamespace(abort=lambda: said.append("abort"))
    monkeypatch.setattr(
        distributed,
        "dist",
        SimpleNamespace(
            group=SimpleNamespace(WORLD=world),
            get_backend=lambda: backend,
            destroy_process_group=lambda: said.append("destroy"),
        ),
    )
    ranks = Ranks()
    ranks.size = 2
    ranks.close(abort=abort)
    assert said == ["abort" if abort and backend == "nccl" else "destroy"]

"""Several streams in one run: each learns what it would alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aimclr_fast.layouts import get_layout
from aimclr_fast.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.training.loop import LossReader, Pretraining
from aimclr_fast.training.placement import place
from aimclr_fast.training.streams import by_stream

CPU = torch.device("cpu")


def trained(stream: str, dropout: float, device: torch.device = CPU) -> Pretraining:
    """Two epochs of three steps, the second one mining."""
    config = TrainConfig(
        data=DataConfig(stream=stream),
        model=ModelConfig(channels=4, features=8, embedding=16, queue_size=16, dropout=dropout),
        optim=OptimConfig(epochs=2, batch_size=6, lr=0.05, mining_epoch=2, clip_norm=1.0),
        precision="fp32",
        seed=3,
    )
    positions = torch.randn(20, 3, 12, 22, 1, generator=torch.Generator().manual_seed(0)).numpy()
    store = SimpleNamespace(layout=get_layout("ui-prmd"))
    placed = place(positions, device, "device")
    training = Pretraining(config, store, placed, torch.arange(20), device)
    for _ in range(2):
        for losses in training.train_epoch():
            assert losses.shape == (len(training.streams), 4)
    return training


def states(training: Pretraining, stream: str) -> list[dict]:
    own = training.streams[stream]
    momenta = {
        name: own.optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in own.model.query_encoder.named_parameters()
    }
    return [own.model.state_dict(), momenta]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_streams_side_by_side_are_streams_alone(dropout):
    streams = ("motion", "joint", "bone")
    together = trained(",".join(streams), dropout)
    assert tuple(together.streams) == streams
    seen = []
    for stream in streams:
        alone = trained(stream, dropout)
        for ours, expected in zip(states(together, stream), states(alone, stream), strict=True):
            assert ours.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(ours[name], value), f"{stream}: {name}"
        seen.append(alone.streams[stream].model.queue)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.cuda
def test_streams_are_one_graph_on_a_gpu():
    device = torch.device("cuda")
    together = trained("joint,bone", 0.0, device)
    assert together.graph_why_not is None
    for stream in ("joint", "bone"):
        alone = trained(stream, 0.0, device)
        for ours, expected in zip(states(together, stream), states(alone, stream), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_losses_are_read_by_stream():
    reader = LossReader(["joint", "bone"])
    reader.add(torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 1.0, 0.0]]))
    reader.add(torch.tensor([[3.0, 2.0, 3.0, 4.0], [5.0, 2.0, 1.0, 0.0]]))
    numbers = reader.epoch_mean()
    assert numbers["joint/loss"] == 2.0
    assert numbers["bone/loss"] == 4.0
    assert numbers["loss"] == 3.0
    assert numbers["d3m_dropped"] == 2.0


def test_one_stream_keeps_the_plain_names():
    assert by_stream({"bone": {"loss": 1.0}}) == {"loss": 1.0}
    both = {"joint": {"loss": 1.0}, "bone": {"loss": float("nan")}}
    assert by_stream(both)["loss"] != by_stream(both)["loss"]  # a broken stream breaks the mean

"""Several streams in one run: each learns what it would alone."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.layouts import get_layout
from aimclr_fast.training.checkpoint import load_checkpoint, save_checkpoint
from aimclr_fast.training.guard import report_names
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.losses import LossReader, by_stream
from aimclr_fast.training.placement import place_sequences

CPU = torch.device("cpu")


def untrained(
    stream: str, dropout: float, device: torch.device = CPU, mining_epoch: int = 2
) -> Pretraining:
    config = TrainConfig(
        data=DataConfig(stream=stream),
        model=ModelConfig(channels=4, features=8, embedding=16, queue_size=16, dropout=dropout),
        optim=OptimConfig(
            epochs=2, batch_size=6, lr=0.05, mining_epoch=mining_epoch, clip_norm=1.0
        ),
        precision="fp32",
        seed=3,
    )
    positions = torch.randn(20, 3, 12, 22, 1, generator=torch.Generator().manual_seed(0)).numpy()
    placed = place_sequences(positions, device, "device")
    return Pretraining(Job(config, device), get_layout("ui-prmd"), placed, torch.arange(20))


def trained(
    stream: str, dropout: float, device: torch.device = CPU, mining_epoch: int = 2
) -> Pretraining:
    """Two epochs of three steps."""
    training = untrained(stream, dropout, device, mining_epoch)
    for _ in range(2):
        for losses in training.train_epoch():
            assert losses.shape == (len(training.streams), len(training.names))
    return training


def states(training: Pretraining, stream: str) -> list[dict]:
    own = training.streams[stream]
    momenta = {
        name: own.optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in own.model.query_encoder.named_parameters()
    }
    return [own.model.state_dict(), momenta]


def test_streams_side_by_side_are_streams_alone():
    streams = ("motion", "joint", "bone")
    together = trained(",".join(streams), 0.5)
    assert tuple(together.streams) == streams
    seen = []
    for stream in streams:
        alone = trained(stream, 0.5)
        for ours, expected in zip(states(together, stream), states(alone, stream), strict=True):
            assert ours.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(ours[name], value), f"{stream}: {name}"
        seen.append(alone.streams[stream].model.queue)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_streams_resume_exactly(tmp_path):
    expected, stopped = trained("joint,bone", 0.5), untrained("joint,bone", 0.5)
    for _ in stopped.train_epoch():
        pass
    next(stopped.train_epoch())
    streams = stopped.streams.items()
    save_checkpoint(
        tmp_path / "checkpoint.pt",
        models={name: stream.model for name, stream in streams},
        optimizers={name: stream.optimizer for name, stream in streams},
        config=stopped.config,
        layout={},
        epoch=stopped.epoch,
        step=stopped.step,
        place=stopped.place_state(),
    )
    resumed = untrained("joint,bone", 0.5)
    resumed.load_state(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert len(list(resumed.train_epoch())) == 2
    for stream in ("joint", "bone"):
        for ours, wanted in zip(states(resumed, stream), states(expected, stream), strict=True):
            for name, value in wanted.items():
                assert torch.equal(ours[name], value), f"{stream}: {name}"


@pytest.mark.cuda
def test_streams_are_one_graph_on_a_gpu():
    device = torch.device("cuda")
    together = trained("joint,bone", 0.0, device, mining_epoch=1)
    assert together.graph_why_not is None
    (graph,) = together._graphs.values()  # of the last three steps
    assert graph._captured is not None
    for stream in ("joint", "bone"):
        alone = trained(stream, 0.0, device, mining_epoch=1)
        for ours, expected in zip(states(together, stream), states(alone, stream), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_reports_are_read_by_stream_and_skipped_steps_do_not_count():
    names = report_names(["info_nce"])
    reader = LossReader(["joint", "bone"], names)
    report = torch.zeros(3, 2, len(names))
    report[..., names.index("loss")] = torch.tensor([[1.0, 3.0], [3.0, 5.0], [torch.nan, 7.0]])
    report[..., names.index("taken")] = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    for step in report:
        reader.add(step)
    assert reader.latest is not None
    assert reader.latest["bone"]["loss"] == 7.0
    numbers = reader.means()
    assert (numbers["joint"]["loss"], numbers["bone"]["loss"]) == (2.0, 5.0)
    assert by_stream(numbers)["loss"] == 3.5
    assert reader.means() == numbers  # asking changes nothing
    reader.begin_epoch()
    reader.add(report[1])
    assert reader.means()["bone"]["loss"] == 5.0


def test_one_stream_keeps_the_plain_names():
    assert by_stream({"bone": {"loss": 1.0}}) == {"loss": 1.0}
    both = by_stream({"joint": {"loss": 1.0}, "bone": {"loss": 4.0}})
    assert both == {"loss": 2.5, "joint/loss": 1.0, "bone/loss": 4.0}

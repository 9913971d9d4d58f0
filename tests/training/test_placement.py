"""Sequences are trained on from wherever they are kept, with the same result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimclr_fast.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.data import open_embedded, open_store, write_store
from aimclr_fast.layouts import get_layout
from aimclr_fast.training import placement
from aimclr_fast.training.graph import GraphedStep
from aimclr_fast.training.job import Job
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import PlacementError, batches, place_sequences

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placement") / "store"
    rng = np.random.default_rng(0)
    write_store(
        folder,
        rng.normal(size=(23, 3, 9, 17, 1)).astype(np.float32),
        {"name": np.array([f"s{i}" for i in range(23)])},
        layout=get_layout("coco"),
        classes=None,
        splits={},
        source="test",
        licence="test",
        citation="test",
    )
    return open_store(folder)


def train(store, where: str, device: torch.device, **overrides) -> list[torch.Tensor]:
    """Losses of two epochs of four steps, the second one mining."""
    config = TrainConfig(
        data=DataConfig(store=str(store.path)),
        model=ModelConfig(channels=4, features=8, embedding=16, queue_size=16, dropout=0.0),
        optim=OptimConfig(epochs=2, batch_size=5, lr=0.01, mining_epoch=2),
        placement=where,
        precision="fp32",
        **overrides,
    )
    torch.manual_seed(0)
    placed = place_sequences(store.positions, device, where)
    assert placed.where == where
    training = Pretraining(Job(config, device), store.layout, placed, torch.arange(len(store)))
    return [losses.clone() for _ in range(2) for losses in training.train_epoch()]


def test_a_mapped_store_trains_like_one_in_memory(store):
    assert isinstance(store.positions, np.memmap)
    expected, actual = (torch.stack(train(store, where, CPU)) for where in ("device", "mmap"))
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("where", ["device", "mmap"])
def test_batches_hold_the_rows_asked_for(store, where):
    index = list(torch.randperm(23).split(4))
    placed = place_sequences(store.positions, CPU, where)
    for rows, batch in zip(index, batches(placed, index, CPU), strict=True):
        expected = torch.from_numpy(store.positions[rows.numpy()])
        assert torch.equal(batch.data[batch.index], expected)


@pytest.mark.parametrize("where", ["device", "mmap"])
def test_an_epoch_of_which_nothing_is_left_has_no_batches(store, where):
    """A run resumed from a checkpoint at the end of an epoch."""
    assert list(batches(place_sequences(store.positions, CPU, where), [], CPU)) == []


def test_an_abandoned_epoch_leaves_no_thread_waiting(store):
    import threading

    index = list(torch.arange(20).split(5))
    for _ in range(3):
        next(batches(place_sequences(store.positions, CPU, "mmap"), index, CPU))
    alive = [thread.name for thread in threading.enumerate() if "prefetch" in thread.name]
    assert not alive


def test_the_file_is_mapped_when_memory_is_short(store, monkeypatch):
    assert place_sequences(store.positions, CPU, "auto").where == "device"
    monkeypatch.setattr(placement, "_free_host_memory", lambda: 1.9 * store.positions.nbytes)
    placed = place_sequences(store.positions, CPU, "auto")
    assert placed.where == "mmap"
    assert "of memory free" in placed.reason


def test_what_cannot_be(store):
    with pytest.raises(PlacementError, match="read by a GPU"):
        place_sequences(store.positions, CPU, "pinned")
    with pytest.raises(PlacementError, match="compressed"):
        place_sequences(np.array(store.positions), CPU, "mmap")


def test_the_positions_of_a_turned_store_lie_in_memory():
    turned = open_embedded("ui_prmd_unaligned").positions
    assert torch.equal(place_sequences(turned, CPU, "auto").data, torch.from_numpy(turned.copy()))
    with pytest.raises(PlacementError, match="compressed, turned or joined, and"):
        place_sequences(turned, CPU, "mmap")


def test_memory_is_filled_piece_by_piece(store):
    target = torch.empty(store.positions.shape, dtype=torch.float16)
    filled = placement._filled(target, store.positions, rows=5)
    assert torch.equal(filled, torch.from_numpy(np.array(store.positions)).half())
    assert placement._dtype(np.zeros(1, np.int16)) == torch.int16


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_only_meters_are_kept_as_halves(store, monkeypatch, dtype):
    positions = (1000 * store.positions).astype(dtype)
    size = positions.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(1.5 * size), 10 * size))
    placed = place_sequences(positions, torch.device("cuda"), "device")
    assert placed.data.dtype == (torch.int16 if dtype == np.int16 else torch.float16)


@pytest.mark.cuda
def test_what_cannot_be_captured_goes_on_as_it_is():
    device = torch.device("cuda", torch.cuda.current_device())
    total = torch.zeros((), device=device)

    def step() -> torch.Tensor:
        total.add_(torch.rand((), device=device).ge(0))  # always 1; asks the generator
        total.item()
        return total

    graphed = GraphedStep(device)
    for _ in range(6):
        graphed(step)
    assert graphed.why_not is not None
    assert total.item() == 6


@pytest.mark.cuda
@pytest.mark.parametrize("where", ["pinned", "mmap"])
def test_host_memory_trains_like_the_gpus_own(store, where):
    device = torch.device("cuda")
    expected, actual = (torch.stack(train(store, w, device)) for w in ("device", where))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.smoke
def test_a_graphed_step_is_the_same_step(store):
    device = torch.device("cuda")
    runs = [
        torch.stack(train(store, "device", device, cuda_graph=graph)) for graph in (False, True)
    ]
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.smoke
def test_steps_are_captured(store):
    device = torch.device("cuda")
    config = TrainConfig(
        model=ModelConfig(channels=4, features=8, embedding=16, queue_size=16),
        optim=OptimConfig(epochs=2, batch_size=4),
    )
    placed = place_sequences(store.positions, device, "auto")
    training = Pretraining(Job(config, device), store.layout, placed, torch.arange(len(store)))
    for _ in range(2):
        for _ in training.train_epoch():
            pass
    assert training.graph_why_not is None
    assert training._graphs[0]._captured is not None

"""Stores written piece by piece, and bodies chosen."""

from __future__ import annotations

import errno
import fcntl
import os

import numpy as np
import pytest

from aimclr_fast.data import StoreError, open_store
from aimclr_fast.data import writer as writer_module
from aimclr_fast.data.bodies import is_spurious, keep_best, motion, seen
from aimclr_fast.data.store import sha256
from aimclr_fast.data.stream import StoreWriter
from aimclr_fast.layouts import get_layout

LAYOUT = get_layout("ui-prmd")


def sample(frames, bodies=1, seed=0):
    return np.random.default_rng(seed).normal(size=(1, 3, frames, 22, bodies)).astype(np.float32)


def write(path, lengths, frames, **options):
    with StoreWriter(path, LAYOUT, bodies=1, frames=frames, **options) as writer:
        for index, length in enumerate(lengths):
            row = {"name": f"s{index}", "label": index % 2, "frames": length}
            writer.append(sample(length, seed=index), [row])
        return writer.finish(classes=["a", "b"], source="here")


def test_pieces_become_a_store(tmp_path):
    store = write(tmp_path / "x", [7] * 5, 7)
    np.testing.assert_array_equal(
        store.positions, np.concatenate([sample(7, seed=i) for i in range(5)])
    )
    assert store.labels.tolist() == [0, 1, 0, 1, 0]
    open_store(tmp_path / "x", verify=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [
        "meta.json", "positions.npy", "samples.csv",
    ]  # fmt: skip


def test_own_lengths_are_padded_with_zeros(tmp_path):
    lengths = [3, 9, 5] * 100  # more than one piece of padding
    store = write(tmp_path / "x", lengths, None)
    assert store.positions.shape == (300, 3, 9, 22, 1)
    for index in (0, 1, 299):
        length = lengths[index]
        np.testing.assert_array_equal(
            store.positions[index, :, :length], sample(length, seed=index)[0]
        )
        assert not store.positions[index, :, length:].any()


def spoil(path, frames, names, *, finish=True):
    with StoreWriter(path, LAYOUT, bodies=1, frames=frames) as writer:
        for name in names:
            writer.append(sample(7), [{"name": name}])
        if not finish:
            raise RuntimeError
        writer.finish()


@pytest.mark.parametrize("frames", [7, None])
def test_nothing_appears_when_it_fails(tmp_path, frames):
    with pytest.raises(RuntimeError):
        spoil(tmp_path / "x", frames, ["a"], finish=False)
    with pytest.raises(StoreError, match="no samples"):
        spoil(tmp_path / "x", frames, [])
    with pytest.raises(StoreError, match="repeated"):
        spoil(tmp_path / "x", frames, ["a", "a"])
    assert not list(tmp_path.iterdir())


def test_a_killed_run_is_cleared_and_a_live_one_respected(tmp_path):
    left = tmp_path / ".x.preparing"
    left.mkdir()
    (left / "positions.npy").write_bytes(b"half")
    (left / ".lock").touch()
    lock = os.open(left / ".lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another run"):
        write(tmp_path / "x", [7], 7)
    assert (left / "positions.npy").read_bytes() == b"half"
    os.close(lock)
    assert len(write(tmp_path / "x", [7], 7)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("frames", [7, None])
def test_where_the_file_system_has_no_locks(tmp_path, monkeypatch, number, frames):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with StoreWriter(tmp_path / "x", LAYOUT, bodies=1, frames=frames) as writer:
        with pytest.raises(StoreError, match="another run is writing it"):
            StoreWriter(tmp_path / "x", LAYOUT, bodies=1, frames=frames)
        writer.append(sample(7), [{"name": "a"}])
        writer.finish()
    open_store(tmp_path / "x", verify=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [
        "meta.json", "positions.npy", "samples.csv",
    ]  # fmt: skip


def test_nobody_else_writes_while_the_checksums_are_taken(tmp_path, monkeypatch):
    """That takes minutes for a large store: the lock is held until the store has its name."""
    refused = []

    def checksum(file):
        with pytest.raises(StoreError, match="another run is writing it"):
            StoreWriter(tmp_path / "x", LAYOUT, bodies=1, frames=7)
        refused.append(file.name)
        return sha256(file)

    monkeypatch.setattr(writer_module, "sha256", checksum)
    assert len(write(tmp_path / "x", [7], 7)) == 1
    assert sorted(refused) == ["positions.npy", "samples.csv"]


def test_overwrite(tmp_path):
    write(tmp_path / "x", [7], 7)
    with pytest.raises(StoreError, match="exists already"):
        write(tmp_path / "x", [7, 7], 7)
    assert len(write(tmp_path / "x", [7, 7], 7, overwrite=True)) == 2


def test_pieces_must_fit(tmp_path):
    with StoreWriter(tmp_path / "x", LAYOUT, bodies=1, frames=7) as writer:
        with pytest.raises(StoreError, match=r"not \[1, 3, 7, 22, 1\]"):
            writer.append(sample(8), [{"name": "a"}])
        writer.append(sample(7), [{"name": "a"}])
        with pytest.raises(StoreError, match="columns name, label, before name"):
            writer.append(sample(7), [{"name": "b", "label": 1}])


def person(frames=40, offset=0.0):
    rng = np.random.default_rng(3)
    x = np.zeros((3, frames, 22))
    x[1] = np.linspace(0, 1.7, 22)
    x[0] = 0.2 * np.sin(np.arange(22)) + offset
    x[:, :, 10:] += 0.2 * np.sin(np.arange(frames) / 5)[None, :, None]
    return x + rng.normal(scale=1e-3, size=x.shape) + 1.0


def test_motion_and_presence():
    x = np.stack([person(), np.zeros((3, 40, 22))], axis=-1)
    assert seen(x).all(axis=0).tolist() == [True, False]
    still, absent = motion(np.stack([np.ones((3, 40, 22)), x[..., 1]], axis=-1))
    assert still == absent == 0
    half = x[..., 0].copy()
    half[:, 20:] = 0
    shifted = np.where(half != 0, half - half[:, :20].mean(axis=1, keepdims=True), 0)[:, :20]
    expected = np.sqrt((shifted**2).sum(axis=0).mean())
    np.testing.assert_allclose(motion(half[..., None]), [expected])


def test_spurious_bodies():
    good = person()
    short = np.where(np.arange(40)[:, None] < 5, good, 0)
    wide = good * np.array([6.0, 0.2, 1.0])[:, None, None]
    frozen = np.broadcast_to(good[:, :1], good.shape)
    flicker = good + 8 * (np.arange(40) % 2)[None, :, None]
    x = np.stack([good, short, wide, frozen, flicker], axis=-1)
    assert is_spurious(x).tolist() == [False, True, True, True, True]
    kept = keep_best(x, 2, spurious=True)
    np.testing.assert_array_equal(kept[..., 0], good)
    assert not kept[..., 1].any()
    assert keep_best(x[..., 1:2], 1, spurious=True).any()  # the last one stays


def test_frames_without_the_first_body_go():
    good = person()
    late = np.where(np.arange(40)[:, None] < 10, 0, good)
    assert keep_best(late[..., None], 2).shape == (3, 30, 22, 2)

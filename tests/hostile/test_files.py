"""Configurations, stores and checkpoints from elsewhere: read, or refused in one clear line."""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import json
import os
import pickle
import random
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
from encoders import checkpoint, save
from refusals import refusal

from aimclr_fast import load_encoder
from aimclr_fast._checkpoint import CheckpointError, load_checkpoint
from aimclr_fast.data import StoreError, open_embedded, open_store, write_store
from aimclr_fast.train import command_line as train


@pytest.fixture(scope="module")
def embedded():
    return open_embedded()


refused = functools.partial(refusal, train)


# --- Configurations ------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: !!python/object/apply:os.system ['echo ran']\n", "python/object"),
        ("seed: !!python/name:os.system\n", "python/name"),
        ("model: {channels: 16\n", "not readable as YAML"),
        ("model: {channels: sixteen}\n", "channels"),
        ("model: {channels: 1.5}\n", "channels"),
        ("model: {channels: [16]}\n", "channels"),
        ("model: {channels: null}\n", "channels"),
        ("model: {chanels: 16}\n", "chanels"),
        ("model: 16\n", "model"),
        ("optim: {lr: .nan}\n", "optim.lr"),
        ("optim: {lr: .inf}\n", "optim.lr"),
        ("optim: {lr: yes}\n", "lr"),
        ("optim: {batch_size: 1e400}\n", "batch_size"),
        ("augment: {noise_std: .nan}\n", "noise_std"),
        ("augment: {crop_ratio: 99999999999999999999}\n", "crop_ratio"),
        ("model: {temporal_kernel: 1000001}\n", "temporal_kernel"),
        ("model: {channels: 1000000000000}\n", "channels"),
        ("model: {queue_size: 100000000000000000000}\n", "queue_size"),
        ("data: {store: 3}\n", "store"),
        ("data: {frame_step: 1000000}\n", "frame_step"),
        ("- a\n- list\n", "holds no fields"),
        ("just text\n", "holds no fields"),
        ("\x00\n", "not readable as YAML"),
        ("[" * 5000, "not readable as YAML"),
        (BOMB, "more than 10000 values"),
    ],
)
def test_configs(tmp_path, capsys, text, named):
    (tmp_path / "odd.yaml").write_text(text)
    files = ("--config", tmp_path / "odd.yaml", "--output", tmp_path / "run")
    error = refused(capsys, *files, "--optim.epochs", 1)
    assert named in error
    assert len(error) < 2000
    assert "ran" not in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


# --- Stores --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, embedded):
    rows = np.arange(0, 2000, 100)
    write_store(
        tmp_path / "store",
        np.array(embedded.positions)[rows],
        {name: column[rows] for name, column in embedded.samples.items()},
        layout=embedded.layout,
        classes=embedded.class_names,
        splits=embedded.meta["splits"],
        preprocessing=embedded.preprocessing,
    )
    return tmp_path / "store"


def test_any_changed_byte_is_noticed(folder):
    random_ = random.Random(0)
    for name in ("positions.npy", "samples.csv"):
        whole = (folder / name).read_bytes()
        for _ in range(20):
            changed = bytearray(whole)
            changed[random_.randrange(len(whole))] ^= 1 << random_.randrange(8)
            (folder / name).write_bytes(changed)
            with pytest.raises(StoreError, match=name):
                open_store(folder, verify=True)
        (folder / name).write_bytes(whole)
    open_store(folder, verify=True)


def test_mutated_stores_are_read_or_refused(folder):
    random_ = random.Random(1)
    files = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(300):
        name = random_.choice(sorted(files))
        changed = bytearray(files[name])
        for _ in range(random_.choice([1, 1, 4])):
            # The beginning of positions.npy is its header.
            end = min(len(changed), 200) if name == "positions.npy" else len(changed)
            at = random_.randrange(end)
            how = random_.randrange(3)
            if how == 0:
                changed[at] = random_.randrange(256)
            elif how == 1:
                del changed[at : at + random_.randrange(1, 20)]
            else:
                changed[at:at] = random_.choice([b"9", b"-1", b"[", b'"', b"\n", b"\xff", b",0"])
        (folder / name).write_bytes(changed)
        try:
            open_store(folder).as_tensor(slice(0, 2))
            outcome = "read"
        except StoreError as error:
            outcome = "refused" if str(folder) in str(error) else f"unnamed: {error}"
        outcomes[outcome] += 1
        (folder / name).write_bytes(files[name])
    assert outcomes.keys() == {"read", "refused"}, outcomes
    assert min(outcomes.values()) > 20, outcomes


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        npy((20, 3, 50, 22, 2**40)),
        npy((2**62, 3, 50, 22, 1)),
        npy((20, 3, 50, 22, -1)),
        npy((20, 3, 50, 22, 1), "|O", pickle.dumps(list(range(9)))),
        npy((20, 3, 50, 22, 1), ">f4", b"\0" * 20 * 3 * 50 * 22 * 4),
        npy((20, 3, 50, 22, 1), "<U9"),
    ],
)
def test_claims_of_positions(folder, compressed, content):
    (folder / "positions.npy").unlink()
    if compressed:
        with zipfile.ZipFile(folder / "positions.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("positions.npy", content)
    else:
        (folder / "positions.npy").write_bytes(content)
    with pytest.raises(StoreError, match=r"positions\.np[yz]"):
        open_store(folder)


def test_training_on_a_store_without_labels_or_split(folder, capsys, tmp_path):
    lines = (folder / "samples.csv").read_text().splitlines()
    column = lines[0].split(",").index("subject")
    cut = [",".join(c for i, c in enumerate(line.split(",")) if i != column) for line in lines]
    (folder / "samples.csv").write_text("\n".join(cut) + "\n")
    error = refused(capsys, "--data.store", folder, "--output", tmp_path / "run")
    assert "xsub" in error
    assert "subject" in error


# --- Checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def state(embedded):
    return checkpoint(embedded)


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


def spoil_wide(state):
    weights = state["models"]["joint"]
    weights["query_encoder.head.0.bias"] = torch.zeros(1).expand(2**45)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_wide,
        lambda s: s.update(models=Code()),
        lambda s: s["config"]["model"].update(channels=10**7),
        lambda s: s["config"]["model"].update(temporal_kernel=10**9 + 1),
        lambda s: s["config"]["model"].update(embedding=2**62),
        lambda s: s["config"]["model"].update(channels="16"),
        lambda s: s["config"].update(model=None),
        lambda s: s.update(config=3),
        lambda s: s.update(layout={"name": "x"}),
        lambda s: s["layout"].update(edges=[[0, 10**9]]),
        lambda s: s.update(models={"joint": 3}),
        lambda s: s["models"]["joint"].update({"query_encoder.head.0.bias": 3}),
        lambda s: s["models"]["joint"].update({"query_encoder.head.0.bias": torch.zeros(2, 2)}),
        lambda s: s["models"].update(joint={}),
        lambda s: s["models"].update({"velocity": s["models"].pop("joint")}),
        lambda s: s["data"].update(frames=-1),
        lambda s: s["config"]["data"].update(frame_step="two"),
    ],
)
def test_checkpoints(tmp_path, capsys, state, spoil):
    spoil(state)
    file = tmp_path / "odd.pt"
    try:
        save(state, file)
    except (RuntimeError, TypeError, RecursionError):  # one that has no checksum
        torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"odd\.pt: ") as caught:
        load_encoder(file)
    assert str(caught.value).count("\n") == 0
    assert "code ran" not in capsys.readouterr().out


def test_a_checkpoint_nested_too_deep(tmp_path, state):
    deep: list = []
    for _ in range(2000):
        deep = [deep]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)  # writing it is recursive, too
    try:
        torch.save({**state, "more": deep, "sha256": "0"}, tmp_path / "odd.pt")
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(CheckpointError, match=r"odd\.pt: "):
        load_checkpoint(tmp_path / "odd.pt")


def test_mutated_checkpoints_are_refused(tmp_path, state):
    whole = save(state, tmp_path / "whole.pt").read_bytes()
    load_checkpoint(tmp_path / "whole.pt")
    random_ = random.Random(0)
    file = tmp_path / "odd.pt"
    content = [i for i in range(len(whole)) if whole[i]]  # padding and empty fields are free
    for _ in range(60):
        changed = bytearray(whole)
        if random_.randrange(4):
            changed[random_.choice(content)] ^= 1 << random_.randrange(8)
        else:
            del changed[random_.randrange(len(whole)) :]
        file.write_bytes(changed)
        with contextlib.suppress(CheckpointError):  # nothing else may come
            read = load_checkpoint(file)
            # A byte of the archive that says nothing about its content.
            for name, tensor in read["models"]["joint"].items():
                assert torch.equal(tensor, state["models"]["joint"][name]), name


def test_links_and_pipes_in_the_place_of_files(folder, tmp_path):
    shutil.move(folder / "samples.csv", tmp_path / "samples.csv")
    (folder / "samples.csv").symlink_to(tmp_path / "samples.csv")
    with pytest.raises(StoreError, match=r"samples.csv: a link that leads outside"):
        open_store(folder)
    (folder / "samples.csv").unlink()
    os.mkfifo(folder / "samples.csv")
    with pytest.raises(StoreError, match=r"samples.csv: not a file"):
        open_store(folder)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "pipe.pt")
    (folder / "meta.json").write_text(json.dumps([]))


@pytest.mark.parametrize("how", ["objects", "text"])
def test_a_damaged_store_is_not_answered_with_advice_to_unpickle(tmp_path, embedded, how):
    write_store(
        tmp_path / "x", embedded.positions[:2], {"name": ["a", "b"]}, layout=embedded.layout
    )
    if how == "objects":
        np.save(tmp_path / "x" / "positions.npy", np.array([{}]), allow_pickle=True)
    else:
        (tmp_path / "x" / "positions.npy").write_bytes(b"no array " * 9)
    with pytest.raises(StoreError, match=r"positions\.npy: .*damaged, or not an array") as caught:
        open_store(tmp_path / "x", mmap=how == "text")
    assert "pickle" not in str(caught.value)

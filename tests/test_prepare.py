"""The prepare command, end to end: golden stores, options, errors, and training on what it made."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data.readers import recordings
from data.readers.recordings import NTU_RAW, PKU_RAW, motion, skeleton_text, table
from PIL import Image
from refusals import refusal

from aimclr_fast.data import open_store, split
from aimclr_fast.data.readers import get_reader, reader_names
from aimclr_fast.prepare import command_line
from aimclr_fast.train import command_line as train


def prepare(*arguments) -> None:
    command_line([*map(str, arguments), "--jobs=1"])


fails = functools.partial(refusal, command_line)


@pytest.mark.parametrize(
    ("name", "raw", "golden"),
    [("ntu120", NTU_RAW, "ntu_prep"), ("pku1", PKU_RAW, "pku_prep")],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_golden_stores(tmp_path, name, raw, golden, jobs, monkeypatch):
    monkeypatch.setattr("aimclr_fast.data.conversion._CHUNK", 2)  # so that two workers have work
    command_line([name, str(raw), str(tmp_path / "x"), f"--jobs={jobs}"])
    store = open_store(tmp_path / "x", verify=True)
    with np.load(recordings.GOLDEN / f"{golden}.npz") as data:
        names, expected = data["names"].tolist(), data["position50"]
    assert sorted(store.samples["name"].tolist()) == sorted(names)
    order = [store.samples["name"].tolist().index(name) for name in names]
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(store.positions[order], expected, rtol=0, atol=tolerance)


def test_options(tmp_path, capsys):
    def store(name, *options):
        prepare("ntu120", NTU_RAW, tmp_path / name, *options)
        return open_store(tmp_path / name)

    plain = store("plain")
    assert store("long", "--frames=64").positions.shape[2] == 64
    own = store("own", "--frames=original")
    assert own.positions.shape[2] == 64
    assert own.samples["frames"].tolist() == [32, 41, 57, 28, 64, 23]
    assert not own.positions[0, :, 32:].any()
    straight = store("straight", "--rotate=none")
    np.testing.assert_allclose(straight.positions[:, 1], plain.positions[:, 1], atol=1e-6)
    assert np.abs(straight.positions[:, 0] - plain.positions[:, 0]).max() > 0.01
    exact = store("exact", "--rotate=exact").positions[0, 2, :, :, 0]
    np.testing.assert_allclose(exact[:, 4], exact[:, 8], atol=1e-5)
    assert store("one", "--max-bodies=1").positions.shape[4] == 1
    store("follow", "--bodies=follow", "--drop-spurious")
    assert "spurious bodies dropped" in open_store(tmp_path / "follow").meta["source"]
    shown = capsys.readouterr().out
    for words in ("frames recorded: min 23, median 36, max 64", "left out: 0", "units/s",
                  "3 samples with 1, 3 samples with 2", "6 of 120 have samples"):  # fmt: skip
        assert words in shown


@pytest.fixture
def damaged(tmp_path):
    """The golden files, an empty one, a truncated one, and one twice."""
    source = tmp_path / "raw"
    shutil.copytree(NTU_RAW, source)
    (source / "S001C001P001R001A003.skeleton").write_bytes(b"")
    whole = (source / "S001C001P001R001A001.skeleton").read_bytes()
    (source / "S001C001P001R001A004.skeleton").write_bytes(
        whole[: whole.index(b"-255.7485")]  # within the first joint
    )
    (source / "S001C001P001R001A005.skeleton").write_bytes(b"3\n0\n0\n0\n")
    (source / "again").mkdir()
    shutil.copy(source / "S001C001P001R001A001.skeleton", source / "again")
    return source


def test_what_is_left_out_is_counted_with_its_reason(damaged, tmp_path, capsys):
    prepare("ntu120", damaged, tmp_path / "x")
    shown = capsys.readouterr().out
    assert "left out: 4" in shown
    for reason in ("the file is empty", "a joint must have 12 columns", "body 0 is in no frame",
                   "S001C001P001R001A001 appears before"):  # fmt: skip
        assert reason in shown
    assert "S001C001P001R001A004.skeleton:" in shown  # with the line
    listed = (tmp_path / "x" / "left_out.csv").read_text().splitlines()
    assert len(listed) == 5
    assert any("A003.skeleton" in row and row.endswith(",the file is empty") for row in listed)
    assert len(open_store(tmp_path / "x")) == 6


def test_on_error_fatal_names_file_and_line(damaged, tmp_path, capsys):
    (damaged / "S001C001P001R001A003.skeleton").unlink()
    (damaged / "again" / "S001C001P001R001A001.skeleton").unlink()
    error = fails(capsys, "ntu120", damaged, tmp_path / "x", "--on-error=fatal", "--jobs=1")
    assert "S001C001P001R001A004.skeleton:" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_errors_are_one_line(tmp_path, capsys):
    out = tmp_path / "x"
    assert "choose from" in fails(capsys, "ntu61", NTU_RAW, out)
    assert "no such file" in fails(capsys, "ntu60", tmp_path / "no", out)
    assert "--on-error maybe" in fails(capsys, "ntu60", NTU_RAW, out, "--on-error=maybe")
    assert "--frames 0" in fails(capsys, "ntu60", NTU_RAW, out, "--frames=0")
    assert "--jobs" in fails(capsys, "ntu60", NTU_RAW, out, "--jobs=-1")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "S001C001P001R001A001.skeleton").write_text("1\n0\n")
    assert "no sample is left, 1 left out: " in fails(capsys, "ntu60", tmp_path / "raw", out)
    out.mkdir()
    assert "--overwrite" in fails(capsys, "ntu60", NTU_RAW, out)
    assert "is not a store" in fails(capsys, "ntu60", NTU_RAW, out, "--overwrite")


def test_a_killed_run_can_be_started_again(tmp_path):
    source = tmp_path / "raw"
    source.mkdir()
    text = skeleton_text([[(1, motion(0, 25, 60)[t])] for t in range(30)])
    for index in range(400):
        (source / f"S001C001P{index % 40 + 1:03}R{index // 40 + 1:03}A001.skeleton").write_bytes(
            text
        )
    command = [
        sys.executable,
        "-m",
        "aimclr_fast.prepare",
        "ntu60",
        str(source),
        str(tmp_path / "x"),
    ]
    running = subprocess.Popen([*command, "--jobs=1"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    hidden = tmp_path / ".x.preparing" / "positions.npy"
    deadline = time.monotonic() + 120
    while not (hidden.exists() and hidden.stat().st_size) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    prepare("ntu60", source, tmp_path / "x", "--overwrite")
    assert len(open_store(tmp_path / "x", verify=True)) == 400
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "x"]


def test_inspect(tmp_path, capsys):
    prepare("ntu120", NTU_RAW, tmp_path / "x")
    capsys.readouterr()
    command_line(["inspect", str(tmp_path / "x"), "--out", str(tmp_path / "figures")])
    shown = capsys.readouterr().out
    assert "split xsub: 3 train, 3 test" in shown
    with Image.open(tmp_path / "figures" / "x.gif") as film:
        assert film.n_frames > 10
    with Image.open(tmp_path / "figures" / "x.png") as picture:
        assert picture.width > 500
    assert (tmp_path / "figures" / "x.html").stat().st_size > 5_000
    assert "no sample" in fails(capsys, "inspect", tmp_path / "x", "--sample=zz")


def test_every_reader_says_what_it_is():
    assert len(reader_names()) >= 12
    for name in reader_names():
        assert len(get_reader(name).SUMMARY) > 20


SMALL = [
    "--model.channels=4", "--model.features=8", "--model.embedding=8", "--model.queue_size=32",
    "--optim.epochs=1", "--optim.batch_size=2", "--optim.mining_epoch=1", "--monitor.knn_every=0",
    "--monitor.linear_probe=false", "--monitor.raw_poses=false", "--threads=1",
]  # fmt: skip


@pytest.mark.parametrize(
    "labels",
    [
        "",
        "name,label\n{0},a\n{1},b\n{2},a\n",
        "name,label,subject\n{0},a,1\n{1},b,2\n{2},a,3\n",
        "name,label,split\n{0},a,train\n{1},b,train\n{2},a,test\n",
    ],
    ids=["none", "label", "subject", "split"],
)
def test_the_printed_command_trains_as_it_stands(tmp_path, monkeypatch, capsys, labels):
    source, out = tmp_path / "raw", tmp_path / "my [store] 1"
    source.mkdir()
    for index in range(3):
        np.save(source / f"s{index}.npy", motion(index * 100, frames=20))
    if labels:
        (source / "labels.csv").write_text(labels.format("s0", "s1", "s2"))
    prepare("folder", source, out, "--layout=ui-prmd")
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:3] == ["python", "-m", "aimclr_fast.train"]
    name = "split" if "split" in labels else "odd-even" if "subject" in labels else "all"
    assert words[3:] == ["--config", "small", "--data", str(out), "--split", name]
    monkeypatch.chdir(tmp_path)
    # The rest would only take longer.
    train([*words[3:], "--optim.epochs=1", "--threads=1"])
    assert len(list((tmp_path / "runs").glob("*/checkpoint.pt"))) == 1


@pytest.mark.parametrize(("batch", "config"), [(128, "small"), (3, "ntu120")])
def test_the_printed_command_takes_the_data_sets_own_config(
    tmp_path, capsys, monkeypatch, batch, config
):
    """Unless there are too few sequences for it."""
    monkeypatch.setattr("aimclr_fast.prepare._WHOLE_BATCH", batch)
    prepare("ntu120", NTU_RAW, tmp_path / "x")
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[3:] == ["--config", config, "--data", str(tmp_path / "x"), "--split", "xsub"]


def trains(store: Path, split: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train([f"--data.store={store}", f"--split={split}", *SMALL])


def test_train_on_the_golden_ntu_files(tmp_path, monkeypatch):
    prepare("ntu120", NTU_RAW, tmp_path / "x")
    trains(tmp_path / "x", "xsub", tmp_path, monkeypatch)


def test_train_on_utd_mhad(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    recordings.write_utd_mhad(tmp_path / "raw")
    prepare("utd_mhad", tmp_path / "raw", tmp_path / "x")
    trains(tmp_path / "x", "xsub", tmp_path, monkeypatch)


def test_train_on_own_csv_files(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    for index in range(6):
        text = table(motion(index * 100, frames=20).reshape(20, -1), ",")
        (tmp_path / "raw" / f"s{index}.csv").write_text(text)
    (tmp_path / "raw" / "labels.csv").write_text(
        "name,label,subject\n" + "".join(f"s{i},{'ab'[i % 2]},{i % 3}\n" for i in range(6))
    )
    prepare("folder", tmp_path / "raw", tmp_path / "x", "--layout=ui-prmd")
    store = open_store(tmp_path / "x")
    assert [len(part) for part in split(store, "odd-even")] == [2, 4]
    trains(tmp_path / "x", "odd-even", tmp_path, monkeypatch)

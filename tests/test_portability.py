"""What macOS and Windows lack is not needed: neither to import the package nor to use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from children import child_environment

from aimclr_fast._locks import FileLock, LockedError
from aimclr_fast.data import open_store
from aimclr_fast.training import health, placement

TESTS = Path(__file__).parent
OLD = TESTS / "old_files" / "ec33432"


def write_recordings(folder: Path) -> None:
    """Twelve sequences of the skeleton in old_files, with labels and subjects."""
    folder.mkdir()
    recording = np.load(OLD / "recordings" / "s1_nod.npy")
    lines = ["name,label,subject"]
    for number in range(12):
        np.save(folder / f"{number}.npy", recording * np.float32(1 + number / 100))
        lines.append(f"{number},{number % 2},{number // 3}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


WAY = """
import sys
from without_linux import MODULES

taken = "import fcntl", "import resource", "open('/proc/meminfo')", "os.sysconf('SC_PHYS_PAGES')"
for code in taken:
    try:
        exec(code, dict(vars(sys.modules["aimclr_fast.training.placement"])))
    except Exception as error:
        print(type(error).__name__)
print(len(MODULES))

from aimclr_fast import evaluate, prepare, train
from aimclr_fast.data import conversion
conversion._CHUNK = 6  # so that two workers have work
prepare.command_line(
    ["folder", "recordings", "store", "--layout", "layout.yaml", "--frames", "12", "--jobs", "2"]
)
train.command_line([
    "--data", "store", "--split", "odd-even", "--output", "run", "--device", "cpu",
    "--model.channels", "2", "--model.features", "8", "--model.embedding", "4",
    "--model.queue_size", "12", "--optim.epochs", "1", "--optim.batch_size", "3",
    "--monitor.linear_probe", "false", "--monitor.raw_poses", "false", "--monitor.knn_every", "0",
])
evaluate.command_line([
    "knn", "run/checkpoint.pt", "--data", "store", "--split", "odd-even", "--k", "[1]",
    "--output", "knn", "--csv", "results.csv",
])
"""


def test_the_whole_way_without_what_linux_has(tmp_path):
    """Every module imported, then prepare, train and evaluate, on pure PyTorch."""
    write_recordings(tmp_path / "recordings")
    (tmp_path / "layout.yaml").write_text((OLD / "layout.yaml").read_text())
    path = os.pathsep.join([str(TESTS), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", WAY],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=child_environment(AIMCLR_NATIVE="OFF", OMP_NUM_THREADS="1", PYTHONPATH=path),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # That it was taken away; a memory of unknown size is not made up.
    missing, count = done.stdout.split()[:4], int(done.stdout.split()[4])
    kinds = ["ModuleNotFoundError", "ModuleNotFoundError", "FileNotFoundError", "AttributeError"]
    assert missing == kinds
    assert count > 90
    assert "an unknown amount of memory free" in done.stdout
    assert "skeleton_augment reference" in done.stdout
    assert len(open_store(tmp_path / "store", verify=True)) == 12
    assert "knn_1" in (tmp_path / "results.csv").read_text()
    assert not list(tmp_path.rglob("*.held"))


def test_a_lock_without_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr("aimclr_fast._locks._FLOCK", False)
    with FileLock(tmp_path / "file"):
        assert (tmp_path / "file.held").exists()
        with pytest.raises(LockedError, match="holds it"):
            FileLock(tmp_path / "file")
    assert not (tmp_path / "file.held").exists()
    FileLock(tmp_path / "file").close()


def test_memory_that_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(placement, "_free_host_memory", lambda: float("inf"))
    placed = placement.place_sequences(
        np.zeros((2, 3, 4, 5, 1), np.float32), torch.device("cpu"), "auto"
    )
    assert placed.where == "device"
    assert "an unknown amount of memory free" in placed.reason


def test_memory_in_use_is_the_pages_of_this_process():
    def elsewhere(*_, **__):
        raise FileNotFoundError

    now = health.memory_in_use(torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", elsewhere)
        peak = health.memory_in_use(torch.device("cpu"))
        patch.setitem(sys.modules, "resource", None)
        assert health.memory_in_use(torch.device("cpu")) == 0
    assert 10e6 < now <= 1.1 * peak


def test_files_are_flushed_through_handles_that_can_write(tmp_path, monkeypatch):
    """As Windows demands it; folders, which cannot be flushed there, are passed over."""
    from aimclr_fast._files import written_whole

    real, flags = os.open, {}

    def noted(path, how, *rest):
        flags[Path(path).is_dir()] = how
        return real(path, how, *rest)

    with written_whole(tmp_path / "file") as temporary:
        temporary.write_bytes(b"1")
        monkeypatch.setattr(os, "open", noted)
    assert flags[False] & os.O_RDWR
    assert (tmp_path / "file").read_bytes() == b"1"

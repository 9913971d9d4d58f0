"""Memory and time of many sequences: prepare, train from the mapped file, encode.

    python benchmarks/large_store.py                 # 10,000 and 100,000 sequences: 3 GB of disk
    python benchmarks/large_store.py --counts 2000   # fewer, and no file is written

The motion is synthetic: NTU RGB+D's skeleton of 25 joints, swinging. Each stage is a process of its
own. `anonymous_mb` is the most that it and its children held of their own; pages of the mapped
file, which the system takes back when it needs them, are not among it. Time depends on what else
runs. The rows go to benchmarks/results/large_store.csv.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import results

from aimclr_fast.layouts import get_layout

COUNTS = (10_000, 100_000)
LAYOUT = "ntu-rgb+d"
FRAMES, FOLDERS = 40, 100  # of a recording; of all recordings
TRAIN = [
    "--data.split=all", "--optim.steps=100", "--optim.batch_size=32", "--placement=mmap",
    "--monitor.knn_every=0", "--monitor.linear_probe=false",
]  # fmt: skip
ENCODE = """
import sys
import numpy as np
import aimclr_fast
from aimclr_fast.data import open_store
encoder, store = aimclr_fast.load_encoder(sys.argv[1]), open_store(sys.argv[2])
for start in range(0, len(store), 512):
    rows = store.as_tensor(slice(start, start + 512)).permute(0, 4, 2, 3, 1)
    features = encoder(rows, preprocessed=True, batch_size=128)
print(len(store), tuple(features.shape))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--folder", type=Path, default=None, help="where to put the files")
    given = parser.parse_args()
    rows: list[Mapping[str, str]] = []
    for count in given.counts:
        folder = Path(tempfile.mkdtemp(prefix="large-store-", dir=given.folder))
        try:
            rows += measured(count, folder)
        finally:
            shutil.rmtree(folder)
    if tuple(given.counts) == COUNTS:
        results.write_cells(results.FOLDER / "large_store.csv", rows, list(rows[0]))


def measured(count: int, folder: Path) -> list[Mapping[str, str]]:
    raw, store, run = folder / "raw", folder / "store", folder / "run"
    make(raw, count)
    python: list[object] = [sys.executable, "-m"]
    stages: dict[str, list[object]] = {
        "prepare": [*python, "aimclr_fast.prepare", "folder", raw, store, f"--layout={LAYOUT}"],
        "train 100 steps": [
            *python, "aimclr_fast.train", "--config=small", f"--data={store}", f"--output={run}",
            *TRAIN,
        ],
        "encode": [sys.executable, "-c", ENCODE, run / "checkpoint.pt", store],
    }  # fmt: skip
    rows: list[Mapping[str, str]] = []
    for stage, command in stages.items():
        seconds, anonymous = watched([str(word) for word in command])
        size = (store / "positions.npy").stat().st_size
        rows.append(
            {
                "stage": stage,
                "sequences": str(count),
                "positions_mb": f"{size / 1e6:.0f}",
                "anonymous_mb": f"{anonymous / 1e6:.0f}",
                "seconds": f"{seconds:.1f}",
                "date": results.this_machine().date,
            }
        )
        print(", ".join(f"{name} {cell}" for name, cell in rows[-1].items()), flush=True)
    return rows


def make(raw: Path, count: int) -> None:
    """Recordings [T, V, 3] in meters: a body that swings about a pose of its own."""
    layout = get_layout(LAYOUT)
    rest = np.zeros((layout.num_joints, 3), np.float32)
    order = sorted(range(layout.num_joints), key=lambda v: len(chain(layout.parents, v)))
    for joint in order:
        parent = layout.parents[joint]
        if parent != joint:
            angle = 2.4 * joint
            rest[joint] = rest[parent] + 0.2 * np.array([np.cos(angle), np.sin(angle), 0.1])
    time_of = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None, None]
    random = np.random.default_rng(0)
    for number in range(count):
        folder = raw / f"{number % FOLDERS:02}"
        folder.mkdir(parents=True, exist_ok=True)
        size = random.standard_normal((2, *rest.shape)).astype(np.float32)
        swing = 0.1 * size[0] * np.sin(6.28 * time_of + size[1])
        np.save(folder / f"{number}.npy", rest * np.float32(1 + 0.1 * random.random()) + swing)


def chain(parents: tuple[int, ...], joint: int) -> list[int]:
    found = [joint]
    while parents[found[-1]] != found[-1]:
        found.append(parents[found[-1]])
    return found


def watched(command: list[str]) -> tuple[float, int]:
    """Seconds of a command, and the most bytes that it and its children held of their own."""
    began, most = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as run,
    ):
        while run.poll() is None:
            most = max(most, sum(map(anonymous, family(run.pid))))
            time.sleep(0.05)
        if run.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{said.read()}")
    return time.perf_counter() - began, most


def family(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()

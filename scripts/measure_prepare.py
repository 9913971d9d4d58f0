"""Measure reading and preparing NTU RGB+D files against a line-by-line reader.

    python scripts/measure_prepare.py FOLDER [--files 5688] [--csv results.csv]

Writes made-up `.skeleton` files to FOLDER (96 frames, one body, 273 kB each: real motion of the
embedded UI-PRMD, columns and digits as in NTU RGB+D) and measures, alternating, medians:

- one file: the line-by-line reader that published scripts use (ours, written for this), the NumPy
  reader, the compiled reader; each with and without preprocessing;
- the whole command on half of the files and on all of them, to see that its cost is linear;
- the whole command with other numbers of processes, in turns, each `--repeats` times.

Times are of the CPU, which other jobs on the machine change little; of the clock where there are
several processes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aimclr_fast.data import open_embedded, preprocess
from aimclr_fast.data.readers import _text
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import main as prepare

FRAMES, JOINTS = 96, 25
LAYOUT = get_layout("ntu-rgb+d")
NTU_60 = 56_880
DISTINCT = 240  # recordings made; the others are copies under other names


def make_file(file: Path, seed: int) -> None:
    """Write one made-up recording of a person."""
    rng = np.random.default_rng(seed)
    motion = STORE.as_tensor(seed % len(STORE)).numpy()[..., 0]  # [3, T, 22]
    frames = np.linspace(0, motion.shape[1] - 1, FRAMES).round().astype(int)
    xyz = np.zeros((FRAMES, JOINTS, 3))
    xyz[:, :22] = motion[:, frames].transpose(1, 2, 0)
    xyz[:, 22:] = xyz[:, 19:22]
    xyz += np.array([0.1, 0.2, 3.0]) + rng.normal(scale=0.002, size=xyz.shape)
    rest = rng.normal(size=(FRAMES, JOINTS, 8)) * np.array([100, 100, 400, 400, 1, 1, 1, 1])
    lines = [str(FRAMES)]
    for t in range(FRAMES):
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.1673935 -0.0145905 2", str(JOINTS)]
        for joint in range(JOINTS):
            numbers = (*xyz[t, joint], *rest[t, joint])
            lines.append(" ".join(f"{number:.7f}" for number in numbers) + " 2")
    file.write_text("\n".join(lines) + "\n")


def read_line_by_line(file: Path) -> np.ndarray:
    """The usual reader: a line at a time, each column under its name, then loops into an array."""
    info = ("id", "clipped", "left_confidence", "left", "right_confidence", "right", "restricted",
            "lean_x", "lean_y", "tracking")  # fmt: skip
    names = ("x", "y", "z", "depth_x", "depth_y", "color_x", "color_y", "qw", "qx", "qy", "qz",
             "tracking")  # fmt: skip
    with file.open() as stream:
        frames = []
        for _ in range(int(stream.readline())):
            bodies = []
            for _ in range(int(stream.readline())):
                body: dict = dict(zip(info, map(float, stream.readline().split()), strict=True))
                body["joints"] = [
                    dict(zip(names, map(float, stream.readline().split()), strict=True))
                    for _ in range(int(stream.readline()))
                ]
                bodies.append(body)
            frames.append(bodies)
    out = np.zeros((3, len(frames), JOINTS, 2), dtype=np.float32)
    for t, bodies in enumerate(frames):
        for m, body in enumerate(bodies[:2]):
            for v, joint in enumerate(body["joints"]):
                out[:, t, v, m] = joint["x"], joint["y"], joint["z"]
    return out


def preprocess_frame_by_frame(x: np.ndarray) -> np.ndarray:
    """The published steps as loops over frames, bodies and joints."""
    length = sum(bool(x[:, t, 0, 0].any()) for t in range(x.shape[1]))
    x = x[:, :length].astype(np.float64)
    for t in range(length):
        for m in range(2):
            x[:, t, :, m] -= x[:, t, 20, m][:, None]
    out = np.zeros((3, 50, JOINTS, 2))
    for t in range(50):
        at = min(max((t + 0.5) * length / 50 - 0.5, 0), length - 1)
        before, after = int(at), min(int(at) + 1, length - 1)
        out[:, t] = x[:, before] + (at - before) * (x[:, after] - x[:, before])
    for m in range(2):
        across = out[:, :, 8, m] - out[:, :, 4, m]
        sign = -1.0 if across[2].sum() < 0 else 1.0
        for t in range(50):
            dx, dz = across[0, t], across[2, t]
            angle = sign * np.arccos(dx / (np.hypot(dx, dz) + 1e-4))
            turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0],
                             [-np.sin(angle), 0, np.cos(angle)]])  # fmt: skip
            for v in range(JOINTS):
                out[:, t, v, m] = turn @ out[:, t, v, m]
    return out.astype(np.float32)


def _read(reader: Callable, file: Path) -> np.ndarray:
    return reader(file.read_bytes(), JOINTS, str(file)).in_order(2)


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "line by line, read": read_line_by_line,
    "numpy, read": lambda file: _read(_text._skeleton_numpy, file),
    "compiled, read": lambda file: _read(_text._skeleton_native, file),
    "line by line, read and preprocess": lambda f: preprocess_frame_by_frame(read_line_by_line(f)),
    "compiled, read and preprocess": lambda file: preprocess(
        _read(_text._skeleton_native, file), LAYOUT
    ),
}


def measure_ways(files: list[Path], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way, in turn on the same file."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for index in range(rounds):
        results = {}
        for name, way in WAYS.items():
            began = time.process_time()
            results[name] = way(files[index % len(files)])
            times[name].append(1e3 * (time.process_time() - began))
        kinds = list(WAYS)
        for name in kinds[1:3]:
            np.testing.assert_array_equal(results[name], results[kinds[0]])
        np.testing.assert_allclose(results[kinds[4]], results[kinds[3]], atol=1e-5)
    return {name: statistics.median(taken) for name, taken in times.items()}


def measure_command(folder: Path, out: Path, jobs: int) -> float:
    """Seconds of the whole command: of the CPU for one process, of the clock for several."""
    clock = time.process_time if jobs == 1 else time.perf_counter
    began = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        prepare(["ntu60", str(folder), str(out), f"--jobs={jobs}", "--overwrite"])
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="for the files, 273 kB each")
    parser.add_argument("--files", type=int, default=NTU_60 // 10)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="processes to try")
    parser.add_argument("--repeats", type=int, default=3, help="of the whole command")
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    halves = [arguments.folder / half for half in ("first", "second")]
    files = []
    for index in range(arguments.files):
        name = f"S{index % 17 + 1:03}C{index // 17 % 3 + 1:03}P{index // 51 % 40 + 1:03}"
        name += f"R{index // 2040 % 999 + 1:03}A{index % 60 + 1:03}"
        files.append(halves[index % 2] / f"{name}.skeleton")
        if not files[-1].exists():
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            if index < DISTINCT:
                make_file(files[-1], index)
            else:
                shutil.copyfile(files[index % DISTINCT], files[-1])
    rows = [(name, f"{ms:.3f} ms") for name, ms in measure_ways(files, arguments.rounds).items()]
    baseline = float(rows[3][1].split()[0])
    half = len(files) - len(files) // 2
    taken: dict[tuple[int, int], list[float]] = {}
    for _ in range(arguments.repeats):
        for folder, count, jobs in (
            (halves[0], half, 1),
            *((arguments.folder, len(files), jobs) for jobs in arguments.jobs),
        ):
            seconds = measure_command(folder, arguments.folder / "store", jobs)
            taken.setdefault((count, jobs), []).append(seconds)
    for (count, jobs), times in taken.items():
        median = statistics.median(times)
        rows.append((f"command, {count} files, {jobs} jobs", f"{median:.2f} s"))
        rows.append((f"command, {count} files, {jobs} jobs: rate", f"{count / median:.0f} files/s"))
        if count == len(files):
            rows.append((f"{NTU_60} files at that rate", f"{NTU_60 * median / count:.0f} s"))
    rows.append((f"{NTU_60} files line by line", f"{NTU_60 * baseline / 1e3:.0f} s"))
    for name, value in rows:
        print(f"{name:<45} {value}")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with arguments.csv.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("what", "value"), *rows])


STORE = open_embedded()

if __name__ == "__main__":
    main()

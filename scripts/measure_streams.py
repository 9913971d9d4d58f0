"""Three streams in one process against three processes: seconds and memory, taken in turns.

    python scripts/measure_streams.py --rounds 3 -- --threads 1 --optim.epochs 4

Everything after -- goes to `python -m aimclr_fast.train --config ui_prmd`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STREAMS = ("joint", "motion", "bone")
MEASURED = ("seconds", "CPU seconds", "MB at once")


def train(streams: str, arguments: list[str], output: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU time and the most memory in MB of one training command."""
    command = [sys.executable, "-m", "aimclr_fast.train", "--config", "ui_prmd", *arguments]
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, "--streams", streams, "--output", str(output)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - began, cpu, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("arguments", nargs="*", help="for the training command, after --")
    options = parser.parse_args()

    one, three = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            output = Path(folder, str(number))
            one.append(train(",".join(STREAMS), options.arguments, output / "together"))
            runs = [train(s, options.arguments, output / s) for s in STREAMS]
            seconds, cpu, memory = zip(*runs, strict=True)
            three.append((sum(seconds), sum(cpu), max(memory)))
    print("| | one process | three, one after the other | ratio |\n|---|---:|---:|---:|")
    for index, name in enumerate(MEASURED):
        a, b = (statistics.median(row[index] for row in rows) for rows in (one, three))
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.2f} |")


if __name__ == "__main__":
    main()

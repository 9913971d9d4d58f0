"""Take many steps of a tiny model; print memory and step time as they go.

    python scripts/long_run.py --steps 20000

Exits with 1 if memory or the time of a step has grown by more than a tenth from the second tenth
of the steps (the first one warms up) to the last.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console

from aimclr_fast.config import DataConfig, ModelConfig, MonitorConfig, OptimConfig
from aimclr_fast.config import TrainConfig as Config
from aimclr_fast.data import open_embedded
from aimclr_fast.training import pretrain as pretraining
from aimclr_fast.training.health import memory_in_use
from aimclr_fast.training.loop import Pretraining

BATCH = 8
ALLOWED = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    samples = len(open_embedded("ui_prmd")) // 2
    per_epoch = samples // BATCH
    # On the CPU the time of this process alone, whatever else the machine does.
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    times: list[float] = []
    memory: list[int] = []

    class Measured(Pretraining):
        """Notes when a step ended, and what memory there was."""

        def train_step(self, batch):
            report = super().train_step(batch)
            times.append(clock())
            if self.step % 100 == 0:
                memory.append(memory_in_use(self.device))
            return report

    pretraining.Pretraining = Measured  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            data=DataConfig(frame_step=8),
            model=ModelConfig(channels=1, features=4, embedding=4, queue_size=64),
            optim=OptimConfig(
                epochs=max(options.steps // per_epoch, 1), batch_size=BATCH, lr=1e-3, mining_epoch=2
            ),
            monitor=MonitorConfig(knn_every=10, linear_probe=False),
            output=str(Path(folder, "run")),
            device=options.device,
            save_steps=500,
            threads=1,
        )
        pretraining.pretrain(config, Console(quiet=True))

    spans = [1e3 * (after - before) for before, after in pairwise(times)]
    tenth, grown = len(spans) // 10, []
    print("| steps | ms a step, median | memory, MB |\n|---:|---:|---:|")
    for part in range(10):
        step = statistics.median(spans[part * tenth : (part + 1) * tenth])
        size = memory[min((part + 1) * len(memory) // 10, len(memory)) - 1] / 1e6
        grown.append((step, size))
        print(f"| {(part + 1) * tenth} | {step:.2f} | {size:.1f} |")
    print(f"{len(times)} steps, torch {torch.__version__}, {options.device}")
    for what, first, last in zip(("step time", "memory"), grown[1], grown[-1], strict=True):
        if last > ALLOWED * first:
            raise SystemExit(f"FAILED: {what} has grown from {first:.2f} to {last:.2f}")


if __name__ == "__main__":
    main()

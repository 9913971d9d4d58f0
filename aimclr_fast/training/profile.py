"""Where the time of a training step goes: a table, and a trace for a browser."""

from __future__ import annotations

import time
from itertools import chain, count
from pathlib import Path

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from aimclr_fast._sections import SectionTimer, timing

from .checkpoint import written_whole
from .loop import Pretraining

WARMUP = 5


def profile_steps(training: Pretraining, steps: int, folder: Path) -> Table:
    """Take steps and time their sections; writes trace.json (Chrome's format) to `folder`.

    Three passes over as many steps: as training runs them, section by section, and traced, since
    looking closer makes a step slower. On a GPU the first is the captured graph and the others
    launch kernel by kernel, so that their idle time is what the graph saves.

    Returns:
        A row for each section: milliseconds a step and share of the step.
    """
    source = chain.from_iterable(map(training.epoch_batches, count(1)))
    training.epoch = max(training.epoch, 1)
    for stream in training.streams.values():
        stream.model.train()

    def run(steps: int) -> float:
        """Milliseconds a step."""
        _wait(training.device)
        began = time.perf_counter()
        for _ in range(steps):
            training.train_step(next(source))
        _wait(training.device)
        return 1e3 * (time.perf_counter() - began) / steps

    run(WARMUP)
    plain = run(steps)
    training.use_graphs = False
    run(1)
    timer = SectionTimer(training.device)
    with timing(timer):
        sectioned = run(steps)
    activities = [ProfilerActivity.CPU]
    if training.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as trace, timing(SectionTimer(training.device)):
        run(min(steps, 3))
    with written_whole(folder / "trace.json") as temporary:
        trace.export_chrome_trace(str(temporary))

    each = f" in {len(training.streams)} streams" if len(training.streams) > 1 else ""
    batch = training.config.optim.batch_size
    table = Table(title=f"a step of {batch} sequences{each}, {steps} steps")
    for column in ("section", "ms", "share"):
        table.add_column(column, justify="left" if column == "section" else "right")
    rows = {name: total / steps for name, total in timer.milliseconds().items()}
    rows["idle and between"] = max(sectioned - sum(rows.values()), 0.0)
    for name, milliseconds in rows.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{100 * milliseconds / sectioned:.1f} %")
    table.add_row("all, section by section", f"{sectioned:.2f}", "100.0 %")
    table.add_row("as training runs it", f"{plain:.2f}", f"{100 * plain / sectioned:.1f} %")
    return table


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Where the time of a training step goes: a table, and a trace for a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from aimclr_fast._sections import SectionTimer, timing

from .checkpoint import written_whole
from .loop import Pretraining
from .progress import counted

WARMUP = 5


def profile_steps(training: Pretraining, steps: int) -> Table:
    """Take steps and time their sections.

    Two passes over as many steps: as training runs them, and section by section, since timing
    sections makes a step slower. On a GPU the first is the captured graph and the other launches
    kernel by kernel, so that its idle time is what the graph saves.

    Returns:
        A row for each section: milliseconds a step and share of the step.
    """
    take = _runner(training)
    take(WARMUP)
    plain = take(steps)
    timer = SectionTimer(training.device)
    with _without_graphs(training):
        take(1)
        with timing(timer):
            sectioned = take(steps)

    each = f" in {len(training.streams)} streams" if len(training.streams) > 1 else ""
    batch = training.config.optim.batch_size
    table = Table(title=f"a step of {counted(batch, 'sequence')}{each}, {counted(steps, 'step')}")
    for column in ("section", "ms", "share"):
        table.add_column(column, justify="left" if column == "section" else "right")
    rows = {name: total / steps for name, total in timer.milliseconds().items()}
    rows["idle and between"] = max(sectioned - sum(rows.values()), 0.0)
    for name, milliseconds in rows.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{100 * milliseconds / sectioned:.1f} %")
    table.add_row("all, section by section", f"{sectioned:.2f}", "100.0 %")
    table.add_row("as training runs it", f"{plain:.2f}", f"{100 * plain / sectioned:.1f} %")
    return table


def trace_steps(training: Pretraining, steps: int, file: Path) -> str:
    """Take up to three steps, kernel by kernel, and write a trace of them in Chrome's format.

    Returns:
        Where the trace is, or why there is none: torch's profiler does not work on every machine.

    Raises:
        Exception: a step failed, whatever becomes of its trace.
    """
    take = _runner(training)
    activities = [ProfilerActivity.CPU]
    if training.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    failed: Exception | None = None
    try:
        with (
            _without_graphs(training),
            profile(activities=activities) as trace,
            timing(SectionTimer(training.device)),
        ):
            try:
                take(min(steps, 3))
            except Exception as error:
                failed = error
                raise
        with written_whole(file) as temporary:
            trace.export_chrome_trace(str(temporary))
    except (RuntimeError, OSError) as error:
        if failed is not None:  # the profiler may have failed, too, as it was stopped
            raise failed from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"warning: no trace: {reason}"
    return f"trace: {file}"


def _runner(training: Pretraining) -> Callable[[int], float]:
    """A function that takes so many steps and returns the milliseconds of each."""
    source = chain.from_iterable(map(training.epoch_batches, count(1)))
    training.epoch = max(training.epoch, 1)
    for learner in training.learners:
        learner.model.train()

    def take(steps: int) -> float:
        _wait(training.device)
        began = time.perf_counter()
        for _ in range(steps):
            training.train_step(next(source))
        _wait(training.device)
        return 1e3 * (time.perf_counter() - began) / steps

    return take


@contextmanager
def _without_graphs(training: Pretraining) -> Iterator[None]:
    before, training.use_graphs = training.use_graphs, False
    try:
        yield
    finally:
        training.use_graphs = before


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

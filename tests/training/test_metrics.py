"""metrics.jsonl and TensorBoard's files over several starts of one run."""

from __future__ import annotations

import itertools
import os
import time

import pytest

pytest.importorskip("tensorboard", reason="not on every GPU machine")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aimclr_fast.training.metrics import MetricsLog, read_metrics

NOW = 1_700_000_000


def start(folder, monkeypatch, before, epochs, value, *, clock, process):
    """One process that goes on with a run, and is killed after the last of `epochs`."""
    monkeypatch.setattr(time, "time", lambda: float(clock))
    monkeypatch.setattr(os, "getpid", lambda: process)
    log = MetricsLog(folder, before=before)
    for epoch in epochs:
        log.write(3 * epoch, {"epoch": epoch, "loss": value})


def shown(folder):
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [(event.step, event.value) for event in board.Scalars("loss")]


@pytest.mark.parametrize("clocks", [(0, 0, 0), (0, 0, 1), (0, -5, -100), (9, 3, 9), (0, 1, 2)])
@pytest.mark.parametrize("processes", [*itertools.permutations((9, 10, 200)), (7, 7, 7)])
def test_each_epoch_is_there_once_from_its_last_start(tmp_path, monkeypatch, clocks, processes):
    """Whatever the clock said: the same second, or set back. Names of equal seconds sort by the
    process, as text.
    """
    starts = [(0, [1, 2, 3], 1.0), (2, [2, 3, 4], 2.0), (4, [4, 5], 3.0)]
    for number, (before, epochs, value) in enumerate(starts):
        start(
            tmp_path, monkeypatch, before, epochs, value,
            clock=NOW + clocks[number], process=processes[number],
        )  # fmt: skip
    assert shown(tmp_path) == [(3, 1.0), (6, 2.0), (9, 2.0), (12, 3.0), (15, 3.0)]
    assert [(line["epoch"], line["loss"]) for line in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 2.0), (3, 2.0), (4, 3.0), (5, 3.0),
    ]  # fmt: skip

"""Logs of a run: metrics.jsonl, one object a line, and TensorBoard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from .checkpoint import written_whole

EVENTS = "events.out.tfevents."


class MetricsLog:
    """Appends named numbers to `folder`/metrics.jsonl and to TensorBoard, flushed each time.

    Args:
        folder: of the run.
        before: epoch from which on lines are dropped: a resumed run writes them again.
    """

    def __init__(self, folder: Path, before: int = 0) -> None:
        path = folder / "metrics.jsonl"
        purge_step = None
        if path.exists():
            kept = [line for line in read_metrics(folder) if line["epoch"] < before]
            with written_whole(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            purge_step = int(kept[-1]["step"]) + 1 if kept else 0
        self._lines = path.open("a", encoding="utf-8")
        board = folder / "tensorboard"
        _put_before_now(board)
        # TensorBoard ignores what an earlier process wrote from this step on.
        self._board = SummaryWriter(str(board), purge_step=purge_step)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        self._lines.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._board.close()


def _put_before_now(board: Path) -> None:
    """Rename the event files of earlier starts so that they sort before the next one.

    TensorBoard reads the files of a folder in the order of their names: EVENTS, the second of the
    start, host, process. Within one second, or if the clock was set back, that is not the order of
    the starts, and it would ignore the wrong epochs.
    """
    files = board.glob(f"{EVENTS}{'[0-9]' * 10}*")
    found = [(int(file.name.removeprefix(EVENTS)[:10]), file) for file in files]
    # Earlier versions left several with the same second.
    found.sort(key=lambda one: (one[0], one[1].stat().st_mtime_ns, one[1].name))
    latest = int(time.time())
    for second, file in reversed(found):
        latest = min(second, latest - 1)
        if latest < second:
            file.rename(board / f"{EVENTS}{latest:010d}{file.name.removeprefix(EVENTS)[10:]}")


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of `folder`/metrics.jsonl, up to the first incomplete one."""
    numbers = []
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            try:
                numbers.append(json.loads(line))
            except ValueError:
                break
    return numbers

"""Where a run's numbers go: metrics.jsonl, one object a line, and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Appends named numbers to `folder`/metrics.jsonl and to TensorBoard, flushed each time."""

    def __init__(self, folder: Path) -> None:
        self._lines = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))

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


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of `folder`/metrics.jsonl."""
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

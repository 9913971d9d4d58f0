"""Where a run's numbers go: metrics.jsonl, one object a line, and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from .checkpoint import written_whole


class MetricsLog:
    """Appends named numbers to `folder`/metrics.jsonl and to TensorBoard, flushed each time.

    Args:
        folder: of the run.
        before: lines of earlier epochs stay, later ones go: a run that resumes writes them again.
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
        # TensorBoard passes over what an earlier process wrote from this step on.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)

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
    """The lines of `folder`/metrics.jsonl, up to one that was cut short as it was written."""
    numbers = []
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            try:
                numbers.append(json.loads(line))
            except ValueError:
                break
    return numbers

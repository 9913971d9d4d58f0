"""Progress of a run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def counted(count: int, what: str) -> str:
    """As in "1 epoch", "2 epochs"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def format_losses(numbers: dict[str, float], parts: Sequence[str]) -> str:
    added = " + ".join(f"{numbers[name]:.2f}" for name in parts)
    return f"loss {numbers['loss']:.3f} ({added})"


class TrainProgress:
    """Shows epoch, step rate, the loss and its parts, learning rate and time left.

    Used as a context manager; `step` is called with new numbers, `say` prints a line above.

    Args:
        console: where it goes.
        steps: of the run.
        steps_per_epoch: of all its epochs, but perhaps the last.
        losses: names of the parts of the loss.
        done: steps taken before this process began.
        first: what the first step waits for, shown until there are numbers; "" for nothing.
    """

    def __init__(
        self,
        console: Console,
        steps: int,
        steps_per_epoch: int,
        losses: Sequence[str],
        done: int = 0,
        first: str = "",
    ) -> None:
        self.console = console
        self._first, self._losses = first, losses
        self._epochs, self._per_epoch = -(-steps // steps_per_epoch), steps_per_epoch
        self._start = done
        self._total = steps
        self._bar: Progress | None = None
        # Seconds spent in finished epochs, so that measuring between them does not count.
        self._before, self._began = 0.0, 0.0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[epoch]}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}", markup=False),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(
                "train", total=self._total, completed=done, epoch="", numbers=""
            )

    def __enter__(self) -> TrainProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def begin_epoch(self) -> None:
        if self._first:
            if self._bar is None:
                self.say(self._first)
            else:
                self._bar.update(self._task, numbers=self._first)
            self._first = ""
        self._began = time.perf_counter()

    def _elapsed(self) -> float:
        return max(self._before + time.perf_counter() - self._began, 1e-9)

    def step(self, done: int, numbers: dict[str, float] | None, lr: float) -> None:
        """`done` steps are finished; `numbers` are the latest losses read back, if any."""
        if self._bar is None:
            return
        fields = {"epoch": f"epoch {self._epoch(done)}/{self._epochs}"}
        if numbers is not None:
            rate = (done - self._start) / self._elapsed()
            losses = format_losses(numbers, self._losses)
            fields["numbers"] = f"{rate:.2f} step/s  {losses}  lr {lr:.4f}"
        self._bar.update(self._task, completed=done, **fields)  # type: ignore[arg-type]

    def epoch(self, done: int, numbers: dict[str, float], lr: float) -> None:
        """An epoch ended; off a terminal this prints its line."""
        elapsed = self._before = self._elapsed()
        if self._bar is not None:
            return
        rate = max(done - self._start, 1) / elapsed
        left = (self._total - done) / rate
        self.say(
            f"epoch {self._epoch(done)}/{self._epochs}  {rate:.2f} step/s  "
            f"{format_losses(numbers, self._losses)}  lr {lr:.4f}  {left:.0f} s left"
        )

    def _epoch(self, done: int) -> int:
        return min(-(-max(done, 1) // self._per_epoch), self._epochs)

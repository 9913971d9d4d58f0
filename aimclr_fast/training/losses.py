"""Step reports as numbers by stream: read at intervals, and averaged over an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

READ_BACK = 0.25  # seconds between two readings of the losses: reading waits for the device


class LossReader:
    """Averages step reports on the device and reads them at intervals, not every step.

    Skipped steps do not count. `state` goes into checkpoints, so that the means of an interrupted
    epoch are those of all its steps.

    Args:
        streams: names of the rows of a report.
        names: of the columns of a report (`guard.report_names`).
        state: of an earlier reader, to resume from.

    Attributes:
        latest: the last report that was read, by stream and name.
    """

    def __init__(
        self, streams: Iterable[str], names: Iterable[str], state: Tensor | None = None
    ) -> None:
        self._streams, self._names = tuple(streams), tuple(names)
        self._taken = self._names.index("taken")
        self.state = state
        self._last_read = -float("inf")
        self.latest: dict[str, dict[str, float]] | None = None

    def add(self, report: Tensor) -> bool:
        """Add one step's report [streams, names]; returns whether `latest` is new."""
        counted = torch.where(report[:, self._taken, None] > 0, report, 0.0)
        self.state = counted if self.state is None else self.state + counted
        # The CPU has nothing to wait for.
        if report.is_cuda and time.perf_counter() - self._last_read < READ_BACK:
            return False
        self.latest = self._named(report)
        self._last_read = time.perf_counter()
        return True

    def means(self) -> dict[str, dict[str, float]]:
        """Means by stream and name over the steps of this epoch; NaN if all were skipped."""
        assert self.state is not None, "no step was taken"
        taken = self._taken
        return self._named((self.state / self.state[:, taken, None])[:, :taken])

    def begin_epoch(self) -> None:
        """Forget the steps so far."""
        self.state = None

    def _named(self, rows: Tensor) -> dict[str, dict[str, float]]:
        numbers = [dict(zip(self._names, row, strict=False)) for row in rows.tolist()]
        return dict(zip(self._streams, numbers, strict=True))


def by_stream(numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Numbers of a run from those of its streams: of one stream under the same names; of several
    under STREAM/NAME, and their means under NAME.
    """
    each = list(numbers.values())
    means = {name: sum(of[name] for of in each) / len(each) for name in each[0]}
    if len(each) == 1:
        return means
    named = {f"{stream}/{name}": v for stream, of in numbers.items() for name, v in of.items()}
    return means | named

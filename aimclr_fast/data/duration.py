"""How long the sequences of a store last, which an encoder's weights do not tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Durations and rates that differ by this factor are clearly others.
_OTHER = 1.5
_FIELDS = ("low", "median", "high", "window", "fps")


@dataclass(frozen=True)
class Duration:
    """Seconds of the sequences of a store as they were recorded, before time was resized.

    Attributes:
        low: that a tenth of the sequences do not exceed.
        median: of the sequences.
        high: that a tenth of the sequences exceed.
        window: seconds of the windows that recordings were cut into; None if they were not.
        fps: frames per second, after ``--fps``; None if the sequences differ.

    Raises:
        ValueError: a field is not a positive number.
    """

    low: float
    median: float
    high: float
    window: float | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        for name in _FIELDS:
            value = getattr(self, name)
            optional = value is None and name in ("window", "fps")
            known = type(value) in (int, float) and math.isfinite(value) and value > 0
            if not optional and not known:
                raise ValueError(f"{name} must be a positive number, got {value!r}")

    @classmethod
    def of(
        cls, frames: Sequence[int], rates: Sequence[float | None], window: float | None = None
    ) -> Duration | None:
        """Of sequences with these frames, and frames per second; None if a rate is not known."""
        known = [rate for rate in rates if rate is not None]
        if not known or len(known) < len(rates):
            return None
        low, median, high = np.quantile(np.array(frames) / np.array(known), (0.1, 0.5, 0.9))
        one_rate = max(known) / min(known) < 1.01
        fps = round(float(np.median(known)), 3) if one_rate else None
        return cls(_seconds(low), _seconds(median), _seconds(high), window, fps)

    @classmethod
    def from_dict(cls, fields: Any) -> Duration:
        """The inverse of `to_dict`, for fields read from a file.

        Raises:
            ValueError: they are something else.
        """
        if not isinstance(fields, Mapping) or set(fields) != set(_FIELDS):
            raise ValueError(f"expected the fields {', '.join(_FIELDS)}, got {fields!r:.200}")
        return cls(**fields)

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.window is not None:
            return f"windows of {self.window:g} s"
        if self.high < 1.05 * self.low:
            return f"{self.median:.2g} s"
        return f"{self.low:.2g} to {self.high:.2g} s, {self.median:.2g} s in the median"


def _seconds(value: float) -> float:
    return max(round(float(value), 3), 1e-3)


def joined_duration(some: Sequence[Duration | None], counts: Sequence[int]) -> Duration | None:
    """Of several stores as one, from the least to the greatest; None if one is not known.

    Args:
        some: of each store.
        counts: their sequences.
    """
    known = [one for one in some if one is not None]
    if len(known) < len(some):
        return None
    windows, rates = {one.window for one in known}, {one.fps for one in known}
    return Duration(
        min(one.low for one in known),
        float(np.median(np.repeat([one.median for one in known], counts))),
        max(one.high for one in known),
        windows.pop() if len(windows) == 1 else None,
        rates.pop() if len(rates) == 1 else None,
    )


def clearly_other(trained: Duration, given: Duration | None, *, resized: bool) -> str:
    """What to say if sequences are of clearly another length or rate than those of training.

    Args:
        trained: of the training sequences.
        given: of those that an encoder is to take; None if it is not known.
        resized: whether time is resized to a number of frames, so that rates do not matter.

    Returns:
        A sentence, with the flag that mends it if there is one; empty if there is nothing to say.
    """
    said = f"the encoder's training sequences last {trained}"
    mend = f"--window {round(trained.window or trained.median, 2):g}s"
    if given is None:
        if trained.window is None:
            return ""
        return f"length: {said}; how long these last is not known: --rate with {mend} cuts them"
    if given.window is not None:
        if not trained.low / _OTHER <= given.window <= trained.high * _OTHER:
            return f"length: {said}, and these are {given}: results suffer ({mend})"
    elif given.high > trained.high * _OTHER:
        return f"length: {said}, and these {given}, taken whole: results suffer ({mend} cuts them)"
    elif given.high < trained.low / _OTHER:
        return f"length: {said}, and these {given}, taken whole: results suffer"
    if not resized and trained.fps is not None and not _alike(given.fps, trained.fps):
        seen = "several rates" if given.fps is None else f"{given.fps:g} frames per second"
        return (
            f"rate: the encoder's training sequences have {trained.fps:g} frames per second, and "
            f"these have {seen}: results suffer (--fps {trained.fps:g})"
        )
    return ""


def _alike(rate: float | None, other: float) -> bool:
    return rate is not None and 1 / _OTHER <= rate / other <= _OTHER

"""Whether the lines of a table are consecutive frames of one person."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.data.readers._columns import UNKNOWN, Columns
from aimclr_fast.data.readers._pose2d import MAX_SCORE
from aimclr_fast.data.readers._tables import LABEL, is_label

#: More frames than this for each line or file are taken for an error.
_MOST_SKIPPED = 20


def check_index(table: npt.NDArray[np.float64], columns: Columns, where: str) -> None:
    """Refuse a column of frames or times that decreases: lines are not consecutive frames.

    Raises:
        ReadError: it decreases or repeats, or what was taken for such a column does not increase.
    """
    again = False
    for column in columns.index:
        values = table[:, column]
        steps = np.diff(values[~np.isnan(values)])
        again = again or bool((steps == 0).any() or (steps < 0).any())
    if columns.person is not None:
        _check_person(table[:, columns.person], columns, again, where)
    for column in columns.index:
        values = table[:, column]
        steps = np.diff(values[~np.isnan(values)])
        if columns.guessed:
            other = np.diff(table[:, -1])
            counts = len(steps) and (steps > 0).all() and _steady(steps)
            label = is_label(table[:, -1], table[:, 1:-1])
            if not counts or (other > 0).all() or not other.any() or label:
                reason = f"{table.shape[1]} columns, one too many"
                if label:
                    raise ReadError(where, f"{reason}, and {LABEL}")
                raise ReadError(
                    where,
                    f"{reason}, and the first does not count frames or time: skip it with "
                    "--skip-columns 1, or take the one out that is no coordinate (a label goes "
                    "into labels.csv)",
                )
            continue
        most = len(steps) / 2 if column in columns.times else 0
        if (steps < 0).any() or (steps == 0).sum() > most:
            raise ReadError(
                where,
                "the column of frames or times decreases or repeats: give one line per frame, and "
                "one file per person",
            )


def with_dropped_frames(
    table: npt.NDArray[np.float64],
    lines: npt.NDArray[np.int64] | None,
    columns: Columns,
    where: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """Insert empty rows, frames without a body, where the column of frames or times skips some.

    Raises:
        ReadError: it skips far more frames than there are.
    """
    clock = clock_of(table, columns)
    found = None if clock is None else time_places(table[:, clock])
    counts = [column for column in columns.index if column not in columns.times]
    for values in (table[:, column] for column in counts):
        if len(values) < 2 or not (np.abs(values) < 2**53).all() or (values % 1).any():
            continue
        place = frame_places(values.astype(np.int64))
        # Most steps of a counter are one frame; anything else is a clock.
        if np.median(np.diff(place)) != 1 or place[-1] < len(table):
            continue
        found = place
        break
    if found is None:
        return table, lines
    check_places(found, where, "lines: renumber them, or take the column of frames or times out")
    filled = np.full((found[-1] + 1, table.shape[1]), np.nan)
    filled[found] = table
    if lines is not None:
        lines = np.interp(np.arange(len(filled)), found, lines).astype(np.int64)
    return filled, lines


def rate_of(times: npt.NDArray[np.float64], unit: float | None = None) -> float | None:
    """Frames per second by the times ``[n]`` of frames; None if they do not tell.

    Args:
        times: rising, perhaps rounded, perhaps with dropped frames.
        unit: seconds of their unit; None tells it from the steps, since a frame lasts a millisecond
            to a second.
    """
    steps = np.diff(times[np.isfinite(times)])
    middle = float(np.median(steps)) if len(steps) else 0.0
    if middle <= 0:
        return None
    if unit is None:
        unit = 1.0 if middle < 1 else 1e-3 if middle < 1e3 else 1e-6 if middle < 1e6 else 1e-9
    rate = 1 / (float(steps[steps < 1.5 * middle].mean()) * unit)
    return rate if 0.1 <= rate <= 1000 else None


def time_places(times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64] | None:
    """The frame of each time ``[n]``, from 0; None if times repeat, or more than a tenth of the
    steps are no multiple of the usual one, as at a variable rate.

    Steps of 1.5 of the usual one and more are gaps. All others are one frame: rounded times would
    add up to too many frames or too few.
    """
    steps = np.diff(times)
    middle = float(np.median(steps)) if len(steps) and np.isfinite(times).all() else 0.0
    if middle <= 0 or (steps <= 0).any():
        return None
    gaps = steps > 1.49 * middle  # 1.5, and what rounding takes off
    frames = steps / steps[~gaps].mean()
    skipped = np.where(gaps, np.rint(frames), 1)
    # A coarse clock rounds both ends of a step: its steps differ by one tick.
    ticks = np.diff(np.unique(frames[~gaps]))
    tick = min(ticks[ticks > 0.01], default=0.0)
    if np.mean(np.abs(frames - skipped) > max(0.25, tick)) > 0.1:
        return None
    return np.concatenate([[0], np.cumsum(skipped)]).astype(np.int64)


def clock_of(table: npt.NDArray[np.float64], columns: Columns) -> int | None:
    """The column of times: by its heading, or since it cannot count frames; None without one."""
    if columns.times:
        return columns.times[0]
    return next((column for column in columns.index if _is_clock(table[:, column])), None)


def _is_clock(values: npt.NDArray[np.float64]) -> bool:
    """Whether numbers rise evenly, but not as frames do: by fractions, or by uneven steps as of
    milliseconds (33, 34, 33).
    """
    steps = np.diff(values[np.isfinite(values)])
    if len(steps) < 2 or (steps <= 0).any() or not _steady(steps):
        return False
    if (values % 1).any():
        return True
    whole = (np.abs(values) < 2**53).all()
    return bool(whole and np.median(steps) >= 5 and np.gcd.reduce(steps.astype(np.int64)) == 1)


def frame_places(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The frame of each rising number ``[n]``, from 0; their greatest common step is one frame.

    Frames without a number are frames without a body.
    """
    past = numbers - numbers[0]
    return np.asarray(past // max(int(np.gcd.reduce(past)), 1))


def check_places(places: npt.NDArray[np.int64], where: str, what: str) -> None:
    """Refuse numbers of frames that skip far more than there are.

    Args:
        places: of :func:`frame_places`.
        where: what errors name.
        what: what is numbered, and what to do about it.
    """
    if places[-1] >= _MOST_SKIPPED * len(places):
        raise ReadError(
            where, f"the numbers count {places[-1] + 1:,} frames of {len(places):,} {what}"
        )


def _steady(steps: npt.NDArray[np.float64]) -> bool:
    """Whether frames or times increase evenly, except for dropped frames."""
    middle = np.median(steps)
    return bool(np.mean((steps > 0.5 * middle) & (steps < 2.5 * middle)) >= 0.9)


def check_last(table: npt.NDArray[np.float64], columns: Columns, where: str) -> None:
    """Refuse a label that would be read as the last coordinate of the last joint.

    Raises:
        ReadError: it holds whole numbers beside coordinates that are not, and cannot be a score.
    """
    joints = table[:, columns.take].reshape(len(table), -1, len(columns.axes))
    last = joints[:, -1, -1]
    maybe_score = columns.axes == UNKNOWN and not (last > MAX_SCORE).any()
    if columns.axes.endswith("c") or maybe_score or not last.any():
        return
    # Neither this joint's other coordinates are whole, nor this one of the other joints.
    if is_label(last, joints[:, -1, :-1]) and is_label(last, joints[:, :-1, -1]):
        raise ReadError(where, f"column {columns.take[-1] + 1} would be a coordinate: {LABEL}")


def _check_person(who: npt.NDArray[np.float64], columns: Columns, again: bool, where: str) -> None:
    """Refuse lines of several people. A tracker may give one person a new number."""
    people = np.unique(who[~np.isnan(who)])
    counts_lines = bool((np.diff(who) > 0).all())
    if len(people) > 1 and (again or not (columns.index or counts_lines)):
        raise ReadError(
            where,
            f"the lines are of {len(people)} people, by the column of persons: give one file per "
            "person",
        )

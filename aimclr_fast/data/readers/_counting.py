"""Whether the lines of a table are one frame after the other, of one person."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.data.readers._columns import Columns

#: So many times as many frames as there are lines are taken for an error.
_MOST_SKIPPED = 20


def check_index(table: npt.NDArray[np.float64], columns: Columns, where: str) -> None:
    """Refuse a column of frames or times that falls: lines are not one frame after the other.

    Raises:
        ReadError: it falls or stands still, or what was taken for such a column does not rise.
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
            if not counts or (other > 0).all() or not other.any() or _is_label(table):
                raise ReadError(
                    where,
                    f"{table.shape[1]} columns, one too many, and the first does not count frames "
                    "or time: pass it over with --skip-columns 1, or take the other out",
                )
            continue
        most = len(steps) / 2 if column in columns.times else 0
        if (steps < 0).any() or (steps == 0).sum() > most:
            raise ReadError(
                where,
                "the column of frames or times falls or repeats: give one line per frame, and one "
                "file per person",
            )


def with_dropped_frames(
    table: npt.NDArray[np.float64],
    lines: npt.NDArray[np.int64] | None,
    columns: Columns,
    where: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """Empty rows, of frames without anybody, where the column that counts frames skips some.

    Raises:
        ReadError: it skips far more frames than there are.
    """
    counts = [column for column in columns.index if column not in columns.times]
    for values in (table[:, column] for column in counts):
        steps = np.diff(values)
        if not len(steps) or np.isnan(steps).any():
            continue
        rows = steps / np.median(steps)
        if not np.array_equal(rows, np.rint(rows)) or (rows == 1).all():
            continue
        place = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        if place[-1] >= _MOST_SKIPPED * len(table):
            raise ReadError(
                where,
                f"the column of frames counts {place[-1] + 1:,} frames, and there are "
                f"{len(table):,} lines: renumber them, or take the column out",
            )
        filled = np.full((place[-1] + 1, table.shape[1]), np.nan)
        filled[place] = table
        if lines is not None:
            lines = np.interp(np.arange(len(filled)), place, lines).astype(np.int64)
        return filled, lines
    return table, lines


def _steady(steps: npt.NDArray[np.float64]) -> bool:
    """Whether frames or times rise by about the same, but for frames that were dropped."""
    middle = np.median(steps)
    return bool(np.mean((steps > 0.5 * middle) & (steps < 2.5 * middle)) >= 0.9)


def _is_label(table: npt.NDArray[np.float64]) -> bool:
    """Whether the last column is whole numbers beside coordinates that are not."""
    last, others = table[:, -1], table[:, 1:-1]
    last, others = last[~np.isnan(last)], others[~np.isnan(others)]
    return bool((last == np.rint(last)).all() and (others != np.rint(others)).any())


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

"""Recordings at one frame rate, and parts of long ones: ``prepare ... --fps``, ``--intervals``,
``--window``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers import (
    Intervals,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
)

#: Column of the recording that a part is of: a split by it never has one on both sides.
RECORDING = "recording"
#: Rates that differ by less are one: files round the time of a frame (0.0333333).
_SAME_RATE = 1e-3


@dataclass(frozen=True)
class Timing:
    """How recordings are cut. Small, so that it can be sent to a worker.

    Attributes:
        fps: frames per second of all; None keeps each recording's own.
        window: seconds of a window; None keeps recordings whole.
        hop: seconds from the start of a window to that of the next; None is a whole window.
        rate: frames per second of recordings that do not know theirs.
        intervals: the labeled parts, which alone are kept; None keeps all.
    """

    fps: float | None = None
    window: float | None = None
    hop: float | None = None
    rate: float | None = None
    intervals: Intervals | None = None


def timed(plan: Plan, timing: Timing) -> Plan:
    """A plan whose recordings are at one rate, or cut into parts.

    Raises:
        ReadError: intervals name no recording, and there are several.
    """
    notes, left_out, classes = list(plan.notes), list(plan.left_out), plan.classes
    if timing.rate is not None:
        which = "recordings that do not say their rate have" if plan.timed else "recordings have"
        notes.append(f"time: {which} {timing.rate:g} frames per second, as --rate says")
    if timing.fps is not None:
        notes.append(f"time: resampled to {timing.fps:g} frames per second")
    if timing.intervals is not None:
        shown, of = timing.intervals.shown, timing.intervals.of
        if set(of) == {""} and len(plan.units) > 1:
            reason = f"header: no column name, and there are {len(plan.units):,} recordings"
            raise ReadError(shown, reason, 1)
        left_out += timing.intervals.problems
        notes = [note for note in notes if not note.startswith("no labels.csv")]  # here they are
        classes = timing.intervals.classes
        notes += [
            f"time: {sum(map(len, of.values())):,} labeled intervals of {len(of):,} recordings in "
            f"{shown}; what lies outside them is not used",
            *timing.intervals.notes,
        ]
    if timing.window is not None:
        hop = timing.window if timing.hop is None else timing.hop
        of_what = "recording" if timing.intervals is None else "interval"
        notes.append(
            f"time: windows of {timing.window:g} s, one every {hop:g} s of each {of_what}; what is "
            "left at the end is not used"
        )
    if timing.window is not None or timing.intervals is not None:
        notes.append(f"time: the column {RECORDING} names what a sample is a part of")
    read = functools.partial(_read, read=plan.read, timing=timing)
    return replace(
        plan,
        read=read,
        notes=notes,
        left_out=left_out,
        classes=classes,
        numbered=plan.numbered or timing.intervals is not None,
        window=timing.window,
    )


def without_sample(timing: Timing, samples: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """What to say of recordings that have intervals, and no sample of them."""
    if timing.intervals is None:
        return []
    found = {timing.intervals.of_recording(str(name))[0] for name in np.unique(samples[RECORDING])}
    lost = sorted(timing.intervals.of.keys() - found)
    if not lost:
        return []
    return [f"{timing.intervals.shown}: {len(lost):,} recordings have no sample (first: {lost[0]})"]


def _read(unit: Any, *, read: Callable[[Any], Readings], timing: Timing) -> Readings:
    for found in read(unit):
        if isinstance(found, Recording):
            yield from _parts(found, timing)
        else:
            yield found


def _parts(recording: Recording, timing: Timing) -> Readings:
    if recording.rate is None and timing.rate is not None:
        recording = replace(recording, rate=timing.rate, rate_given=True)
    if timing.fps is not None:
        recording = resampled(recording, timing.fps)
    if timing.window is None and timing.intervals is None:
        yield recording
        return
    if RECORDING in recording.columns:
        raise ReadError(
            recording.where, f"a column {RECORDING}, which --window and --intervals add: rename it"
        )
    parts: Iterable[Recording | Problem] = [recording]
    if timing.intervals is not None:
        parts = labeled(recording, timing.intervals)
    hop = timing.window if timing.hop is None else timing.hop
    for part in parts:
        if isinstance(part, Problem) or timing.window is None or hop is None:
            yield part
        else:
            yield from windows(part, timing.window, hop)


def resampled(recording: Recording, fps: float) -> Recording:
    """A recording at another rate, by linear interpolation between its frames.

    Frame k of the result is at k / fps seconds, from the first frame to the last. A joint that is
    missing in one of two frames is as it is in the nearer one.

    Raises:
        ReadError: the recording does not know its rate.
    """
    rate = _rate(recording)
    if abs(rate / fps - 1) < _SAME_RATE:
        return replace(recording, rate=fps)
    x = recording.positions
    last = x.shape[1] - 1
    place = np.arange(int(last * fps / rate + _SAME_RATE) + 1) * (rate / fps)
    place = np.minimum(place, last)
    before = place.astype(np.intp)
    after = np.minimum(before + 1, last)
    weight = (place - before)[:, None, None]
    first, second = x[:, before].astype(np.float64), x[:, after].astype(np.float64)
    blended = first + weight * (second - first)
    whole = _there(first) & _there(second)
    positions = np.where(whole, blended, np.where(weight < 0.5, first, second))
    return replace(recording, positions=positions, rate=fps)


def labeled(recording: Recording, intervals: Intervals) -> Iterator[Recording | Problem]:
    """The labeled intervals of a recording, named after their start and end.

    A frame is in an interval from its start up to, but without, its end.

    Raises:
        ReadError: the recording does not know its rate, or has a label of its own.
    """
    rate, frames = _rate(recording), recording.positions.shape[1]
    if "label" in recording.columns:
        raise ReadError(
            recording.where,
            "has a label, and its intervals have others: take the column label out of the labels",
        )
    some = intervals.of_recording(recording.name)[1]
    if not some:
        named = sorted(intervals.of)
        names = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        reason = f"no interval in {intervals.shown} is of this recording; it names {names:.120}"
        yield Problem(recording.where, reason)
    seen = set()
    for one in some:
        first, end = math.ceil(one.start * rate - 0.5), math.ceil(one.end * rate - 0.5)
        name = f"{recording.name}@{one.start:.10g}-{one.end:.10g}s"
        if end > frames + 1:
            reason = "ends after the recording: another clock, or another recording?"
            yield Problem(one.where, reason)
        elif end - first < 2:
            yield Problem(one.where, "shorter than two frames")
        elif name in seen:
            yield Problem(one.where, "an interval that has a label already")
        else:
            seen.add(name)
            yield replace(
                recording,
                name=name,
                positions=recording.positions[:, first:end],
                columns={
                    RECORDING: recording.name,
                    "label": one.label,
                    **recording.columns,
                },
            )


def windows(recording: Recording, seconds: float, hop: float) -> Iterator[Recording | Problem]:
    """The windows of a recording, named after their start; a problem if it is shorter than one.

    Raises:
        ReadError: the recording does not know its rate, or a window would have fewer than two
            frames.
    """
    rate, frames = _rate(recording), recording.positions.shape[1]
    length = round(seconds * rate)
    if length < 2 or hop * rate < 1:
        raise ReadError(
            recording.where,
            f"--window {seconds:g}s --hop {hop:g}s: at {rate:.4g} frames per second, a window "
            "needs two frames, and a hop one",
        )
    if frames < length:
        reason = f"shorter than a window of {seconds:g} s"
        yield Problem(recording.where, reason)
        return
    number = 0
    while (start := round(number * hop * rate)) + length <= frames:
        yield replace(
            recording,
            name=f"{recording.name}@{number * hop:.10g}s",
            positions=recording.positions[:, start : start + length],
            columns={RECORDING: recording.name, **recording.columns},
        )
        number += 1


def _rate(recording: Recording) -> float:
    if recording.rate is None:
        raise ReadError(recording.where, "does not say its frame rate: --rate does")
    return recording.rate


def _there(x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which joints of ``x [3, T, V, M]`` are not missing, ``[T, V, M]``: neither zero nor NaN."""
    return np.asarray((x != 0).any(axis=0) & ~np.isnan(x).any(axis=0))

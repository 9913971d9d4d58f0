"""Recordings at one frame rate, and windows of long ones: ``prepare ... --fps``, ``--window``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers import Plan, Problem, ReadError, Readings, Recording

#: Column of the recording that a window is of: a split by it never has one on both sides.
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
    """

    fps: float | None = None
    window: float | None = None
    hop: float | None = None
    rate: float | None = None


def timed(plan: Plan, timing: Timing) -> Plan:
    """A plan whose recordings are at one rate, or cut into windows."""
    notes = []
    if timing.rate is not None:
        which = "recordings that do not say their rate have" if plan.timed else "recordings have"
        notes.append(f"time: {which} {timing.rate:g} frames per second, as --rate says")
    if timing.fps is not None:
        notes.append(f"time: resampled to {timing.fps:g} frames per second")
    if timing.window is not None:
        hop = timing.window if timing.hop is None else timing.hop
        notes.append(
            f"time: windows of {timing.window:g} s, one every {hop:g} s; what is left at the end "
            f"is not used; the column {RECORDING} names what a window is of"
        )
    read = functools.partial(_read, read=plan.read, timing=timing)
    return replace(plan, read=read, notes=[*plan.notes, *notes])


def _read(unit: Any, *, read: Callable[[Any], Readings], timing: Timing) -> Readings:
    for found in read(unit):
        if isinstance(found, Recording):
            if found.rate is None:
                found = replace(found, rate=timing.rate)
            if timing.fps is not None:
                found = resampled(found, timing.fps)
            if timing.window is not None:
                hop = timing.window if timing.hop is None else timing.hop
                yield from windows(found, timing.window, hop)
                continue
        yield found


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


def windows(recording: Recording, seconds: float, hop: float) -> Iterator[Recording | Problem]:
    """The windows of a recording, named after their start; a problem if it is shorter than one.

    Raises:
        ReadError: the recording does not know its rate, a window would have fewer than two frames,
            or the column of recordings is taken.
    """
    rate, frames = _rate(recording), recording.positions.shape[1]
    length = round(seconds * rate)
    if length < 2 or hop * rate < 1:
        raise ReadError(
            recording.where,
            f"--window {seconds:g}s --hop {hop:g}s: at {rate:.4g} frames per second, a window "
            "needs two frames, and a hop one",
        )
    if RECORDING in recording.columns:
        raise ReadError(recording.where, f"a column {RECORDING}, which --window adds: rename it")
    if frames < length:
        reason = f"shorter than a window of {seconds:g} s"
        yield Problem(recording.where, reason)
        return
    number = 0
    while (start := round(number * hop * rate)) + length <= frames:
        yield replace(
            recording,
            name=f"{recording.name}@{number * hop:g}s",
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

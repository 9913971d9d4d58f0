"""Markers of motion capture, whatever the file: from their places to joints, units and axes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aimclr_fast._files import printable
from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.measures import ends_of_body, size_limits
from aimclr_fast.data.readers._base import (
    MAX_FRAMES,
    TURNS,
    UNITS,
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
)
from aimclr_fast.data.readers._counting import check_places, frame_places
from aimclr_fast.data.readers._derived import is_hips, listed, upward
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers._labels import Labels
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._marker_sets import MarkerSet, choose_set
from aimclr_fast.data.readers._sequences import (
    Unit,
    by_claimed_file,
    by_file,
    columns_of,
    find_sequences,
)
from aimclr_fast.data.readers._sides import sides_note
from aimclr_fast.layouts import Layout

Array = npt.NDArray[np.float64]

#: Files that are looked at for the markers and the axis that points up, and frames of each.
_FILES, _FRAMES = 16, 64
_NAMES = {
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m", "cm": "cm",
    "centimeters": "cm", "mm": "mm", "millimeters": "mm",
}  # fmt: skip
#: Times of frames may differ from those of the rate by this share.
_SAME_RATE = 0.02
#: Bodies that are beyond their limits by this factor are refused.
_FAR = 3
#: Points of all frames, gaps included: far more than a file of MAX_BYTES has.
_MOST_POINTS = 1 << 25


@dataclass
class Markers:
    """What a file says.

    Attributes:
        labels: of the markers.
        places: ``[T, N, 3]``, NaN where a marker was not seen.
        rate: frames per second.
        unit: of lengths, as the file names it; empty if it does not.
        up: axis that points up, such as "z" or "-x", where the file or its format says so.
        said: where it says so, for messages.
    """

    labels: list[str]
    places: Array
    rate: float
    unit: str = ""
    up: str | None = None
    said: str = ""


Load = Callable[[Entry], Markers]


@dataclass(frozen=True)
class _Scheme:
    """How the files of a source are read. Small, so that it can be sent to a worker.

    Attributes:
        markers: the marker set.
        layout: the joints that are kept.
        up: axis that points up.
        given: whether the user says so, whatever a file says.
        bodies: bodies to keep, or None.
        unit: that the user says.
    """

    markers: MarkerSet
    layout: Layout
    up: str
    given: bool
    bodies: int | None
    unit: str | None


def plan_markers(
    source: Path,
    options: Options,
    load: Load,
    ending: str,
    kind: str,
    claims: Callable[[Entry], bool] | None = None,
) -> Plan:
    """One sample per file.

    Args:
        source: a folder, a zip file or a file.
        options: the user's.
        load: reads a file.
        ending: of the files.
        kind: what they are called.
        claims: whether a file with this ending is of this kind; None for all.
    """
    found = find_sequences(
        source,
        options,
        lambda path: path.removesuffix(".gz").endswith(ending),
        f"{ending} files" if claims is None else f"{ending} files of {kind}",
        by_file if claims is None else functools.partial(by_claimed_file, claims=claims),
    )
    some, shown, unread = [], [], None
    for unit in found.units[:: -(-len(found.units) // _FILES)]:
        try:
            one = load(unit.entry)
            step = -(-len(one.places) // _FRAMES)
            some.append(replace(one, places=one.places[::step]))
            shown.append(unit.entry.shown)
        except ReadError as error:  # reading says it again
            unread = unread or error
    if not some:
        raise unread or ReadError(str(source), "no file can be read")
    labels = [[label for _, label in of] for one in some for of in _subjects(one.labels)[:1]]
    chosen = choose_set(labels, options.markers, str(source))
    up, said = _up(chosen, some, options, str(source))
    joints = {name: _some_joints(chosen, [one]) for name, one in zip(shown, some, strict=True)}
    sides = sides_note(chosen.layout, joints, options.sides, str(source))
    layout = chosen.layout
    if options.layout is not None:
        layout = named_layout(options.layout)
        lacking = [name for name in layout.joints if name not in chosen.layout.joints]
        if lacking:
            raise ReadError(
                str(source),
                f"layout {layout.name} has joints that are not in the marker set "
                f"{chosen.layout.name}: {listed(lacking)} (it has "
                f"{', '.join(chosen.layout.joints)}); --to, in place of --layout, matches joints "
                "as far as the names tell",
            )
    rates = Counter(f"{one.rate:.4g}" for one in some)
    units = {_NAMES.get(one.unit.strip().lower()) for one in some} - {None, options.unit}
    overruled = (
        f"lengths: {options.unit}, as --unit says, and not {' or '.join(sorted(map(str, units)))}, "
        "as the files say, where these give no person"
    )
    given = options.up is not None
    weights = chosen.weights(labels[0])
    several = 0 if weights is None else int(((weights != 0).sum(axis=1) > 1).sum())
    means = f", {several} of them means of several markers" if several else ""
    scheme = _Scheme(chosen, layout, up, given, options.max_bodies, options.unit)
    return found.plan(
        layout,
        functools.partial(read, load=load, scheme=scheme),
        [
            f"markers: {chosen.layout.name}, {len(chosen.markers)} joints{means} (--markers "
            "says otherwise)",
            f"not used: {listed(_unused(chosen, labels[0])) or 'no markers'}",
            said,
            *sides,
            *([overruled] if options.unit is not None and units else ()),
            "frames per second: " + ", ".join(rate for rate, _ in rates.most_common(5)),
            *(chosen.notes if options.layout is None else ()),
        ],
        bodies=options.max_bodies or 1,
        source=f"markers of motion capture ({kind})",
        exact=True,
        in_meters=True,
        reader=kind.lower(),
        derived=options.layout is None,
        timed=True,
        untimed=False,
    )


def read(unit: Unit, *, load: Load, scheme: _Scheme, labels: Labels | None) -> Readings:
    """Read one file."""
    where = unit.entry.shown
    found = load(unit.entry)
    if found.up not in (None, scheme.up) and not scheme.given:
        reason = f"{found.said}, while {scheme.up} points up in others: prepare them separately"
        raise ReadError(where, f"{reason}, or say which axis does with --up")
    people = []
    for subject in _subjects(found.labels):
        own = found.places[:, [place for place, _ in subject]]
        weights = scheme.markers.weights([label for _, label in subject])
        if weights is not None and np.isfinite(own).any():
            people.append(_joints(own, weights))
    if not people:
        lacking = scheme.markers.lacking([label for _, label in _subjects(found.labels)[0]])
        reason = f"lacks the markers {listed(lacking)}" if lacking else "no marker is in any frame"
        raise ReadError(where, printable(reason))
    if len(people) > 1 and scheme.bodies is None:
        raise ReadError(where, f"{len(people)} subjects: say how many to keep with --max-bodies")
    x = np.stack(people, axis=-1)  # [T, V, 3, M]
    kept = [scheme.markers.layout.joints.index(name) for name in scheme.layout.joints]
    missing = np.isnan(x[:, kept])
    x = np.where(missing, np.nan, x[:, kept]).transpose(2, 0, 1, 3)
    x = fit_bodies(x, scheme.bodies or 1)
    lengths = _unit(found, scheme.unit, x, scheme.layout, where)
    x = check_positions(in_meters(x, lengths, scheme.up), where)
    yield Recording(unit.name, x, columns_of(unit.name, labels), where, found.rate)


def places_in_time(
    numbers: Array,
    times: Array,
    rate: float,
    where: str,
    counted: tuple[str, int],
    rated: tuple[str, int],
) -> npt.NDArray[np.int64]:
    """The frame of each line of a table, from 0; lines that are skipped are gaps.

    Args:
        numbers: of the frames, ``[n]``.
        times: of the frames in seconds, ``[n]``; may be NaN.
        rate: frames per second.
        where: what errors name.
        counted: what the numbers are called, and their first line.
        rated: what the rate is called, and its line.

    Raises:
        ReadError: the numbers do not rise, or skip far more frames than there are; or the times,
            which may be rounded to milliseconds, are not those of the rate.
    """
    called, line = counted
    steps = np.diff(numbers)
    if not np.isfinite(numbers).all() or (numbers % 1).any() or (steps <= 0).any():
        raise ReadError(where, f"{called}: expected whole numbers that rise", line)
    places = frame_places(numbers.astype(np.int64))
    check_places(places, where, f"lines: renumber {called}")
    if len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        return places  # no times
    seconds, expected = float(times[-1] - times[0]), int(places[-1]) / rate
    if abs(seconds - expected) > _SAME_RATE * expected + 0.002:
        seen = int(places[-1]) / seconds
        reason = f"{rated[0]}: {rate:g}, but by their times there are {seen:.4g} frames per second"
        raise ReadError(where, f"{reason}: correct one of them", rated[1])
    return places


def with_gaps(x: Array, places: npt.NDArray[np.int64], where: str) -> Array:
    """Points ``[n, N, 3]`` of lines at their frames, NaN in frames without a line.

    Raises:
        ReadError: that would be far more than any recording has.
    """
    frames, points = int(places[-1]) + 1, x.shape[1]
    if frames > MAX_FRAMES or frames * points > _MOST_POINTS:
        limits = f"{MAX_FRAMES:,} frames and {_MOST_POINTS:,} points in all"
        raise ReadError(where, f"{frames:,} frames of {points:,} points; at most {limits} are read")
    out = np.full((frames, points, 3), np.nan)
    out[places] = x
    return out


def _joints(places: Array, weights: Array) -> Array:
    """Joints ``[T, V, 3]`` of markers ``[T, N, 3]``, NaN where one of a joint's was not seen."""
    lost: npt.NDArray[np.bool_] = np.asarray(np.isnan(places).any(axis=2))
    joints = np.einsum("vn,tnc->tvc", weights, np.where(lost[..., None], 0.0, places))
    joints[(lost.astype(np.float64) @ (weights != 0).T) > 0] = np.nan
    return np.asarray(joints)


def _subjects(labels: Sequence[str]) -> list[list[tuple[int, str]]]:
    """Place and label of the markers of each subject, ``Anna:LASI``; the largest first."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for place, label in enumerate(labels):
        subject, _, own = label.rpartition(":")
        groups.setdefault(subject, []).append((place, own))
    return sorted(groups.values(), key=len, reverse=True)


def _unused(chosen: MarkerSet, labels: Sequence[str]) -> list[str]:
    weights = chosen.weights(labels)
    if weights is None:
        return []
    return [printable(labels[place]) for place in np.flatnonzero(~weights.any(axis=0)).tolist()]


def _unit(found: Markers, given: str | None, x: Array, layout: Layout, where: str) -> str:
    """The unit of lengths of joints ``x [3, T, V, M]``, as the file or the user says.

    The user's counts where by the file's bodies are larger or smaller than people are.
    """
    own = _NAMES.get(found.unit.strip().lower())
    if own is None:
        if given is None:
            names = ", ".join(UNITS)
            reason = f"the unit of lengths is {found.unit!r:.40}" if found.unit else "no unit"
            raise ReadError(where, f"{reason}: say it with --unit: {names}, or its meters")
        return given
    size = _size(x, own)
    low, high = size_limits(layout)
    if given is None and (size < low / _FAR or size > high * _FAR):
        seen = f"the file says {own}, by which bodies are {size:,.3g} m tall"
        likely = [unit for unit in UNITS if low <= _size(x, unit) <= high]
        mend = (
            f"lengths look like {' or '.join(likely)}: --unit {likely[0]}"
            if likely
            else ("say their unit with --unit")
        )
        raise ReadError(where, f"{seen}; {mend} (--unit {own} keeps them as they are)")
    if given not in (None, own) and not (size < low or size > high):
        raise ReadError(where, f"--unit {given}, but the file says {own}: leave --unit out")
    return given or own


def _size(x: Array, unit: str) -> float:
    """Longest side of the box around the bodies of ``x [3, T, V, M]``, usually, in meters."""
    sides = (np.fmax.reduce(x, axis=2) - np.fmin.reduce(x, axis=2)).max(axis=0)
    sides = sides[sides > 0]  # neither NaN nor absent
    return float(np.median(sides)) * UNITS[unit] if len(sides) else float("nan")


def _up(
    chosen: MarkerSet, some: Sequence[Markers], options: Options, where: str
) -> tuple[str, str]:
    """The axis that points up, and what to say: by the files and by the bodies, which must agree.

    Raises:
        ReadError: they do not, neither tells, or it is another axis than can be turned up.
    """
    if options.up is not None:
        return options.up, f"up: {options.up}, as --up says"
    ask = "say which axis points up with --up: y, -y or z"
    stated = {one.up: one.said for one in some if one.up is not None}
    if len(stated) > 1:
        raise ReadError(where, f"files with {' and '.join(stated.values())}: {ask}")
    axis, said = next(iter(stated.items()), (None, ""))
    seen, share = upward(_along(chosen, some))
    how = (
        f"from feet to {'head' if _tops(chosen.layout)[1] else 'hips'} it is {seen} in {share:.0%}"
    )
    how += " of the frames looked at"
    if axis is not None and share >= 0.5 and seen != axis:
        raise ReadError(where, f"{said} says {axis} points up, but {how}: {ask}")
    if axis is None and share < 0.5:
        raise ReadError(where, f"the file does not say which axis points up, and {how}: {ask}")
    axis = axis or seen
    if axis not in TURNS:
        reason = f"{axis} points up, which is not turned: exchange the axes, or {ask}"
        raise ReadError(where, f"{said or how}: {reason}")
    parts = [said] if said else []
    parts += [how] if share >= 0.5 else []
    guess = "" if said else ", a guess by the motion"
    return axis, f"up: {axis}{guess}; {', and '.join(parts)} (--up says otherwise)"


def _tops(layout: Layout) -> tuple[list[int], bool]:
    """Joints near the head, or the hips where there are none."""
    top, _ = ends_of_body(layout)
    hips = [joint for joint, name in enumerate(layout.joints) if is_hips(name)]
    return top or hips, bool(top)


def _along(chosen: MarkerSet, some: Sequence[Markers]) -> Array:
    """From feet to head ``[n, 3]``, in the frames in which both are seen."""
    top = _tops(chosen.layout)[0]
    bottom = [j for j in ends_of_body(chosen.layout)[1] if not is_hips(chosen.layout.joints[j])]
    if not top or not bottom:
        return np.empty((0, 3))
    x = _some_joints(chosen, some)
    along = x[:, top].mean(axis=1) - x[:, bottom].mean(axis=1)
    return np.asarray(along[np.isfinite(along).all(axis=1)])


def _some_joints(chosen: MarkerSet, some: Sequence[Markers]) -> Array:
    """The joints ``[n, V, 3]`` of the largest subject of some files, NaN where they are missing."""
    found = [np.empty((0, chosen.layout.num_joints, 3))]
    for one in some:
        for subject in _subjects(one.labels)[:1]:
            weights = chosen.weights([label for _, label in subject])
            if weights is not None:
                found.append(_joints(one.places[:, [place for place, _ in subject]], weights))
    return np.concatenate(found)

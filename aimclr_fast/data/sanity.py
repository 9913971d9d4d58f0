"""The data check: whether a store can hold people in motion, with sound labels and splits.

Each check is a function that looks at a :class:`Case` and yields :class:`Finding`: what was seen,
and, where that is odd, the flag of ``prepare`` that would mend it. ``@check`` lists it; there is
nothing else to edit. Thresholds are limits of the human body with a margin. In UI-PRMD, UTD-MHAD,
KARD, MSR-Action3D and Bandai-Namco's motion (6,868 sequences of Kinects and of a motion capture
studio) they report three recordings that are mostly gaps and seven of one person whose feet point
backwards, and nothing else; in the same data in another unit, rotated, or with joints exchanged,
they report that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast._files import written_whole
from aimclr_fast.data.chirality import sides_of
from aimclr_fast.data.findings import CHECKS, Case, Finding, Report, check
from aimclr_fast.data.measures import Array, body_size, measure, names_a_body, size_limits
from aimclr_fast.data.readers import UNITS
from aimclr_fast.data.splits import get_split_rule, validation
from aimclr_fast.data.store import Store
from aimclr_fast.layouts import Layout

#: File in a store that keeps what was found when it was made.
CHECK = "check.json"
#: A person's size in meters that is refused at once, or said where the user gave the unit.
IMPOSSIBLE = (0.1, 10.0)
#: Upright: within 60 degrees of y. A single sequence lies if it is within 37 degrees of another
#: axis; people who bend down in it stay above that.
UPRIGHT, LIES = 0.5, 0.8
#: Sequences that are named of those unlike the others.
_NAMED = 3
#: Deviation of a bone's length over time, as a share of its body's size, of the worst bone. Sensors
#: reach 0.025 in the median sequence, and 0.1 in the worst.
CHANGE, WORST_CHANGE = 0.08, 0.15
#: How many times as long a bone may be as its mirror image; 1.06 was the most seen. Ignored for
#: bones that differ by less than a fiftieth of the body.
UNEVEN, UNEVEN_2D = 1.25, 1.5
#: A bone longer than this share of its body; a spine in one piece has a third.
LONG = 0.42
#: A body that stays this close to its mean pose, as a share of its size; breathing is 0.01.
STILL = 0.002
#: Sequences, and frames of each, that tell left from right.
_LOOKED_AT = 64
#: Share of frames that are copies of the one before.
FROZEN = 0.5


def check_store(store: Store) -> Report:
    """Look at a store, at evenly spread sequences of a large one; takes seconds."""
    with np.errstate(all="ignore"):  # what is not finite is a finding
        case = Case(store, measure(store))
        findings = tuple(finding for each in CHECKS.values() for finding in each(case))
    return Report(len(case.measures.rows), len(store), findings)


def keep(store: Store, report: Report) -> None:
    """Put a report into its store."""
    with written_whole(store.path / CHECK) as file:
        text = json.dumps(asdict(report), indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")


def likely_units(size: float, layout: Layout) -> list[str]:
    """The units in which a body of ``size`` meters would have been read as meters."""
    low, high = size_limits(layout)
    return [unit for unit in ("mm", "cm", "m") if low <= size * UNITS[unit] <= high]


def impossible_size(positions: Sequence[npt.NDArray[Any]], layout: Layout) -> float | None:
    """The usual size of the bodies in recordings ``[3, T, V, M]``, if no body can have it."""
    sizes = np.concatenate([body_size(x[None]).ravel() for x in positions])
    size = _usual(sizes)
    least, most = IMPOSSIBLE if names_a_body(layout) else (0.0, IMPOSSIBLE[1])
    return None if np.isnan(size) or least <= size <= most else size


def meters(size: float) -> str:
    """A length as text."""
    return f"{size:,.0f} m" if size >= 10 else f"{size:.3g} m"


def _usual(values: Array) -> float:
    """Median of what was seen, NaN for nothing."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


@check
def values(case: Case) -> Iterator[Finding]:
    """Finite values."""
    odd = ~case.measures.finite
    if odd.any():
        text = f"{case.some(odd)} have values that are not finite"
        yield Finding("values", text, True, "prepare the source again")


@check
def height(case: Case) -> Iterator[Finding]:
    """Bodies of human size."""
    if case.flat:
        yield Finding("height", "2D poses, brought to a person's size")
        return
    size = case.measures.size
    seen = size[np.isfinite(size)]
    if not len(seen):
        return
    low, high = size_limits(case.store.layout)
    middle, (least, most) = _usual(size), np.percentile(seen, [5, 95])
    text = f"longest side of a body {meters(middle)}, of 90 % {meters(least)} to {meters(most)}"
    yield Finding("height", text)
    if not low <= middle <= high:
        units = likely_units(middle, case.store.layout)
        mend = f"--unit {' or '.join(units) or 'm, cm or mm, another than before'}"
        yield Finding("height", f"bodies are {meters(middle)} tall", True, mend)
        return
    odd = np.asarray(((size < low) | (size > high)).any(axis=1))
    if odd.any():
        worst = size[odd]
        worst = worst[(worst < low) | (worst > high)]
        yield Finding(
            "height",
            f"in {case.some(odd)} a body is {meters(_usual(worst))} tall",
            True,
            "recordings in another unit, prepared separately with --unit; or --drop-spurious",
        )


#: What else may be the reason where bodies lie.
_OR_LIE = "or people lie, and all is well"
_X_UP = "x points up, which --up does not turn: exchange axes in the files, so that y or z does"


@check
def up(case: Case) -> Iterator[Finding]:
    """Heads above feet, along y."""
    along = case.measures.up[np.isfinite(case.measures.up).all(axis=2)]
    if not names_a_body(case.store.layout):
        yield Finding("up", "not told: no joints of the layout are named as head and feet")
    if not len(along):
        return
    share = (along > UPRIGHT).mean(axis=0)
    turned = (np.abs(along) > UPRIGHT).mean(axis=0)
    yield Finding("up", f"y, in {share[1]:.0%} of the bodies")
    if share[1] >= 0.5:
        yield from _lying(case)
        return
    if (along[:, 1] < -UPRIGHT).mean() >= 0.5:
        mend = "turn y around in the recordings" if case.flat else "--up=-y, or --up y after -y"
        yield Finding("up", "bodies are upside down, their heads towards -y", True, mend)
    elif turned[2] >= 0.5:
        steps = case.store.preprocessing
        mend = "--up z, or --up y after z"
        if steps is not None and steps.rotate != "none":  # which turned x to z
            mend += f"; if neither helps, {_X_UP}"
        yield Finding("up", "bodies lie along z", True, f"{mend}; {_OR_LIE}")
    elif turned[0] >= 0.5:
        yield Finding("up", "bodies lie along x", True, f"{_X_UP}; {_OR_LIE}")
    else:
        mend = "--up, or another --layout: heads and feet may be other joints"
        yield Finding("up", "bodies have no direction in common from feet to head", True, mend)


def _lying(case: Case) -> Iterator[Finding]:
    """Sequences all of whose bodies lie along another axis than y, where most stand."""
    along = case.measures.up  # NaN for bodies that are not there
    across = np.maximum(np.abs(along[..., [0, 2]]).max(axis=2), -along[..., 1])
    odd = (across > LIES).any(axis=1) & ~(across <= LIES).any(axis=1)
    if odd.any():
        text = f"{case.some(odd, _NAMED)} lie along another axis than the others"
        mend = "exported with another axis up: prepare such files apart, with --up"
        mend = "turn such recordings" if case.flat else mend
        yield Finding("up", text, True, f"{mend}; {_OR_LIE}")


@check
def sides(case: Case) -> Iterator[Finding]:
    """Joints called left on the body's left."""
    store = case.store
    if case.flat:
        return
    step = -(-store.positions.shape[2] // _LOOKED_AT)

    def seen(row: int) -> Array:  # [T * M, V, 3]
        x = store.positions[row, :, ::step].astype(np.float64).transpose(3, 1, 2, 0)
        x = x.reshape(-1, store.layout.num_joints, 3)
        return np.where(x.any(axis=2, keepdims=True), x, np.nan)

    rows = case.measures.rows
    some = [seen(row) for row in rows[:: -(-len(rows) // _LOOKED_AT)]]
    found = sides_of(store.layout, np.concatenate(some))
    each = [sides_of(store.layout, seen(row)).mirrored for row in rows]
    left, right = (np.array([one is mirrored for one in each]) for mirrored in (False, True))
    mirrored, said = found.mirrored, found.said
    if mirrored is None:  # not in nearly all frames of all
        mirrored = bool(right.sum() > left.sum())
        said = f"{max(left.sum(), right.sum()):,} of {len(each):,} sequences"
    if not left.any() and not right.any():
        yield Finding("sides", "not told: no feet or face show a body's front")
        return
    side, other = ("right", "left") if mirrored else ("left", "right")
    mend = "--sides swap, or --sides mirror"
    text = f"joints called left are on the body's {side} in {said}"
    yield Finding("sides", text, mirrored, mend if mirrored else "")
    odd = left if mirrored else right
    if odd.any():
        text = f"in {case.some(odd, _NAMED)} they are on its {other}, unlike in the others"
        yield Finding("sides", text, True, f"prepare such files apart, with {mend}")


@check
def bones(case: Case) -> Iterator[Finding]:
    """Bones that keep their length, as long as their mirror images."""
    store, m = case.store, case.measures
    if not store.layout.edges:
        return
    size, joints = np.where(m.size > 0, m.size, np.nan)[..., None], store.layout.joints
    called = [f"{joints[a]} to {joints[b]}" for a, b in store.layout.edges]
    wrong = "another --layout: these joints are not in its order"
    flat = m.bones.reshape(-1, len(called)) / size.reshape(-1, 1)
    if not np.isfinite(flat).any():
        return
    usual = np.nanmedian(flat, axis=0)  # of each bone, as a share of its body
    long = int(usual.argmax())
    if usual[long] > LONG and names_a_body(store.layout):
        text = f"the bone from {called[long]} is {usual[long]:.0%} of the body's size"
        yield Finding("bones", text, True, wrong)
    ratio, pair = _uneven(store, usual)
    if ratio > (UNEVEN_2D if case.flat else UNEVEN):
        text = f"the bone from {called[pair[0]]} is {ratio:.1f} times as long as from"
        yield Finding("bones", f"{text} {called[pair[1]]}, its mirror image", True, wrong)
    if (usual < 1e-6).any():
        both = ", ".join(called[bone] for bone in np.flatnonzero(usual < 1e-6)[:3])
        text = f"joints are in one place all the time: {both}"
        yield Finding("bones", text, True, "a --layout without one of them")
    if case.flat:
        return
    change = m.change / size  # [n, M, E]
    each = np.fmax.reduce(np.fmax.reduce(change, axis=2), axis=1)  # the worst bone of each sequence
    middle = _usual(each)
    worst = called[int(np.nanmedian(change.reshape(-1, len(called)), axis=0).argmax())]
    yield Finding("bones", f"lengths change over time by {middle:.1%} of the body's size")
    if middle > CHANGE:
        text = f"bones change their length by {middle:.0%} of the body's size, {worst} most"
        yield Finding("bones", text, True, f"--gaps fill; or {wrong}")
    elif (each > WORST_CHANGE).any():
        text = f"in {case.some(each > WORST_CHANGE)} a bone changes its length by more than"
        mend = "joints are lost or jump: --gaps fill interpolates those that are zero"
        yield Finding("bones", f"{text} {WORST_CHANGE:.0%} of the body's size", True, mend)


def _uneven(store: Store, usual: Array) -> tuple[float, tuple[int, int]]:
    """How many times as long one bone is as its mirror image, the most, and the two."""
    edges, swap = list(store.layout.edges), store.layout.swap
    most, pair = 1.0, (0, 0)
    for bone, (a, b) in enumerate(edges):
        mirrored = (swap[a], swap[b])
        if mirrored == (a, b) or mirrored not in edges:
            continue
        other = edges.index(mirrored)
        apart = usual[bone] - usual[other]
        if apart > 0.02 and usual[bone] / max(usual[other], 1e-6) > most:
            most, pair = float(usual[bone] / max(usual[other], 1e-6)), (bone, other)
    return most, pair


@check
def frames(case: Case) -> Iterator[Finding]:
    """Frames with a body in them."""
    m, samples = case.measures, case.store.samples
    text = f"{m.empty.sum() / m.frames.sum():.1%} hold no body"
    filled, length = samples.get("filled"), samples.get("frames")
    if filled is not None and length is not None and "i" == filled.dtype.kind == length.dtype.kind:
        text += f", {filled.sum() / max(length.sum(), 1):.1%} are interpolated"
        most = filled > 0.5 * length
        if most.any():
            first = samples["name"][int(np.flatnonzero(most)[0])]
            yield Finding(
                "frames",
                f"in {most.sum():,} sequences (the first: {first}) something is interpolated in "
                "more than half of the frames",
                True,
                "leave them out, or --gaps keep",
            )
    yield Finding("frames", text)
    nobody = m.empty == m.frames
    if nobody.any():
        text = f"{case.some(nobody)} hold no body in any frame"
        yield Finding("frames", text, True, "leave them out")
    gaps = (m.empty > 0) & ~nobody
    ends = gaps & (m.tail > 0.5 * m.empty)
    again = "prepare the source again" if case.ready else "--gaps fill"
    if ends.any():
        share = (m.tail / m.frames)[ends].mean()
        text = f"{case.some(ends)} end in empty frames, {share:.0%} of their length"
        yield Finding("frames", text, True, again)
    if (gaps & ~ends).any():
        share = (m.empty / m.frames)[gaps & ~ends].mean()
        text = f"{case.some(gaps & ~ends)} have empty frames, {share:.0%} of their length"
        yield Finding("frames", text, True, again)


@check
def motion(case: Case) -> Iterator[Finding]:
    """Sequences with motion."""
    m = case.measures
    moved = np.fmax.reduce(m.moved, axis=1)
    if not np.isfinite(moved).any():
        return
    yield Finding("motion", f"{_usual(moved):.1%} of the body's size about the mean pose")
    still = (moved < STILL) & (m.empty < m.frames)
    if still.any():
        text = f"{case.some(still)} stand still"
        yield Finding("motion", text, True, "look at the recordings and leave them out")
    frozen = (m.repeated > FROZEN) & ~still
    if frozen.any():
        text = f"in {case.some(frozen)} most frames are copies of the one before"
        mend = "the sensor stood still, or few frames were recorded: leave them out"
        yield Finding("motion", text, True, mend)


@check
def bodies(case: Case) -> Iterator[Finding]:
    """Every body is in some sequence."""
    seen = np.asarray(np.isfinite(case.measures.size).any(axis=0))
    if not seen.all() and seen.any():
        last = int(np.flatnonzero(seen)[-1]) + 1
        absent = ", ".join(str(body + 1) for body in np.flatnonzero(~seen))
        mend = f"--max-bodies {last}" if last < len(seen) else ""
        text = f"body {absent} of {len(seen)} is in no sequence"
        yield Finding("bodies", text, True, mend)


@check
def labels(case: Case) -> Iterator[Finding]:
    """Classes to tell apart, each with samples."""
    found = case.store.labels
    if found is None:
        yield Finding("labels", "none")
        return
    classes, count = np.unique(found, return_counts=True)
    text = f"{len(classes):,} classes, {count.min():,} to {count.max():,} samples each"
    yield Finding("labels", text)
    names = case.store.class_names
    total = len(names) or int(classes[-1]) + 1
    if len(classes) < total:
        absent = next((i for i, one in enumerate(classes.tolist()) if i != one), len(classes))
        first = names[absent] if names else f"label {absent}"
        lacking = total - len(classes)
        text = f"{lacking:,} of {total:,} classes have no sample (the first: {first})"
        yield Finding("labels", text, True, "right for a part of a data set; else look at --labels")
    if len(classes) == 1:
        yield Finding("labels", "all samples are of one class", True, "look at --labels")
    elif (count == 1).any():
        label = int(classes[count == 1][0])
        first = names[label] if names else str(label)
        text = f"{(count == 1).sum():,} classes have a single sample (the first: {first})"
        yield Finding("labels", text, True, "look at --labels")


@check
def splits(case: Case) -> Iterator[Finding]:
    """Training and test samples of different people, and no sequence twice."""
    store, samples = case.store, case.store.samples
    _, same, count = np.unique(case.measures.content, return_inverse=True, return_counts=True)
    copies = (count > 1)[same] & (case.measures.empty < case.measures.frames)
    if copies.any():
        text = f"{case.some(copies)} are equal to others, number for number"
        yield Finding("splits", text, True, "leave the copies out")
    for name in store.meta["splits"]:
        try:
            parts: tuple[npt.NDArray[np.int64], ...] = get_split_rule(name, store)(samples)
        except ValueError as error:
            yield Finding("splits", f"split {name}: {error}", True)
            continue
        sizes = f"{len(parts[0]):,} train and {len(parts[1]):,} test"
        val = validation(store, name)
        if val is not None:
            sizes = f"{len(parts[0]):,} train, {len(val):,} validate and {len(parts[1]):,} test"
            parts = (parts[0], val, parts[1])
        yield Finding("splits", f"{name}: {sizes}")
        yield from _shared(store, name, parts)
        sides = [set(same[copies & np.isin(case.measures.rows, part)]) for part in parts]
        for first, second in combinations(sides, 2):
            if first & second:
                text = f"split {name}: {len(first & second):,} sequences have a copy on each side"
                yield Finding("splits", text, True, "leave the copies out")


#: Splits with one of these in their name or column test other things than other people.
_BY_DESIGN = ("view", "cam", "set", "fold", "session")


def _shared(store: Store, name: str, parts: tuple[npt.NDArray[Any], ...]) -> Iterator[Finding]:
    """Subjects and classes of a split's sides."""
    samples, column = store.samples, get_split_rule(name, store).column
    words = f"{name} {column}".lower()
    if "subject" in samples and not any(word in words for word in _BY_DESIGN):
        for first, second in combinations([set(samples["subject"][part]) for part in parts], 2):
            if first & second:
                some = ", ".join(map(str, sorted(first & second)[:5]))
                text = f"split {name}: {len(first & second):,} subjects are on both sides"
                mend = "another split"
                if samples["subject"].dtype.kind == "i":  # odd-even needs numbers
                    mend += ", such as odd-even,"
                mend += " to know about new people"
                yield Finding("splits", f"{text} ({some})", True, mend)
    if store.labels is not None:
        unseen = set(store.labels[parts[-1]].tolist()) - set(store.labels[parts[0]].tolist())
        if unseen:
            label = min(unseen)
            called = store.class_names[label] if store.class_names else str(label)
            text = f"split {name}: of the tested classes, {len(unseen):,} are never trained"
            yield Finding("splits", f"{text} (the first: {called})", True, "look at the split")

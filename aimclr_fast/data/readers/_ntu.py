"""NTU RGB+D and NTU RGB+D 120: ``.skeleton`` text files named SsssCcccPpppRrrrAaaa."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aimclr_fast.data import bodies as tracking
from aimclr_fast.data.gaps import mark
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Positions,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
)
from aimclr_fast.data.readers._files import Entry, list_entries, read_text
from aimclr_fast.data.readers._names import NTU
from aimclr_fast.data.readers._text import read_skeleton
from aimclr_fast.layouts import get_layout

#: The letters' columns of samples.csv; the action becomes the label.
NAME = re.compile(
    r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})"
)
LAYOUT = "ntu-rgb+d"
BODIES = 2
MISSING = "is on the list of samples with missing skeletons"


def columns_of(name: str) -> dict[str, int | str] | None:
    """Columns of samples.csv that a sample's name implies, or None for another kind of name."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    numbers = {key: int(value) for key, value in match.groupdict().items()}
    return {"label": numbers.pop("action") - 1, **numbers}


def plan_ntu(
    source: Path,
    options: Options,
    *,
    setups: int,
    actions: int,
    splits: Mapping[str, Mapping[str, Any]],
    title: str,
    citation: str,
) -> Plan:
    """Plan a folder or zip files of ``.skeleton`` files, up to ``setups`` and ``actions``."""
    listing = list_entries(source, _wanted)
    lists = [e for e in listing.entries if e.suffix == ".txt"]
    missing, notes = find_missing(lists, options.missing)
    left_out = listing.left_out
    units: list[Entry] = []
    for entry in listing.entries:
        if entry.suffix != ".skeleton":
            continue
        columns = columns_of(_name(entry))
        if columns is None:
            left_out.append(Problem(entry.shown, "is not named SsssCcccPpppRrrrAaaa.skeleton"))
        elif int(columns["setup"]) > setups or not 0 <= int(columns["label"]) < actions:
            left_out.append(Problem(entry.shown, f"is not of {title}", expected=True))
        elif _name(entry) in missing:
            left_out.append(Problem(entry.shown, MISSING, expected=True))
        else:
            units.append(entry)
    if not units and not left_out:
        raise ReadError(str(source), "holds no .skeleton files, nor zip files with any")
    bodies = options.max_bodies or BODIES
    return Plan(
        layout=get_layout(LAYOUT),
        bodies=bodies,
        units=units,
        read=functools.partial(
            read_ntu,
            bodies=bodies,
            follow=options.bodies == "follow" or options.drop_spurious,
            spurious=options.drop_spurious,
            cut=options.gaps in ("auto", "published"),
            unit=options.unit or "m",
            up=options.up or "y",
        ),
        classes=NTU[:actions],
        splits=splits,
        source=f"{title}, skeletons of Kinect v2",
        citation=citation,
        left_out=left_out,
        notes=notes + listing.notes,
        gaps="published",
        normalize="frame",
        in_meters=True,
    )


def _wanted(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith((".skeleton", ".skeleton.gz")) or (
        name.endswith(".txt") and "missing" in name
    )


def _name(entry: Entry) -> str:
    return entry.stem.upper()


def find_missing(lists: Iterable[Entry], given: Path | None) -> tuple[set[str], list[str]]:
    """Names on the lists of samples with missing skeletons: those found, and the one given."""
    entries = list(lists)
    if given is not None:
        entries.append(Entry(given, given.name))
    names: set[str] = set()
    notes: list[str] = []
    for entry in entries:
        found = {match[0] for match in NAME.finditer(read_text(entry))}
        if not found and entry.file == given:
            raise ReadError(entry.shown, "names no sample (SsssCcccPpppRrrrAaaa)")
        notes.append(f"{len(found)} samples with missing skeletons are listed in {entry.shown}")
        names |= found
    if not entries:
        notes.append(
            "no list of samples with missing skeletons was found or given (--missing FILE): "
            "only those without any body are left out"
        )
    return names, notes


def read_ntu(
    entry: Entry,
    *,
    bodies: int,
    follow: bool,
    spurious: bool = False,
    cut: bool = True,
    unit: str = "m",
    up: str = "y",
) -> Readings:
    """Read one ``.skeleton`` file."""
    layout = get_layout(LAYOUT)
    found = read_skeleton(entry.read(), layout.num_joints, entry.shown)
    positions: Positions
    if follow and len(found.frame):
        candidates = tracking.candidates(bodies, len(np.unique(found.ident)))
        slot = tracking.follow(found.frame, found.ident, bodies)
        # In meters and upright, as the thresholds for spurious bodies expect.
        positions = in_meters(found.place(slot, candidates), unit, up)
        positions = tracking.keep_best(mark(positions), bodies, spurious=spurious, cut=cut)
    else:
        positions = in_meters(found.in_order(bodies), unit, up)
    name = _name(entry)
    columns = columns_of(name)
    assert columns is not None  # plan_ntu lets no other name through
    yield Recording(name, check_positions(positions, entry.shown), columns, entry.shown)

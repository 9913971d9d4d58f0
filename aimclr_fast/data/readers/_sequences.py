"""What readers of people's own motion have in common: named sequences, their labels, the plan."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aimclr_fast.data.readers._base import Options, Plan, ReadError, Readings
from aimclr_fast.data.readers._files import Entry, Listing, list_entries, without_gz
from aimclr_fast.data.readers._labels import (
    LABEL_FILES,
    Labels,
    Named,
    find_labels,
    match_labels,
    name_sequences,
    read_labels,
    split_of,
)
from aimclr_fast.layouts import Layout

NO_LABELS = "no labels.csv: the store is for pretraining"


@dataclass(frozen=True)
class Unit:
    """A file and what its sequence is called."""

    entry: Entry
    name: str


class Called(Protocol):
    """A unit of a plan that is one sequence."""

    @property
    def name(self) -> str:
        """What the sequence is called."""


@dataclass
class Found:
    """The sequences of a source.

    Attributes:
        units: those that are read, each with a ``name``.
        labels: their rows, where there is a file of labels.
        listing: the source's files.
    """

    units: Sequence[Any]
    labels: Labels | None
    listing: Listing

    def plan(
        self, layout: Layout, read: Callable[..., Readings], notes: Sequence[str], **fields: Any
    ) -> Plan:
        """The plan of these sequences.

        Args:
            layout: the skeleton.
            read: reads a unit; takes ``labels`` by keyword, too.
            notes: how the source was understood.
            fields: others of the plan.
        """
        labels = self.labels
        splits, split_notes = split_of(labels)
        return Plan(
            layout=layout,
            units=self.units,
            read=functools.partial(read, labels=labels),
            classes=labels.classes if labels else None,
            numbered=True,
            splits=splits,
            left_out=self.listing.left_out,
            notes=[
                *notes,
                *self.listing.notes,
                *(labels.notes if labels else [NO_LABELS]),
                *split_notes,
            ],
            **fields,
        )


def by_file(listing: Listing) -> tuple[list[Unit], list[Named]]:
    """A sequence for each file."""
    named = name_sequences(listing)
    pairs = zip(listing.entries, named, strict=True)
    return [Unit(entry, one.name) for entry, one in pairs], named


def by_claimed_file(
    listing: Listing, claims: Callable[[Entry], bool]
) -> tuple[list[Unit], list[Named]]:
    """A sequence for each file that is claimed, where a format shares its ending with others."""
    own = [entry for entry in listing.entries if claims(entry)]
    others = len(listing.entries) - len(own)
    if others:
        listing.notes.append(f"ignored: {others:,} files of another kind with the same ending")
    listing.entries = own
    return by_file(listing)


def find_sequences(
    source: Path,
    options: Options,
    wanted: Callable[[str], bool],
    what: str,
    group: Callable[[Listing], tuple[Sequence[Called], list[Named]]] = by_file,
) -> Found:
    """The sequences under a source that have labels, or all of them where there are no labels.

    Args:
        source: a folder, a zip file or a file.
        options: ``labels`` counts.
        wanted: says whether to take a path, given in lower case.
        what: the files, for errors.
        group: makes units of the files, and their names.

    Raises:
        ReadError: there are none.
    """
    listing = list_entries(source, lambda p: wanted(p) or without_gz(p).endswith(LABEL_FILES))
    given = find_labels(listing, options)
    units, named = group(listing)
    if not units:
        passed = "".join(f"; {note}" for note in listing.notes)
        raise ReadError(str(source), f"holds no {what}{passed}")
    labels = read_labels(given) if given else None
    if labels:
        kept, problems = match_labels(labels, named)
        units = [units[index] for index in kept]
        listing.left_out += problems
        if not units:
            where = given.shown if given else str(source)
            raise ReadError(where, "names none of the sequences (files, not windows of them)")
    return Found(units, labels, listing)


def columns_of(name: str, labels: Labels | None) -> dict[str, int | str]:
    """The cells of samples.csv of a sequence."""
    return dict(labels.rows[name]) if labels else {}

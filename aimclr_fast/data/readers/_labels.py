"""A csv of labels and metadata, one row per sequence."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field

from aimclr_fast.data.readers._base import Problem, ReadError
from aimclr_fast.data.readers._files import Entry, read_text

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_ENDINGS = (".npy", ".npz", ".csv")
_RESERVED = ("frames", "bodies", "filled")  # the store's own columns
MAX_CLASSES = 1_000_000


@dataclass
class Labels:
    """What a csv of labels says.

    Attributes:
        rows: the cells of each sequence by its name, without the name.
        lines: the line of each.
        columns: what they are called.
        classes: names by label, where labels are names.
        problems: rows that cannot be used.
        dropped: the sequences of those.
    """

    rows: dict[str, dict[str, int | str]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    problems: list[Problem] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)


def read_labels(entry: Entry) -> Labels:
    """Read a csv of labels.

    Raises:
        ReadError: not a csv, or its header lacks ``name`` or repeats a column.
    """
    try:
        lines = list(csv.reader(read_text(entry).splitlines(), strict=True))
    except csv.Error as error:
        raise ReadError(entry.shown, f"not a csv file: {error}") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    header = ["name" if cell == "file" and "name" not in header else cell for cell in header]
    if "name" not in header or "" in header or len(set(header)) != len(header):
        raise ReadError(entry.shown, "header: columns must be named, differ, and include name", 1)
    reserved = [cell for cell in header if cell in _RESERVED]
    if reserved:
        raise ReadError(entry.shown, f"header: {reserved[0]} is a column that prepare adds", 1)
    labels = Labels(columns=tuple(cell for cell in header if cell != "name"))
    for number, cells in enumerate(lines[1:], start=2):
        if any(cell.strip() for cell in cells):
            _add(labels, dict(zip(header, cells, strict=False)), len(cells), number, entry)
    if "label" in header:
        _number_classes(labels, entry)
    return labels


def _add(labels: Labels, row: dict[str, str], cells: int, number: int, entry: Entry) -> None:
    def drop(reason: str) -> None:
        labels.problems.append(Problem(f"{entry.shown}:{number}", reason))

    name = row.pop("name", "").strip()
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    if cells != len(labels.columns) + 1:
        labels.dropped.add(name)
        return drop(f"{cells} cells, expected {len(labels.columns) + 1}")
    if not name:
        return drop("name is empty")
    if name in labels.lines:
        return drop(f"{name} is named before, in line {labels.lines[name]}")
    labels.lines[name] = number
    labels.rows[name] = {key: value.strip() for key, value in row.items()}
    return None


def _number_classes(labels: Labels, entry: Entry) -> None:
    """Make labels integers: as they are, or the place of their name in the alphabet."""
    values = {str(row["label"]) for row in labels.rows.values()}
    numeric = all(_INTEGER.fullmatch(value) for value in values)
    if not numeric:
        labels.classes = tuple(sorted(values - {""}))
    place = {name: index for index, name in enumerate(labels.classes or ())}
    for name, row in list(labels.rows.items()):
        text = str(row["label"])
        label = int(text) if numeric else place.get(text, -1)
        if 0 <= label < MAX_CLASSES:
            row["label"] = label
            continue
        reason = f"label {text!r:.60} is not 0 or more" if text else "label is empty"
        labels.problems.append(Problem(f"{entry.shown}:{labels.lines.pop(name)}", reason))
        labels.dropped.add(name)
        del labels.rows[name]

"""A csv of labels and metadata, one row per sequence."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import Options, Problem, ReadError, composed
from aimclr_fast.data.readers._classes import number_classes, number_names
from aimclr_fast.data.readers._files import Entry, Listing, read_text, without_gz
from aimclr_fast.data.readers._splits import column_rule

#: Names of the file of labels, where none is given.
LABEL_FILES = ("labels.csv", "samples.csv")
#: Endings that a name may have in the file of labels.
ENDINGS = (
    ".npy", ".npz", ".csv", ".tsv", ".txt", ".bvh", ".json", ".jsonl", ".ndjson", ".c3d", ".trc",
    ".amc",
)  # fmt: skip
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_NUMBER = re.compile(r"([+-]?[0-9]{1,18})(?:([.,])([0-9]*))?(?:[eE]([+-]?[0-9]{1,2}))?")
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.0*)?")
#: What programs write into a cell without a label. Not "none", which may be a class.
_NO_LABEL = ("nan", "na", "<na>", "n/a", "#n/a", "null")
#: Columns that are taken for a misnamed ``label``, where there is none.
_LIKE_LABEL = re.compile(
    r"(label|class|action|activity|category)(s|es)?([ _-]?(id|name|no|number))?"
)
_RESERVED = ("frames", "bodies", "filled")  # the store's own columns


@dataclass
class Labels:
    """What a csv of labels says.

    Attributes:
        shown: how messages name the file.
        rows: the cells of each sequence by its name as it is written, without the name.
        lines: the line of each.
        columns: what they are called.
        classes: names by label, where labels are names or ids.
        problems: rows that cannot be used.
        dropped: the sequences of those.
        notes: how the labels were understood, where that is not plain.
    """

    shown: str
    rows: dict[str, dict[str, int | str]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    problems: list[Problem] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def sequence_name(path: str) -> str:
    """What a sequence is called: its path without the endings of files that hold one."""
    path = without_gz(path)
    ending = next((one for one in ENDINGS if path.lower().endswith(one)), "")
    return composed(printable(path[: len(path) - len(ending)]))


def find_labels(listing: Listing, options: Options) -> Entry | None:
    """The csv of labels that is named, or at the top of a source; removed from ``listing``.

    Raises:
        ReadError: there are several, or one lies below the top, where it could only be taken for a
            sequence.
    """
    top = f"{listing.base}/" if listing.base else ""
    found = [
        e for e in listing.entries if without_gz(e.path.removeprefix(top).lower()) in LABEL_FILES
    ]
    listing.entries = [e for e in listing.entries if e not in found]
    if options.labels is not None:
        given = options.labels
        listing.entries = [
            e
            for e in listing.entries
            if e.member or e.file.name != given.name or e.file.resolve() != given.resolve()
        ]
        return Entry(given, given.name)
    if len(found) > 1:
        shown = " and ".join(e.shown for e in found)
        raise ReadError(shown, "several files of labels: name one with --labels")
    below = [e.shown for e in listing.entries if e.name.lower() in LABEL_FILES]
    if below:
        more = f", and {len(below) - 1} more" if len(below) > 1 else ""
        raise ReadError(
            below[0],
            f"a file of labels below the top of the source{more}: put one for all sequences, named "
            "by their paths, at the top, or name it with --labels; rename it if it is a sequence",
        )
    return found[0] if found else None


def read_labels(entry: Entry) -> Labels:
    """Read a csv of labels, with commas, semicolons or tabs between its cells.

    Raises:
        ReadError: not a csv, its header lacks ``name``, repeats a column or calls the labels
            otherwise, or a label is not what the others are.
    """
    delimiter, lines = cells_of(entry)
    header = [cell.strip().casefold() for cell in lines[0][1]] if lines else []
    # A delimiter at the end of each line makes an empty column.
    while (
        header and not header[-1] and not any("".join(c[len(header) - 1 :]) for _, c in lines[1:])
    ):
        header.pop()
    header = ["name" if cell == "file" and "name" not in header else cell for cell in header]
    if "name" not in header or "" in header or len(set(header)) != len(header):
        seen = ", ".join(repr(cell) for cell in header)
        reason = f"header: columns must be named, differ, and include name; it has {seen:.200}"
        raise ReadError(entry.shown, reason, lines[0][0] if lines else 1)
    reserved = [cell for cell in header if cell in _RESERVED]
    if reserved:
        raise ReadError(entry.shown, f"header: {reserved[0]} is a column that prepare adds", 1)
    labels = Labels(entry.shown, columns=tuple(cell for cell in header if cell != "name"))
    if delimiter != ",":
        labels.notes.append(f"{entry.shown}: read with {_DELIMITERS[delimiter]} between cells")
    for number, cells in lines[1:]:
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()
        _add(labels, dict(zip(header, cells, strict=False)), len(cells), number)
    if "label" in header:
        _number_classes(labels)
    elif alike := [cell for cell in header if _LIKE_LABEL.fullmatch(cell)]:
        raise ReadError(
            entry.shown,
            f"header: no column label, but {alike[0]}: rename it to label, or, where it is none, "
            "to something else",
            lines[0][0],
        )
    else:
        labels.notes.append(f"{entry.shown}: no column label: the store is for pretraining")
    return labels


def cells_of(entry: Entry) -> tuple[str, list[tuple[int, list[str]]]]:
    """The delimiter, and the cells of each line that has any, with the line they begin in."""
    text = composed(read_text(entry))
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    stream = io.StringIO(text, newline="")  # quoted cells may hold line breaks
    reader = csv.reader(stream, delimiter=delimiter, strict=True, skipinitialspace=True)
    lines = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ReadError(entry.shown, f"not a csv file: {error}", reader.line_num) from error
    return delimiter, lines


def _add(labels: Labels, row: dict[str, str], cells: int, number: int) -> None:
    def drop(reason: str) -> None:
        labels.problems.append(Problem(f"{labels.shown}:{number}", reason))

    name = printable(row.pop("name", "").strip())
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


def _number_classes(labels: Labels) -> None:
    """Make labels integers: unchanged, or the index of their name or id."""
    texts = {name: str(row["label"]) for name, row in labels.rows.items()}
    numbers = {name: _number(text) for name, text in texts.items()}
    numeric = [name for name, number in numbers.items() if number is not None]
    if not numeric:
        texts = {n: "" if t.casefold() in _NO_LABEL else t for n, t in texts.items()}
        place, labels.classes, notes = number_names(text for text in texts.values() if text)
        labels.notes += notes
        _set(labels, {name: place.get(text, -1) for name, text in texts.items()}, texts)
        return
    for name, number in numbers.items():
        if number is None:  # would make all the others names, and other classes
            what = f"label {texts[name]!r:.60}: not a whole number, or not surely one"
            what = what if texts[name] else "no label"
            raise ReadError(
                labels.shown,
                f"{what}, while {len(numeric)} others are numbers: fix it, or remove the line, "
                "which leaves the sequence out",
                labels.lines[name],
            )
    odd = next((text for text in texts.values() if not _PLAIN_NUMBER.fullmatch(text)), None)
    if odd is not None:
        labels.notes.append(f"{labels.shown}: labels such as {odd!r:.60} are read as whole numbers")
    whole = {name: number for name, number in numbers.items() if number is not None}
    numbering = number_classes([number for number in whole.values() if number >= 0])
    labels.classes = numbering.names
    labels.notes += numbering.notes
    _set(labels, {name: numbering.classes.get(n, -1) for name, n in whole.items()}, texts)


def _number(text: str) -> int | None:
    """A whole number, also where it is written as 2.0, 2,0, +2, '2' or 2.0e+00.

    Not 2,000, which may be two thousand, nor 1e+01, which may be 11 rounded.
    """
    found = _NUMBER.fullmatch(text.strip("'\""))
    if found is None:
        return None
    whole, mark, fraction, exponent = found[1], found[2], found[3] or "", found[4]
    shift = int(exponent or 0)
    thousands = mark == "," and len(fraction) == 3 and exponent is None
    if thousands or not 0 <= shift <= len(fraction) or fraction[shift:].strip("0"):
        return None
    number = int(whole + fraction[:shift])
    return number if abs(number) < 10**18 else None


def _set(labels: Labels, found: Mapping[str, int], texts: Mapping[str, str]) -> None:
    """Write the numbers into the rows; those below 0 are left out."""
    for name, label in found.items():
        if label >= 0:
            labels.rows[name]["label"] = label
            continue
        text = texts[name]
        reason = f"label {text!r:.60} is not 0 or more" if text else "label is empty"
        labels.problems.append(Problem(f"{labels.shown}:{labels.lines.pop(name)}", reason))
        labels.dropped.add(name)
        del labels.rows[name]


def split_of(labels: Labels | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The split of a column ``split``, if there is one, and what the user should know."""
    if labels is None or "split" not in labels.columns:
        return {}, []
    rule, notes = column_rule("split", (str(row["split"]) for row in labels.rows.values()))
    return {} if rule is None else {"split": rule}, notes


@dataclass(frozen=True)
class Named:
    """The names of a sequence.

    Attributes:
        name: what the store calls it.
        also: what the csv of labels may call it as well.
        shown: how messages name it.
    """

    name: str
    also: tuple[str, ...] = ()
    shown: str = ""


def name_sequences(listing: Listing) -> list[Named]:
    """Names of sequences that have a file each.

    Paths without endings and without the one folder around all; of several archives, each with its
    archive's name in front. Labels may also use the whole path, and the path in its archive if that
    is unique.
    """
    base = f"{listing.base}/" if listing.base else ""
    archives = {(e.file, e.inner) for e in listing.entries if e.member}
    count = Counter(sequence_name(entry.path) for entry in listing.entries)
    found = []
    for entry in listing.entries:
        short = name = sequence_name(entry.path.removeprefix(base))
        if len(archives) > 1 and entry.member:
            archive = PurePosixPath(entry.inner or entry.file.name)
            name = f"{sequence_name(archive.stem)}/{name}"
        whole = sequence_name(entry.path)
        also = (whole, short) if count[whole] == 1 else ()
        found.append(Named(name, also, entry.shown))
    return found


def labels_of(file: Path, names: Sequence[str]) -> tuple[Labels, list[int]]:
    """What a csv says of named sequences, and the indices of those that have a row.

    Raises:
        ReadError: as :func:`read_labels`, or the file has no column ``label``.
    """
    labels = read_labels(Entry(file, file.name))
    if "label" not in labels.columns:
        raise ReadError(str(file), "has no column label")
    kept, problems = match_labels(labels, [Named(name, shown=name) for name in names])
    labels.problems = problems
    return labels, kept


def match_labels(labels: Labels, sequences: Sequence[Named]) -> tuple[list[int], list[Problem]]:
    """Which sequences have a row, by index, and what is left out for lack of the other.

    One way to name sequences serves the whole file first: the one that most rows follow, the
    store's own where others are as good. The others serve what is left. Afterwards ``labels`` holds
    the rows of sequences alone, by the store's names.
    """
    names = [(sequence.name, *sequence.also) for sequence in sequences]
    _without_endings(labels, {name for some in names for name in some})
    left_out = list(labels.problems)
    ways = [
        {i: some[way] for i, some in enumerate(names) if some[way:] and some[way] in labels.rows}
        for way in range(max(map(len, names), default=0))
    ]
    row_of: dict[int, str] = {}
    for way in sorted(ways, key=lambda way: -len(set(way.values()))):
        used = set(row_of.values())
        row_of |= {i: row for i, row in way.items() if i not in row_of and row not in used}
    labels.rows = {sequences[i].name: labels.rows[row] for i, row in row_of.items()}
    kept, used = sorted(row_of), set(row_of.values())
    for index, sequence in enumerate(sequences):
        if index not in row_of and not labels.dropped.intersection(names[index]):
            left_out.append(Problem(sequence.shown, f"has no row in {labels.shown}"))
    left_out += [
        Problem(f"{labels.shown}:{line}", f"there is no sequence {name}")
        for name, line in labels.lines.items()
        if name not in used
    ]
    return kept, left_out


def _without_endings(labels: Labels, known: set[str]) -> None:
    """Name rows as sequences are named, except those that match one unchanged."""
    for name in [name for name in labels.lines if name not in known]:
        line, row, short = labels.lines.pop(name), labels.rows.pop(name), _called(name, known)
        if short in labels.lines:
            reason = f"{short} is named in line {labels.lines[short]} too"
            labels.problems.append(Problem(f"{labels.shown}:{line}", reason))
        else:
            labels.lines[short], labels.rows[short] = line, row
    labels.dropped |= {_called(name, known) for name in labels.dropped - known}


def _called(name: str, known: set[str]) -> str:
    r"""A row's name without an ending, and ``a\b`` or ``./a/b`` as ``a/b`` where that is known."""
    short = sequence_name(name)
    path = PurePosixPath(short.replace("\\", "/")).as_posix()
    return path if short not in known and path in known else short

"""How a table's cells are written: the delimiter and decimal mark that make them numbers."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.data.readers._text import read_table

#: Words for a missing number, those of C programs and pandas included.
MISSING = frozenset({
    "", "nan", "na", "n/a", "null", "none", "nil", "#n/a", "<na>", "-nan", "nan(ind)", "-nan(ind)",
    "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
#: Lines of these characters need no closer look: Python reads their cells as we do.
_PLAIN = re.compile(r"[-+.,;0-9eE \t]*")


@dataclass(frozen=True)
class Dialect:
    """How cells are written.

    Attributes:
        delimiter: what is between cells: a comma, a semicolon, a tab, or a blank for any blanks.
        decimal: a point or a comma.
    """

    delimiter: str
    decimal: str

    def split(self, line: str) -> list[str]:
        """The cells of a line, without quotes and blanks around them."""
        if self.delimiter == " ":
            return [cell.strip('"') for cell in line.split()]
        line = line.replace("\r", " ")  # as the compiled reader takes one within a line
        try:
            cells = next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True), [])
        except csv.Error:  # more characters than a cell can have
            return [line]
        return [cell.strip() for cell in cells]

    def number(self, cell: str) -> float | None:
        """The value of a cell; NaN for one that is empty or says so, None for anything else."""
        text = cell.replace("\N{MINUS SIGN}", "-")
        if self.decimal == ",":
            text = text.replace(".", "x").replace(",", ".")
        if _NUMBER.fullmatch(text):
            value = float(text)
            return value if math.isfinite(value) else None
        return math.nan if cell.lower() in MISSING else None


DIALECTS = tuple(Dialect(*both) for both in (",.", ";.", "\t.", " .", ";,", "\t,", " ,", ",,"))


_PLAIN_ROWS = tuple(
    (dialect, re.compile(rf"[-+.0-9eE{dialect.delimiter}]+")) for dialect in DIALECTS[:2]
)


@dataclass(frozen=True)
class Fit:
    """How well a dialect fits.

    Attributes:
        dialect: the one that was tried.
        agreeing: lines of numbers with the same count of cells.
        columns: that count.
        start: the first line of numbers.
        rows: the cells of the lines from there on that have so many.
    """

    dialect: Dialect
    agreeing: int
    columns: int
    start: int
    rows: list[list[str]]


def _plain_fit(lines: list[tuple[int, str]]) -> Fit | None:
    """The fit of plain numbers between commas or semicolons, perhaps below a heading.

    The usual case; the compiled reader, which reads all lines later, is much faster.
    """
    for dialect, plain in _PLAIN_ROWS:
        start = next((i for i, (_, line) in enumerate(lines) if plain.fullmatch(line)), len(lines))
        rows = [line for _, line in lines[start:] if plain.fullmatch(line)]
        if not rows or start + len(rows) < len(lines):
            continue
        counts = {row.count(dialect.delimiter) + 1 for row in rows}
        columns = counts.pop()
        if counts or columns < 2 or any(cells_of(dialect, line)[1] for _, line in lines[:start]):
            continue
        try:
            read_table("\n".join(rows).encode(), columns, "")
        except ReadError:
            continue
        return Fit(dialect, len(rows), columns, start, [r.split(dialect.delimiter) for r in rows])
    return None


def best_fit(lines: list[tuple[int, str]]) -> Fit | None:
    """The dialect under which most lines are numbers with the same count of cells, if any is."""
    best = _plain_fit(lines)
    if best is not None:
        return best
    for dialect in DIALECTS:
        split = [cells_of(dialect, line) for _, line in lines]
        counts = Counter(len(cells) for cells, numeric in split if numeric)
        if not counts:
            continue
        start = next(place for place, (_, numeric) in enumerate(split) if numeric)
        columns, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
        if best is None or agreeing > best.agreeing:
            rows = [cells for cells, _ in split[start:] if len(cells) == columns]
            best = Fit(dialect, agreeing, columns, start, rows)
        if agreeing == len(lines) - start:
            break
    return best


def cells_of(dialect: Dialect, line: str) -> tuple[list[str], bool]:
    """The cells of a line, and whether they are numbers, some of which may be missing."""
    if dialect.decimal == "." and _PLAIN.fullmatch(line):
        cells = line.split(None if dialect.delimiter == " " else dialect.delimiter)
        try:
            if math.isfinite(sum(map(float, cells))):
                blanks = " " in line or "\t" in line
                return [cell.strip() for cell in cells] if blanks else cells, bool(cells)
        except ValueError:  # a cell is empty, or the delimiter is another one
            pass
    cells, some = dialect.split(line), False
    for cell in cells:
        value = dialect.number(cell)
        if value is None:
            return cells, False
        some = some or value == value
    return cells, some

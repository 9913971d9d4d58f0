"""Tables of numbers as people save them: which delimiter, decimal mark and heading a text has.

The dialect is the one under which the lines are numbers and have the same count of cells; nothing
is read under another. :mod:`_columns` finds the meaning of the columns.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.data.readers._dialects import DIALECTS, MISSING, Dialect, Fit, best_fit, cells_of
from aimclr_fast.data.readers._text import read_table

#: Bytes of a text that are enough to find its dialect and heading.
HEAD = 1 << 18
_SAMPLE_LINES = 12
_INFINITE = re.compile(r"[-+]?(inf|infinity|1\.#inf|∞)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(,[0-9]{3})+\.[0-9]|[0-9](\.[0-9]{3})+,[0-9]"
                        r"|[0-9],[0-9]{3},[0-9]{3}|[0-9]['’ ][0-9]{3}[.,]")  # fmt: skip
_CLOCK = re.compile(r"(?<![0-9])[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?(?![0-9])([.,][0-9]{1,9})?")
_ANY_DELIMITER = re.compile(r"[,;\t ]")
_WHOLE = re.compile(r"[-+]?[0-9]+([.,]0*)?")
_DIGIT = re.compile(r"[0-9]")
_COMMENT = re.compile(r"\s*[#%]|\s*\"?sep=.\"?\s*$")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


#: What to say of a column for which :func:`is_label` holds.
LABEL = (
    "the last column holds whole numbers, as a label does: take it out, and put the label into "
    "labels.csv"
)


class NoTableError(ReadError):
    """Text without a row that looks like numbers."""


@dataclass(frozen=True)
class Outline:
    """What the beginning of a table tells about it.

    Attributes:
        dialect: how its cells are written.
        columns: cells of a line of numbers.
        heading: what the columns are called, or None.
        first: lines before the numbers.
        ignored: the text of those that are neither a heading nor a comment.
        label: whether the last column looks like a label, as in :func:`is_label`.
    """

    dialect: Dialect
    columns: int
    heading: tuple[str, ...] | None
    first: int
    ignored: tuple[str, ...] = ()
    label: bool = False


def decode(data: bytes, where: str, *, part: bool = False) -> bytes:
    """The text as UTF-8 with line feeds, without a byte-order mark.

    Args:
        data: as it is stored: UTF-8, UTF-16 or UTF-32, or another kind that holds ASCII.
        where: what errors name.
        part: the text is the beginning of a longer one, and may end within a character.

    Raises:
        ReadError: not text.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                data = data.decode(encoding, "ignore" if part else "strict").encode()
            except UnicodeError as error:
                raise ReadError(where, f"not {encoding.upper()} text: {error}") from error
            break
    if b"\0" in data:
        raise ReadError(where, "not text: it has null bytes (UTF-16 must begin with its mark)")
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    return data


def outline(data: bytes, where: str, *, part: bool = False) -> Outline:
    """Find dialect, heading and count of columns from the first lines of a decoded text.

    Raises:
        NoTableError: nothing in it looks like a row of numbers.
        ReadError: no lines are numbers under any dialect.
    """
    raw = data[:HEAD].split(b"\n")
    if (part or len(data) > HEAD) and len(raw) > 1:
        raw.pop()  # may be cut
    lines: list[tuple[int, str]] = []
    blank: dict[int, str] = {}
    comment = ""
    for number, line in enumerate(raw, start=1):
        text = line.decode("utf-8", "replace").rstrip("\r")
        if _COMMENT.match(text):
            comment = text.lstrip("#% \t") if not lines else comment
        elif not _DIGIT.search(text) and all(
            cell.strip(' "').lower() in MISSING for cell in _ANY_DELIMITER.split(text)
        ):
            blank[number] = text  # a frame without a body, or nothing
        else:
            lines.append((number, text))
        if len(lines) == _SAMPLE_LINES:
            break
    if not lines:
        raise NoTableError(where, "is empty")
    fit = best_fit(lines)
    if fit is None:
        raise _no_numbers(lines, where)
    _check_thousands(fit, lines, where)
    dialect, columns, start = fit.dialect, fit.columns, fit.start
    rows = fit.rows
    heading, ignored = _heading(dialect, lines[:start] or [(0, comment)], columns, where)
    if start + 1 < len(lines) and _repeats_counts(rows[0]):
        # Joints by number above x, y, z, as pandas writes two levels of columns.
        names = dialect.split(lines[start + 1][1])
        if len(names) == columns and not cells_of(dialect, lines[start + 1][1])[1]:
            heading = [" ".join(filter(None, both)) for both in zip(rows[0], names, strict=True)]
            start, rows = start + 2, rows[2:]
    if heading is None and _counts_up(rows[0]):
        heading, start, rows = rows[0], start + 1, rows[1:]
    # A delimiter at the end of each line makes an empty column.
    while rows and not any(row[columns - 1] for row in rows):
        if heading is not None and "".join(heading[columns - 1 :]):
            break
        columns -= 1
    if heading is not None:
        # One name less: that of the index, as R writes tables.
        heading = heading[:columns] if len(heading) >= columns else ["", *heading]
    first = lines[start][0] - 1 if start < len(lines) else len(raw)
    while first in blank and len(dialect.split(blank[first])) >= columns:
        first -= 1
    named = tuple(heading) if heading is not None and len(heading) == columns else None
    label = all(_WHOLE.fullmatch(row[columns - 1]) for row in rows) and not all(
        _WHOLE.fullmatch(cell) for row in rows for cell in row[1 : columns - 1]
    )
    return Outline(dialect, columns, named, first, tuple(ignored), label)


def _heading(
    dialect: Dialect, lines: list[tuple[int, str]], columns: int, where: str
) -> tuple[list[str] | None, list[str]]:
    """What the lines before the numbers call the columns, put together; the lines that do not."""
    named, others = [], []
    for number, line in lines:
        _refuse_broken_row(dialect, line, columns, where, number)
        for delimiter in dict.fromkeys((dialect.delimiter, *",;\t ")):
            cells = Dialect(delimiter, ".").split(line)
            if len(cells) in (columns, columns - 1):
                named.append(cells)
                break
        else:
            others.append(line.strip())
    if len(named) > 1:  # such as the name of the program in each column
        named = [cells for cells in named if len(set(cells[1:])) > 1] or named[:1]
    if not named:
        return None, [line for line in others if line]
    shortest = min(map(len, named))
    cells = [
        " ".join(filter(None, cells)) for cells in zip(*(n[:shortest] for n in named), strict=True)
    ]
    return (named[0] if len(named) == 1 else cells), others


def _refuse_broken_row(dialect: Dialect, line: str, columns: int, where: str, number: int) -> None:
    """A line of numbers with something else in it is no heading."""
    cells = dialect.split(line)
    given = [cell for cell in cells if dialect.number(cell) is not None and cell]
    if 2 * len(given) > len(cells) and not (_counts_up(["", *given]) or _repeats_counts(cells)):
        bad = next((cell for cell in cells if dialect.number(cell) is None), "")
        raise ReadError(where, f"expected a finite number, got {bad!r:.40}", number)


def _counts_up(row: list[str]) -> bool:
    """Whether a line is the columns' numbers, from 0 or 1, which is no pose."""
    cells = row[1:] if row and not row[0] else row
    return len(cells) > 2 and cells in (
        [str(n) for n in range(len(cells))],
        [str(n + 1) for n in range(len(cells))],
    )


def _repeats_counts(row: list[str]) -> bool:
    """Whether a line is 0,0,0,1,1,1 and so on, or from 1, perhaps after the name of a level."""
    cells = row if row[0].isdecimal() else row[1:]
    counts = Counter(cells)
    order = list(counts)
    if len(order) < 3 or cells[0] != cells[1] or len(set(counts.values())) != 1:
        return False
    return order in (
        [str(n) for n in range(len(order))],
        [str(n + 1) for n in range(len(order))],
    )


def _no_numbers(lines: list[tuple[int, str]], where: str) -> ReadError:
    number, text = lines[min(1, len(lines) - 1)]
    rows = [(dialect, dialect.split(text)) for dialect in DIALECTS]
    few = all(2 * _count(dialect, cells) < len(cells) for dialect, cells in rows)
    if (clock := _CLOCK.search(text)) and not few:
        reason = f"a time as {clock[0]} is not read: write seconds, or take the column out"
        return ReadError(where, reason, number)
    if not few and any(_THOUSANDS.search(line) for _, line in lines):
        return ReadError(where, _thousands(text), number)
    if text_column := _text_column(lines):
        return ReadError(where, text_column, number)
    reason = f"has no frames: no line is a row of numbers; this one is {text.strip()!r:.60}"
    return NoTableError(where, reason, number)


def _text_column(lines: list[tuple[int, str]]) -> str:
    """What to say of lines that are numbers but for some columns of text."""
    for dialect in DIALECTS:
        rows = [dialect.split(text) for _, text in lines]
        width = len(rows[-1])
        named = len(rows) > 1 and len(rows[0]) == width and _count(dialect, rows[0]) == 0
        body = rows[1:] if named else rows
        if any(len(row) != width for row in body):
            continue
        columns = list(zip(*body, strict=True))
        words = [i for i, column in enumerate(columns) if not _count(dialect, column)]
        numbers = sum(_count(dialect, column) == len(body) for column in columns)
        if words and numbers == width - len(words) > len(words):
            if _INFINITE.fullmatch(first := columns[words[0]][0]):
                return f"expected a finite number, got {first!r} (column {words[0] + 1})"
            some = ", ".join(f"{cell!r:.20}" for cell in list(dict.fromkeys(columns[words[0]]))[:3])
            name = f" ({rows[0][words[0]]!r:.30})" if named else ""
            return (
                f"column {words[0] + 1}{name} holds text such as {some}: take it out; where it "
                "says whom a line is of, give one file per person"
            )
    return ""


def _count(dialect: Dialect, cells: Iterable[str]) -> int:
    """Cells that are numbers, or say that they are missing."""
    return sum(dialect.number(cell) is not None for cell in cells)


def _thousands(text: str) -> str:
    return f"thousands separators are not read ({text.strip()!r:.40}): save plain numbers"


def _check_thousands(fit: Fit, lines: list[tuple[int, str]], where: str) -> None:
    """Refuse 1,234;5,678 throughout, which may be meters with decimals or thousands."""
    if fit.dialect.decimal != ",":
        return
    rows = lines[fit.start :]
    cells = [cell for _, text in rows for cell in fit.dialect.split(text) if "," in cell]
    if cells and all(re.fullmatch(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}", cell) for cell in cells):
        reason = f"{cells[0]} may have a decimal comma or a thousands separator: save with points"
        raise ReadError(where, reason, rows[0][0])


def is_label(column: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    """Whether a column is whole numbers beside ``others`` that are not."""
    column, others = column[~np.isnan(column)], others[~np.isnan(others)]
    return bool((column == np.rint(column)).all() and (others != np.rint(others)).any())


def read_numbers(
    data: bytes, found: Outline, where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """The numbers of a decoded text, NaN where a cell is empty.

    Returns:
        float64 ``[rows, columns]``, and the line of each row where some number is missing.

    Raises:
        ReadError: with the line that is wrong.
    """
    lines = data.split(b"\n", found.first)
    body = lines[-1] if len(lines) > found.first else b""
    plain = b'"' not in body
    if found.dialect.decimal == ",":
        plain = plain and b"." not in body
        body = body.replace(b",", b".") if plain else body
    # Two tabs leave a cell out; the compiled reader takes them for one blank.
    if plain and not (found.dialect.delimiter == "\t" and b"\t\t" in body):
        if b"#" in body or b"%" in body:
            body = re.sub(rb"(?m)^[ \t]*[#%][^\n]*", b"", body)
        try:
            return read_table(b"\n" * found.first + body, found.columns, where), None
        except ReadError:
            pass  # an empty cell, or a fault that the reader below puts into words
    text = data.split(b"\n", found.first)[-1].decode("utf-8", "replace")
    return _read_slowly(text, found, where)


def _read_slowly(
    text: str, found: Outline, where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    dialect, columns = found.dialect, found.columns
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), start=found.first + 1):
        if not line.strip(" \r") or _COMMENT.match(line):  # tabs are empty cells
            continue
        cells = dialect.split(line.rstrip("\r"))
        while len(cells) > columns and not cells[-1]:
            cells.pop()
        if found.heading is not None and tuple(cells) == found.heading:
            raise ReadError(where, "the heading again: a file must hold one recording", number)
        if len(cells) != columns:
            raise ReadError(where, f"{len(cells)} columns, the others have {columns}", number)
        values = [dialect.number(cell) for cell in cells]
        if None in values:
            bad = cells[values.index(None)]
            if _THOUSANDS.search(bad):
                raise ReadError(where, _thousands(bad), number)
            raise ReadError(where, f"expected a finite number, got {bad!r:.40}", number)
        rows.append(values)
        lines.append(number)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), columns)
    if np.isnan(table).all():
        table, lines = table[:0], []
    return table, np.array(lines, dtype=np.int64)

"""Tables of results: Markdown and LaTeX, mean ± standard deviation in percent."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .results import Row

HEADINGS = {
    "top1_last": "top-1 last",
    "top1_best": "top-1 best",
    "top1_chosen": "top-1 chosen",
    "top5_last": "top-5 last",
    "nmi": "NMI",
    "ari": "ARI",
}
FORMATS = ("markdown", "latex")


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading.

    Attributes:
        title: evaluation, data set and split.
        header: column names.
        rows: cells as text.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def heading(metric: str) -> str:
    """A metric's name in tables; "last" and "best" are epochs."""
    if metric.startswith("knn_"):
        return f"kNN-{metric.removeprefix('knn_')}"
    part, _, rest = metric.partition("_")
    if rest in HEADINGS:  # of one part of the evaluation, such as linear_top1_last
        return f"{part} {HEADINGS[rest]}"
    return HEADINGS.get(metric, metric)


def mean_and_spread(values: Sequence[float]) -> str:
    """Percent: the mean, and the sample standard deviation where there are several values."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def make_tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each evaluation, data set and split, in the order of first appearance.

    Rows that differ only in seed, checkpoint or draw are averaged; `n` says how many. Data of one
    name but other content make another table; other epochs or configurations another line.
    """
    blocks: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.evaluation, row.store, row.protocol, row.data_sha256)
        blocks.setdefault(key, []).append(row)
    contents: dict[tuple[str, ...], int] = Counter(key[:3] for key in blocks)
    tables = []
    for (evaluation, store, split, data), block in blocks.items():
        title = f"{evaluation}, {store} {split} (%)"
        if contents[evaluation, store, split] > 1:
            title += f", data {data[:8] or 'without checksums'}"
        tables.append(_table(title, block))
    return tables


def _what(row: Row) -> tuple[str, str, str]:
    return row.setting, row.features, row.stream


def _table(title: str, rows: list[Row]) -> Table:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    groups: dict[tuple[tuple[str, str, str], int | None, str], list[Row]] = {}
    epochs: dict[tuple[str, str, str], set[int | None]] = {}
    configs: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        groups.setdefault((_what(row), row.epoch, row.config), []).append(row)
        epochs.setdefault(_what(row), set()).add(row.epoch)
        configs.setdefault(_what(row), set()).add(row.config)
    lines, settings = [], []
    for what, epoch, config in groups:  # tell apart lines that would look the same
        parts = [what[0]]
        parts += [f"epoch {'?' if epoch is None else epoch}"] if len(epochs[what]) > 1 else []
        parts += [f"config {config or '?'}"] if len(configs[what]) > 1 else []
        settings.append(", ".join(part for part in parts if part))
    labeled = any(settings)
    for setting, ((what, _, _), group) in zip(settings, groups.items(), strict=True):
        _, features, stream = what
        cells = [features, stream or "-", *([setting or "-"] if labeled else [])]
        for metric in metrics:
            values = [row.metrics[metric] for row in group if metric in row.metrics]
            cells.append(mean_and_spread(values) if values else "-")
        lines.append((*cells, str(len(group))))
    header = ("features", "stream", *(["setting"] if labeled else []))
    return Table(
        title,
        (*header, *map(heading, metrics), "n"),
        tuple(lines),
    )


def markdown(table: Table) -> str:
    """The table with its title in Markdown."""
    words = len(table.header) - sum(_is_number(table, c) for c in range(len(table.header)))
    rule = ["---" if c < words else "---:" for c in range(len(table.header))]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    lines = [escaped[0], rule, *escaped[1:]]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{table.title}**\n\n{body}\n"


def latex(table: Table) -> str:
    """The table in LaTeX; needs booktabs."""
    numbers = [_is_number(table, c) for c in range(len(table.header))]

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(table.title)}}}",
            rf"\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numbers)}}}",
            r"\toprule",
            line(table.header),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _is_number(table: Table, column: int) -> bool:
    return table.header[column] not in ("features", "stream", "setting")


def _escape(text: str) -> str:
    text = text.replace("\\", r"\textbackslash ")
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text.replace("±", r"$\pm$")

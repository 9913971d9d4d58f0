"""The closing report of a run: a table, results.json and a figure of the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from rich.table import Table

from aimclr_fast.functional import STREAMS

from .checkpoint import written_whole
from .metrics import read_metrics
from .monitor import Scores

RESULTS = "results.json"


def score_table(rows: dict[str, Scores], title: str) -> Table:
    """One row an encoder; accuracies in percent."""
    table = Table(title=title, title_justify="left")
    table.add_column("features")
    for name in ("kNN-1 %", "kNN-20 %", "linear %"):
        table.add_column(name, justify="right")
    for name, scores in rows.items():
        values = (scores.knn_1, scores.knn_20, scores.linear)
        table.add_row(name, *("-" if v is None else f"{100 * v:.1f}" for v in values))
    return table


def seconds_so_far(folder: Path) -> float:
    """Seconds that the run had taken when it ended before; 0 if it has not."""
    try:
        return float(json.loads((folder / RESULTS).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, TypeError, LookupError):
        return 0.0


def save_scores(folder: Path, rows: dict[str, Scores], **about: object) -> Path:
    """Write the table's numbers, and `about`, to results.json."""
    path = folder / RESULTS
    scores = {name: row.as_dict() for name, row in rows.items()}
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps({**about, "scores": scores}, indent=1) + "\n")
    return path


def draw_curves(folder: Path, losses: Mapping[str, str]) -> Path:
    """Draw loss and kNN accuracy over the epochs, from metrics.jsonl, to curves.png."""
    path = folder / "curves.png"
    with written_whole(path) as temporary:
        curves_of(folder, losses).savefig(temporary, dpi=130)
    return path


def curves_of(folder: Path, losses: Mapping[str, str]) -> Figure:
    """Loss and kNN accuracy over the epochs, from metrics.jsonl.

    Args:
        folder: of the run.
        losses: labels of the parts of the loss, by name.
    """
    lines = read_metrics(folder)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    curves, accuracy = figure.subplots(1, 2)
    epochs = [line for line in lines if "loss" in line]
    for place, (name, label) in enumerate({"loss": "total", **losses}.items()):
        if not any(line.get(name) for line in epochs):  # the method has no such part
            continue
        curves.plot(
            [line["epoch"] for line in epochs],
            [line.get(name) for line in epochs],
            label=label,
            linewidth=2 if name == "loss" else 1,
            linestyle=("-", "--", "-.", ":")[place % 4],
        )
    curves.set(xlabel="epoch", ylabel="loss")
    curves.legend(frameon=False)
    for place, (name, label) in enumerate(_knn_curves(lines).items()):
        points = [(line["epoch"], 100 * line[name]) for line in lines if name in line]
        (curve,) = accuracy.plot(*zip(*points, strict=True), marker="os^D"[place % 4], label=label)
        accuracy.axhline(points[0][1], color=curve.get_color(), linestyle=":", linewidth=1)
    accuracy.set(xlabel="epoch", ylabel="test accuracy, %")
    if accuracy.lines:
        accuracy.legend(frameon=False, title="dotted: untrained")
    for axes in (curves, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    return figure


def _knn_curves(lines: list[dict[str, float]]) -> dict[str, str]:
    """Labels of the kNN accuracies in metrics.jsonl, by name; with several streams, each stream's.
    Empty for a store without labels; without kNN-20 if there are fewer samples.
    """
    names = {name for line in lines for name in line}
    labels = {"knn_1": "kNN-1", "knn_20": "kNN-20"}
    streams = [stream for stream in STREAMS if f"{stream}/knn_1" in names]
    if streams:
        labels = {f"{s}/{k}": f"{s} {label}" for s in streams for k, label in labels.items()}
    return {name: label for name, label in labels.items() if name in names}

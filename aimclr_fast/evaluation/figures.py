"""Figures of a representation, drawn from numbers; each is saved as PNG and PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from aimclr_fast._files import written_whole
from aimclr_fast._fonts import any_script
from aimclr_fast.data.inspection import bone_colors
from aimclr_fast.layouts import Layout

Array = npt.NDArray[Any]
MOST_NAMES = 60  # classes whose names still fit beside a figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.pdf."""
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in paths:
        with any_script(figure), written_whole(path) as temporary:
            figure.savefig(temporary, dpi=160, format=path.suffix[1:], bbox_inches="tight")
    return paths


def draw_tsne(
    features: Array, labels: Array, classes: Sequence[str], *, perplexity: float, seed: int
) -> Figure:
    """Features [Q, F] of unit length in two dimensions, colored by class."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    perplexity = min(perplexity, (len(unit) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="random", random_state=seed % 2**32).fit_transform(
        unit
    )
    present = np.unique(labels)
    colors = _colors(len(present))
    figure = Figure(figsize=(8.5, 5.5), layout="constrained")
    axes = figure.subplots()
    for i, label in enumerate(present):
        rows = labels == label
        marker = "ov^sD"[i // 20 % 5]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=10,
            marker=marker,
            color=colors[i],
            label=classes[label],
        )
    axes.set(xticks=[], yticks=[], title="t-SNE of the features of the test samples")
    if len(present) <= MOST_NAMES:
        figure.legend(loc="outside right center", frameon=False, fontsize=7, markerscale=1.5)
    return figure


def _colors(count: int) -> list[Any]:
    table = matplotlib.colormaps["tab20"]
    return [table(i % 20) for i in range(count)]


def draw_confusion(predicted: Array, labels: Array, classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix: the share of each class (row) that is predicted as each class (column)."""
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (labels, predicted), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    size = min(3.5 + 0.28 * count, 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if count <= MOST_NAMES:
        axes.set_xticks(range(count), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(count), classes, fontsize=7)
    if count <= 30:
        for row, column in np.argwhere(share >= 0.005):
            value = share[row, column]
            color = "white" if value > 0.6 else "black"
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6,
                color=color,
            )  # fmt: skip
    axes.set(xlabel="predicted", ylabel="class", title=title)
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.7)
    return figure


def by_class(
    predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.float64]:
    """Accuracy of each class; NaN where it has no samples."""
    total = np.bincount(labels, minlength=count)
    right = np.bincount(labels[predicted == labels], minlength=count)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def draw_per_class(accuracies: Mapping[str, Array], classes: Sequence[str], title: str) -> Figure:
    """Accuracy of each class [C] with each kind of features, sorted by the first."""
    first = next(iter(accuracies.values()))
    order = np.argsort(np.nan_to_num(first, nan=-1), kind="stable")
    order = order[~np.isnan(first[order])]  # no test samples, no bar
    figure = Figure(figsize=(7.5, 1.5 + 0.24 * len(order)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(accuracies)
    for i, (name, values) in enumerate(accuracies.items()):
        at = np.arange(len(order)) + 0.4 - (i + 0.5) * height
        color, hatch = (("tab:blue", ""), ("0.7", "///"), ("tab:orange", "..."), ("0.9", "xxx"))[
            i % 4
        ]
        axes.barh(
            at, 100 * values[order], height, color=color, hatch=hatch, edgecolor="0.2",
            linewidth=0.3, label=name,
        )  # fmt: skip
    axes.set_yticks(range(len(order)), [classes[label] for label in order], fontsize=7)
    axes.set(xlabel="accuracy, %", xlim=(0, 100), title=title)
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, ncols=len(accuracies))
    return figure


def draw_label_efficiency(
    curves: Mapping[str, Mapping[int, Sequence[float]]], title: str
) -> Figure:
    """Accuracy over the number of labeled samples: mean and standard deviation of the draws."""
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(curves.items()):
        counts = sorted(points)
        mean = np.array([100 * np.mean(points[count]) for count in counts])
        spread = np.array(
            [100 * np.std(points[c], ddof=1) if len(points[c]) > 1 else 0.0 for c in counts]
        )
        (line,) = axes.plot(counts, mean, marker="os^D"[place % 4], label=name)
        axes.fill_between(
            counts, mean - spread, mean + spread, color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set(xscale="log", xlabel="labeled training samples", ylabel="top-1, %", title=title)
    ticks = sorted({count for points in curves.values() for count in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def draw_neighbors(
    rows: Sequence[Sequence[Array]],
    titles: Sequence[Sequence[str]],
    right: Sequence[Sequence[bool]],
    layout: Layout,
) -> Figure:
    """Sequences as skeletons seen from the front: each row a query, then its nearest neighbors.

    Args:
        rows: sequences [3, T, V, M], the query first.
        titles: over each of them.
        right: whether it is of the query's class.
        layout: their skeleton.
    """
    across = max(len(row) for row in rows)
    figure = Figure(figsize=(2.6 * across, 1.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, row in enumerate(rows):
        for column, sequence in enumerate(row):
            axes = grid[i, column]
            _skeleton(axes, sequence, layout)
            color = "black" if column == 0 else "tab:green" if right[i][column] else "tab:red"
            axes.set_title(fill(titles[i][column], 34), fontsize=7, color=color)
    figure.suptitle("queries of the test set (left) and their nearest training samples", fontsize=9)
    return figure


def _skeleton(axes: Any, sequence: Array, layout: Layout, moments: int = 5) -> None:
    """A few moments of a sequence side by side, joints x and y."""
    shown = np.flatnonzero(sequence.any(axis=(0, 2, 3)))
    last = int(shown[-1]) if len(shown) else 0
    bodies = [m for m in range(sequence.shape[3]) if sequence[..., m].any()] or [0]
    span = sequence[0, : last + 1].max() - sequence[0, : last + 1].min()
    colors = bone_colors(layout)
    for moment, frame in enumerate(np.linspace(0, last, moments).round().astype(int)):
        for body in bodies:
            x, y = sequence[0, frame, :, body] + 0.7 * moment * span, sequence[1, frame, :, body]
            for (joint, parent), color in zip(layout.edges, colors, strict=True):
                axes.plot(x[[joint, parent]], y[[joint, parent]], color=color, lw=1)
    axes.set_aspect("equal")

"""Look at a store: a card in words, histograms, and one sequence in motion with its bones drawn.

A wrong layout is seen at once: bones that cross the body, a left arm in the right one's color.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.splits import get_split_rule
from aimclr_fast.data.store import Store, StoreError
from aimclr_fast.layouts import Layout

_LEFT, _RIGHT, _MIDDLE = "tab:blue", "tab:red", "0.4"


def card(store: Store) -> str:
    """What a store is and holds, several lines."""
    meta, samples = store.meta, store.samples
    lines = [store.summary()]
    lines += [
        f"{field}: {meta[field]}" for field in ("source", "licence", "citation") if meta[field]
    ]
    lines.append(f"unit: {meta['unit']} ({store.positions.dtype}); columns: {', '.join(samples)}")
    for column in ("frames", "bodies"):
        if column in samples:
            cells = samples[column]
            middle = int(np.median(cells))
            lines.append(
                f"{column} recorded: min {cells.min()}, median {middle}, max {cells.max()}"
            )
    if store.labels is not None:
        _, present = np.unique(store.labels, return_counts=True)
        lines.append(
            f"samples per class: min {present.min()}, median {int(np.median(present))}, "
            f"max {present.max()}; {len(present)} classes have samples"
        )
    for name in meta["splits"]:
        try:
            rule = get_split_rule(name, store)
            (train, test), val = rule(samples), rule.validation(samples)
            held = "" if val is None else f", {len(val):,} val"
            lines.append(f"split {name}: {len(train):,} train{held}, {len(test):,} test")
        except ValueError as error:
            lines.append(f"split {name}: {error}")
    return "\n".join(lines)


def draw(store: Store, folder: Path, *, sample: str | None = None) -> list[Path]:
    """Write ``NAME.png`` (histograms) and ``NAME.gif`` (one sequence) to ``folder``.

    Args:
        store: an open store.
        folder: made if it is not there.
        sample: name of the sequence to animate; the first one by default.

    Returns:
        The files.

    Raises:
        StoreError: there is no such sample, or matplotlib or Pillow is not installed.
    """
    try:
        import matplotlib
        import PIL  # noqa: F401  (matplotlib needs it to write a GIF)
    except ImportError as error:
        raise StoreError(
            f"drawing needs matplotlib and Pillow: pip install matplotlib ({error})"
        ) from error
    matplotlib.use("Agg")
    names = store.samples["name"].tolist()
    if sample is not None and sample not in names:
        raise StoreError(f"{store.path}: has no sample {sample!r}; the first is {names[0]!r}")
    index = 0 if sample is None else names.index(sample)
    folder.mkdir(parents=True, exist_ok=True)
    stem = store.path.resolve().name
    png, gif = folder / f"{stem}.png", folder / f"{stem}.gif"
    _histograms(store, png)
    motion = store.as_tensor(index).numpy()
    shown = np.flatnonzero(motion.any(axis=(0, 2, 3)))  # a recording's own length is padded with 0
    motion = motion[:, : int(shown[-1]) + 1 if len(shown) else 1]
    _animate(motion, store.layout, _title(store, index), gif)
    return [png, gif]


def _title(store: Store, index: int) -> str:
    name = str(store.samples["name"][index])
    if store.labels is None:
        return name
    label = int(store.labels[index])
    return f"{name}: {store.class_names[label] if store.class_names else f'class {label}'}"


def _histograms(store: Store, file: Path) -> None:
    from matplotlib import pyplot as plt

    columns = [("frames", "frames recorded")] if "frames" in store.samples else []
    figure, axes = plt.subplots(
        1 + len(columns), 1, figsize=(9, 3.2 * (1 + len(columns))), squeeze=False
    )
    top = axes[0, 0]
    if store.labels is not None:
        classes, count = np.unique(store.labels, return_counts=True)
        top.bar(classes, count, color=_LEFT)
        top.set_xlabel("class")
        if 0 < len(store.class_names) <= 30:
            top.set_xticks(
                np.arange(len(store.class_names)),
                store.class_names,
                rotation=60,
                ha="right",
                fontsize=7,
            )
    else:
        top.text(0.5, 0.5, "no labels", ha="center", va="center")
    top.set_ylabel("samples")
    top.set_title(store.summary(), fontsize=9)
    for axis, (column, label) in zip(axes[1:, 0], columns, strict=True):
        axis.hist(
            store.samples[column], bins=min(60, len(np.unique(store.samples[column]))), color=_LEFT
        )
        axis.set_xlabel(label)
        axis.set_ylabel("samples")
    figure.tight_layout()
    _save(file, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    plt.close(figure)


def bone_colors(layout: Layout) -> list[str]:
    """Color of each edge: left, right or middle, told from the left-right swap.

    Which side of a swapped pair is left is taken from the joints' names, if they say so.
    """
    colors = []
    for joint, _ in layout.edges:
        name, other = layout.joints[joint].lower(), layout.swap[joint]
        if other == joint:
            colors.append(_MIDDLE)
        elif "left" in name or ("right" not in name and joint < other):
            colors.append(_LEFT)
        else:
            colors.append(_RIGHT)
    return colors


def _animate(motion: npt.NDArray[Any], layout: Layout, title: str, file: Path) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.animation import FuncAnimation, PillowWriter

    bodies = [m for m in range(motion.shape[3]) if motion[..., m].any()] or [0]
    figure = plt.figure(figsize=(3.2 * len(bodies), 3.6))
    colors = bone_colors(layout)
    low, high = motion.min(axis=(1, 2, 3)), motion.max(axis=(1, 2, 3))
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-3)
    lines = []
    for place, body in enumerate(bodies, start=1):
        axis = figure.add_subplot(1, len(bodies), place, projection="3d")
        # The store's y points up; matplotlib's z does.
        axis.set(
            xlim=(middle[0] - half, middle[0] + half),
            ylim=(middle[2] - half, middle[2] + half),
            zlim=(middle[1] - half, middle[1] + half),
            xlabel="x", ylabel="z", zlabel="y", xticklabels=[], yticklabels=[], zticklabels=[],
        )  # fmt: skip
        axis.view_init(elev=12, azim=-70)
        lines.append((body, [axis.plot([], [], [], color=c, lw=2)[0] for c in colors]))
    figure.suptitle(title, fontsize=8)
    edges = np.array(layout.edges, dtype=np.intp).reshape(-1, 2)

    def show(frame: int) -> list[Any]:
        for body, bones in lines:
            ends = motion[:, frame, edges, body]  # [3, edges, 2]
            for index, bone in enumerate(bones):
                bone.set_data_3d(ends[0, index], ends[2, index], ends[1, index])
        return [bone for _, bones in lines for bone in bones]

    step = max(1, motion.shape[1] // 100)
    film = FuncAnimation(figure, show, frames=range(0, motion.shape[1], step), blit=False)
    _save(file, lambda temporary: film.save(temporary, writer=PillowWriter(fps=15), dpi=70))
    plt.close(figure)


def _save(file: Path, write: Any) -> None:
    """Write under a temporary name of the same ending, then rename."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)

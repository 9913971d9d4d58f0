"""Look at a store: a card in words, histograms, and sequences in motion with their bones drawn.

A wrong layout is seen at once: bones that cross the body, a left arm in the right one's color.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast._files import written_whole
from aimclr_fast._fonts import any_script
from aimclr_fast.data.splits import get_split_rule
from aimclr_fast.data.store import Store, StoreError
from aimclr_fast.layouts import Layout
from aimclr_fast.pages import Clip, pack_clip, pack_skeleton, write_page

_COLORS = {"left": "tab:blue", "right": "tab:red", "middle": "0.4"}
_BAR = "tab:blue"
_CLIPS = 12  # sequences of a page that names none


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


def draw(store: Store, folder: Path, *, names: Sequence[str] = ()) -> Iterator[Path]:
    """Write ``NAME.html`` (sequences side by side, to play and turn in a browser), ``NAME.png``
    (histograms) and ``NAME.gif`` (the first sequence) to ``folder``.

    Args:
        store: an open store.
        folder: made if it is not there.
        names: of the sequences; by default the first of each class, at most twelve.

    Yields:
        Each file when it is written.

    Raises:
        StoreError: there is no such sample, or matplotlib or Pillow, which the pictures need, is
            not installed.
    """
    indices = _chosen(store, names)
    stem = store.path.resolve().name
    folder.mkdir(parents=True, exist_ok=True)
    page, png, gif = (folder / f"{stem}{ending}" for ending in (".html", ".png", ".gif"))
    motions = [_motion(store, index) for index in indices]
    titles = [store.title_of(index) for index in indices]
    sides = bone_sides(store.layout)
    clips = [pack_clip(Clip(*pair)) for pair in zip(titles, motions, strict=True)]
    write_page(
        page,
        title=f"{stem}: {len(clips):,} of {len(store):,} sequences",
        data={"skeleton": pack_skeleton(store.layout, sides), "clips": clips},
        body='<div id="player"></div>',
        scripts=["player"],
    )
    yield page
    try:
        import matplotlib
        import PIL  # noqa: F401  (matplotlib needs it to write a GIF)
    except ImportError as error:
        raise StoreError(
            f"pictures need matplotlib and Pillow: pip install matplotlib ({error})"
        ) from error
    matplotlib.use("Agg")
    _histograms(store, png)
    yield png
    _animate(motions[0], store.layout, titles[0], gif)
    yield gif


def _chosen(store: Store, names: Sequence[str]) -> list[int]:
    """Indices of the named samples, or of some of all classes."""
    every = store.samples["name"].tolist()
    if names:
        index = {name: at for at, name in enumerate(every)}
        for name in names:
            if name not in index:
                raise StoreError(f"{store.path}: has no sample {name!r}; the first is {every[0]!r}")
        return [index[name] for name in names]
    firsts = (
        range(len(store))
        if store.labels is None
        else sorted(np.unique(store.labels, return_index=True)[1].tolist())
    )
    apart = np.linspace(0, len(firsts) - 1, min(_CLIPS, len(firsts))).round().astype(int)
    return [int(firsts[at]) for at in apart]


def _motion(store: Store, index: int) -> npt.NDArray[Any]:
    """A sequence [3, T, V, M] without the zeros that pad a recording's own length."""
    motion = store.as_tensor(index).numpy()
    shown = np.flatnonzero(motion.any(axis=(0, 2, 3)))
    return motion[:, : int(shown[-1]) + 1 if len(shown) else 1]


def _histograms(store: Store, file: Path) -> None:
    from matplotlib import pyplot as plt

    columns = [("frames", "frames recorded")] if "frames" in store.samples else []
    figure, axes = plt.subplots(
        1 + len(columns), 1, figsize=(9, 3.2 * (1 + len(columns))), squeeze=False
    )
    top = axes[0, 0]
    if store.labels is not None:
        classes, count = np.unique(store.labels, return_counts=True)
        top.bar(classes, count, color=_BAR)
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
            store.samples[column],
            bins=min(60, len(np.unique(store.samples[column]))),
            color=_BAR,
        )
        axis.set_xlabel(label)
        axis.set_ylabel("samples")
    with any_script(figure), written_whole(file) as temporary:
        figure.tight_layout()
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def bone_sides(layout: Layout) -> list[str]:
    """Side of each edge: left, right or middle, told from the left-right swap.

    Which side of a swapped pair is left is taken from the joints' names, if they say so.
    """
    sides = []
    for joint, _ in layout.edges:
        name, other = layout.joints[joint].lower(), layout.swap[joint]
        if other == joint:
            sides.append("middle")
        elif "left" in name or ("right" not in name and joint < other):
            sides.append("left")
        else:
            sides.append("right")
    return sides


def bone_colors(layout: Layout) -> list[str]:
    """Color of each edge, by its side, for matplotlib."""
    return [_COLORS[side] for side in bone_sides(layout)]


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
    with any_script(figure), written_whole(file) as temporary:
        film.save(temporary, writer=PillowWriter(fps=15), dpi=70)
    plt.close(figure)

"""Draw docs/figures/augmentations.png: one sequence as it is and under the augmentations.

    python scripts/draw_augmentations.py [docs/figures/augmentations.png]

Each row is one sequence of the embedded UI-PRMD set in eight of its frames, seen a little from the
side. The left limbs keep their color, so that a left-right flip shows.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from aimclr_fast import functional
from aimclr_fast.data import open_embedded
from aimclr_fast.layouts import Layout
from aimclr_fast.reference.skeleton_augment import AugmentParams, View, draw_params

SAMPLE, SEED = "m03_s03_e04_correct", 0
#: Steps whose draws of the extreme view are shown: between them, everything is on.
EXTREME_STEPS = (2, 12)
POSES, ROW_HEIGHT, SPACING = 8, 2.0, 1.35  # height and spacing in meters
TURN, TILT = math.radians(28), math.radians(8)
LEFT, MIDDLE, RIGHT = "#d1603d", "#4a4e57", "#2f6f9f"


def describe(params: AugmentParams, frames: int) -> str:
    """The draws of the first sample, in words."""
    words = []
    if params.crop_start is not None:
        shift = int(params.crop_start[0]) - frames // 6
        words.append(f"crop {shift:+d} frames".replace("-", "−"))
    if params.shear is not None:
        words.append("shear")
    if params.spatial_flip is not None and params.spatial_flip[0]:
        words.append("left-right flip")
    if params.rotation_angles is not None:
        angles = params.rotation_angles[0].rad2deg()
        axis = int(angles.argmax())
        words.append(f"turn {angles[axis]:.0f}° about {'xyz'[axis]}")
    if params.noise_std is not None and params.noise_std[0] > 0:
        words.append("noise")
    if params.blur_sigma is not None and params.blur_sigma[0] > 0:
        words.append(f"blur σ {params.blur_sigma[0]:.1f}")
    if params.axis_mask is not None and params.axis_mask[0] >= 0:
        words.append(f"{'xyz'[int(params.axis_mask[0])]} masked")
    return ", ".join(words)


def project(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Positions [3, ...] to the page [2, ...]; preprocessed subjects face -z."""
    across = -math.cos(TURN) * x[0] - math.sin(TURN) * x[2]
    depth = math.sin(TURN) * x[0] - math.cos(TURN) * x[2]
    return np.stack([across, math.cos(TILT) * x[1] - math.sin(TILT) * depth])


def draw_row(axes: Axes, x: npt.NDArray[np.float32], layout: Layout, title: str, note: str) -> None:
    """Draw one sequence [3, T, V] as skeletons from left to right."""
    sides = [name.partition("_")[0] for name in layout.joints]
    colors = [{"left": LEFT, "right": RIGHT}.get(side, MIDDLE) for side in sides]
    frames = np.linspace(0, x.shape[1] - 1, POSES).round().astype(int)
    points = project(x[:, frames])
    low, high = points[1].min(), points[1].max()
    # The published blur is not normalized and enlarges the body: such a row is shrunk, and says so.
    shrink = min(1.0, ROW_HEIGHT / (high - low), 1.7 * SPACING / np.ptp(points[0], axis=1).max())
    if shrink < 0.95:
        note += f"   (drawn at {shrink:.0%} of its size)"
    points = points * shrink
    points[1] -= (points[1].min() + points[1].max()) / 2
    for place in range(POSES):
        pose = points[:, place].T + np.array([place * SPACING, 0])
        bones = [(pose[joint], pose[parent]) for joint, parent in layout.edges]
        bone_colors = [colors[joint] for joint, _ in layout.edges]
        axes.add_collection(
            LineCollection(bones, colors=bone_colors, linewidths=2.4, capstyle="round", zorder=2)
        )
        axes.scatter(
            pose[:, 0], pose[:, 1], s=9, c=colors, edgecolors="white", linewidths=0.4, zorder=3
        )
    axes.set_xlim(-SPACING * 0.7, (POSES - 0.3) * SPACING)
    axes.set_ylim(-ROW_HEIGHT * 0.56, ROW_HEIGHT * 0.56)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color="#22252b", pad=2)
    axes.text(
        0.155, 1.0, note, transform=axes.transAxes, fontsize=9.5, color="#6a6f7a", va="bottom"
    )


def draw(output: Path) -> None:
    """Draw the figure."""
    store = open_embedded()
    sample = int(np.flatnonzero(store.samples["name"] == SAMPLE)[0])
    data, index = store.as_tensor([sample]), torch.tensor([0])
    frames = data.shape[2]
    config = functional.AugmentConfig()
    name = store.class_names[int(store.samples["label"][sample])]

    rows = [(data, "Original", f"{name}; {frames} frames")]
    for step in EXTREME_STEPS:
        views = functional.skeleton_augment(
            data, index, layout=store.layout, config=config, seed=SEED, step=step
        )
        shown = [(views.extreme, View.EXTREME, "Extreme")]
        if step == EXTREME_STEPS[0]:
            shown.insert(0, (views.query, View.QUERY, "Normal"))
        for view, kind, title in shown:
            params = draw_params(
                config, kind, frames=frames, seed=SEED, step=step, positions=torch.tensor([0])
            )
            rows.append((view, title, describe(params, frames)))

    figure = Figure(figsize=(11, 2.35 * len(rows)))
    axes = figure.subplots(len(rows), 1)
    for one, (view, title, note) in zip(axes, rows, strict=True):
        draw_row(one, view[0, ..., 0].numpy(), store.layout, title, note)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.965, bottom=0.01, hspace=0.16)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.png")
    figure.savefig(temporary, dpi=130, facecolor="white")
    temporary.rename(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "output", nargs="?", type=Path, default=Path("docs/figures/augmentations.png")
    )
    arguments = parser.parse_args()
    draw(arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()

"""The page of some runs: what they learned, in figures and on a map whose dots can be played."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from aimclr_fast._fonts import any_script
from aimclr_fast.data import Store
from aimclr_fast.data.inspection import bone_sides
from aimclr_fast.inference.features import in_meters
from aimclr_fast.inference.nearest import nearest
from aimclr_fast.pages import Clip, pack_clip, pack_skeleton

from .baselines import baselines
from .figures import by_class, draw_confusion, draw_label_efficiency, draw_per_class
from .heads import LinearConfig, linear_evaluation
from .labeled_data import LabeledData
from .protocols import semi
from .representation import RAW, UNTRAINED, Pretrained, Representation

NAME = "pretrained"
#: What a dot of the map keeps: frames and bits of a coordinate; 2,000 dots stay below 5 MB.
FRAMES, BITS, DOTS = 16, 8, 2000
NEIGHBORS = 3
#: Labels of each class in the curve of label efficiency.
_FEW = (1, 2, 5, 10, 20, 50)


@dataclass
class Page:
    """The parts of a page, in order.

    Attributes:
        sections: (heading, HTML) of each.
        data: what its scripts read.
    """

    sections: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def body(self) -> str:
        """The sections as HTML."""
        return "\n".join(
            f"<section>\n<h2>{html.escape(heading)}</h2>\n{text}\n</section>"
            for heading, text in self.sections
        )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; all columns but the first are numbers where they look like some."""

    def cell(value: object, kind: str) -> str:
        text = html.escape(str(value))
        number = re.fullmatch(r"[-\d.,]+( ± [\d.,]+)?", text) is not None
        return f"<{kind}{' class=number' if number else ''}>{text}</{kind}>"

    lines = ["<table>", "<tr>" + "".join(cell(name, "th") for name in header) + "</tr>"]
    lines += ["<tr>" + "".join(cell(value, "td") for value in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def picture(figure: Figure, what: str) -> str:
    """A figure as HTML: SVG with its text as text, the same for the same numbers."""
    out = io.StringIO()
    # Browsers have fonts of their own: no letter is a box there.
    with (
        rc_context({"svg.fonttype": "none", "svg.hashsalt": "page"}),
        any_script(figure, say=False),
    ):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", '<svg role="img"', 1)
    # Ids of one figure must not be those of another on the page.
    mark = re.sub(r"\W", "", what)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", svg)
    return f"<figure><figcaption>{html.escape(what)}</figcaption>{svg}</figure>"


def learned(page: Page, pretrained: Pretrained, store: Store, *, seed: int = 0) -> None:
    """Add what an encoder tells apart, beside the untrained one and raw poses, and the map."""
    data = pretrained.data
    compared = [
        pretrained.representation(NAME),
        *baselines(pretrained, (UNTRAINED, RAW), None, seen=set(), say=lambda _: None),
    ]
    features = {one.name: one.features() for one in compared}
    recipe = LinearConfig(lr=0.1, standardize=True)
    outcomes = {
        name: linear_evaluation(found, recipe, seed=seed) for name, found in features.items()
    }
    labels = features[NAME].test_labels.cpu().numpy()
    predicted = {
        name: one.logits.argmax(1).cpu().numpy()
        for name, one in outcomes.items()
        if one.logits is not None
    }
    per_class = {
        name: by_class(found, labels, len(data.classes)) for name, found in predicted.items()
    }
    how = "linear classifier by SGD on standardized features (the table has a logistic regression)"
    page.sections.append(
        ("Map", '<p id="about-map"></p>\n<div id="map"></div>\n<div id="shown"></div>')
    )
    page.data.update(_map(data, features[NAME].test.cpu(), store, seed))
    page.sections.append(
        (
            "Accuracy by class",
            picture(draw_per_class(per_class, data.classes, ""), how),
        )
    )
    page.sections.append(
        (
            "Confusion",
            picture(draw_confusion(predicted[NAME], labels, data.classes, ""), f"{NAME}: {how}"),
        )
    )
    page.sections.append(("Label efficiency", _few_labels(compared, outcomes, data, recipe, seed)))


def _few_labels(
    compared: Sequence[Representation],
    outcomes: Mapping[str, Any],
    data: LabeledData,
    recipe: LinearConfig,
    seed: int,
) -> str:
    least = int(torch.unique(data.labels[data.train], return_counts=True)[1].min())
    amounts: list[int | str] = [str(count) for count in _FEW if count < least]
    few = semi.Config(labels=amounts, draws=3, tune="linear", linear=recipe)
    curves: dict[str, dict[int, list[float]]] = {}
    for one in compared:
        points: dict[int, list[float]] = {}
        if amounts:
            for outcome in semi.learn(one, few, seed=seed, say=lambda _: None):
                accuracy = outcome.metrics["top1_last"]
                points.setdefault(outcome.details["labels"], []).append(accuracy)
        points[len(data.train)] = [outcomes[one.name].metrics["top1_last"]]
        curves[one.name] = points
    return picture(
        draw_label_efficiency(curves, ""),
        "linear classifier by SGD with few labels: mean and standard deviation of three draws",
    )


def _map(data: LabeledData, features: torch.Tensor, store: Store, seed: int) -> dict[str, Any]:
    """Test samples in two dimensions, with their neighbors and their motion."""
    count = len(features)
    some = np.sort(np.random.default_rng(seed).permutation(count)[:DOTS])
    chosen = features[torch.from_numpy(some)]
    rows = data.test[torch.from_numpy(some)]
    k = min(NEIGHBORS, len(some) - 1)
    near = nearest(chosen, chosen, k, exclude=torch.arange(len(some)))[1] if k > 0 else None
    names = store.samples["name"][rows.numpy()].tolist()
    labels = data.labels[rows].tolist()
    clips = [
        pack_clip(
            Clip(f"{name}: {data.classes[label]}", in_meters(data.sequences[row]).cpu().numpy()),
            frames=FRAMES,
            bits=BITS,
        )
        for name, label, row in zip(names, labels, rows.tolist(), strict=True)
    ]
    points, how = flat(chosen.numpy(), seed)
    left_out = f" (of {count:,})" if count > len(some) else ""
    return {
        "about": f"{len(some):,} test samples{left_out} by {how} of the features of the "
        f"{NAME} encoder",
        "classes": list(data.classes),
        "labels": labels,
        "points": np.round(points, 4).tolist(),
        "neighbors": [] if near is None else near.tolist(),
        "skeleton": pack_skeleton(data.layout, bone_sides(data.layout)),
        "dots": clips,
    }


def flat(features: npt.NDArray[Any], seed: int) -> tuple[npt.NDArray[np.float64], str]:
    """Features [S, F] in two dimensions within -1 and 1, and by what method."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if len(unit) < 10:
        width = min(2, len(unit) - 1, unit.shape[1])
        points, how = np.zeros((len(unit), 2)), "PCA"
        if width:
            points[:, :width] = PCA(width).fit_transform(unit)
    else:
        perplexity = min(30.0, (len(unit) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32)
        points, how = tsne.fit_transform(unit).astype(np.float64), "t-SNE"
    low, high = points.min(axis=0), points.max(axis=0)
    return 2 * (points - low) / np.maximum(high - low, 1e-12) - 1, how

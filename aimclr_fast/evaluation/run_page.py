"""The page of some runs: what they learned, in figures and on a map whose dots can be played."""

from __future__ import annotations

import html
import io
import json
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
from aimclr_fast.inference.features import encode, in_meters
from aimclr_fast.inference.nearest import nearest
from aimclr_fast.pages import Clip, pack_clip, pack_skeleton

from .baselines import baselines
from .figures import by_class, draw_confusion, draw_label_efficiency, draw_per_class
from .labeled_data import Features, LabeledData
from .probe import probe_predictions
from .protocols.semi import draw_labeled
from .representation import RAW, UNTRAINED, Pretrained

NAME = "pretrained"
#: What a dot of the map keeps: frames and bits of a coordinate. There are at most so many dots, and
#: fewer where their motion would take more bytes: the page stays below 5 MB.
FRAMES, BITS, DOTS, ROOM = 16, 8, 2000, 4_400_000
NEIGHBORS = 3
#: The classifier of all figures.
HOW = "logistic regression on standardized features"
#: Labels of each class in the curve of label efficiency, and draws of them.
_FEW, _DRAWS = (1, 2, 5, 10, 20, 50), 3


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
    labels = features[NAME].test_labels.cpu().numpy()
    predicted = {name: _predicted(found) for name, found in features.items()}
    per_class = {
        name: by_class(found, labels, len(data.classes)) for name, found in predicted.items()
    }
    add_map(page, pretrained, store, seed=seed)
    page.sections.append(
        (
            "Accuracy by class",
            picture(draw_per_class(per_class, data.classes, ""), HOW),
        )
    )
    page.sections.append(
        (
            "Confusion",
            picture(draw_confusion(predicted[NAME], labels, data.classes, ""), f"{NAME}: {HOW}"),
        )
    )
    page.sections.append(("Label efficiency", _few_labels(features, predicted, labels, seed)))


def _predicted(features: Features, rows: torch.Tensor | None = None) -> npt.NDArray[np.int64]:
    """Classes of the test samples, learned from all training samples or from some rows of them."""
    x, labels = features.train.cpu(), features.train_labels.cpu()
    if rows is not None:
        x, labels = x[rows], labels[rows]
    return probe_predictions(x.numpy(), labels.numpy(), features.test.cpu().numpy())


def _few_labels(
    features: Mapping[str, Features],
    predicted: Mapping[str, npt.NDArray[np.int64]],
    labels: npt.NDArray[np.int64],
    seed: int,
) -> str:
    known = features[NAME].train_labels.cpu()
    least = int(torch.unique(known, return_counts=True)[1].min())
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in features}
    for count in (count for count in _FEW if count < least):
        for draw in range(_DRAWS):
            rows = draw_labeled(known, count, seed=seed + draw)
            for name, found in features.items():
                right = _predicted(found, rows) == labels
                curves[name].setdefault(len(rows), []).append(float(right.mean()))
    for name, classes in predicted.items():
        curves[name][len(known)] = [float((classes == labels).mean())]
    return picture(
        draw_label_efficiency(curves, ""),
        f"{HOW}, fitted to few labels: mean and standard deviation of {_DRAWS} draws",
    )


def add_map(page: Page, pretrained: Pretrained, store: Store, *, seed: int = 0) -> None:
    """Add the test samples' features in two dimensions, with their neighbors and their motion."""
    data, count = pretrained.data, len(pretrained.data.test)
    dots = _dots(data, store, seed)
    rows = data.test[torch.tensor(list(dots))]
    features = encode(
        pretrained.file.loaded.encoder, data.sequences, rows, stream=pretrained.stream
    )
    k = min(NEIGHBORS, len(rows) - 1)
    near = nearest(features, features, k, exclude=torch.arange(len(rows)))[1].tolist() if k else []
    points, how = flat(features.numpy(), seed)
    what = "test samples" if any(data.classes) else "sequences"
    left_out = f" (of {count:,})" if count > len(rows) else ""
    page.data.update(
        about=f"{len(rows):,} {what}{left_out} by {how} of the features of the {NAME} encoder",
        classes=list(data.classes) if any(data.classes) else [],
        labels=data.labels[rows].tolist(),
        points=np.round(points, 4).tolist(),
        neighbors=near,
        skeleton=pack_skeleton(data.layout, bone_sides(data.layout)),
        dots=list(dots.values()),
    )
    page.sections.append(("Map", '<p id="about-map"></p>\n<div id="map" class="map"></div>'))


def _dots(data: LabeledData, store: Store, seed: int) -> dict[int, dict[str, Any]]:
    """Test samples to show, drawn at random, as many as there is room for; by their place."""
    names = store.samples["name"]
    found: dict[int, dict[str, Any]] = {}
    room = ROOM
    for at in np.random.default_rng(seed).permutation(len(data.test))[:DOTS].tolist():
        row = int(data.test[at])
        label = data.classes[int(data.labels[row])]
        title = f"{names[row]}: {label}" if label else str(names[row])
        motion = in_meters(data.sequences[row]).cpu().numpy()
        found[at] = pack_clip(Clip(title, motion), frames=FRAMES, bits=BITS)
        room -= len(json.dumps(found[at])) + 50  # and its place, label and neighbors
        if room < 0:
            break
    return dict(sorted(found.items()))


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

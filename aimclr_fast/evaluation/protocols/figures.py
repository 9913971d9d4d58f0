"""All figures of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from aimclr_fast.evaluation.baselines import untrained
from aimclr_fast.evaluation.figures import (
    by_class,
    draw_confusion,
    draw_label_efficiency,
    draw_neighbors,
    draw_per_class,
    draw_tsne,
    save_figure,
)
from aimclr_fast.evaluation.heads import LinearConfig, linear_evaluation
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features, LabeledData
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import Outcomes, Pretrained
from aimclr_fast.evaluation.request import Request
from aimclr_fast.inference.features import in_meters
from aimclr_fast.inference.nearest import nearest

from . import semi

SUMMARY = "five figures: t-SNE, confusion matrix, per-class accuracy, label efficiency, neighbors"
CHOOSES = False
ADDS_TO_CSV = False


@dataclass(frozen=True)
class Config:
    """What the figures show.

    Attributes:
        labels: amounts of labels in the label-efficiency curve, as in semi.
        draws: number of random subsets for each amount.
        queries: number of test sequences whose neighbors are drawn.
        neighbors: number of training sequences drawn for each.
        samples: largest number of test samples in the t-SNE.
        perplexity: perplexity of the t-SNE.
        linear: recipe of the classifiers behind the figures; standardized, so that an untrained
            encoder shows what is in it.
    """

    labels: list[int | str] = field(default_factory=lambda: ["2%", "5%", "10%", "20%", "50%"])
    draws: int = 3
    queries: int = 4
    neighbors: int = 4
    samples: int = 2000
    perplexity: float = 30.0
    linear: LinearConfig = field(default_factory=lambda: LinearConfig(lr=0.1, standardize=True))


def run(request: Request[Config]) -> Outcomes:
    """Draw every figure for each stream of a checkpoint, with the untrained encoder beside it.

    Raises:
        EvaluationError: several checkpoints, or an invalid number.
    """
    config = request.config
    if len(request.paths) != 1:
        raise EvaluationError(f"figures are of one checkpoint, not of {len(request.paths)}")
    if min(config.draws, config.queries, config.neighbors) < 1 or config.samples < 10:
        raise EvaluationError(
            "draws, queries and neighbors must be at least 1, and samples at least 10"
        )
    request.report.make_folder()
    for one in request.pretrained:
        yield from _figures_of(request, one)


def _figures_of(request: Request[Config], encoder: Pretrained) -> Outcomes:
    config, options, report = request.config, request.options, request.report
    data, stream = encoder.data, encoder.stream
    pretrained = encoder.representation(options.name)
    compared = {one.name: one for one in (pretrained, untrained(encoder))}
    features = {name: one.features() for name, one in compared.items()}
    folds = data.folds() if config.linear.sweep else None
    outcomes = {
        name: linear_evaluation(found, config.linear, seed=options.seed, folds=folds)
        for name, found in features.items()
    }
    for name, outcome in outcomes.items():
        yield compared[name], outcome
    own = features[options.name]
    title = f"{report.store.path.name} {options.split}, {stream}"
    if pretrained.setting:
        title += f", {pretrained.setting}"
    labels = own.test_labels.cpu().numpy()

    def save(name: str, figure: Figure) -> None:
        for path in save_figure(figure, report.folder, f"{name}-{stream}"):
            report.say(f"drew {path}")

    some = np.random.default_rng(options.seed).permutation(len(labels))[: config.samples]
    test = own.test.cpu().numpy()
    save(
        "tsne",
        draw_tsne(
            test[some],
            labels[some],
            data.classes,
            perplexity=config.perplexity,
            seed=options.seed,
        ),
    )
    predicted = {name: _predicted(outcome) for name, outcome in outcomes.items()}
    what = f"{title}: linear evaluation, last epoch"
    save("confusion", draw_confusion(predicted[options.name], labels, data.classes, what))
    per_class = {
        name: by_class(found, labels, len(data.classes)) for name, found in predicted.items()
    }
    save("per_class", draw_per_class(per_class, data.classes, what))
    curves: dict[str, dict[int, list[float]]] = {}
    few = semi.Config(labels=config.labels, draws=config.draws, tune="linear", linear=config.linear)
    for name, one in compared.items():
        points: dict[int, list[float]] = {}
        for outcome in semi.learn(one, few, seed=options.seed, say=lambda _: None):
            points.setdefault(outcome.details["labels"], []).append(outcome.metrics["top1_last"])
            yield one, outcome
        points[len(data.train)] = [outcomes[name].metrics["top1_last"]]
        curves[name] = points
    save(
        "label_efficiency",
        draw_label_efficiency(curves, f"{title}: linear evaluation with few labels"),
    )
    save("neighbors", _neighbors(data, own, config, seed=options.seed))


def _predicted(outcome: Outcome) -> npt.NDArray[np.int64]:
    assert outcome.logits is not None
    found: npt.NDArray[np.int64] = outcome.logits.argmax(1).cpu().numpy()
    return found


def _neighbors(data: LabeledData, features: Features, config: Config, *, seed: int) -> Figure:
    """Queries, of different classes as far as possible, with their nearest neighbors."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))
    labels = data.labels[data.test][order].tolist()
    fresh = [row for i, row in enumerate(order.tolist()) if labels[i] not in labels[:i]]
    queries = torch.tensor((fresh + order.tolist())[: config.queries])
    k = min(config.neighbors, len(features.train))
    _, found = nearest(features.test[queries.to(features.test.device)], features.train, k)
    rows, titles, right = [], [], []
    for query, near in zip(queries.tolist(), found.tolist(), strict=True):
        index = torch.cat([data.test[query : query + 1], data.train[near]])
        names = [data.classes[label] for label in data.labels[index].tolist()]
        rows.append([_sequence(data.sequences, sample) for sample in index.tolist()])
        titles.append(names)
        right.append([name == names[0] for name in names])
    return draw_neighbors(rows, titles, right, data.layout)


def _sequence(sequences: Tensor, sample: int) -> npt.NDArray[np.float32]:
    return in_meters(sequences[sample]).cpu().numpy()

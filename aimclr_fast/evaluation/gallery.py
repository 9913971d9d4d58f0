"""All figures of one checkpoint in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor

from .features import in_metres
from .figures import (
    FigureConfig,
    draw_confusion,
    draw_label_efficiency,
    draw_neighbours,
    draw_per_class,
    draw_tsne,
    save_figure,
)
from .heads import linear_evaluation
from .models import fresh_encoder
from .neighbors import nearest
from .outcome import Outcome
from .own_store import with_protocol
from .problem import EvaluationError, Features, Problem
from .protocols import UNTRAINED, Subject, evaluate
from .semi import SemiConfig
from .session import Options, Session, Source, open_sources


def draw_figures(
    paths: Sequence[str], options: Options, config: FigureConfig, console: Console
) -> None:
    """Draw every figure for each stream of a checkpoint, with the untrained encoder beside it.

    Raises:
        EvaluationError: several checkpoints, or something that does not go together.
        CheckpointError: the file is no checkpoint.
        StoreError: the data cannot be read.
    """
    if len(paths) != 1:
        raise EvaluationError(f"figures are of one checkpoint, not of {len(paths)}")
    if min(config.draws, config.queries, config.neighbors) < 1 or config.samples < 10:
        raise EvaluationError(
            "draws, queries and neighbors must be at least 1, and samples at least 10"
        )
    sources = open_sources(paths, options.stream)
    options = with_protocol(options, sources, console)
    session = Session("figures", options, config, console, csv=False)
    problems = [session.problem(source) for source in sources]
    session.make_folder()
    for source, problem in zip(sources, problems, strict=True):
        _figures_of(session, source, problem, config)
    session.finish()


def _figures_of(session: Session, source: Source, problem: Problem, config: FigureConfig) -> None:
    stream, options = source.loaded.stream, session.options
    pretrained = source.subject(options.name)
    seed = pretrained.run_seed
    untrained = Subject(
        UNTRAINED,
        fresh_encoder(source.loaded.config["model"], source.loaded.layout, seed=seed),
        stream,
        run_seed=seed,
    )
    subjects = {one.features: one for one in (pretrained, untrained)}
    features = {name: problem.features(one.encoder, stream) for name, one in subjects.items()}
    folds = problem.folds() if config.linear.sweep else None
    outcomes = {
        name: linear_evaluation(found, config.linear, seed=options.seed, folds=folds)
        for name, found in features.items()
    }
    for name, outcome in outcomes.items():
        session.add(
            subjects[name], outcome, *([source] if name == options.name else []), beside=source
        )
    own, title = features[options.name], f"{session.store.path.name} {options.protocol}, {stream}"
    labels = own.test_labels.cpu().numpy()

    def save(name: str, figure: object) -> None:
        for path in save_figure(figure, session.folder, f"{name}-{stream}"):  # type: ignore[arg-type]
            session.say(f"drew {path}")

    some = np.random.default_rng(options.seed).permutation(len(labels))[: config.samples]
    test = own.test.cpu().numpy()
    save(
        "tsne",
        draw_tsne(
            test[some],
            labels[some],
            problem.classes,
            perplexity=config.perplexity,
            seed=options.seed,
        ),
    )
    predicted = {name: _predicted(outcome) for name, outcome in outcomes.items()}
    what = f"{title}: linear evaluation, last epoch"
    save("confusion", draw_confusion(predicted[options.name], labels, problem.classes, what))
    per_class = {
        name: _by_class(found, labels, len(problem.classes)) for name, found in predicted.items()
    }
    save("per_class", draw_per_class(per_class, problem.classes, what))
    curves = {
        name: _efficiency(session, source, problem, one, outcomes[name], config)
        for name, one in subjects.items()
    }
    save(
        "label_efficiency",
        draw_label_efficiency(curves, f"{title}: linear evaluation with few labels"),
    )
    save("neighbours", _neighbours(session, problem, own, config))


def _predicted(outcome: Outcome) -> npt.NDArray[np.int64]:
    assert outcome.logits is not None
    found: npt.NDArray[np.int64] = outcome.logits.argmax(1).cpu().numpy()
    return found


def _by_class(
    predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.float64]:
    """Accuracy of each class; NaN where it has no samples."""
    total = np.bincount(labels, minlength=count)
    right = np.bincount(labels[predicted == labels], minlength=count)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def _efficiency(
    session: Session,
    source: Source,
    problem: Problem,
    subject: Subject,
    full: Outcome,
    config: FigureConfig,
) -> dict[int, list[float]]:
    """Accuracies by number of labelled samples; all of them at the end."""
    semi = SemiConfig(labels=config.labels, draws=config.draws, tune="linear", linear=config.linear)
    points: dict[int, list[float]] = {}
    seed = session.options.seed
    for outcome in evaluate(problem, subject, semi, seed=seed, say=lambda _: None):
        points.setdefault(outcome.details["labels"], []).append(outcome.metrics["top1_last"])
        session.add(subject, outcome, beside=source)
    points[len(problem.train)] = [full.metrics["top1_last"]]
    return points


def _neighbours(
    session: Session, problem: Problem, features: Features, config: FigureConfig
) -> object:
    """Queries of different classes where there are so many, with their nearest neighbours."""
    order = torch.randperm(
        len(problem.test), generator=torch.Generator().manual_seed(session.options.seed)
    )
    labels = problem.labels[problem.test][order].tolist()
    fresh = [row for place, row in enumerate(order.tolist()) if labels[place] not in labels[:place]]
    queries = torch.tensor((fresh + order.tolist())[: config.queries])
    k = min(config.neighbors, len(features.train))
    _, found = nearest(features.test[queries.to(features.test.device)], features.train, k)
    rows, titles, right = [], [], []
    for query, near in zip(queries.tolist(), found.tolist(), strict=True):
        index = torch.cat([problem.test[query : query + 1], problem.train[near]])
        names = [problem.classes[label] for label in problem.labels[index].tolist()]
        rows.append([_sequence(problem.data, sample) for sample in index.tolist()])
        titles.append(names)
        right.append([name == names[0] for name in names])
    return draw_neighbours(rows, titles, right, problem.layout)


def _sequence(data: Tensor, sample: int) -> npt.NDArray[np.float32]:
    return in_metres(data[sample]).cpu().numpy()

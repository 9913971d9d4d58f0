"""A whole evaluation from the command line: checkpoints in; a table, results.json and .csv out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console

from .ensemble import EnsembleConfig
from .fusion import check_ensemble, fuse_subjects
from .own_store import with_protocol
from .problem import Problem
from .protocols import RAW, Subject, baselines, evaluate
from .results import Row
from .session import Options, Session, Source, open_sources


def evaluate_checkpoints(
    evaluation: str, paths: Sequence[str], options: Options, config: Any, console: Console
) -> list[Row]:
    """Evaluate the encoders of checkpoints by one protocol, and save the results.

    Args:
        evaluation: name of the protocol.
        paths: checkpoints; several of the same kind (seeds) make one line of the table.
        options: what every evaluation takes.
        config: of the protocol's own class.
        console: where progress and tables go.

    Raises:
        EvaluationError: data, checkpoints and options do not go together.
        CheckpointError: a file is no checkpoint.
        StoreError: the data cannot be read.
    """
    sources = open_sources(paths, options.stream)
    options = with_protocol(options, sources, console)
    session = Session(evaluation, options, config, console)
    # All complaints before any work.
    problems = [session.problem(source) for source in sources]
    if isinstance(config, EnsembleConfig):
        _fuse(session, sources, problems, config)
        session.finish()
        return session.rows
    seen: set[tuple[Any, ...]] = set()
    for source, problem in zip(sources, problems, strict=True):
        subject = source.subject(options.name)
        for outcome in evaluate(problem, subject, config, seed=options.seed, say=session.say):
            session.add(subject, session.keep_head(outcome, source), source)
        if not options.baselines:
            continue
        for subject in baselines(
            problem, source.loaded, config, options.scratch, say=session.say, seen=seen
        ):
            for outcome in evaluate(problem, subject, config, seed=options.seed, say=session.say):
                session.add(subject, outcome, beside=source)
    session.finish()
    return session.rows


def _fuse(
    session: Session,
    sources: Sequence[Source],
    problems: Sequence[Problem],
    config: EnsembleConfig,
) -> None:
    """Fuse the streams of each run; runs are told apart by file, or else by seed."""
    runs: dict[Any, list[tuple[Source, Problem]]] = {}
    whole = any(a.path == b.path for a, b in pairwise(sources))
    for source, problem in zip(sources, problems, strict=True):
        key = source.path if whole else source.loaded.config.get("seed", 0)
        runs.setdefault(key, []).append((source, problem))
    for parts in runs.values():
        check_ensemble(config, [source.loaded.stream for source, _ in parts])
    options, seen = session.options, set[tuple[Any, ...]]()
    for parts in runs.values():
        rows: dict[str, list[Subject]] = {}
        for source, problem in parts:
            rows.setdefault(options.name, []).append(source.subject(options.name))
            if options.baselines:
                for subject in baselines(
                    problem, source.loaded, config, options.scratch, say=session.say, seen=seen
                ):
                    rows.setdefault(subject.features, []).append(subject)
        for raw in rows.pop(RAW, []):  # they have no streams
            for outcome in evaluate(
                parts[0][1], raw, config.linear, seed=options.seed, say=session.say
            ):
                session.add(raw, outcome, beside=parts[0][0])
        for features, subjects in rows.items():
            own, together = fuse_subjects(
                [problem for _, problem in parts], subjects, config, seed=options.seed
            )
            files = [source for source, _ in parts] if features == options.name else []
            for place, subject in enumerate(subjects):
                own_file = files[place : place + 1]
                session.add(subject, own[subject.stream], *own_file, beside=parts[0][0])
            fused = subjects[0]._replace(stream="+".join(own))
            session.add(fused, together, *files, beside=parts[0][0])
            weights = together.details["weights"]
            session.say(f"weights of {features}, {together.details['weights_from']}: {weights}")

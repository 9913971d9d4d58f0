"""Evaluate pretrained encoders: python -m aimclr_fast.evaluate knn CHECKPOINT... --data STORE."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ._checkpoint import CheckpointError
from ._console import plain_console
from .cli import Parser, UserError, run
from .data import StoreError
from .evaluation.figures import FigureConfig
from .evaluation.gallery import draw_figures
from .evaluation.problem import EvaluationError
from .evaluation.protocols import CONFIGS
from .evaluation.results import ResultsError, read_results
from .evaluation.run import evaluate_checkpoints
from .evaluation.session import Options
from .evaluation.tables import FORMATS, latex, make_tables, markdown

PROGRAM = "python -m aimclr_fast.evaluate"
SUMMARIES = {
    "knn": "k-nearest-neighbor classification on frozen features",
    "linear": "a linear classifier on frozen features (the published recipe)",
    "finetune": "encoder and classifier trained together",
    "semi": "few labels, drawn several times",
    "transfer": "another data set, its skeleton mapped by the joints' names",
    "retrieval": "ranking by similarity: mAP and recall@k",
    "cluster": "k-means: Hungarian accuracy and mutual information",
    "ensemble": "two or three streams together",
    "figures": "t-SNE, confusion matrix, per-class accuracy, label efficiency, neighbors",
    "table": "many results as one table, in Markdown and LaTeX",
}


def overview() -> str:
    lines = "\n".join(f"  {name:<10} {summary}" for name, summary in SUMMARIES.items())
    return (
        f"usage: {PROGRAM} PROTOCOL CHECKPOINT... [--data STORE] [--protocol xsub] [options]\n"
        f"       {PROGRAM} table RESULTS... [--format markdown|latex]\n\n"
        f"PROTOCOL is one of:\n\n{lines}\n\n"
        f"{PROGRAM} PROTOCOL --help lists its options."
    )


def config_class(protocol: str) -> type[Any]:
    return FigureConfig if protocol == "figures" else CONFIGS[protocol]


def parser(protocol: str) -> Parser:
    command = Parser(
        prog=f"{PROGRAM} {protocol}",
        usage="%(prog)s CHECKPOINT... [--data STORE] [--protocol NAME] [options]",
        description=f"{SUMMARIES[protocol][0].upper()}{SUMMARIES[protocol][1:]}.",
    )
    command.add_argument("checkpoints", nargs="+", type=str, help="of aimclr_fast.train")
    command.add_argument(
        "--baselines",
        action="store_true",
        help="also the untrained encoder, one trained from scratch with labels, and raw poses",
    )
    command.add_class_arguments(Options, as_group=False, skip={"baselines"})
    command.add_class_arguments(config_class(protocol), as_group=False)
    return command


def table(arguments: list[str]) -> None:
    command = Parser(
        prog=f"{PROGRAM} table",
        usage="%(prog)s RESULTS... [--format markdown|latex]",
        description="Mean ± standard deviation over seeds, runs and draws, in percent.",
    )
    command.add_argument("results", nargs="+", type=str, help="results.csv and results.json files")
    command.add_argument("--format", type=str, default="markdown", help=" or ".join(FORMATS))
    given = command.parse_args(arguments)
    if given.format not in FORMATS:
        raise UserError(f"--format {given.format}: choose from {', '.join(FORMATS)}")
    rows = read_results(map(Path, given.results))
    if not rows:
        raise UserError(f"{', '.join(given.results)}: no results")
    print("\n".join((latex if given.format == "latex" else markdown)(t) for t in make_tables(rows)))


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    protocol = arguments[0]
    if protocol not in SUMMARIES:
        raise UserError(f"{protocol!r} is no protocol; choose from {', '.join(SUMMARIES)}")
    if protocol == "table":
        table(arguments[1:])
        return
    command = parser(protocol)
    parsed = command.parse_args(arguments[1:])
    try:
        given = vars(command.instantiate(parsed))
        checkpoints = given.pop("checkpoints")
        options = Options(**{f.name: given.pop(f.name) for f in fields(Options)})
        config = config_class(protocol)(**given)
    except ValueError as error:  # a value that the field's own class refuses
        raise UserError(str(error)) from error
    console = plain_console()
    if protocol == "figures":
        draw_figures(checkpoints, options, config, console)
    else:
        evaluate_checkpoints(protocol, checkpoints, options, config, console)


def command_line(arguments: list[str]) -> None:
    run(
        PROGRAM,
        main,
        arguments,
        EvaluationError,
        CheckpointError,
        StoreError,
        ResultsError,
        OSError,
    )


if __name__ == "__main__":
    command_line(sys.argv[1:])

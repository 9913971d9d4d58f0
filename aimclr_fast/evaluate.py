"""Evaluate pretrained encoders: python -m aimclr_fast.evaluate knn CHECKPOINT... --data STORE."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ._console import plain_console
from .cli import Parser, UserError, refuse_old_names, run
from .evaluation.options import EvaluationOptions
from .evaluation.protocols import EvaluationProtocol, get_protocol, protocol_names
from .evaluation.results import read_results
from .evaluation.run import evaluate_checkpoints
from .evaluation.tables import FORMATS, latex, make_tables, markdown

PROGRAM = "python -m aimclr_fast.evaluate"
OLD = {"protocol": "split"}
TABLE = "many results as one table, in Markdown and LaTeX"


def overview() -> str:
    """The command's help."""
    summaries = {name: get_protocol(name).summary for name in protocol_names()} | {"table": TABLE}
    lines = "\n".join(f"  {name:<10} {text}" for name, text in summaries.items())
    return (
        f"usage: {PROGRAM} PROTOCOL CHECKPOINT... [--data STORE] [--split xsub] [options]\n"
        f"       {PROGRAM} table RESULTS... [--format markdown|latex]\n\n"
        f"PROTOCOL is one of:\n\n{lines}\n\n"
        f"{PROGRAM} PROTOCOL --help lists its options."
    )


def parse(
    protocol: EvaluationProtocol, arguments: list[str]
) -> tuple[list[str], EvaluationOptions, Any]:
    """Checkpoints, what every evaluation takes, and the protocol's own configuration.

    Raises:
        UserError: a field's value is refused.
    """
    command = Parser(
        prog=f"{PROGRAM} {protocol.name}",
        usage="%(prog)s CHECKPOINT... [--data STORE] [--split NAME] [options]",
        description=f"{protocol.summary[0].upper()}{protocol.summary[1:]}.",
    )
    command.add_argument("checkpoints", nargs="+", type=str, help="of aimclr_fast.train")
    command.add_argument(
        "--baselines",
        action="store_true",
        help="also the untrained encoder, one trained from scratch with labels, and raw "
        "poses, which are also aligned where the store's preprocessing did not turn them",
    )
    command.add_class_arguments(EvaluationOptions, as_group=False, skip={"baselines"})
    command.add_class_arguments(protocol.config, as_group=False)
    parsed = command.parse_args(arguments)
    try:
        given = vars(command.instantiate(parsed))
        checkpoints = given.pop("checkpoints")
        shared = {field.name: given.pop(field.name) for field in fields(EvaluationOptions)}
        return checkpoints, EvaluationOptions(**shared), protocol.config(**given)
    except ValueError as error:  # a value that the field's own class refuses
        raise UserError(str(error)) from error


def table(arguments: list[str]) -> None:
    """Print the tables of files of results."""
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
    name, *rest = arguments
    if name == "table":
        table(rest)
        return
    if name not in protocol_names():
        choices = ", ".join((*protocol_names(), "table"))
        raise UserError(f"{name!r} is no protocol; choose from {choices}")
    refuse_old_names(rest, OLD)
    protocol = get_protocol(name)
    checkpoints, options, config = parse(protocol, rest)
    evaluate_checkpoints(protocol, checkpoints, options, config, plain_console())


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

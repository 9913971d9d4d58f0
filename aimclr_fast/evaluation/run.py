"""A whole evaluation: checkpoints in; a table, results.json and results.csv out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from .options import EvaluationOptions
from .protocols import EvaluationProtocol
from .request import resolve
from .results import Row


def evaluate_checkpoints(
    protocol: EvaluationProtocol,
    paths: Sequence[str],
    options: EvaluationOptions,
    config: Any,
    console: Console,
) -> list[Row]:
    """Evaluate the encoders of checkpoints by one protocol, and save the results.

    Args:
        protocol: from `get_protocol`.
        paths: checkpoints; several of the same kind (seeds) make one line of the table.
        options: what every evaluation takes.
        config: of the protocol's own class.
        console: where progress and tables go.

    Raises:
        EvaluationError: data, checkpoints and options do not fit each other.
        CheckpointError: a file is no checkpoint.
        ResultsError: results.csv cannot be added to.
        StoreError: the data cannot be read.
    """
    request = resolve(protocol, paths, options, config, console)
    for representation, outcome in protocol.run(request):
        request.report.add(representation, outcome)
    request.report.finish()
    return request.report.rows

"""Evaluation protocols, one module each; a module's name is what the user types.

A protocol has ``SUMMARY``, one line for the command's help, ``Config``, a dataclass whose fields
are the command's options (its docstring explains them), and ``run(request)``, which yields
representations with their outcomes (:class:`~aimclr_fast.evaluation.request.Request`). It may have

``CHOOSES = False``
    where no epoch, k or rate is chosen, so that ``--choose val`` is refused;
``ADDS_TO_CSV = False``
    where its numbers are not for results.csv;
``adapt(data, layout, config)``
    which makes data of another skeleton fit an encoder, and says how. Without it they are refused.

There is no list to edit: every module here without a leading underscore is a protocol.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from aimclr_fast.evaluation.labeled_data import LabeledData
from aimclr_fast.evaluation.representation import Outcomes
from aimclr_fast.layouts import Layout

Adapt: TypeAlias = Callable[[LabeledData, Layout, Any], tuple[LabeledData, str]]


@dataclass(frozen=True)
class EvaluationProtocol:
    """A module of this package.

    Attributes:
        name: of the module.
        summary: one line.
        config: its class of options.
        run: yields representations and their outcomes.
        chooses: whether an epoch, k or rate is chosen on held-out samples.
        adds_to_csv: whether results.csv gets its numbers.
        adapt: the data in an encoder's skeleton, and one line on how; None: as they are.
    """

    name: str
    summary: str
    config: type[Any]
    run: Callable[[Any], Outcomes]
    chooses: bool
    adds_to_csv: bool
    adapt: Adapt | None


def protocol_names() -> list[str]:
    """Names of the protocols."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get_protocol(name: str) -> EvaluationProtocol:
    """The protocol of a name.

    Raises:
        ValueError: there is none by that name; the message lists those there are.
    """
    if name not in protocol_names():
        raise ValueError(f"{name!r} is no protocol; choose from {', '.join(protocol_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    return EvaluationProtocol(
        name,
        module.SUMMARY,
        module.Config,
        module.run,
        getattr(module, "CHOOSES", True),
        getattr(module, "ADDS_TO_CSV", True),
        getattr(module, "adapt", None),
    )

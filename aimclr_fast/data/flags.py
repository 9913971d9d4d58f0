"""Which flags of ``prepare`` apply to which source: one that would change nothing is refused.

:data:`RULES` is the one list: a flag's field, and a rule that gives the reason why it does not
apply, or an empty text. A value that asks for what is done anyway is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aimclr_fast.data.readers import LANDMARKS, Plan, get_reader, reader_names
from aimclr_fast.layouts import get_layout


@dataclass(frozen=True)
class Given:
    """A flag that was given.

    Attributes:
        field: its name with underscores.
        value: what it was given.
        dataset: the format, as the user said.
        known: how the source is read, if it has been inspected.
        fields: of all flags that were given.
    """

    field: str
    value: Any
    dataset: str
    known: Plan | None
    fields: frozenset[str] = frozenset()

    @property
    def plan(self) -> Plan:
        """How the source is read."""
        assert self.known is not None  # before that, only the rule for the format runs
        return self.known


Rule = Callable[[Given], str]


def _of_format(given: Given) -> str:
    """For options of some formats only; the one rule that needs no plan."""
    reader = given.known.reader if given.known else ""
    if given.field in get_reader(reader or given.dataset).OPTIONS:
        return ""
    takers = [name for name in reader_names() if given.field in get_reader(name).OPTIONS]
    found = f"the source is read as {reader}, which" if reader else given.dataset
    return f"{found} does not use it; {', '.join(takers)} does"


def _of_timed(given: Given) -> str:
    known = given.plan.timed or "rate" in given.fields
    return "" if known else "the recordings do not say their frame rate: say it with --rate"


def _of_untimed(given: Given) -> str:
    return "" if given.plan.untimed else "the recordings say their frame rate"


def _of_tables(given: Given) -> str:
    return "" if given.plan.tables else "the source holds arrays (.npy, .npz) and no tables"


def _of_recordings(given: Given) -> str:
    ready = given.plan.ready
    return f"{given.dataset} holds preprocessed sequences, taken as they are" if ready else ""


def _of_3d(given: Given) -> str:
    reason = "the source holds 2D poses, which have neither a unit nor an axis that points up"
    return "" if given.plan.rotate else reason


def _of_what_turns(given: Given) -> str:
    if given.value == "none":
        return ""
    if not given.plan.rotate:
        return "the source holds 2D poses, which are not turned"
    layout = given.plan.layout
    return f"layout {layout.name} names no shoulders" if layout.shoulders is None else ""


def _of_scores(given: Given) -> str:
    if given.plan.rotate:
        return "the source holds 3D poses, and only scores of 2D joints count"
    return "" if given.plan.scores else "the source holds 2D poses without scores"


def _of_images(given: Given) -> str:
    plan = given.plan
    may_be = not plan.rotate or (plan.layout.name in LANDMARKS and plan.reader != "mediapipe")
    return "" if may_be else "the source holds 3D poses"


def _as_found(given: Given) -> str:
    holds = "3D" if given.plan.rotate else "2D"
    return "" if given.value == holds.lower() else f"{given.dataset} holds {holds}"


def _same_layout(given: Given) -> str:
    try:
        same = get_layout(given.value) == given.plan.layout
    except (ValueError, OSError) as error:
        return str(error)
    return "" if same else f"{given.dataset} is recorded in {given.plan.layout.name}"


#: Flags that are not here hold for every source.
RULES: tuple[tuple[str, Rule], ...] = (
    ("bodies", _of_format),
    ("max_bodies", _of_format),
    ("missing", _of_format),
    ("labels", _of_format),
    ("columns", _of_format),
    ("markers", _of_format),
    ("body_model", _of_format),
    ("csv_bodies", _of_format),
    ("csv_bodies", _of_tables),
    ("skip_columns", _of_format),
    ("skip_columns", _of_tables),
    ("normalize", _of_recordings),
    ("rotate", _of_recordings),
    ("rotate", _of_what_turns),
    ("drop_spurious", _of_recordings),
    ("unit", _of_3d),
    ("up", _of_3d),
    ("sides", _of_recordings),
    ("min_confidence", _of_scores),
    ("aspect", _of_images),
    ("pose", _as_found),
    ("layout", _same_layout),
    ("to", _of_recordings),
    ("rate", _of_recordings),
    ("rate", _of_untimed),
    ("fps", _of_recordings),
    ("fps", _of_timed),
    ("window", _of_recordings),
    ("window", _of_timed),
    ("hop", _of_recordings),
    ("hop", _of_timed),
    ("intervals", _of_recordings),
    ("intervals", _of_timed),
    ("tier", _of_recordings),
    ("tier", _of_timed),
)


def refusal(given: Mapping[str, Any], dataset: str, plan: Plan | None = None) -> str:
    """Why one of the flags does not apply, in words; an empty text if all do.

    Args:
        given: fields and values of the flags that differ from their defaults.
        dataset: the format, as the user said.
        plan: how the source is read; without it, only the format is asked about.
    """
    for field, rule in RULES:
        if field in given and (plan is not None or rule is _of_format):
            value = given[field]
            reason = rule(Given(field, value, dataset, plan, frozenset(given)))
            if reason:
                shown = "" if rule is _of_format or value is True else f" {value}"
                return f"--{field.replace('_', '-')}{shown}: {reason}"
    return ""

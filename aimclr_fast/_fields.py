"""What a field of a configuration means to a run: said where the field is defined."""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

# Types of fields that may be null, for `training.fitting` to choose from the data. What reads them
# comes after that, so a type checker need not see the null. They are defined in another module than
# the fields because the parser reads the type checker's branch of the module of the fields.
if TYPE_CHECKING:
    FittedInt: TypeAlias = int
    FittedBool: TypeAlias = bool
    FittedStr: TypeAlias = str
    FittedInts: TypeAlias = list[int]
else:
    FittedInt, FittedBool, FittedStr = int | None, bool | None, str | None
    FittedInts = list[int] | None


class Meaning(Enum):
    """What a field decides; only those of the first kind make another run."""

    LEARNED = "what is learned"
    MACHINE = "where and how it is computed and watched, which may differ on resuming"
    SAVING = "what is saved and when, which may differ on resuming"


#: Metadata of a field.
LEARNED, MACHINE, SAVING = ({Meaning: meaning} for meaning in Meaning)
_ADDED = "added"
#: Of a field that changes what is learned and that 0.1.0 did not have. At its default, all is as it
#: was then: it is left out of what tells one run from another, so that older ones are the same.
ADDED: dict[Any, Any] = {**LEARNED, _ADDED: True}


def learned(default: Any) -> Any:
    """A field that changes what is learned: a run with another value is another run."""
    return field(default=default, metadata=LEARNED)


def added(default: Any) -> Any:
    """A learned field that 0.1.0 did not have; see `ADDED`."""
    return field(default=default, metadata=ADDED)


def machine(default: Any) -> Any:
    """A field that says where and how a run computes and is watched; may differ on resuming."""
    return field(default=default, metadata=MACHINE)


def saving(default: Any) -> Any:
    """A field that is about saving only; may differ on resuming."""
    return field(default=default, metadata=SAVING)


def meanings(kind: type, prefix: str = "", group: Meaning | None = None) -> dict[str, Meaning]:
    """The meaning of every field of the dataclass `kind` by its dotted name.

    A field of a group that does not say its own has the group's.

    Raises:
        TypeError: a field does not say it.
    """
    found: dict[str, Meaning] = {}
    hints = get_type_hints(kind)
    for one in fields(kind):
        name, meaning = prefix + one.name, one.metadata.get(Meaning, group)
        if is_dataclass(hints[one.name]):
            found |= meanings(hints[one.name], f"{name}.", meaning)
        elif meaning is None:
            raise TypeError(f"{kind.__name__}.{one.name} does not say what it decides")
        else:
            found[name] = meaning
    return found


def added_defaults(kind: type, prefix: str = "", group: bool = False) -> dict[str, Any]:
    """Defaults of the fields of the dataclass `kind` that 0.1.0 did not have, by dotted name."""
    found: dict[str, Any] = {}
    hints, usual = get_type_hints(kind), kind()
    for one in fields(kind):
        name, is_added = prefix + one.name, group or _ADDED in one.metadata
        if is_dataclass(hints[one.name]):
            found |= added_defaults(hints[one.name], f"{name}.", is_added)
        elif is_added:
            found[name] = getattr(usual, one.name)
    return found

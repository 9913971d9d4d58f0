"""Classes of a source: numbers for ids and names, and names that its samples' names confirm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aimclr_fast.data.classes import MAX_CLASSES, as_label, dense_classes
from aimclr_fast.data.readers._base import composed
from aimclr_fast.data.readers._names import NTU

__all__ = ["Numbering", "as_label", "name_ntu_classes", "number_classes", "number_names"]

_BREAKS = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class Numbering:
    """The class of each label of a source.

    Attributes:
        classes: number of each label's class.
        names: of the classes, or None where the labels are class numbers as they stand.
        notes: what the user should know.
    """

    classes: Mapping[int, int]
    names: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)


def number_classes(labels: Sequence[int]) -> Numbering:
    """Class numbers of integer labels: unchanged below 10,000, otherwise numbered from 0 and named.

    Args:
        labels: of all samples, none below 0.
    """
    ids = np.unique(np.array(labels, dtype=np.int64))
    classes, names = dense_classes(ids)
    notes = []
    if names is not None:
        notes.append(
            f"labels reach {ids[-1]}, beyond {MAX_CLASSES - 1}: they are taken as ids of "
            f"{len(ids)} classes, numbered from 0 in ascending order and named by their ids"
        )
    return Numbering(dict(zip(ids.tolist(), classes.tolist(), strict=True)), names, notes)


def number_names(texts: Iterable[str]) -> tuple[dict[str, int], tuple[str, ...], list[str]]:
    """Classes of labels that are names, in alphabetical order.

    Args:
        texts: labels as they are written; blanks around them and the form of letters with marks do
            not count, everything else does.

    Returns:
        The number of each text, the classes' names, and a note on each pair of names that may be
        meant to be one.
    """
    name_of = {text: composed(text.strip()) for text in texts}
    names = tuple(sorted(set(name_of.values())))
    number = {name: index for index, name in enumerate(names)}
    alike: dict[str, str] = {}
    notes = []
    for name in names:
        before = alike.setdefault(" ".join(_BREAKS.split(name.casefold())).strip(), name)
        if before != name:
            notes.append(
                f"classes {before!r:.40} and {name!r:.40} differ only in case, blanks, hyphens or "
                "underscores and stay two: write them alike if they are one"
            )
    return {text: number[name] for text, name in name_of.items()}, names, notes


def name_ntu_classes(numbering: Numbering, samples: Sequence[tuple[int, int]]) -> Numbering:
    """Names of the classes of samples that are named as in NTU RGB+D.

    NTU's names where each label is the sample's action minus one. Other labels are a numbering of
    the user's own: its classes are called by the action codes, ``A007``, if each is one action.

    Args:
        numbering: of the labels.
        samples: label and action (1, 2, ...) of each sample.
    """
    if all(label == action - 1 < len(NTU) for label, action in samples):
        large = any(action > 60 for _, action in samples)
        return Numbering(numbering.classes, NTU if large else NTU[:60], numbering.notes)
    actions: dict[int, set[int]] = {}
    for label, action in samples:
        actions.setdefault(numbering.classes[label], set()).add(action)
    single = {number: next(iter(found)) for number, found in actions.items() if len(found) == 1}
    if len(single) < len(actions) or len(set(single.values())) < len(single):
        note = "labels are not the actions of the samples' names: the classes have no names"
        return Numbering(numbering.classes, numbering.names, [*numbering.notes, note])
    names = tuple(
        f"A{single[number]:03}" if number in single else f"class {number}"
        for number in range(max(single) + 1)
    )
    note = "labels are numbered anew, not by NTU RGB+D's actions: classes are called by the actions"
    return Numbering(numbering.classes, names, [*numbering.notes, note])

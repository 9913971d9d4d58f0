"""Readers of raw data sets, one module per format; a module's name is what the user types.

A reader has ``SUMMARY``, one line for the command's help, ``OPTIONS``, the fields of
:class:`Options` that it takes besides those that hold for every source, and ``plan(source,
options)``, which inspects a source and plans how to read it (:class:`Plan`). There is no list to
edit: every module here without a leading underscore is a reader.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from aimclr_fast.data.readers._base import (
    UNITS,
    Options,
    Plan,
    Problem,
    ReadError,
    Readings,
    Recording,
    in_meters,
    meters,
)
from aimclr_fast.data.readers._intervals import Interval, Intervals, read_intervals
from aimclr_fast.data.readers._labels import Labels, labels_of
from aimclr_fast.data.readers._names import NTU, PKU
from aimclr_fast.data.readers._pose2d import FLAT_LAYOUTS, LANDMARKS
from aimclr_fast.data.readers._sides import SIDES, with_sides

__all__ = [
    "FLAT_LAYOUTS",
    "LANDMARKS",
    "NTU",
    "PKU",
    "SIDES",
    "UNITS",
    "Interval",
    "Intervals",
    "Labels",
    "Options",
    "Plan",
    "Problem",
    "ReadError",
    "Reader",
    "Readings",
    "Recording",
    "get_reader",
    "in_meters",
    "labels_of",
    "meters",
    "read_intervals",
    "reader_names",
    "with_sides",
]


class Reader(Protocol):
    """What a module of this package offers."""

    SUMMARY: str
    OPTIONS: tuple[str, ...]

    def plan(self, source: Path, options: Options) -> Plan:
        """Inspect ``source`` and plan how to read it; raises ReadError if it cannot be read."""


def reader_names() -> list[str]:
    """Names of the formats that can be read."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get_reader(name: str) -> Reader:
    """The reader of a format; hyphens and underscores are alike.

    Raises:
        ValueError: there is none by that name; the message lists those there are.
    """
    stem = name.replace("-", "_")
    if stem not in reader_names():
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(reader_names())}")
    return cast(Reader, importlib.import_module(f"{__name__}.{stem}"))

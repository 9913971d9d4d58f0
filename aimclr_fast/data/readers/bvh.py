"""BVH files of motion capture: one skeleton, derived from the hierarchy that all files share.

A root that only carries the trajectory is left out, and so are joints and end sites that are always
where their parent is. How joints, unit and the axis that points up are found is in
:mod:`aimclr_fast.data.readers._trees`, the format itself in :mod:`aimclr_fast.data.readers._bvh`.
``labels.csv`` is as for ``folder``.
"""

from __future__ import annotations

from pathlib import Path

from aimclr_fast.data.readers import _bvh
from aimclr_fast.data.readers._base import Options, Plan
from aimclr_fast.data.readers._files import Entry, without_gz
from aimclr_fast.data.readers._sequences import Unit, find_sequences
from aimclr_fast.data.readers._trees import Motion, plan_trees

SUMMARY = "BVH: motion capture of any skeleton, a file, a folder or zips of .bvh files"
OPTIONS = ("labels",)
#: What ``folder`` says of such files among others.
FILES = "BVH files (prepare bvh reads them)"


def is_motion(path: str) -> bool:
    """Whether a path is named as BVH files are."""
    return without_gz(path.lower()).endswith(".bvh")


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader."""
    return is_motion(entry.path)


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    found = find_sequences(source, options, is_motion, ".bvh files")
    return plan_trees(found, options, str(source), "BVH", load)


def load(unit: Unit, first: bool) -> Motion:
    """A file, or its skeleton and first frame.

    Raises:
        ReadError: it is no such file, or damaged.
    """
    return _bvh.load_first(unit.entry) if first else _bvh.load(unit.entry)

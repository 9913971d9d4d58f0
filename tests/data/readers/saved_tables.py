"""A small table of real motion, as a user would save it, and how to read one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data.readers.recordings import motion, table
from data.readers.test_ntu import read_all

from aimclr_fast.data.readers import Problem, ReadError, Recording
from aimclr_fast.layouts import get_layout

LAYOUT = "nw-ucla"
JOINTS = get_layout(LAYOUT).joints
FRAMES = 12
MOTION = motion(3, len(JOINTS), FRAMES).round(4)
ROWS = MOTION.reshape(FRAMES, -1)
PLAIN = table(ROWS, ",", 4)
COLUMNS = [f"{joint}_{axis}" for joint in JOINTS for axis in "xyz"]


def cells(rows=ROWS) -> list[list[str]]:
    return [[f"{n:.4f}" for n in row] for row in rows]


def text(rows, separator=",", heading=None) -> str:
    lines = [*([heading] if heading is not None else []), *rows]
    return "".join(separator.join(line) + "\n" for line in lines)


def wide(per_joint: np.ndarray) -> np.ndarray:
    """Position and others ``[T, V, n]`` side by side for each joint."""
    return np.concatenate([MOTION, per_joint], axis=2).reshape(FRAMES, -1)


def assert_is_motion(positions, expected=MOTION):
    np.testing.assert_allclose(positions, np.asarray(expected)[None], atol=1e-6)


def read_in(folder: Path, content: str | bytes, layout=LAYOUT, **options):
    """Write a table and read it: positions ``[M, T, V, 3]``, notes, recording; or raise."""
    data = content.encode() if isinstance(content, str) else content
    (folder / "clip.csv").write_bytes(data)
    plan, found = read_all("folder", folder, layout=layout, **options)
    if isinstance(found[0], Problem):
        raise ReadError(found[0].where, found[0].reason)
    assert isinstance(found[0], Recording)
    return found[0].positions.transpose(3, 1, 2, 0), " | ".join(plan.notes), found[0]

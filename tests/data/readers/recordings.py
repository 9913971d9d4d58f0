"""Makes realistic files of every format from motion whose license lets us: UI-PRMD, embedded."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import scipy.io

from aimclr_fast.data import open_embedded
from aimclr_fast.data.readers.ui_prmd import PARENTS, rotations

GOLDEN = Path(__file__).parents[2] / "golden"
NTU_RAW = GOLDEN / "ntu_raw"
PKU_RAW = GOLDEN / "pku_raw"


embedded = functools.cache(open_embedded)  # reading it takes a quarter of a second


def motion(index: int, joints: int = 22, frames: int | None = None) -> np.ndarray:
    """Real motion ``[T, joints, 3]`` in meters, away from the origin, y up."""
    x = embedded().as_tensor(index).numpy()[..., 0].transpose(1, 2, 0)
    x = x[:frames, np.minimum(np.arange(joints), 21)].astype(np.float64)
    x += 0.003 * np.arange(joints)[:, None]  # no two joints in one place
    return x + np.array([0.2, 0.1, 2.5])


def table(rows: np.ndarray, separator: str = " ", digits: int = 6) -> str:
    return "".join(separator.join(f"{n:.{digits}f}" for n in row) + "\n" for row in rows)


def skeleton_text(
    frames: list[list[tuple[int, np.ndarray]]], newline: str = "\n", joints: int | None = None
) -> bytes:
    """A ``.skeleton`` file of (id, ``[V, 3]``) per body and frame."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for ident, xyz in bodies:
            lines.append(f"{ident} 0 1 1 1 1 0 0.1 -0.2 2")
            lines.append(str(len(xyz) if joints is None else joints))
            for x, y, z in xyz:
                lines.append(f"{x:.7f} {y:.7f} {z:.7f} 250.1 200.2 900.3 500.4 0.1 0.2 0.3 0.4 2")
    return (newline.join(lines) + newline).encode()


def write_nw_ucla(folder: Path) -> dict[str, np.ndarray]:
    made = {}
    for index, (action, subject, view) in enumerate([(1, 1, 1), (2, 2, 2), (12, 3, 3), (12, 1, 1)]):
        name = f"a{action:02}_s{subject:02}_e{index:02}_v{view:02}"
        made[name] = motion(index, joints=20, frames=20 + index).round(6)
        label = {1: 1, 2: 2, 12: 10}[action]
        data = {"file_name": name, "skeletons": made[name].tolist(), "label": label}
        (folder / f"{name}.json").write_text(json.dumps(data))
    return made


def write_utd_mhad(folder: Path) -> dict[str, np.ndarray]:
    made = {}
    for index, (action, subject) in enumerate([(1, 1), (2, 2), (27, 3), (27, 8)]):
        name = f"a{action}_s{subject}_t1"
        made[name] = motion(index, joints=20, frames=15 + index)
        skeleton = made[name].transpose(1, 2, 0)
        scipy.io.savemat(
            folder / f"{name}_skeleton.mat", {"d_skel": skeleton}, do_compression=index % 2 == 0
        )
    return made


def write_ui_prmd(folder: Path, *, unit: float = 0.01) -> dict[str, np.ndarray]:
    """Positions and angles whose forward kinematics are the motion; in cm by default."""
    rng = np.random.default_rng(0)
    made = {}
    for index, (movement, subject, incorrect) in enumerate([(1, 1, 0), (3, 2, 0), (10, 3, 1)]):
        x = motion(index, frames=12 + index)
        angles = rng.uniform(-90, 90, size=x.shape)
        turn = rotations(np.radians(angles))
        offsets = x.copy()
        for joint, parent in enumerate(PARENTS):
            if parent >= 0:
                apart = x[:, joint] - x[:, parent]
                offsets[:, joint] = np.einsum("tji,tj->ti", turn[:, parent], apart)
                turn[:, joint] = turn[:, parent] @ turn[:, joint]
        stem, end = f"m{movement:02}_s{subject:02}_e01", "_inc.txt" if incorrect else ".txt"
        for what, numbers in (("positions", offsets / unit), ("angles", angles)):
            place = folder / ("Incorrect" if incorrect else "Segmented") / "Kinect" / what.title()
            place.mkdir(parents=True, exist_ok=True)
            text = table(numbers.reshape(len(x), -1), ",", digits=9)
            (place / f"{stem}_{what}{end}").write_text(text)
        made[f"{stem}_{'incorrect' if incorrect else 'correct'}"] = x
    return made


def write_sbu(folder: Path) -> dict[str, np.ndarray]:
    """Meters ``[T, 2, 15, 3]`` that the normalized files come from."""
    made = {}
    for index, (pair, action) in enumerate([("s01s02", 1), ("s02s03", 4), ("s06s04", 8)]):
        x = np.stack([motion(index, 15, 10 + index), motion(index + 9, 15, 10 + index)], axis=1)
        mm = x * 1000
        normal = np.stack(
            [(1280 - mm[..., 0]) / 2560, (960 - mm[..., 1]) / 1920, mm[..., 2] * 7.8125 / 1e4], -1
        )
        rows = np.concatenate([np.arange(len(x))[:, None], normal.reshape(len(x), -1)], axis=1)
        place = folder / pair / f"{action:02}" / "001"
        place.mkdir(parents=True)
        (place / "skeleton_pos.txt").write_text(table(rows, ",", digits=9))
        made[f"{pair}_{action:02}_001"] = x
    return made

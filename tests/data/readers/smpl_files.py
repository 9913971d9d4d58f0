"""A made-up body model of SMPL's form, and motion for it; scripts and tests make the same."""

from __future__ import annotations

import numpy as np

PARENTS = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
#: Where a standing person's joints are, in meters, y up: SMPL's 24, the last two hands.
REST = np.array([
    (0, 0, 0), (0.06, -0.09, 0), (-0.06, -0.09, 0), (0, 0.11, -0.03), (0.1, -0.48, 0),
    (-0.1, -0.48, 0), (0, 0.25, -0.03), (0.09, -0.88, -0.04), (-0.09, -0.88, -0.04),
    (0, 0.31, 0), (0.11, -0.94, 0.08), (-0.11, -0.94, 0.08), (0, 0.52, -0.04),
    (0.08, 0.43, -0.03), (-0.08, 0.43, -0.03), (0, 0.59, 0.01), (0.18, 0.46, -0.04),
    (-0.18, 0.46, -0.04), (0.43, 0.44, -0.06), (-0.43, 0.44, -0.06), (0.68, 0.45, -0.06),
    (-0.68, 0.45, -0.06), (0.77, 0.44, -0.07), (-0.77, 0.44, -0.07),
])  # fmt: skip


def body_model(joints: int = 24, vertices: int = 60, shapes: int = 10) -> dict[str, np.ndarray]:
    """The arrays of a model: the regressor takes vertices near each joint."""
    rng = np.random.default_rng(3)
    fingers = joints - len(REST)
    rest = np.concatenate([REST, REST[20:22].repeat(max(fingers, 0) // 2 + 1, axis=0)])[:joints]
    regressor = rng.uniform(0, 1, (joints, vertices)) ** 6
    regressor /= regressor.sum(axis=1, keepdims=True)
    template = np.linalg.lstsq(regressor, rest, rcond=None)[0]
    parents = [*PARENTS, *[20] * max(fingers, 0)][:joints]
    weights = rng.uniform(0, 1, (vertices, joints)) ** 8
    return {
        "v_template": template,
        "J_regressor": regressor,
        "kintree_table": np.array([[2**32 - 1, *parents[1:]], range(joints)], dtype=np.uint32),
        "shapedirs": rng.normal(0, 0.01, (vertices, 3, shapes)),
        "posedirs": rng.normal(0, 0.01, (vertices, 3, 9 * (joints - 1))),
        "weights": weights / weights.sum(axis=1, keepdims=True),
    }


def motion(frames: int = 7, joints: int = 24, seed: int = 0) -> dict[str, np.ndarray]:
    """Poses and places of a person who walks off, z up as in AMASS."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 5
    phase, size = rng.uniform(0, 6, 3 * joints), rng.uniform(0.02, 0.4, 3 * joints)
    poses = size * np.sin(time + phase)
    poses[:, :3] = [np.pi / 2, 0.0, 0.0]
    return {
        "poses": poses,
        "trans": np.concatenate([0.3 * time, 0.1 * np.sin(time), 0.95 + 0 * time], axis=1),
        "betas": rng.normal(0, 1, 16),
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(60.0),
        "dmpls": np.zeros((frames, 8)),
    }

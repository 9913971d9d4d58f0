"""A person with the markers of Plug-in Gait, walking on the spot."""

from __future__ import annotations

import numpy as np

RATE = 100.0
_LEFT = {
    "LFHD": (0.08, 1.68, 0.08), "LBHD": (0.08, 1.68, -0.08), "LSHO": (0.19, 1.42, 0.0),
    "LELB": (0.25, 1.12, -0.02), "LWRA": (0.27, 0.88, 0.03), "LWRB": (0.27, 0.88, -0.03),
    "LFIN": (0.27, 0.78, 0.0), "LASI": (0.12, 1.0, 0.09), "LPSI": (0.06, 1.02, -0.09),
    "LKNE": (0.14, 0.52, 0.0), "LANK": (0.13, 0.09, -0.02), "LHEE": (0.1, 0.05, -0.09),
    "LTOE": (0.11, 0.05, 0.14),
}  # fmt: skip
_MIDDLE = {
    "C7": (0.0, 1.45, -0.06), "CLAV": (0.0, 1.4, 0.08), "STRN": (0.0, 1.25, 0.1),
    "T10": (0.0, 1.2, -0.08),
}  # fmt: skip
PERSON = {
    **_MIDDLE,
    **_LEFT,
    **{f"R{name[1:]}": (-x, y, z) for name, (x, y, z) in _LEFT.items()},
}
LEGS = [name for name in PERSON if name[1:] in ("ASI", "PSI", "KNE", "ANK", "HEE", "TOE")]


def walk(frames: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Places of each marker ``[T, 3]`` in meters, y up, facing z."""
    phase = np.random.default_rng(seed).uniform(0, 6) + np.arange(frames) / 5
    out = {}
    for name, place in PERSON.items():
        x = np.tile(np.array(place), (frames, 1))
        side = {"L": 1.0, "R": -1.0}.get(name[0], 0.0)
        x[:, 2] += side * np.sin(phase) * max(0.0, 1.0 - place[1]) * 0.3
        x[:, 0] += 0.02 * np.sin(phase)
        out[name] = np.add(x, [0.5, 0.0, 1.0])
    return out


def z_up(x: np.ndarray) -> np.ndarray:
    """Places with z up of places with y up."""
    return np.stack([x[..., 0], -x[..., 2], x[..., 1]], axis=-1)


#: Weights of a hip of Plug-in Gait's set, for the left one.
HIP = {"LASI": 0.43, "RASI": 0.07, "LPSI": 0.43, "RPSI": 0.07}
#: The markers of some of its joints.
MEANS = {
    "hips": ["LASI", "RASI", "LPSI", "RPSI"],
    "head": ["LFHD", "RFHD", "LBHD", "RBHD"],
    "left_hand": ["LWRA", "LWRB"],
    "right_lower_leg": ["RKNE"],
}

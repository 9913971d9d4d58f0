"""Writes the recordings that the stores here were made from: python recordings.py FOLDER."""

import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
folder.mkdir()
rng = np.random.default_rng(0)
rest = np.array(
    [[0, 0, 0], [0, 0.5, 0], [0, 0.8, 0], [0.5, 0.4, 0], [-0.5, 0.4, 0], [0.2, -0.9, 0],
     [-0.2, -0.9, 0]]
)  # fmt: skip
lines = ["name,label,subject,split"]
for subject in (1, 2, 3, 4):
    for action, joint in (("wave", 3), ("nod", 2), ("kick", 6)):
        name = f"s{subject}_{action}"
        time = np.linspace(0, 1, 14 + subject)
        motion = np.repeat(rest[None], len(time), 0) * (1 + 0.02 * subject)
        motion[:, joint, 1:] += 0.3 * np.sin(7 * time[:, None] + rng.uniform(0, 1, 2))
        motion += np.array([0, 0.9, 2.0]) + rng.normal(0, 0.005, motion.shape)
        np.save(folder / f"{name}.npy", motion.astype(np.float32))
        side = {1: "train", 2: "train", 3: "val", 4: "test"}[subject]
        lines.append(f"{name},{action},{subject},{side}")
(folder / "labels.csv").write_text("\n".join(lines) + "\n")

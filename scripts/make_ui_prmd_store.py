"""Make the embedded UI-PRMD store from the joint positions of its Kinect recordings.

    python scripts/make_ui_prmd_store.py ui_prmd.npz aimclr_fast/data/embedded/ui_prmd

The source holds absolute positions in millimeters, y up (`xyz_mm int16 [frames, 22, 3]`), the
sequences' `offsets [S + 1]` into its frames, and `movement`, `subject`, `episode` (1 to 10) and
`incorrect` (0 or 1) of each. The positions follow from the published joint angles and
parent-relative positions by forward kinematics.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from aimclr_fast.data import Store, preprocess, write_store
from aimclr_fast.layouts import get_layout

MOVEMENTS = (
    "deep squat",
    "hurdle step",
    "inline lunge",
    "side lunge",
    "sit to stand",
    "standing active straight leg raise",
    "standing shoulder abduction",
    "standing shoulder extension",
    "standing shoulder internal-external rotation",
    "standing shoulder scaption",
)
FRAMES = 50
SOURCE = (
    "UI-PRMD (University of Idaho Physical Rehabilitation Movement Data), Kinect recordings: "
    "joint positions in millimeters, centered on the chest in each frame, time resized to 50 "
    "frames, each frame turned about y so that the shoulders lie along x."
)
LICENCE = "ODC-PDDL-1.0"
CITATION = (
    "A. Vakanski, H.-p. Jun, D. Paul, R. Baker. A Data Set of Human Body Movements for Physical "
    "Rehabilitation Exercises. Data 2018, 3(1), 2. https://doi.org/10.3390/data3010002"
)
LICENCE_TEXT = """\
UI-PRMD is in the public domain. Its authors released it under the Open Data Commons Public Domain
Dedication and License (ODC-PDDL) 1.0: https://opendatacommons.org/licenses/pddl/1-0/

The dedication covers the data of this folder, which are derived from UI-PRMD as meta.json says.
"""


def make_store(source: Path, output: Path, *, overwrite: bool) -> Store:
    """Preprocess every sequence and write the store."""
    layout = get_layout("ui-prmd")
    with np.load(source, allow_pickle=False) as file:
        data = dict(file)
    offsets = data["offsets"]
    positions = np.empty((len(offsets) - 1, 3, FRAMES, layout.num_joints, 1), dtype=np.int16)
    for index, (start, stop) in enumerate(pairwise(offsets)):
        meters = data["xyz_mm"][start:stop].transpose(2, 0, 1)[..., None] / 1000
        # The subjects face the camera, so their shoulders cross the x axis: only the exact angle
        # puts them there.
        ready = preprocess(meters, layout, frames=FRAMES, exact=True)
        positions[index] = np.rint(ready * 1000)
    columns = {
        key: data[key].astype(int) for key in ("movement", "incorrect", "subject", "episode")
    }
    names = [
        f"m{m:02}_s{s:02}_e{e:02}_{'incorrect' if i else 'correct'}"
        for m, i, s, e in zip(*columns.values(), strict=True)
    ]
    label = (columns["movement"] - 1) * 2 + columns["incorrect"]
    return write_store(
        output,
        positions,
        {"name": names, "label": label, **columns},
        layout=layout,
        classes=[f"{name}, {how}" for name in MOVEMENTS for how in ("correct", "incorrect")],
        splits={"xsub": {"column": "subject", "train": [1, 3, 5, 7, 9]}},
        source=SOURCE,
        licence=LICENCE,
        citation=CITATION,
        compress=True,
        overwrite=overwrite,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="ui_prmd.npz")
    parser.add_argument("output", type=Path, help="folder of the store")
    parser.add_argument("--overwrite", action="store_true", help="replace a store that is there")
    arguments = parser.parse_args()
    store = make_store(arguments.source, arguments.output, overwrite=arguments.overwrite)
    (store.path / "LICENCE").write_text(LICENCE_TEXT, encoding="utf-8")
    (store.path / "CITATION").write_text(CITATION + "\n", encoding="utf-8")
    print(store.summary())


if __name__ == "__main__":
    main()

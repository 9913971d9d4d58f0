"""Make the store of a data set from the joint positions of its recordings in one .npz file.

    python scripts/make_arrays_store.py kard.npz stores/kard --dataset kard

The file holds absolute positions in millimeters, y up (`xyz_mm int16 [frames, V, 3]`), the
sequences' `offsets [S + 1]` into its frames, and a column of S numbers for each of DATASETS'
columns. `--dataset ui_prmd` makes the store that comes with the package
(aimclr_fast/data/embedded/ui_prmd).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data import Store, write_store
from aimclr_fast.data.preprocessing import NORMALIZATIONS, Preprocessing
from aimclr_fast.data.readers import ui_prmd, utd_mhad
from aimclr_fast.data.readers._names import UI_PRMD, UTD_MHAD
from aimclr_fast.layouts import get_layout

FRAMES = 50
DONE = {
    "frame": "centered on the {center} in each frame, time resized to {frames} frames, each frame "
    "turned about y so that the shoulders lie along x.",
    "sequence": "origin at the first frame's {center}, each sequence turned about y so that the "
    "first frame's shoulders lie along x, time resized to {frames} frames.",
}
ODD_SUBJECTS = {"xsub": {"column": "subject", "train": "odd"}}
LICENCE_UI_PRMD = """\
UI-PRMD is in the public domain. Its authors released it under the Open Data Commons Public Domain
Dedication and License (ODC-PDDL) 1.0: https://opendatacommons.org/licenses/pddl/1-0/

The dedication covers the data of this folder, which are derived from UI-PRMD as meta.json says.
"""

Arrays = Mapping[str, npt.NDArray[Any]]
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Dataset:
    """What the file of a data set does not say.

    Attributes:
        layout: its skeleton.
        source: what the recordings are.
        columns: of samples.csv, from the arrays of the file: `name`, `label` and others.
        citation: what to cite.
        classes: names of the labels, from the arrays of the file; None where nobody names them.
        splits: rules of its splits, from the arrays of the file.
        mirrored: x grows to the sensor's right, so that coordinates are left-handed (OpenNI).
        compress: keep positions compressed.
        licence, licence_text: its terms, and the text of the file LICENCE; empty if not known.
    """

    layout: str
    source: str
    columns: Callable[[Arrays], Columns]
    citation: str
    classes: Callable[[Arrays], list[str]] | None = None
    splits: Callable[[Arrays], dict[str, Any]] = field(default=lambda data: ODD_SUBJECTS)
    mirrored: bool = False
    compress: bool = False
    licence: str = ""
    licence_text: str = ""


def action_columns(data: Arrays) -> Columns:
    """Columns of a data set of numbered actions, subjects and trials."""
    action, subject, trial = (data[key].tolist() for key in ("action", "subject", "trial"))
    names = [f"a{a}_s{s}_t{t}" for a, s, t in zip(action, subject, trial, strict=True)]
    label = [a - 1 for a in action]
    return {"name": names, "label": label, "subject": subject, "trial": trial}


def ui_prmd_columns(data: Arrays) -> Columns:
    columns = {key: data[key].tolist() for key in ("movement", "incorrect", "subject", "episode")}
    rows = list(zip(*columns.values(), strict=True))
    names = [f"m{m:02}_s{s:02}_e{e:02}_{'incorrect' if i else 'correct'}" for m, i, s, e in rows]
    return {"name": names, "label": [(m - 1) * 2 + i for m, i, *_ in rows], **columns}


def bandai2_columns(data: Arrays) -> Columns:
    content, style = data["content"].tolist(), data["styles"][data["style"]].tolist()
    contents = data["contents"][data["content"]].tolist()
    number: dict[tuple[str, str], int] = {}
    names = []
    for pair in zip(contents, style, strict=True):
        number[pair] = number.get(pair, 0) + 1
        names.append(f"{pair[0]}_{pair[1]}_{number[pair]:03}")
    return {"name": names, "label": content, "style": style}


def leave_one_style_out(data: Arrays) -> dict[str, Any]:
    """A split `no-STYLE` for each style: it tests, and the others train."""
    styles = data["styles"].tolist()
    return {
        f"no-{style}": {
            "column": "style",
            "train": [other for other in styles if other != style],
            "test": [style],
        }
        for style in styles
    }


DATASETS = {
    "ui_prmd": Dataset(
        "ui-prmd",
        "UI-PRMD (University of Idaho Physical Rehabilitation Movement Data), Kinect recordings",
        ui_prmd_columns,
        ui_prmd.CITATION,
        classes=lambda data: [f"{m}, {how}" for m in UI_PRMD for how in ("correct", "incorrect")],
        splits=lambda data: ui_prmd.SPLITS,
        compress=True,
        licence="ODC-PDDL-1.0",
        licence_text=LICENCE_UI_PRMD,
    ),
    "utd_mhad": Dataset(
        "kinect-v1",
        "UTD-MHAD, skeletons of Kinect v1",
        action_columns,
        utd_mhad.CITATION,
        classes=lambda data: list(UTD_MHAD),
    ),
    "kard": Dataset(
        "kard",
        "KARD, skeletons of Kinect v1 by OpenNI, mirrored so that coordinates are right-handed",
        action_columns,
        "S. Gaglio, G. Lo Re, M. Morana. Human Activity Recognition Process Using 3-D Posture "
        "Data. IEEE Transactions on Human-Machine Systems, 2014.",
        mirrored=True,
    ),
    "msr_action3d": Dataset(
        "msr-action3d",
        "MSR-Action3D, skeletons",
        action_columns,
        "W. Li, Z. Zhang, Z. Liu. Action Recognition Based on a Bag of 3D Points. CVPR "
        "Workshops, 2010.",
    ),
    "bandai2": Dataset(
        "bandai2",
        "Bandai-Namco-Research-Motiondataset-2, joint positions by forward kinematics",
        bandai2_columns,
        "Bandai-Namco-Research-Motiondataset-2, Bandai Namco Research Inc.",
        classes=lambda data: data["contents"].tolist(),
        splits=leave_one_style_out,
        licence="CC-BY-NC-4.0",
    ),
}


def make_store(
    source: Path, output: Path, dataset: Dataset, *, normalize: str, overwrite: bool
) -> Store:
    """Preprocess every sequence and write the store, in int16 millimeters."""
    layout = get_layout(dataset.layout)
    with np.load(source, allow_pickle=False) as file:
        data = dict(file)
    # Where people face the camera, their shoulders cross the x axis: only the exact angle puts
    # them there.
    steps = Preprocessing(FRAMES, "exact", "fill", normalize)
    offsets = data["offsets"]
    positions = np.empty((len(offsets) - 1, 3, FRAMES, layout.num_joints, 1), dtype=np.int16)
    for index, (start, stop) in enumerate(pairwise(offsets)):
        meters = data["xyz_mm"][start:stop].transpose(2, 0, 1)[..., None] / 1000
        if dataset.mirrored:
            meters[0] *= -1
        ready = np.rint(steps(meters, layout) * 1000)
        if np.abs(ready).max() > np.iinfo(np.int16).max:
            raise SystemExit(f"{source}: sequence {index} reaches beyond 32 m, too far for int16")
        positions[index] = ready
    store = write_store(
        output,
        positions,
        dataset.columns(data),
        layout=layout,
        classes=None if dataset.classes is None else dataset.classes(data),
        splits=dataset.splits(data),
        source=f"{dataset.source}: joint positions in millimeters, "
        + DONE[normalize].format(center=layout.joints[layout.center], frames=FRAMES),
        licence=dataset.licence,
        citation=dataset.citation,
        preprocessing=steps,
        compress=dataset.compress,
        overwrite=overwrite,
    )
    if dataset.licence_text:
        (store.path / "LICENCE").write_text(dataset.licence_text, encoding="utf-8")
        (store.path / "CITATION").write_text(dataset.citation + "\n", encoding="utf-8")
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help=".npz file of the data set")
    parser.add_argument("output", type=Path, help="folder of the store")
    parser.add_argument("--dataset", choices=DATASETS, required=True, help="which one it is")
    parser.add_argument(
        "--normalize", choices=NORMALIZATIONS, default="frame", help="see docs/prepare.md"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a store that is there")
    arguments = parser.parse_args()
    store = make_store(
        arguments.source,
        arguments.output,
        DATASETS[arguments.dataset],
        normalize=arguments.normalize,
        overwrite=arguments.overwrite,
    )
    print(store.summary())


if __name__ == "__main__":
    main()

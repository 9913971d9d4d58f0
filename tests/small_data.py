"""Small stores and checkpoints of them, for tests that train and evaluate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from aimclr_fast.config import DataConfig, ModelConfig, TrainConfig
from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.data.store import sha256
from aimclr_fast.inference.checkpoints import fresh_encoder
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import AimCLR
from aimclr_fast.training.checkpoint import save_checkpoint

CLASSES = 4
SPOILED = 1  # the sample that is not finite


def write_tiny(folder: Path, spoil: bool = False) -> None:
    """Every 41st sequence of the embedded data; with `spoil`, one has a coordinate of NaN."""
    full = open_embedded("ui_prmd")
    rows = np.arange(0, len(full), 41)
    positions = np.array(full.positions)[rows][:, :, ::6].astype(np.float32) / 1000
    write_store(
        folder,
        positions,
        {name: column[rows] for name, column in full.samples.items()},
        layout=full.layout,
        classes=full.class_names,
        splits={},
        source="test",
        licence="test",
        citation="test",
    )
    if spoil:  # a training sample, seen once an epoch; the writer itself refuses such values
        file, meta = folder / "positions.npy", folder / "meta.json"
        positions[SPOILED, 0, 0, 0, 0] = np.nan
        np.save(file, positions)
        about = json.loads(meta.read_text())
        about["checksums"][file.name] = sha256(file)
        meta.write_text(json.dumps(about))


def save_model(
    path: Path, streams: Sequence[str], *, layout: str = "ui-prmd", seed: int = 0
) -> None:
    config = TrainConfig(
        data=DataConfig(frame_step=2, stream=streams[0]),
        model=ModelConfig(channels=4, features=8, embedding=4, queue_size=8),
        seed=seed,
    )
    models = {}
    for place, stream in enumerate(streams):
        made = fresh_encoder(dataclasses.asdict(config.model), get_layout(layout), seed=place + 1)
        models[stream] = AimCLR(made, embedding=4, queue_size=8)
    save_checkpoint(
        path,
        models=models,
        optimizers={},
        config=config,
        layout=get_layout(layout).to_dict(),
        epoch=3,
        step=9,
    )


def write_evaluated(folder: Path) -> None:
    """Stores of a few sequences, with and without labels, and checkpoints."""
    full = open_embedded("ui_prmd")
    subject, label = full.samples["subject"], full.samples["label"]
    rows = np.concatenate(
        [
            np.flatnonzero((subject == s) & (label == c))[:3]
            for s in range(1, 5)
            for c in range(CLASSES)
        ]
    )
    positions = np.array(full.positions)[rows][:, :, ::5]
    samples = {name: full.samples[name][rows] for name in ("name", "label", "subject")}
    classes = full.class_names[:CLASSES]
    three = {"column": "subject", "train": [1, 2], "val": [3], "test": [4]}
    write_store(
        folder / "store", positions, samples, layout=full.layout, classes=classes,
        splits={"three": three},
    )  # fmt: skip
    write_store(folder / "blind", positions, {"name": samples["name"]}, layout=full.layout)
    kinect = np.random.default_rng(0).normal(size=(48, 3, 10, 20, 1))
    write_store(folder / "other", kinect, samples, layout="kinect-v1", classes=classes)
    save_model(folder / "joint.pt", ["joint"])
    save_model(folder / "joint1.pt", ["joint"], seed=1)
    save_model(folder / "bone.pt", ["bone"])
    save_model(folder / "three.pt", ["joint", "motion", "bone"])
    save_model(folder / "coco.pt", ["joint"], layout="coco")
    torch.save({"weights": 1}, folder / "odd.pt")

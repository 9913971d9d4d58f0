"""Small checkpoints, ours and the authors', for the tests of load_encoder and export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from aimclr_fast._checkpoint import FORMAT, digest
from aimclr_fast.config import DataConfig, ModelConfig, TrainConfig
from aimclr_fast.data import Store
from aimclr_fast.data.store import sha256
from aimclr_fast.inference.checkpoints import fresh_encoder
from aimclr_fast.inference.head_file import save_head
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import AimCLR

TINY = ModelConfig(channels=4, features=8, embedding=4, queue_size=16, dropout=0.0)
LISTINGS = Path(__file__).parent / "golden"


def checkpoint(
    store: Store, *, stream: str = "joint", frame_step: int = 1, seed: int = 0
) -> dict[str, Any]:
    """What training saves, with weights and statistics that a trained encoder could have."""
    model = AimCLR(
        fresh_encoder(dataclasses.asdict(TINY), store.layout, seed=seed), embedding=4, queue_size=16
    )
    encoder = model.query_encoder.train()
    for module in encoder.modules():  # statistics of real sequences, or ReLUs leave nothing
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        encoder(store.as_tensor(slice(0, None, 100)))
    data = DataConfig(stream=stream, frame_step=frame_step)
    return {
        "format": FORMAT,
        "models": {stream: model.state_dict()},
        "config": dataclasses.asdict(TrainConfig(data=data, model=TINY)),
        "layout": store.layout.to_dict(),
        "data": store.traits(),
    }


def save(state: dict[str, Any], path: Path) -> Path:
    """Write one of our checkpoints, checksum and all."""
    torch.save({**state, "sha256": digest(state)}, path)
    return path


def save_head_of(file: Path, path: Path, **changes: Any) -> Path:
    """Write what `evaluate linear` saves for the joint stream of checkpoint `file`."""
    head = {"weight": torch.zeros(20, TINY.features), "bias": torch.zeros(20)}
    about = {"classes": [f"c{i}" for i in range(20)], "stream": "joint", **changes}
    tensors = {name: about.pop(name, tensor) for name, tensor in head.items()}
    save_head(path, tensors, **({"checkpoint_sha256": sha256(file)} | about))
    return path


def authors_state(kind: str, layout: str = "ntu-rgb+d") -> dict[str, torch.Tensor]:
    """Random weights under every name of the authors' "pretrain" or "linear" checkpoints."""
    shapes = json.loads((LISTINGS / f"official_{kind}_state_dict.json").read_text())
    generator = torch.Generator().manual_seed(0)
    joints = get_layout(layout).num_joints

    def tensor(name: str, shape: list[int]) -> torch.Tensor:
        if name.endswith("running_var"):
            return torch.rand(shape, generator=generator) + 0.5
        return torch.randn(shape, generator=generator) * 0.1

    state = {}
    for name, shape in shapes.items():
        inside = name.split(".", 1)[-1]
        if inside == "A":
            state[name] = torch.from_numpy(get_layout(layout).adjacency())
        elif inside.startswith("data_bn") and shape:
            state[name] = tensor(name, [3 * joints])
        elif inside.startswith("edge_importance"):
            state[name] = torch.ones(3, joints, joints)
        else:
            state[name] = tensor(name, shape)
    return state

"""What tells measurements apart: what an encoder was trained by, and options that were changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from .finetuning import FinetuneConfig
from .representation import RAW, SUPERVISED, UNTRAINED

#: Fields of a run's configuration that do not change what it learns, or have a column of their own.
_APART = {
    "seed", "output", "resume", "device", "placement", "cuda_graph", "backend", "encoder_backend",
    "threads", "profile", "monitor", "save_every", "save_steps", "save_seconds", "keep",
}  # fmt: skip
_ENCODER = ("channels", "features", "embedding", "dropout", "temporal_kernel", "init")


def config_checksum(run: Mapping[str, Any], name: str, scratch: FinetuneConfig) -> str:
    """What tells encoders of different configurations apart, in eight hexadecimal digits.

    Args:
        run: configuration of the pretraining run; of baselines only the encoder and the frames
            count, so that methods share them.
        name: as in `Representation`.
        scratch: recipe of a supervised encoder.
    """
    data, model = run.get("data", {}), run.get("model", {})
    own: Any = {"frame_step": data.get("frame_step", 1)}
    if name in (UNTRAINED, SUPERVISED):
        own |= {field: model.get(field) for field in _ENCODER}
        own |= {"scratch": asdict(scratch)} if name == SUPERVISED else {}
    elif name != RAW:
        own = {field: value for field, value in run.items() if field not in _APART}
        own["data"] = {
            **{field: value for field, value in data.items() if field != "stream"},
            "store": PurePath(str(data.get("store", ""))).name,
        }
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:8]


def differences(config: Any) -> str:
    """What a configuration changes from its defaults, as text; lists of k show in the metrics."""
    default = type(config)()

    def walk(own: Mapping[str, Any], plain: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in own.items():
            if isinstance(value, Mapping):
                yield from walk(value, plain[name], f"{prefix}{name}.")
            elif value != plain[name] and name not in ("k", "labels", "draws"):
                yield f"{prefix}{name}={value}"

    return ", ".join(walk(asdict(config), asdict(default), ""))

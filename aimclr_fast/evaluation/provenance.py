"""What distinguishes measurements: an encoder's training configuration, and changed options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from aimclr_fast.config import what_is_learned

from .finetuning import FinetuneConfig
from .representation import ALIGNED, RAW, SUPERVISED, UNTRAINED

_ENCODER = ("channels", "features", "embedding", "dropout", "temporal_kernel", "init")
#: Options that metrics or the settings of outcomes show.
_SHOWN = ("k", "labels", "draws", "scale")


def config_checksum(run: Mapping[str, Any], name: str, scratch: FinetuneConfig) -> str:
    """Checksum of the configuration that an encoder was trained with, eight hexadecimal digits.

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
        if model.get("graph", "spatial") != "spatial":  # 0.1.0 had no other
            own["graph"] = model["graph"]
        own |= {"scratch": asdict(scratch)} if name == SUPERVISED else {}
    elif name not in (RAW, ALIGNED):
        own = what_is_learned(run)
        stores = str(data.get("store", "")).split(",")
        names = ",".join(PurePath(store).name for store in stores)
        own["data"] = {**own.get("data", {}), "store": names}
        for field, group in (("seed", own), ("stream", own["data"])):
            group.pop(field, None)  # a column of its own
        if "split" in own["data"]:  # called so by 0.1.0, whose rows keep their checksums
            own["data"]["protocol"] = own["data"].pop("split")
        if own.get("batch_statistics") == "synchronized":  # likewise
            own["batch_statistics"] = "synchronised"
        if "max_skipped" in run:  # counted by 0.1.0; this is its default
            own["max_skipped"] = 5
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:8]


def differences(config: Any) -> str:
    """What a configuration changes from its defaults, as text, but for `_SHOWN`."""
    default = type(config)()

    def walk(own: Mapping[str, Any], plain: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in own.items():
            if isinstance(value, Mapping):
                yield from walk(value, plain[name], f"{prefix}{name}.")
            elif value != plain[name] and name not in _SHOWN:
                yield f"{prefix}{name}={value}"

    return ", ".join(walk(asdict(config), asdict(default), ""))

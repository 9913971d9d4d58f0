"""Fields that earlier versions called otherwise: files that hold the old names load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: New names of fields of a training configuration, by the old ones.
FIELDS = {"data.protocol": "data.split"}


def with_new_names(config: Any) -> Any:
    """A training configuration from a file, with today's names of fields.

    Anything but a mapping of mappings is returned as it is, for others to refuse.
    """
    if not isinstance(config, Mapping):
        return config
    renamed = dict(config)
    for old, new in FIELDS.items():
        group, _, field = old.partition(".")
        fields = renamed.get(group)
        if isinstance(fields, Mapping) and field in fields:
            today = new.partition(".")[2]
            renamed[group] = {today if k == field else k: v for k, v in fields.items()}
    return renamed

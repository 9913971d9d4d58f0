"""Names that earlier versions spelled otherwise: files that hold the old ones load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: New names of fields of a training configuration, by the old ones.
FIELDS = {"data.protocol": "data.split"}
#: New words for values of its fields outside any group: {field: {old: new}}.
VALUES = {"batch_statistics": {"synchronised": "synchronized"}}


def with_new_keys(fields: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `fields` with today's keys, in the same order.

    Args:
        fields: from a file.
        renamed: new keys by the old ones.

    Raises:
        ValueError: a key is there under both names.
    """
    for old, new in renamed.items():
        if old in fields and new in fields:
            raise ValueError(f"{old} and {new} are the same field; keep {new}")
    return {renamed.get(key, key): value for key, value in fields.items()}


def with_new_names(config: Any) -> Any:
    """A training configuration from a file, with today's names of fields and values.

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
    for field, words in VALUES.items():
        if isinstance(value := renamed.get(field), str):
            renamed[field] = words.get(value, value)
    return renamed

"""State dicts to and from the names and shapes of the authors' released checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Theirs -> ours, inside an encoder. Each pair of patterns is read in both directions.
_ENCODER_NAMES = (
    ("A", "backbone.adjacency"),
    ("data_bn.{rest}", "backbone.input_norm.{rest}"),
    ("edge_importance.{block}", "backbone.edge_importance.{block}"),
    ("st_gcn_networks.{block}.gcn.{rest}", "backbone.blocks.{block}.spatial.{rest}"),
    ("st_gcn_networks.{block}.tcn.0.{rest}", "backbone.blocks.{block}.spatial_norm.{rest}"),
    ("st_gcn_networks.{block}.tcn.2.{rest}", "backbone.blocks.{block}.temporal.{rest}"),
    ("st_gcn_networks.{block}.tcn.3.{rest}", "backbone.blocks.{block}.temporal_norm.{rest}"),
    ("st_gcn_networks.{block}.residual.{rest}", "backbone.blocks.{block}.residual.{rest}"),
    ("fc.{rest}", "head.{rest}"),
)
_PREFIXES = (("encoder_q.", "query_encoder."), ("encoder_k.", "key_encoder."))


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{block\}", r"(?P<block>\d+)")
    return re.compile(escaped.replace(r"\{rest\}", "(?P<rest>.+)"))


_TO_OURS = [(_pattern(theirs), ours) for theirs, ours in _ENCODER_NAMES]
_TO_THEIRS = [(_pattern(ours), theirs) for theirs, ours in _ENCODER_NAMES]


def _rename(name: str, table: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in table:
        match = pattern.fullmatch(name)
        if match:
            return template.format(**match.groupdict())
    raise ValueError(f"unknown parameter {name!r} in the checkpoint")


def _convert(state: Mapping[str, Tensor], *, to_ours: bool) -> dict[str, Tensor]:
    table = _TO_OURS if to_ours else _TO_THEIRS
    converted = {}
    for name, tensor in state.items():
        if name == "queue":
            # Theirs holds keys as columns [D, K], ours as rows [K, D].
            converted[name] = tensor.T.contiguous()
            continue
        if name == "queue_ptr":
            converted[name] = tensor
            continue
        for theirs, ours in _PREFIXES:
            old, new = (theirs, ours) if to_ours else (ours, theirs)
            if name.startswith(old):
                converted[new + _rename(name.removeprefix(old), table)] = tensor
                break
        else:
            raise ValueError(f"unknown parameter {name!r} in the checkpoint")
    return converted


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An authors' pretraining state dict as one for `AimCLR.load_state_dict`.

    Raises:
        ValueError: a parameter of a name their checkpoints do not have.
    """
    return _convert(state, to_ours=True)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `AimCLR` under the authors' names and shapes."""
    return _convert(state, to_ours=False)


def encoder_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The query encoder of an authors' checkpoint (pretraining or linear evaluation), as one for
    `SkeletonEncoder.load_state_dict`.
    """
    prefix = "encoder_q."
    if not any(name.startswith(prefix) for name in state):
        some = ", ".join(list(state)[:3]) or "nothing"
        raise ValueError(f"the checkpoint has no query encoder ({prefix}*); it starts with {some}")
    return {
        _rename(name.removeprefix(prefix), _TO_OURS): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }

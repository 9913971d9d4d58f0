"""State dicts to and from the names and shapes of the authors' released checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aimclr_fast.layouts import LAYOUTS, STRATEGIES, Layout, get_layout

from .stgcn import STGCN, SkeletonEncoder

QUERY, KEY = "encoder_q.", "encoder_k."

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
_PREFIXES = ((QUERY, "query_encoder."), (KEY, "key_encoder."))


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
    if not any(name.startswith(QUERY) for name in state):
        some = ", ".join(list(state)[:3]) or "nothing"
        raise ValueError(f"the checkpoint has no query encoder ({QUERY}*); it starts with {some}")
    return {
        _rename(name.removeprefix(QUERY), _TO_OURS): tensor
        for name, tensor in state.items()
        if name.startswith(QUERY)
    }


def is_linear(state: Mapping[str, Tensor]) -> bool:
    """Whether an authors' checkpoint is one of linear evaluation: its head is a classifier."""
    return f"{QUERY}fc.weight" in state and not any(name.startswith(KEY) for name in state)


def build_encoder(
    weights: Mapping[str, Tensor], layout: str | Layout | None = None
) -> SkeletonEncoder:
    """The encoder that a state dict under our names is of; its sizes follow from the shapes.

    Args:
        weights: of a `SkeletonEncoder`, with its head or without.
        layout: the skeleton; None takes the built-in layout whose graph is in the weights.

    Raises:
        ValueError: a tensor is missing, unknown or of a shape that fits no encoder, or the graph is
            not that of the layout, or of no built-in one.
    """
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is {type(tensor).__name__}, not a tensor")
    try:
        graph = weights["backbone.adjacency"].float()
        parts, _, _ = graph.shape
        _, in_channels, _, _ = weights["backbone.blocks.0.spatial.conv.weight"].shape
        _, channels, temporal_kernel, _ = weights["backbone.blocks.0.temporal.weight"].shape
        (features,) = weights["backbone.blocks.9.temporal.bias"].shape
        strategy = dict(zip((1, 2, 3), STRATEGIES, strict=True))[parts]
        head = next((weights[n] for n in ("head.weight", "head.2.weight") if n in weights), None)
        embedding = 1 if head is None else len(head)
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(f"these are not the weights of an encoder: {error}") from error
    layout = _with_graph(graph, strategy, None if layout is None else get_layout(layout))
    with torch.device("meta"):  # no shape in a file makes us allocate anything
        backbone = STGCN(
            layout,
            in_channels=in_channels,
            channels=channels,
            features=features,
            temporal_kernel=temporal_kernel,
            strategy=strategy,
        )
        encoder = SkeletonEncoder(backbone, embedding, projection="head.weight" not in weights)
    if head is None:
        encoder.head = nn.Identity()
    wide = {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
    try:
        encoder.load_state_dict(wide, assign=True)
    except RuntimeError as error:
        _, _, reason = str(error).partition("\n")
        raise ValueError(f"the weights do not fit an encoder: {reason.strip() or error}") from error
    return encoder.eval()


def _with_graph(graph: Tensor, strategy: str, layout: Layout | None) -> Layout:
    def has(one: Layout) -> bool:
        own = torch.from_numpy(one.adjacency(strategy))
        return own.shape == graph.shape and torch.allclose(own, graph, atol=1e-4)

    if layout is not None:
        if not has(layout):
            raise ValueError(
                f"layout {layout.name!r} does not have the graph of the weights, which is of "
                f"{graph.shape[1]} joints"
            )
        return layout
    found = next((one for one in LAYOUTS.values() if has(one)), None)
    if found is None:
        raise ValueError(
            f"the graph, of {graph.shape[1]} joints, is that of no built-in layout: give the layout"
        )
    return found

"""State dicts to and from the names and shapes of the authors' released checkpoints."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aimclr_fast._checkpoint import check_finite
from aimclr_fast.layouts import LAYOUTS, STRATEGIES, Layout, get_layout

from .stgcn import STGCN, SkeletonEncoder, head_like

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
_AS_THEY_ARE = {"queue_ptr": "queue_ptr", "mask_param": "mask_value", "mask_value": "mask_param"}
_PREFIXES = ((QUERY, "query_encoder."), (KEY, "key_encoder."))


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{block\}", r"(?P<block>\d+)")
    return re.compile(escaped.replace(r"\{rest\}", "(?P<rest>.+)"))


_TO_OURS = [(_pattern(theirs), ours) for theirs, ours in _ENCODER_NAMES]
_TO_THEIRS = [(_pattern(ours), theirs) for theirs, ours in _ENCODER_NAMES]


# HiCLR counts edge weights from 1, in a name of their own.
_NUMBERED = re.compile(r"(?P<before>(?:.*\.)?edge_importance)(?P<number>[1-9]\d?)")


def _rename(name: str, table: list[tuple[re.Pattern[str], str]]) -> str:
    if numbered := _NUMBERED.fullmatch(name):
        name = f"{numbered['before']}.{int(numbered['number']) - 1}"
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
        if name in _AS_THEY_ARE:
            converted[_AS_THEY_ARE[name]] = tensor
            continue
        for theirs, ours in _PREFIXES:
            old, new = (theirs, ours) if to_ours else (ours, theirs)
            if name.startswith(old):
                renamed = _rename(name.removeprefix(old), table)
                converted[new + renamed] = _as_linear(renamed, tensor) if to_ours else tensor
                break
        else:
            raise ValueError(f"unknown parameter {name!r} in the checkpoint")
    return converted


def _as_linear(name: str, tensor: Any) -> Any:
    """The weights of a head's layer, which are those of a 1x1 convolution in ActCLR."""
    pointwise = name.startswith("head.") and isinstance(tensor, Tensor) and tensor.dim() == 4
    return tensor.flatten(1) if pointwise and tensor.shape[2:] == (1, 1) else tensor


def from_official(state: Mapping[str, Tensor], stream: str | None = None) -> dict[str, Tensor]:
    """An authors' pretraining state dict as one for `Contrast.load_state_dict`.

    Args:
        state: of AimCLR, AimCLR++, SkeleMixCLR, HiCLR or ActCLR.
        stream: which one to take of a state dict of joint, motion and bone (3s-AimCLR++), where
            names of motion and bone say so (encoder_q_motion, queue_bone).

    Raises:
        ValueError: a parameter of a name their checkpoints do not have.
    """
    state = _unwrapped(state)
    return _convert(state if stream is None else _of_stream(state, stream), to_ours=True)


def _of_stream(state: Mapping[str, Tensor], stream: str) -> dict[str, Tensor]:
    """What is of one of three streams, under the names that it would have alone."""
    kept = {}
    for name, tensor in state.items():
        room, dot, rest = name.partition(".")
        plain, _, own = room.rpartition("_")
        if own not in ("motion", "bone"):
            plain, own = room, "joint"
        if own == stream:
            kept[plain + dot + rest] = tensor
    return kept


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a `Contrast` under the authors' names and shapes."""
    return _convert(state, to_ours=False)


# --- One encoder of a file that may hold several --------------------------------------------------

_INSIDE = re.compile(
    r"(?:^|\.)(A$|edge_importance\d+$|(?:data_bn|edge_importance|st_gcn_networks|fc)\..+)"
)
_ANCHOR = "st_gcn_networks."  # what every encoder has
#: Words in an encoder's name, and the stream that they stand for.
_STREAM_WORDS = {
    **dict.fromkeys(("joint", "position"), "joint"),
    **dict.fromkeys(("motion", "velocity"), "motion"),
    "bone": "bone",
}
#: Letters that stand for streams where there are several encoders.
_STREAM_LETTERS = {"j": "joint", "m": "motion", "b": "bone"}
_QUERY_WORDS = {"q", "query"}
_KEY_WORDS = {"k", "key", "momentum", "ema", "teacher", "target"}


class OfficialEncoder(NamedTuple):
    """An encoder under the authors' names.

    Attributes:
        weights: for `SkeletonEncoder.load_state_dict`.
        stream: joint, motion or bone, where its name or that of others beside it says so.
        is_linear: its head is a classifier, as in checkpoints of linear evaluation.
    """

    weights: dict[str, Tensor]
    stream: str | None
    is_linear: bool


def holds_encoders(state: object) -> bool:
    """Whether anything in what was read of a file has the names of the authors' encoders."""
    return bool(_with_encoders(state, ""))


def official_encoder(state: Mapping[str, Any], stream: str | None = None) -> OfficialEncoder:
    """A query encoder of a checkpoint with the authors' names, of pretraining or linear evaluation.

    The names may have prefixes of `DataParallel`, `DistributedDataParallel` or `torch.compile`, and
    the state dict may lie within others. Where there are several query encoders, as after training
    on three streams, their names say which is which (encoder_q_motion, bone.encoder_q), or the keys
    of the state dicts that they lie in; the one without such a word is the joint stream's.

    Args:
        state: what was read of the file.
        stream: joint, motion or bone; may be left out where there is one encoder. Then it is the
            joint stream's, unless its name has another's word in it, which a warning says.

    Raises:
        ValueError: no query encoder, none or several of this stream, several and none was asked
            for, a value that is not finite, or a parameter of a name that the authors' encoders do
            not have.
    """
    names = _merged(_with_encoders(state, ""))
    prefixes = _prefixes(names)
    queries = [
        prefix
        for prefix in prefixes
        if _words(prefix) & _QUERY_WORDS or not _words(prefix) & _KEY_WORDS
    ]
    if not queries:
        have = prefixes or list(state)[:3]
        listed = ", ".join(str(name).rstrip(".") for name in have) or "nothing"
        raise ValueError(f"the checkpoint has no query encoder ({QUERY}*); it holds {listed}")
    prefix, own = _chosen(queries, stream)
    theirs = {name: tensor for name, tensor in names.items() if name.startswith(prefix)}
    renamed = {
        _rename(name.removeprefix(prefix), _TO_OURS): tensor for name, tensor in theirs.items()
    }
    weights = {name: _as_linear(name, tensor) for name, tensor in renamed.items()}
    check_finite(theirs)
    is_linear = f"{prefix}fc.weight" in names and len(prefixes) == len(queries)
    return OfficialEncoder(weights, own, is_linear)


def encoder_from_official(state: Mapping[str, Any], stream: str | None = None) -> dict[str, Tensor]:
    """The weights that `official_encoder` finds, for `SkeletonEncoder.load_state_dict`.

    Raises:
        ValueError: as there.
    """
    return official_encoder(state, stream).weights


def _merged(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One dict of all names; those of several state dicts have the keys before them."""
    if len(found) < 2:
        return _unwrapped(next(iter(found.values()))) if found else {}
    known = _STREAM_WORDS.keys() | _STREAM_LETTERS.keys()
    if not all(_words(path) & known for path in found):
        raise ValueError(
            f"the checkpoint has encoders in {' and '.join(map(repr, found))}; save the one that "
            "you mean by itself"
        )
    return {
        f"{path}.{name}": tensor
        for path, inside in found.items()
        for name, tensor in _unwrapped(inside).items()
    }


def _chosen(queries: list[str], stream: str | None) -> tuple[str, str | None]:
    """The prefix of the query encoder of a stream, and the stream if names give it."""
    if len(queries) == 1:
        return queries[0], stream or _stream_of(queries[0])
    streams: dict[str, str] = {}
    letters = {prefix for prefix in queries if not _said(prefix, _STREAM_WORDS)}
    for prefix in queries:
        said = _said(prefix, _STREAM_LETTERS if prefix in letters else _STREAM_WORDS)
        own = next(iter(said), "joint")
        if len(said) > 1 or own in streams:
            raise _untold(queries)
        streams[own] = prefix
    # Letters are weak evidence: an encoder without any is joint's only beside its encoder_b.
    plain = streams.get("joint", "")
    if plain in letters and not _said(plain, _STREAM_LETTERS):
        for prefix in letters - {plain}:
            if _words(prefix) - _STREAM_LETTERS.keys() != _words(plain):
                raise _untold(queries)
    if stream not in streams:
        holds = ", ".join(f"{own} ({prefix.rstrip('.')})" for own, prefix in streams.items())
        asked = f"no {stream} stream" if stream else "several streams, and none was named"
        raise ValueError(f"the checkpoint has {asked}; it holds {holds}")
    return streams[stream], stream


def _stream_of(prefix: str) -> str | None:
    """The stream in the name of a file's only encoder, with a warning where that is a guess."""
    said = _said(prefix, _STREAM_WORDS)
    name = prefix.rstrip(".")
    if len(said) > 1:
        raise ValueError(f"{name} may be of the {' or '.join(sorted(said))} stream: say stream=")
    own = next(iter(said), "joint")
    if own != "joint" or _said(prefix, _STREAM_LETTERS) - {"joint"}:
        warnings.warn(
            f"the encoder {name} is taken for the {own} stream's by its name; stream= says "
            "otherwise",
            stacklevel=2,
        )
    return next(iter(said), None)


def _said(prefix: str, table: Mapping[str, str]) -> set[str]:
    """The streams that the words of a prefix name."""
    return {table[word] for word in _words(prefix) if word in table}


def _untold(queries: list[str]) -> ValueError:
    listed = ", ".join(prefix.rstrip(".") for prefix in queries)
    return ValueError(
        f"the names of the checkpoint's encoders do not tell their streams: {listed}; "
        f"save the one that you mean by itself, under {QUERY}*"
    )


def _words(prefix: str) -> set[str]:
    return set(re.split(r"[._]", prefix.lower()))


def _prefixes(state: Mapping[str, Any]) -> list[str]:
    """The prefix of each encoder, key encoders included; "" for a bare one."""
    found: dict[str, None] = {}
    for name in state:
        match = _INSIDE.search(name)
        if match and match[1].startswith(_ANCHOR):
            found[name[: match.start(1)]] = None
    return list(found)


def _with_encoders(value: object, path: str, depth: int = 4) -> dict[str, Mapping[str, Any]]:
    """The mappings in a checkpoint that hold encoders, by their path."""
    if not isinstance(value, Mapping) or depth == 0:
        return {}
    if any(isinstance(name, str) and _prefixes({name: None}) for name in value):
        return {path: value}
    found: dict[str, Mapping[str, Any]] = {}
    for name, inside in value.items():
        found |= _with_encoders(inside, f"{path}.{name}".lstrip("."), depth - 1)
    return found


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefixes that `DataParallel` and `torch.compile` put before names."""
    names: dict[str, Any] = {}
    for name, tensor in state.items():
        parts = [part for part in str(name).split(".") if part not in ("module", "_orig_mod")]
        plain = ".".join(parts)
        if plain in names:
            raise ValueError(f"{plain} is there twice in the checkpoint, once as {name}")
        names[plain] = tensor
    return names


def build_encoder(
    weights: Mapping[str, Tensor], layout: str | Layout | None = None
) -> SkeletonEncoder:
    """Build the encoder of a state dict under our names; its sizes follow from the shapes.

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
        _, _, _ = graph.shape
        _, in_channels, _, _ = weights["backbone.blocks.0.spatial.conv.weight"].shape
        _, channels, temporal_kernel, _ = weights["backbone.blocks.0.temporal.weight"].shape
        (features,) = weights["backbone.blocks.9.temporal.bias"].shape
        head = {n.removeprefix("head."): t for n, t in weights.items() if n.startswith("head.")}
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(f"these are not the weights of an encoder: {error}") from error
    layout, strategy = _with_graph(graph, None if layout is None else get_layout(layout))
    with torch.device("meta"):  # shapes in a file allocate nothing
        backbone = STGCN(
            layout,
            in_channels=in_channels,
            channels=channels,
            features=features,
            temporal_kernel=temporal_kernel,
            strategy=strategy,
        )
        encoder = SkeletonEncoder(backbone, 1)
        encoder.head = head_like(head) if head else nn.Identity()
    wide = {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
    try:
        encoder.load_state_dict(wide, assign=True)
    except RuntimeError as error:
        _, _, reason = str(error).partition("\n")
        raise ValueError(f"the weights do not fit an encoder: {reason.strip() or error}") from error
    return encoder.eval()


def _with_graph(graph: Tensor, layout: Layout | None) -> tuple[Layout, str]:
    """The layout that the graph [parts, V, V] of weights is of, and how neighbors are parted."""

    def strategy_of(one: Layout) -> str | None:
        for strategy in STRATEGIES:
            own = torch.from_numpy(one.adjacency(strategy))
            if own.shape == graph.shape and torch.allclose(own, graph, atol=1e-4):
                return strategy
        return None

    for one in LAYOUTS.values() if layout is None else (layout,):
        if strategy := strategy_of(one):
            return one, strategy
    if layout is not None:
        raise ValueError(
            f"layout {layout.name!r} does not have the graph of the weights, which is of "
            f"{graph.shape[1]} joints"
        )
    raise ValueError(
        f"the graph, of {graph.shape[1]} joints, is that of no built-in layout: give the layout"
    )

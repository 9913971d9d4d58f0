"""Encoders from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from aimclr_fast._checkpoint import CheckpointError, check_finite
from aimclr_fast.layouts import Layout, layout_from_dict
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.methods import plain_encoder
from aimclr_fast.nn.stgcn import head_like, initialise_small


class LoadedEncoder(NamedTuple):
    """A pretrained query encoder in eval mode, and what it was trained as.

    Attributes:
        encoder: on the CPU; `encoder.features(x)` is the representation.
        config: the run's configuration, as plain containers.
        layout: the skeleton it takes.
        stream: joint, motion or bone.
    """

    encoder: SkeletonEncoder
    config: dict[str, Any]
    layout: Layout
    stream: str


def streams_of(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Streams for which a checkpoint holds an encoder."""
    return tuple(state["models"])


def encoder_from(state: Mapping[str, Any], stream: str | None = None) -> LoadedEncoder:
    """The query encoder of a checkpoint (as read by `load_checkpoint`), in eval mode.

    Args:
        state: the checkpoint.
        stream: which one; may be left out where there is only one.

    Raises:
        CheckpointError: the checkpoint lacks this stream, has several and none was named, its parts
            do not fit each other, or a weight is not finite.
    """
    try:
        streams = streams_of(state)
        if stream is None and len(streams) == 1:
            stream = streams[0]
        if stream not in streams:
            asked = f"no {stream} stream" if stream else "several streams, and none was named"
            raise CheckpointError(f"the checkpoint has {asked}; it holds {', '.join(streams)}")
        layout = layout_from_dict(state["layout"], source="the checkpoint's layout")
        with torch.device("meta"):  # no size in a file makes us allocate anything
            encoder = fresh_encoder(state["config"]["model"], layout)
            weights = _inside("query_encoder.", state["models"][stream])
            encoder.head = head_like(_inside("head.", weights))
        wide = {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
        encoder.load_state_dict(wide, assign=True)
        check_finite(wide)
    except CheckpointError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"the checkpoint's parts do not fit each other ({reason})") from error
    return LoadedEncoder(encoder.eval(), dict(state["config"]), layout, stream)


def _inside(prefix: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def fresh_encoder(
    model: Mapping[str, Any], layout: Layout, *, seed: int | None = None
) -> SkeletonEncoder:
    """An untrained encoder, as a run's `config["model"]` describes it.

    With the run's seed it has the weights that a run of one stream started from; torch's generator
    is left as it was. Without a seed the weights come from torch's generator.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        encoder = plain_encoder(layout, SimpleNamespace(**model))
        if model["init"] == "official":
            encoder.apply(initialise_small)
    return encoder

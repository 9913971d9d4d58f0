"""A configuration resolved once, for this machine and these data: what the rest of a run reads."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from aimclr_fast._devices import usable_device
from aimclr_fast._schedule import SCHEDULES
from aimclr_fast.config import ConfigError, TrainConfig
from aimclr_fast.evaluation.scaling import SCALES
from aimclr_fast.functional import STREAMS
from aimclr_fast.nn import Method, get_method, method_names
from aimclr_fast.nn.actclr import FORMS
from aimclr_fast.nn.actclr_views import STAGES
from aimclr_fast.nn.momentum import INITS
from aimclr_fast.nn.precision import DTYPES, PRECISIONS, resolve_precision, why_not_precision
from aimclr_fast.nn.readouts import parse_readout
from aimclr_fast.ops import (
    BackendError,
    eadm_pool,
    masked_pool,
    pick,
    queue_contrast,
    skelemix,
    skeleton_augment,
    stgcn_block,
)

from .distributed import Ranks
from .fitting import fitted
from .placement import PLACEMENTS

GRAPHS = ("spatial", "directed")
BATCH_STATISTICS = ("rank", "synchronized")
# Typing errors beyond these would fill the memory before any message.
MOST_CHANNELS, MOST_TAPS = 8192, 999


@dataclass(frozen=True)
class Job:
    """A run as this process computes it. `resolve` makes one of an unchecked configuration.

    Attributes:
        config: as the user gave it, but for what is null, which fits the data, and for precision
            auto, which fits the device.
        device: what trains.
        ranks: the processes that train as one; each takes its share of every batch.
        backends: of each op, by name.
        chosen: what was null in the user's, a line each.
    """

    config: TrainConfig
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    backends: Mapping[str, str] = field(default_factory=dict)
    chosen: Sequence[str] = ()

    @cached_property
    def method(self) -> Method:
        return get_method(self.config.method)

    @cached_property
    def losses(self) -> Mapping[str, str]:
        """The parts of the loss that are logged, and their names in figures."""
        return self.method.losses_of(self.config)

    @property
    def together(self) -> list[tuple[str, ...]]:
        """The streams, those that learn together in one tuple."""
        streams = self.config.data.streams
        return [streams] if self.method.joins(self.config) else [(name,) for name in streams]

    @cached_property
    def precision(self) -> str:
        """What the encoder computes in: fp32, tf32 or bf16."""
        return resolve_precision(self.config.precision, self.device)

    @property
    def batch(self) -> int:
        """Sequences of a step that this process takes."""
        return self.config.optim.batch_size // self.ranks.size


def published_config(method: str, **fields: Any) -> TrainConfig:
    """A configuration with the numbers that a method was published with; `TrainConfig(method=...)`
    has the defaults of the fields, which are AimCLR's.

    Args:
        method: its name.
        fields: other fields of `TrainConfig`, which go before the method's numbers. A mapping sets
            single fields of a group, such as optim={"epochs": 2}; a group is taken as it is.

    Raises:
        ValueError: there is no such method.
        TypeError: there is no such field.
    """
    config = TrainConfig(method=method)
    for changes in (get_method(method).published, fields):
        for name, value in changes.items():
            if isinstance(value, Mapping):
                value = replace(getattr(config, name), **copy.deepcopy(dict(value)))
            config = replace(config, **{name: value})
    return config


def resolve(
    config: TrainConfig,
    ranks: Ranks,
    *,
    samples: int,
    frames: int,
    split: str = "all",
    classes: Sequence[str] = (),
    began_in: str | None = None,
) -> Job:
    """The job of a configuration.

    Args:
        config: as the user gave it.
        ranks: the processes that train as one.
        samples: number of training samples.
        frames: of a stored sequence.
        split: where the configuration names none.
        classes: their names, if they have any.
        began_in: the precision of the run that is resumed; it is what auto then means.

    Raises:
        ConfigError: naming the field, its value and what would do.
    """
    config, chosen = fitted(config, samples, frames, split, classes)
    validate(config, samples)
    frame_step = config.data.frame_step
    if frame_step > max(1, frames // 2):
        raise ConfigError(f"data.frame_step is {frame_step}, but must leave two of {frames} frames")
    _check_ranks(config, ranks)
    device = _device(config.device, ranks)
    precision = resolve_precision(config.precision, device)
    if config.precision == "auto" and began_in not in (None, precision):
        precision = began_in
        chosen.append(f"precision {precision}: the run began in it")
    why = why_not_precision(precision, device)
    if why is not None:
        raise ConfigError(
            f"precision is {precision!r}, but {why}. Give --precision fp32; a run that began in "
            f"{precision} can only go on where that is computed"
        )
    auto = config.precision == "auto" and began_in is None
    config = replace(config, precision=precision)
    backends = _pick_backends(config, device)
    synchronized = ranks.size > 1 and config.batch_statistics == "synchronized"
    compiled = backends["stgcn_block"] == "cpp" and not synchronized  # which takes the reference's
    if auto and precision == "bf16" and device.type == "cpu" and not compiled:
        # In PyTorch's own blocks it is slower than float32.
        config = replace(config, precision="fp32")
        backends = _pick_backends(config, device)
    return Job(config, device, ranks, backends, chosen)


def validate(config: TrainConfig, samples: int) -> None:
    """Check the fields against each other and the number of training samples.

    Raises:
        ConfigError: naming the field, its value and what would do.
    """
    require = functools.partial(_require, config)
    data, model, optim = config.data, config.model, config.optim
    _check_method(config)
    different = len(set(data.streams)) == len(data.streams)
    names = f"one of {', '.join(STREAMS)}, or different ones with commas between"
    require(different and set(data.streams) <= set(STREAMS), "data.stream", names)
    require(data.frame_step >= 1, "data.frame_step", "at least 1")
    require(data.frames >= 1, "data.frames", "at least 1")
    require(model.init in INITS, "model.init", f"one of {', '.join(INITS)}")
    require(optim.schedule in SCHEDULES, "optim.schedule", f"one of {', '.join(SCHEDULES)}")
    for name in ("channels", "features", "embedding"):
        within = 1 <= getattr(model, name) <= MOST_CHANNELS
        require(within, f"model.{name}", f"from 1 to {MOST_CHANNELS}")
    require(optim.batch_size >= 1, "optim.batch_size", "at least 1")
    require(optim.epochs >= 1, "optim.epochs", "at least 1")
    require(optim.steps is None or optim.steps >= 1, "optim.steps", "at least 1")
    require(optim.lr >= 0, "optim.lr", "at least 0")
    require(0 <= optim.momentum < 1, "optim.momentum", "in [0, 1)")
    require(optim.weight_decay >= 0, "optim.weight_decay", "at least 0")
    require(optim.warmup_epochs >= 0, "optim.warmup_epochs", "at least 0")
    require(optim.mining_epoch >= 0, "optim.mining_epoch", "at least 0")
    require(0 <= model.dropout < 1, "model.dropout", "in [0, 1)")
    require(0 <= model.momentum <= 1, "model.momentum", "in [0, 1]")
    require(model.temperature > 0, "model.temperature", "positive")
    require(0 < model.keep_prob <= 1, "model.keep_prob", "in (0, 1]")
    odd = model.temporal_kernel % 2 == 1 and 1 <= model.temporal_kernel <= MOST_TAPS
    require(odd, "model.temporal_kernel", f"odd, from 1 to {MOST_TAPS}")
    require(model.topk >= 0, "model.topk", "at least 0")
    require(
        max(optim.batch_size, model.topk, 1) <= model.queue_size < 2**31,
        "model.queue_size",
        f"below 2^31 and at least the batch size ({optim.batch_size}) and topk ({model.topk})",
    )
    require(
        optim.batch_size <= samples,
        "optim.batch_size",
        f"at most the number of training samples ({samples}); --config small fits such sets",
    )
    require(config.monitor.batch_size >= 1, "monitor.batch_size", "at least 1")
    require(config.monitor.knn_every >= 0, "monitor.knn_every", "at least 0")
    _check_readout(config)
    require(config.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
    known = ", ".join(BATCH_STATISTICS)
    require(config.batch_statistics in BATCH_STATISTICS, "batch_statistics", f"one of {known}")
    require(config.placement in PLACEMENTS, "placement", f"one of {', '.join(PLACEMENTS)}")
    require(optim.clip_norm >= 0, "optim.clip_norm", "at least 0")
    require(config.profile >= 0, "profile", "at least 0")
    for name in ("save_every", "keep", "max_skipped"):
        require(getattr(config, name) >= 1, name, "at least 1")
    for name in ("save_steps", "save_seconds"):
        require(getattr(config, name) >= 0, name, "at least 0")
    require(config.threads >= 0, "threads", "at least 0")
    require(0 <= config.seed < 2**64, "seed", "in 0..2^64-1")


def _require(config: TrainConfig, holds: bool, name: str, wanted: str) -> None:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part)
    if not holds:
        raise ConfigError(f"{name} is {value!r}, but must be {wanted}")


def _check_readout(config: TrainConfig) -> None:
    pool, scale = config.monitor.pool, config.monitor.scale
    _require(config, scale in SCALES, "monitor.scale", f"one of {', '.join(SCALES)}")
    if pool is None:
        _require(config, scale == "none", "monitor.scale", "none without monitor.pool")
        return
    try:
        parse_readout(pool)
    except ValueError as error:
        raise ConfigError(f"monitor.pool: {error}") from error


def _check_method(config: TrainConfig) -> None:
    """Fields that methods read and others do not."""
    require = functools.partial(_require, config)
    model, votes, methods = config.model, config.votes, method_names()
    require(config.method in methods, "method", f"one of {', '.join(methods)}")
    mines = model.topk > 0 and config.optim.mining_epoch > 0
    require(mines or not model.nnm, "model.nnm", "off with model.topk or optim.mining_epoch 0")
    require(model.graph in GRAPHS, "model.graph", f"one of {', '.join(GRAPHS)}")
    require(0 < config.mask.share < 1, "mask.share", "in (0, 1)")
    require(votes.epoch >= 0, "votes.epoch", "at least 0")
    _check_actionlet(config)
    method, streams = get_method(config.method), len(config.data.streams)
    try:
        method.parts_of(config)
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
    if votes.epoch > 0 and method.joins(config):
        most, first = model.queue_size, config.optim.mining_epoch
        late = f"0 or at least optim.mining_epoch ({first}): what streams vote for is mined"
        require(votes.epoch >= first, "votes.epoch", late)
        require(1 <= votes.topk <= most, "votes.topk", f"from 1 to the queue's size ({most})")
        require(1 <= votes.least <= streams, "votes.least", f"from 1 to {streams}, the streams")


def _check_actionlet(config: TrainConfig) -> None:
    require, own = functools.partial(_require, config), config.actionlet
    require(own.form in FORMS, "actionlet.form", f"one of {', '.join(FORMS)}")
    require(0 < own.neighbors_share <= 1, "actionlet.neighbors_share", "in (0, 1]")
    require(own.late_epoch >= 0, "actionlet.late_epoch", "at least 0")
    ascending = own.stages == sorted(own.stages) and min(own.stages, default=0) >= 0
    require(
        ascending and len(own.stages) == len(STAGES),
        "actionlet.stages",
        f"{len(STAGES)} ascending epochs, one for each stage",
    )


def _check_ranks(config: TrainConfig, ranks: Ranks) -> None:
    if config.optim.batch_size % ranks.size:
        raise ConfigError(
            f"optim.batch_size is {config.optim.batch_size}, but must be a multiple of the number "
            f"of processes ({ranks.size})"
        )
    if ranks.size > 1 and config.profile:
        raise ConfigError(f"profile is {config.profile}, but looks at one process alone")
    if ranks.size > 1 and ":" in config.device:
        raise ConfigError(
            f"device is {config.device!r}, but each of {ranks.size} processes takes a GPU of its "
            "own; leave it at 'auto' or 'cuda'"
        )


def _device(name: str, ranks: Ranks) -> torch.device:
    try:
        device = usable_device(name)
        if device.type == "cuda" and ranks.size > 1:
            device = usable_device(f"cuda:{ranks.local_rank}")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return device


def _pick_backends(config: TrainConfig, device: torch.device) -> dict[str, str]:
    """The backend of each op; refuses one that cannot run before anything is measured."""
    maps = DTYPES[config.precision]
    rows = torch.float32
    ops = {skeleton_augment: rows, stgcn_block: maps, eadm_pool: maps, queue_contrast: rows}
    parts = get_method(config.method).parts_of(config)
    if parts is not None and parts.mixes:
        ops |= {skelemix: rows, masked_pool: maps}
    picked = {}
    try:
        for op, dtype in ops.items():
            name = op.__name__.rpartition(".")[2]
            wanted = (op is stgcn_block and config.encoder_backend) or config.backend
            probe = torch.zeros(1, config.model.embedding, dtype=dtype, device=device)
            picked[name] = pick(name, op.BACKENDS, wanted, probe).name
    except (ValueError, BackendError) as error:
        raise ConfigError(f"backend: {error}") from error
    return picked

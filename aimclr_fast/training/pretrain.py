"""A whole run: data, untrained scores, epochs with checkpoints and kNN, probe, table, figure."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from aimclr_fast.data import Store, resolve_store, split
from aimclr_fast.nn import METHODS
from aimclr_fast.ops import eadm_pool, queue_contrast, skeleton_augment, stgcn_block
from aimclr_fast.ops._dispatch import BackendError, pick

from .checkpoint import save_checkpoint, written_whole
from .config import ConfigError, TrainConfig
from .loop import LossReader, Pretraining, pick_device
from .metrics import MetricsLog
from .monitor import Monitor, Scores
from .placement import PlacementError, place
from .profile import profile_steps
from .progress import TrainProgress
from .report import draw_curves, save_scores, score_table
from .schedule import learning_rate
from .streams import by_stream


class DivergedError(RuntimeError):
    """The loss is no longer finite."""


def pretrain(config: TrainConfig, config_text: str, console: Console) -> Path:
    """Pretrain as configured; returns the run's folder.

    Args:
        config: what to do.
        config_text: the resolved configuration, saved beside the results.
        console: where progress and the closing table go.

    Raises:
        ConfigError: a field cannot work.
        StoreError: the data cannot be read.
        DivergedError: the loss is not finite after an epoch.
    """
    started = time.perf_counter()
    store = resolve_store(config.data.store)
    try:
        train_index, test_index = map(torch.from_numpy, split(store, config.data.protocol))
    except ValueError as error:
        raise ConfigError(f"data.protocol: {error}") from error
    config.validate(len(train_index))
    device = _usable_device(config.device)
    if device.type == "cpu" and config.precision in ("tf32", "bf16"):
        raise ConfigError(f"precision is {config.precision!r}, but the CPU trains in fp32")
    picked = _pick_backends(config, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = _new_folder(config)

    try:
        positions = store.positions[:, :, :: config.data.frame_step]
        placed = place(positions, device, config.placement)
    except PlacementError as error:
        raise ConfigError(f"placement is {config.placement!r}: {error}") from error
    training = Pretraining(config, store, placed, train_index, device)
    with written_whole(folder / "config.yaml") as temporary:
        temporary.write_text(config_text, encoding="utf-8")
    console.print(_opening(config, store, training, test_index), highlight=False, soft_wrap=True)
    used = ", ".join(f"{op} {backend}" for op, backend in picked.items())
    console.print(f"backends: {used}", highlight=False, soft_wrap=True)

    if config.profile:
        console.print(profile_steps(training, config.profile, folder))
        console.print(f"trace: {folder / 'trace.json'}", highlight=False, soft_wrap=True)
        return folder

    monitors = _monitors(config, store, placed.data, train_index, test_index)
    linear = config.monitor.linear_probe
    rows: dict[str, Scores] = {}
    with ExitStack() as stack:
        log = stack.enter_context(MetricsLog(folder))
        progress = TrainProgress(console, config.optim.epochs, training.steps_per_epoch)

        def score(row: str, linear: bool) -> dict[str, float]:
            """Score each stream's encoder, for the table; returns the numbers by name."""
            found = {}
            for stream, monitor in monitors.items():
                name = stream if len(monitors) > 1 else ""
                scores = monitor.score(training.streams[stream].model.query_encoder, linear=linear)
                rows[f"{row}, {name}" if name else row] = scores
                progress.say(_knn_line(training.epoch, scores, name))
                found[stream] = scores.as_dict()
            return by_stream(found)

        if monitors:
            progress.say("measuring raw poses and the untrained encoder ...")
            if config.monitor.raw_poses:
                rows["raw poses"] = next(iter(monitors.values())).score_raw_poses()
            log.write(0, {"epoch": 0, **score("untrained encoder", linear)})
        stack.enter_context(progress)
        told = False
        while training.epoch < config.optim.epochs:
            numbers = _epoch(training, progress)
            if training.graph_why_not is not None and not told:
                progress.say(f"steps are not CUDA graphs: {training.graph_why_not}")
                told = True
            last = training.epoch == config.optim.epochs
            # Before scoring, so that nothing that goes wrong there can cost the weights.
            if last or _due(config.save_every, training.epoch):
                streams = training.streams.items()
                save_checkpoint(
                    folder / "checkpoint.pt",
                    models={name: stream.model for name, stream in streams},
                    optimizers={name: stream.optimizer for name, stream in streams},
                    config=config,
                    layout=store.layout.to_dict(),
                    epoch=training.epoch,
                    step=training.step,
                )
            if monitors and (last or _due(config.monitor.knn_every, training.epoch)):
                numbers |= score("pretrained encoder", last and linear)
            log.write(training.step, {"epoch": training.epoch, **numbers})

    seconds = time.perf_counter() - started
    if rows:
        title = f"{store.path.name} {config.data.protocol}, {_streams(config)}, test set"
        console.print(score_table(rows, title))
    save_scores(folder, rows, epochs=training.epoch, seed=config.seed, seconds=round(seconds, 1))
    draw_curves(folder)
    console.print(_closing(folder, seconds), highlight=False, soft_wrap=True)
    return folder


def _epoch(training: Pretraining, progress: TrainProgress) -> dict[str, float]:
    """Train one epoch; returns its mean losses, the rate of its last step and its step rate."""
    optim, per_epoch = training.config.optim, training.steps_per_epoch
    reader = LossReader(training.streams)
    progress.begin_epoch()
    began = time.perf_counter()
    for losses in training.train_epoch():
        fresh = reader.add(losses)
        lr = learning_rate(optim, training.step - 1, per_epoch)
        progress.step(training.step, reader.latest if fresh else None, lr)
    numbers = reader.epoch_mean()
    if not math.isfinite(numbers["loss"]):
        raise DivergedError(
            f"the loss became {numbers['loss']} in epoch {training.epoch}; the last checkpoint is "
            f"untouched. A lower optim.lr than {optim.lr} may help"
        )
    progress.epoch(training.step, numbers, lr)
    rate = per_epoch / (time.perf_counter() - began)
    return {**numbers, "lr": lr, "steps_per_second": rate}


def _monitors(
    config: TrainConfig,
    store: Store,
    data: torch.Tensor,
    train_index: torch.Tensor,
    test_index: torch.Tensor,
) -> dict[str, Monitor]:
    """One for each stream; none where the store has no labels to score against."""
    if store.labels is None:
        return {}
    labels = torch.from_numpy(np.array(store.labels))
    size = config.monitor.batch_size
    return {
        stream: Monitor(data, labels, train_index, test_index, stream=stream, batch_size=size)
        for stream in config.data.streams
    }


def _usable_device(name: str) -> torch.device:
    try:
        device = pick_device(name)
        torch.zeros(1, device=device)
        if device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs belong to the current one
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device


def _pick_backends(config: TrainConfig, device: torch.device) -> dict[str, str]:
    """The backend of each op; refuses one that cannot run before anything is measured."""
    probe = torch.zeros(1, config.model.embedding, device=device)
    picked = {}
    try:
        for op in (skeleton_augment, stgcn_block, eadm_pool, queue_contrast):
            name = op.__name__.rpartition(".")[2]
            wanted = (op is stgcn_block and config.encoder_backend) or config.backend
            picked[name] = pick(name, op.BACKENDS, wanted, probe).name
    except (ValueError, BackendError) as error:
        raise ConfigError(f"backend: {error}") from error
    return picked


def _new_folder(config: TrainConfig) -> Path:
    data = config.data
    name = f"{Path(data.store).name}-{data.protocol}-{'-'.join(data.streams)}"
    folder = Path(config.output or Path("runs", f"{name}-{datetime.now():%Y%m%d-%H%M%S}"))
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        if config.output is None:  # another run started in this very second
            return _new_folder(replace(config, output=f"{folder}-{os.getpid()}"))
        if not folder.is_dir() or any(folder.iterdir()):
            message = f"output {folder} exists and is not an empty folder; name another"
            raise ConfigError(message) from error
    except OSError as error:
        raise ConfigError(f"output {folder}: {error.strerror}") from error
    return folder


def _due(every: int, epoch: int) -> bool:
    return every > 0 and epoch % every == 0


def _opening(
    config: TrainConfig, store: Store, training: Pretraining, test_index: torch.Tensor
) -> str:
    layout, optim, placed = store.layout, config.optim, training.placed
    encoders = [stream.model.query_encoder for stream in training.streams.values()]
    parameters = sum(p.numel() for p in encoders[0].parameters())
    kind = "encoder" if len(encoders) == 1 else f"{len(encoders)} encoders"
    return (
        f"{store.path.name}: {len(training.train_index)} training and {len(test_index)} test "
        f"sequences ({config.data.protocol}), {layout.name} ({layout.num_joints} joints), "
        f"{_streams(config)}{_method(config)}\n"
        f"{placed.where} placement: {placed.reason}\n"
        f"{kind} of {parameters:,} parameters on {training.device} in {training.precision}, "
        f"{optim.epochs} epochs of {training.steps_per_epoch} steps of {optim.batch_size}"
    )


def _streams(config: TrainConfig) -> str:
    streams = config.data.streams
    return f"{', '.join(streams)} stream{'s' * (len(streams) > 1)}"


def _method(config: TrainConfig) -> str:
    """What is not AimCLR as published, for the opening lines."""
    usual, parts = asdict(METHODS[config.method]), asdict(config.parts)
    changed = [
        f"{'with' if on else 'without'} {name}" for name, on in parts.items() if on != usual[name]
    ]
    if config.method == TrainConfig.method and not changed:
        return ""
    return ", " + " ".join([config.method, *changed])


def _knn_line(epoch: int, scores: Scores, stream: str) -> str:
    numbers = {"kNN-1": scores.knn_1, "kNN-20": scores.knn_20}
    shown = "  ".join(f"{k} {100 * v:.1f} %" for k, v in numbers.items() if v is not None)
    when = "untrained" if epoch == 0 else f"epoch {epoch}"
    return f"{when}{f', {stream}' if stream else ''}: {shown} on held-out samples"


def _closing(folder: Path, seconds: float) -> str:
    places = {
        "checkpoint": "checkpoint.pt",
        "scores": "results.json",
        "metrics": "metrics.jsonl",
        "TensorBoard": "tensorboard/",
        "config": "config.yaml",
        "figure": "curves.png",
    }
    listed = "\n".join(f"  {what:<12}{folder / name}" for what, name in places.items())
    return f"{seconds:.0f} s in all; saved:\n{listed}"

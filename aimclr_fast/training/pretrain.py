"""A pretraining run from its configuration to its closing table."""

from __future__ import annotations

import functools
import platform
import shlex
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

import aimclr_fast
from aimclr_fast._devices import usable_device
from aimclr_fast.data import Store, resolve_store, split
from aimclr_fast.nn import METHODS
from aimclr_fast.ops import eadm_pool, queue_contrast, skeleton_augment, stgcn_block
from aimclr_fast.ops._dispatch import BackendError, pick

from .checkpoint import written_whole
from .config import ConfigError, TrainConfig
from .loop import Pretraining
from .metrics import MetricsLog
from .monitor import Monitor
from .placement import PlacementError, place
from .profile import profile_steps
from .progress import TrainProgress
from .report import draw_curves, save_scores, score_table
from .run import Run
from .run_folder import BEST, data_identity, open_run
from .signals import StoppedError

PROGRAM = "python -m aimclr_fast.train"


def pretrain(config: TrainConfig, config_text: str, console: Console) -> Path:
    """Pretrain as configured, from the start or from where a run was left; returns its folder.

    Args:
        config: what to do.
        config_text: the resolved configuration, saved beside the results.
        console: where progress and the closing table go.

    Raises:
        ConfigError: a field cannot work, or the folder holds another run.
        CheckpointError: all checkpoints of the run to be continued are damaged, or the last one
            cannot be written.
        StoreError: the data cannot be read.
        DivergedError: losses or gradients are no longer finite.
        StoppedError: Ctrl-C or SIGTERM, once the run is saved.
    """
    store = resolve_store(config.data.store)
    try:
        train_index, test_index = map(torch.from_numpy, split(store, config.data.protocol))
    except ValueError as error:
        raise ConfigError(f"data.protocol: {error}") from error
    config.validate(len(train_index))
    try:
        device = usable_device(config.device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if device.type == "cpu" and config.precision in ("tf32", "bf16"):
        raise ConfigError(f"precision is {config.precision!r}, but the CPU trains in fp32")
    picked = _pick_backends(config, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    data = data_identity(store, train_index)
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    with closing(open_run(config, data)) as folder:
        for warning in folder.warnings:
            say(f"warning: {warning}; the one before it is used")
        try:
            positions = store.positions[:, :, :: config.data.frame_step]
            placed = place(positions, device, config.placement)
        except PlacementError as error:
            raise ConfigError(f"placement is {config.placement!r}: {error}") from error
        training = Pretraining(config, store, placed, train_index, device)
        if folder.state is None:
            with written_whole(folder.path / "config.yaml") as temporary:
                temporary.write_text(config_text, encoding="utf-8")
            folder.describe(config, data, **_about(folder.path, store, device, picked))
        else:
            training.load_state(folder.state)
        say(_opening(config, store, training, test_index))
        say(f"backends: {', '.join(f'{op} {backend}' for op, backend in picked.items())}")
        if folder.state is not None:
            say(f"going on in {folder.path} after step {training.step} (epoch {training.epoch})")

        if config.profile:
            console.print(profile_steps(training, config.profile, folder.path))
            say(f"trace: {folder.path / 'trace.json'}")
            return folder.path

        monitors = _monitors(config, store, placed.data, train_index, test_index)
        per_epoch = training.steps_per_epoch
        progress = TrainProgress(console, config.optim.epochs, per_epoch, training.step)
        with MetricsLog(folder.path, before=training.epoch) as log:
            run = Run(training, folder, data, monitors, log, progress)
            if folder.state is None:
                run.measure_start()
            try:
                run.train()
            except StoppedError as stop:
                command = f"{PROGRAM} --resume {shlex.quote(str(folder.path))}"
                raise StoppedError(stop.signum, f"{stop}; go on with: {command}") from None

        if run.rows:
            name = f"{store.path.name} {config.data.protocol}, {_streams(config)}"
            console.print(score_table(run.rows, f"{name}, test set"))
        draw_curves(folder.path)
        about = {"epochs": training.epoch, "seed": config.seed, "best": run.best}
        save_scores(folder.path, run.rows, **about, seconds=round(run.seconds, 1))
        say(_closing(folder.path, run))
        return folder.path


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


def _about(
    folder: Path, store: Store, device: torch.device, picked: dict[str, str]
) -> dict[str, object]:
    """What run.json says besides configuration and data."""
    return {
        "reproduce": _reproduce(folder),
        "store": str(store.path.resolve()),
        "package": aimclr_fast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "backends": picked,
    }


def _reproduce(folder: Path) -> str:
    config, output = (shlex.quote(str(p)) for p in (folder / "config.yaml", f"{folder}-again"))
    return f"{PROGRAM} --config {config} --output {output}"


def _closing(folder: Path, run: Run) -> str:
    places = {
        "checkpoint": "checkpoint.pt",
        "scores": "results.json",
        "metrics": "metrics.jsonl",
        "TensorBoard": "tensorboard/",
        "config": "config.yaml",
        "figure": "curves.png",
    }
    if run.best:
        places["best kNN"] = BEST
    listed = "\n".join(f"  {what:<12}{folder / name}" for what, name in places.items())
    return f"run it again with: {_reproduce(folder)}\n{run.seconds:.0f} s in all; saved:\n{listed}"

"""A pretraining run from its configuration to its closing table."""

from __future__ import annotations

import functools
import platform
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

import aimclr_fast
from aimclr_fast._console import plain_console
from aimclr_fast.config import ConfigError, TrainConfig, config_text
from aimclr_fast.data import Store, resolve_store, split
from aimclr_fast.data.readers import FLAT_LAYOUTS
from aimclr_fast.data.splits import default_split
from aimclr_fast.inference.features import can_be_aligned
from aimclr_fast.nn.readouts import readout_width

from .checkpoint import CheckpointError, written_whole
from .distributed import OtherRankError, RankLostError, Ranks, join
from .job import Job, resolve
from .loop import Pretraining
from .metrics import MetricsLog
from .monitor import Monitor
from .placement import Placed, PlacementError, place_sequences
from .profile import profile_steps, trace_steps
from .progress import TrainProgress, counted
from .report import draw_curves, save_scores, score_table
from .run import DivergedError, Run
from .run_folder import BEST, data_identity, open_run
from .selection import Selection, open_selection
from .signals import StoppedError

PROGRAM = "python -m aimclr_fast.train"
COMPILING = "first step: compiling the Triton kernels, half a minute unless they are cached ..."


def pretrain(config: TrainConfig, console: Console) -> Path:
    """Pretrain as configured, or resume a run; returns the run's folder.

    Args:
        config: the configuration; what is null in it is chosen, and saved in config.yaml.
        console: where progress and the closing table go.

    Raises:
        ConfigError: a field cannot work, or the folder holds another run.
        CheckpointError: all checkpoints of a resumed run are damaged, or the last one cannot be
            written.
        StoreError: the data cannot be read.
        DivergedError: losses or gradients are no longer finite.
        StoppedError: Ctrl-C or SIGTERM, once the run is saved.
        RankLostError: another process has ended.
        OtherRankError: another process has failed, and reports its error.
    """
    with join(config.device) as ranks:
        if not ranks.first:
            console = plain_console(quiet=True)
        try:
            return _pretrain(config, console, ranks)
        except (CheckpointError, DivergedError) as error:  # every rank raises it, rank 0 reports it
            if not ranks.first:
                raise OtherRankError(str(error)) from error
            raise


@dataclass(frozen=True)
class _Samples:
    """A store, and which of its samples a run uses.

    Attributes:
        store: the sequences.
        split: its name.
        train_index: indices of the training samples.
        test_index: indices of the test samples.
        selection: what the best checkpoint is chosen on.
    """

    store: Store
    split: str
    train_index: torch.Tensor
    test_index: torch.Tensor
    selection: Selection | None


def _pretrain(config: TrainConfig, console: Console, ranks: Ranks) -> Path:
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        with ranks.together():
            samples = _open_samples(config)
            job = resolve(
                config,
                ranks,
                split=samples.split,
                samples=len(samples.train_index),
                frames=samples.store.positions.shape[2],
                classes=samples.store.class_names,
            )
            config = job.config
            if config.threads:
                torch.set_num_threads(config.threads)
            folder, identity = None, {}
            if ranks.first:
                identity = data_identity(samples.store, samples.train_index)
                folder = stack.enter_context(closing(open_run(config, identity)))
                for warning in folder.warnings:
                    say(f"warning: {warning}; the one before it is used")
        path, state = ranks.from_first(folder and (folder.path, folder.state))
        with ranks.together():
            placed = _place(samples.store, job)
            training = Pretraining(job, samples.store.layout, placed, samples.train_index)
            stack.callback(training.free_graphs)  # before the process group goes, also on errors
            if state is not None:
                training.load_state(state)
            elif config.start is not None:
                training.start_from(config.start)
            if state is None and folder is not None:
                folder.describe(config, identity, **_about(path, samples.store, job))
            if folder is not None:
                _keep_config(path, config)
        say(_opening(samples, training))
        for line in (*job.chosen, *_notes(samples, config)):
            say(line)
        say(f"backends: {', '.join(f'{op} {backend}' for op, backend in job.backends.items())}")
        if state is not None:
            say(f"resuming {path} after step {training.step} (epoch {training.epoch})")

        first = COMPILING if _compiles(job) else ""
        if config.profile:
            say("\n".join(filter(None, [first, f"timing {counted(config.profile, 'step')} ..."])))
            console.print(profile_steps(training, config.profile))
            say(trace_steps(training, config.profile, path / "trace.json"))
            return Path(path)

        progress = _progress(training, console, first)
        log = (
            None if folder is None else stack.enter_context(MetricsLog(path, before=training.epoch))
        )
        run = Run(training, folder, state, identity, _monitors(samples, training), log, progress)
        _train(run, path, new=state is None)
        if run.rows:
            name = f"{samples.store.path.name} {config.data.split}, {_streams(config)}"
            console.print(score_table(run.rows, f"{_method(job)}, {name}, test set"))
        if folder is not None:
            about = {"epochs": training.epoch, "seed": config.seed, "best": run.best}
            save_scores(path, run.rows, **about, seconds=round(run.seconds, 1))
            draw_curves(path, job.losses)
        say(_closing(path, run))
        return Path(path)


def _open_samples(config: TrainConfig) -> _Samples:
    store = resolve_store(config.data.store)
    name = config.data.split or default_split(store)
    try:
        train_index, test_index = map(torch.from_numpy, split(store, name))
        selection = open_selection(store, name, train_index)
    except ValueError as error:
        raise ConfigError(f"data.split: {error}") from error
    if config.augment.turn_deg > 0 and store.layout.name in FLAT_LAYOUTS:
        raise ConfigError(
            f"augment.turn_deg is {config.augment.turn_deg}, but poses of layout "
            f"{store.layout.name} are flat: give --augment.turn_deg 0"
        )
    if config.monitor.pool is not None:
        try:
            readout_width(config.monitor.pool, config.model.features, store.layout)
        except ValueError as error:
            raise ConfigError(f"monitor.pool: {error}") from error
    return _Samples(store, name, train_index, test_index, selection)


def _place(store: Store, job: Job) -> Placed:
    config = job.config
    positions = store.positions[:, :, :: config.data.frame_step]
    try:
        return place_sequences(positions, job.device, config.placement, job.ranks.local_size)
    except PlacementError as error:
        raise ConfigError(f"placement is {config.placement!r}: {error}") from error


def _keep_config(folder: Path, config: TrainConfig) -> None:
    """Write config.yaml, after run.json, which identifies a run that is killed in between."""
    path = folder / "config.yaml"
    if not path.exists():
        with written_whole(path) as temporary:
            temporary.write_text(config_text(config), encoding="utf-8")


def _compiles(job: Job) -> bool:
    return job.device.type == "cuda" and "triton" in job.backends.values()


def _progress(training: Pretraining, console: Console, first: str) -> TrainProgress:
    return TrainProgress(
        console,
        training.steps,
        training.steps_per_epoch,
        tuple(training.job.losses),
        training.step,
        first,
    )


def _train(run: Run, folder: Path, *, new: bool) -> None:
    """Train to the last epoch; a run that is stopped before says how to resume it."""
    try:
        if new:
            run.measure_start()
        run.train()
    except (StoppedError, RankLostError) as stop:
        again = f"{_command(run.ranks)} --resume {shlex.quote(str(folder))}"
        stop.args = (f"{stop}; resume with: {again}",)
        raise


def _monitors(samples: _Samples, training: Pretraining) -> dict[str, Monitor]:
    """A monitor for each stream; none if the store has no labels."""
    if samples.store.labels is None:
        return {}
    labels = torch.from_numpy(np.array(samples.store.labels))
    config, layout = training.config, samples.store.layout
    align = layout if can_be_aligned(layout, samples.store.preprocessing) else None
    return {
        stream: Monitor(
            training.placed.data,
            labels,
            samples.train_index,
            samples.test_index,
            stream=stream,
            batch_size=config.monitor.batch_size,
            backend=config.backend,
            ranks=training.ranks,
            selection=samples.selection,
            align=align,
            pool=config.monitor.pool,
            scale=config.monitor.scale,
        )
        for stream in config.data.streams
    }


def _opening(samples: _Samples, training: Pretraining) -> str:
    job, config, placed = training.job, training.config, training.placed
    layout, ranks = training.layout, training.ranks
    each = ""
    if ranks.size > 1:
        shared = {"rank": "by each", "synchronized": "by all, with the reference's blocks"}
        each = (
            f"\n{ranks.size} processes with {counted(job.batch, 'sequence')} of each batch; "
            f"batch statistics {shared[config.batch_statistics]}"
        )
    encoders = [of.models[name].query_encoder for name, of in training.streams.items()]
    parameters = sum(p.numel() for p in encoders[0].parameters())
    phases = job.method.phases(config)
    kind = "encoder" if len(encoders) == 1 else f"{len(encoders)} encoders"
    method = "" if _method(job) == TrainConfig.method else f", {_method(job)}"
    turn = config.augment.turn_deg
    turned = f", views turned by up to {turn:g} degrees" if turn > 0 else ""
    ends = "" if config.optim.steps is None else f", {counted(training.steps, 'step')} in all"
    return (
        f"{samples.store.path.name}: {len(samples.train_index)} training and "
        f"{counted(len(samples.test_index), 'test sequence')} ({config.data.split}), {layout.name} "
        f"({counted(layout.num_joints, 'joint')}), {_streams(config)}{method}{turned}\n"
        f"{placed.where} placement: {placed.reason}\n"
        f"{kind} of {parameters:,} parameters on {training.device} in {job.precision}, "
        f"{counted(config.optim.epochs, 'epoch')} of {counted(training.steps_per_epoch, 'step')} "
        f"of {config.optim.batch_size}{ends}{phases and ', '}{phases}{each}"
    )


def _notes(samples: _Samples, config: TrainConfig) -> Iterator[str]:
    """What to know of the data before their scores."""
    train, test = samples.train_index, samples.test_index
    if samples.store.labels is not None and len(test) and torch.isin(test, train).all():
        yield (
            f"note: split {config.data.split} tests on samples that it trains on: the scores below "
            "are of these, and say nothing of new ones"
        )
    if config.model.queue_size > len(train):
        yield (
            f"note: model.queue_size is {config.model.queue_size}, more than the {len(train)} "
            "training samples, so that a sequence has old keys of its own among the negatives; "
            "--config small fits small sets"
        )


def _streams(config: TrainConfig) -> str:
    streams = config.data.streams
    return f"{', '.join(streams)} {'stream' if len(streams) == 1 else 'streams'}"


def _method(job: Job) -> str:
    """The method, and its parts that differ from the published one's."""
    return " ".join([job.config.method, *job.method.changes(job.config)])


def _about(folder: Path, store: Store, job: Job) -> dict[str, object]:
    """What run.json says besides configuration and data."""
    device, ranks = job.device, job.ranks
    return {
        "reproduce": _reproduce(folder, ranks),
        "processes": ranks.size,
        "store": store.spec,
        "package": aimclr_fast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "backends": dict(job.backends),
    }


def _command(ranks: Ranks) -> str:
    if ranks.size == 1:
        return PROGRAM
    return f"torchrun --nproc-per-node {ranks.local_size} -m aimclr_fast.train"


def _reproduce(folder: Path, ranks: Ranks) -> str:
    config, output = (shlex.quote(str(p)) for p in (folder / "config.yaml", f"{folder}-again"))
    return f"{_command(ranks)} --config {config} --output {output}"


def _closing(folder: Path, run: Run) -> str:
    files = {
        "checkpoint": "checkpoint.pt",
        "scores": "results.json",
        "metrics": "metrics.jsonl",
        "TensorBoard": "tensorboard/",
        "config": "config.yaml",
        "figure": "curves.png",
    }
    chosen = ""
    if best := run.best:
        files["best"] = BEST
        chosen = (
            f"\n{BEST}: epoch {best['epoch']}, chosen by kNN-{best['name'].removeprefix('knn_')} "
            f"({100 * best['score']:.1f} %) on {best['on']}"
        )
    listed = "\n".join(f"  {what:<12}{folder / name}" for what, name in files.items())
    again = _reproduce(folder, run.ranks)
    return f"run it again with: {again}{chosen}\n{run.seconds:.0f} s in all; saved:\n{listed}"

"""A run from its first epoch, or the one it resumes in, to the last: saving, scoring, logging."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from aimclr_fast._errors import Error
from aimclr_fast.config import TrainConfig
from aimclr_fast.evaluation.representation import ALIGNED, RAW, UNTRAINED
from aimclr_fast.inference.features import in_meters

from .checkpoint import CheckpointError, save_checkpoint
from .health import CollapseWatch, measure_health, memory_in_use
from .loop import Pretraining
from .losses import LossReader, by_stream
from .metrics import MetricsLog
from .monitor import Monitor, Scores
from .progress import TrainProgress
from .report import seconds_so_far
from .run_folder import BEST, RunFolder
from .signals import StoppedError, StopSignals

PRETRAINED = "pretrained"
AGREE = 10  # steps between two exchanges of several processes on whether to stop or save


class DivergedError(Error, RuntimeError):
    """Losses or gradients are no longer finite."""


class Run:
    """Drives a `Pretraining` through its epochs.

    Args:
        training: at the start, or loaded from `state`.
        folder: where checkpoints go; None on all ranks but the first, which writes.
        state: the checkpoint to resume from, if any.
        data: identity of the data set, for checkpoints.
        monitors: score encoders, by stream; none without labels.
        log: takes each epoch's numbers; None where `folder` is.
        progress: the display of progress.

    Attributes:
        rows: scores by what was scored, for the closing table.
        best: the best kNN accuracy so far, "score" by "name" at "epoch" on the samples "on", the
            mean of several streams; empty before the first.
    """

    def __init__(
        self,
        training: Pretraining,
        folder: RunFolder | None,
        state: dict[str, Any] | None,
        data: dict[str, Any],
        monitors: Mapping[str, Monitor],
        log: MetricsLog | None,
        progress: TrainProgress,
    ) -> None:
        self.training, self.folder, self.monitors = training, folder, monitors
        self.config: TrainConfig = training.config
        self.ranks = training.ranks
        self._data, self._log, self._progress = data, log, progress
        self.rows: dict[str, Scores] = {}
        self.best: dict[str, Any] = {}
        self._selection = next((one.selection for one in monitors.values()), None)
        losses = None if state is None else state["place"]["losses"]
        self._reader = LossReader(training.streams, training.names, losses)
        queue_size = self.config.model.queue_size
        self._watches = {stream: CollapseWatch(queue_size) for stream in training.streams}
        self._saved_at = time.perf_counter()
        self._saved_step = -1 if state is None else training.step
        self._seconds_before, self._began = 0.0, time.perf_counter()
        self._told_graph = False
        if state is not None:
            place = state["place"]
            # Not those of another readout, which the configuration had before.
            known = {RAW, ALIGNED}
            for stream in training.streams:
                for kind in (UNTRAINED, PRETRAINED):
                    known |= {self._row(kind, stream), self._row(kind, stream, pooled=True)}
            rows = place["rows"].items()
            self.rows = {name: Scores(**scores) for name, scores in rows if name in known}
            # Not what earlier versions chose on other samples.
            if self._selection and place["best"].get("on") == self._selection.where:
                self.best = dict(place["best"])
            self._seconds_before = place["seconds"]
        if folder is not None:  # after the last checkpoint it was scored, which took time, too
            self._seconds_before = max(self._seconds_before, seconds_so_far(folder.path))

    @property
    def seconds(self) -> float:
        """Time that the run took, with that before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._began

    def measure_start(self) -> None:
        """Score the baselines."""
        if not self.monitors:
            return
        also = "raw poses and " if self.config.monitor.raw_poses else ""
        self._progress.say(f"measuring {also}the untrained encoder ...")
        if self.config.monitor.raw_poses:
            monitor = next(iter(self.monitors.values()))
            self.rows[RAW] = monitor.score_raw_poses()
            if monitor.align is not None:
                self.rows[ALIGNED] = monitor.score_raw_poses(align=True)
        scores = self._score(UNTRAINED, linear=self.config.monitor.linear_probe, all_readouts=True)
        self._write_log({"epoch": 0, **by_stream(scores)})

    def train(self) -> None:
        """Train to the last epoch.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; a checkpoint was written.
            DivergedError: too many steps in a row were skipped.
            CheckpointError: the last checkpoint cannot be written.
        """
        training = self.training
        with self._progress, StopSignals(alone=self.ranks.size == 1) as signals:
            while training.epoch < self.config.optim.epochs or training.resumed:
                self._epoch(signals)

    def _epoch(self, signals: StopSignals) -> None:
        training, config = self.training, self.config
        # Resumed at the epoch's very end, only what follows its steps is left to do.
        stepped = training.resumed and training.steps_left_in_epoch == 0
        if not stepped:
            self._progress.begin_epoch()
        began, before = time.perf_counter(), training.step
        for report in training.train_epoch():
            if self._reader.add(report):
                self._check_skipped()
            lr = self._lr()
            latest = self._reader.latest
            self._progress.step(training.step, None if latest is None else by_stream(latest), lr)
            inside = training.steps_left_in_epoch > 0
            if inside and _due(config.save_steps, training.step):
                self._save()
            if self.ranks.size == 1 or training.step % AGREE == 0:
                self._heed(signals, inside and self._due_in_seconds())
        numbers = self._reader.means()
        seconds = time.perf_counter() - began
        if not stepped:
            self._progress.epoch(training.step, by_stream(numbers), self._lr())
        self._say_graph()
        last = training.epoch == config.optim.epochs
        # Before scoring: an error there must not lose the weights.
        due = _due(config.save_every, training.epoch) or _due(config.save_steps, training.step)
        if last or due:
            self._save(must=last)
        self._heed(signals, self._due_in_seconds())
        about = {"lr": self._lr()}
        if not stepped:
            about["steps_per_second"] = (training.step - before) / seconds
        with signals.interruptible():
            if self.ranks.first:
                self._add_health(numbers)
            about["memory_mb"] = memory_in_use(training.device) / 1e6
            if self.monitors and (last or _due(config.monitor.knn_every, training.epoch)):
                linear = last and config.monitor.linear_probe
                scores = self._score(PRETRAINED, linear=linear, all_readouts=last)
                self._keep_best(by_stream(scores))
                for stream, found in scores.items():
                    numbers[stream] |= found
        self._heed(signals)
        self._write_log({"epoch": training.epoch, **by_stream(numbers), **about})
        self._reader.begin_epoch()  # only now: checkpoints of this epoch's end hold its losses

    def _write_log(self, numbers: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write(self.training.step, numbers)

    def _lr(self) -> float:
        return self.training.learning_rate(self.training.step - 1)

    def _add_health(self, numbers: dict[str, dict[str, float]]) -> None:
        """Add the signs of a collapse to each stream's numbers, and warn of one."""
        for stream, health in measure_health(self.training).items():
            skipped = float(self.training.streams[stream].guard.skipped[0])
            numbers[stream] |= {"skipped": skipped, **health}
            warning = self._watches[stream].add(numbers[stream])
            if warning is not None:
                self._progress.say(f"warning{self._which(stream)}: {warning}")

    def _score(self, kind: str, *, linear: bool, all_readouts: bool) -> dict[str, dict[str, float]]:
        """Score each stream's encoder, for the closing table, too; returned are the scores by the
        published readout.
        """
        found = {}
        for stream, monitor in self.monitors.items():
            encoder = self.training.streams[stream].models[stream].query_encoder
            pooled = None
            if all_readouts:
                scores, pooled = monitor.score_readouts(encoder, linear=linear)
            else:
                scores = monitor.score(encoder, linear=linear)
            self.rows.pop(self._row(kind, stream), None)  # so that a stream's rows stand together
            self.rows[self._row(kind, stream)] = scores
            if pooled is not None:
                self.rows[self._row(kind, stream, pooled=True)] = pooled
            self._progress.say(_knn_line(self.training.epoch, self._which(stream), scores))
            found[stream] = scores.as_dict()
        return found

    def _row(self, kind: str, stream: str, *, pooled: bool = False) -> str:
        """Name of a row of the closing table; by `monitor.pool` or by the published readout."""
        readout = " encoder"
        if pooled:
            pool, scale = self.config.monitor.pool, self.config.monitor.scale
            readout = f", {pool}" + ("" if scale == "none" else f", {scale}")
        return f"{kind}{readout}{self._which(stream)}"

    def _keep_best(self, numbers: dict[str, float]) -> None:
        """Keep the best so far in best.pt."""
        chosen, score = self._selection, numbers.get("selection")
        if chosen is None or score is None or score <= self.best.get("score", -1.0):
            return
        failed = self._on_first(lambda folder, place: self._write(folder.path / BEST, place))
        if failed:
            self._progress.say(f"warning: {BEST} not written ({failed})")
            return
        about = {"name": f"knn_{chosen.k}", "on": chosen.where}
        self.best = {**about, "score": score, "epoch": self.training.epoch}

    def _which(self, stream: str) -> str:
        """What to add to a line on one stream where there are several."""
        return f", {stream}" if len(self.training.streams) > 1 else ""

    # --- Saving ----------------------------------------------------------------------------------

    def _due_in_seconds(self) -> bool:
        seconds = self.config.save_seconds
        return seconds > 0 and time.perf_counter() - self._saved_at > seconds

    def _heed(self, signals: StopSignals, due: bool = False) -> None:
        """Stop if any rank has received a signal; otherwise save if it is time on any."""
        stop, due = self.ranks.any(signals.received is not None, due)
        if stop:
            self._save(must=True)
            signum = max(one or 0 for one in self.ranks.collect(signals.received))
            raise StoppedError(signum, f"saved at step {self.training.step}")
        if due:
            self._save()

    def _on_first(self, write: Callable[[RunFolder, dict[str, Any]], None]) -> str | None:
        """Write the state of all ranks to the first rank's folder; returns what failed."""
        place, failed = self.training.place_state(), None
        try:
            if self.folder is not None:
                write(self.folder, place)
        except OSError as error:
            failed = error.strerror or str(error)
        failure: str | None = self.ranks.from_first(failed)
        return failure

    def _write(self, path: Path, place: dict[str, Any]) -> None:
        training = self.training
        save_checkpoint(
            path,
            models={name: learner.models[name] for name, learner in training.streams.items()},
            optimizers={learner.name: learner.optimizer for learner in training.learners},
            config=self.config,
            layout=training.layout.to_dict(),
            epoch=training.epoch,
            step=training.step,
            data=self._data,
            place={
                **place,
                "losses": self._reader.state,
                "rows": {name: scores.as_dict() for name, scores in self.rows.items()},
                "best": self.best,
                "seconds": self.seconds,
            },
        )

    def _save(self, *, must: bool = False) -> None:
        """Write the newest checkpoint; if that fails, raise if it `must`, otherwise warn."""
        if self._saved_step == self.training.step:
            return
        learners = self.training.learners
        if not must and any(int(learner.guard.skipped[1]) for learner in learners):
            return  # the state that led to such a step may be bad as well
        keep = self.config.keep
        failed = self._on_first(
            lambda folder, place: folder.save(lambda path: self._write(path, place), keep)
        )
        if failed:
            message = f"checkpoint not written ({failed}); the one before is untouched"
            if must:
                raise CheckpointError(f"{self.folder and self.folder.path}: {message}")
            self._progress.say(f"warning: {message}, and training goes on")
        else:
            self._saved_step = self.training.step
        self._saved_at = time.perf_counter()

    # --- Messages --------------------------------------------------------------------------------

    def _check_skipped(self) -> None:
        for stream, latest in (self._reader.latest or {}).items():
            if latest["skipped_in_a_row"] >= self.config.max_skipped:
                self._give_up(stream, int(latest["skipped_in_a_row"]))

    def _give_up(self, stream: str, skipped: int) -> NoReturn:
        training = self.training
        step, parts = training.streams[stream].guard.last_skipped()
        index = training.samples_of(step)
        rows = in_meters(training.placed.data[index.to(training.placed.data.device)])
        broken = index[~rows.flatten(1).isfinite().all(1).cpu()].tolist()
        if broken:
            why = f"samples {_listed(broken)} hold coordinates that are not finite"
        else:
            why = (
                f"its samples are {_listed(index.tolist())}, all finite; a lower optim.lr than "
                f"{self.config.optim.lr} may help, or optim.clip_norm"
            )
        raise DivergedError(
            f"{skipped} steps in a row{self._which(stream)} were skipped, since their "
            f"{', '.join(parts)} became nan or inf; the last is step {step + 1} in epoch "
            f"{training.epoch}, {why}. The last checkpoint is untouched"
        )

    def _say_graph(self) -> None:
        why_not = self.training.graph_why_not
        if why_not is not None and not self._told_graph:
            self._progress.say(f"steps are not CUDA graphs: {why_not}")
            self._told_graph = True


def _listed(numbers: list[int], most: int = 16) -> str:
    more = f", ... ({len(numbers)} in all)" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def _due(every: int, count: int) -> bool:
    return every > 0 and count % every == 0


def _knn_line(epoch: int, which: str, scores: Scores) -> str:
    numbers = {"kNN-1": scores.knn_1, "kNN-20": scores.knn_20}
    shown = "  ".join(f"{k} {100 * v:.1f} %" for k, v in numbers.items() if v is not None)
    when = "untrained" if epoch == 0 else f"epoch {epoch}"
    return f"{when}{which}: {shown} on test samples"

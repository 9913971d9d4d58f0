"""A run from its first epoch, or from where it was left, to the last: saving, scoring, logging."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from aimclr_fast.evaluation.features import in_metres

from .checkpoint import CheckpointError, save_checkpoint
from .config import TrainConfig
from .health import CollapseWatch, measure_health
from .loop import LossReader, Pretraining
from .metrics import MetricsLog
from .monitor import Monitor, Scores
from .progress import TrainProgress
from .run_folder import BEST, RunFolder
from .schedule import learning_rate
from .signals import StoppedError, StopSignals


AGREE = 10  # steps between two agreements of several processes to stop or to save


class DivergedError(RuntimeError):
    """Losses or gradients are no longer finite."""


class Run:
    """Drives a `Pretraining` through its epochs.

    Args:
        training: at the start, or loaded from `state`.
        folder: where checkpoints go; None on all ranks but the first, which writes.
        state: the checkpoint to go on from, if any.
        data: identity of the data set, for checkpoints.
        monitor: scores encoders; None without labels.
        log: takes each epoch's numbers; None where `folder` is.
        progress: what a person sees.

    Attributes:
        rows: scores by what was scored, for the closing table.
        best: the best kNN accuracy so far, "score" by "name" at "epoch"; empty before the first.
    """

    def __init__(
        self,
        training: Pretraining,
        folder: RunFolder | None,
        state: dict[str, Any] | None,
        data: dict[str, Any],
        monitor: Monitor | None,
        log: MetricsLog | None,
        progress: TrainProgress,
    ) -> None:
        self.training, self.folder, self.monitor = training, folder, monitor
        self.config: TrainConfig = training.config
        self.ranks = training.ranks
        self._data, self._log, self._progress = data, log, progress
        self.rows: dict[str, Scores] = {}
        self.best: dict[str, Any] = {}
        self._reader = LossReader()
        self._watch = CollapseWatch(self.config.model.queue_size)
        self._saved_at = time.perf_counter()
        self._saved_step = -1 if state is None else training.step
        self._seconds_before, self._began = 0.0, time.perf_counter()
        self._told_graph = False
        if state is not None:
            place = state["place"]
            self.rows = {name: Scores(**scores) for name, scores in place["rows"].items()}
            self.best = dict(place["best"])
            self._reader = LossReader(place["losses"])
            self._seconds_before = place["seconds"]

    @property
    def seconds(self) -> float:
        """Time that the run took, with that before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._began

    def measure_start(self) -> None:
        """Score what training is compared with."""
        if self.monitor is None:
            return
        self._progress.say("measuring raw poses and the untrained encoder ...")
        if self.config.monitor.raw_poses:
            self.rows["raw poses"] = self.monitor.score_raw_poses()
        linear = self.config.monitor.linear_probe
        scores = self.monitor.score(self.training.model.query_encoder, linear=linear)
        self.rows["untrained encoder"] = scores
        self._write_log({"epoch": 0, **scores.as_dict()})
        self._progress.say(_knn_line(0, scores))

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
        self._progress.begin_epoch()
        began, before = time.perf_counter(), training.step
        for report in training.train_epoch():
            if self._reader.add(report):
                self._check_skipped()
            lr = learning_rate(config.optim, training.step - 1, training.steps_per_epoch)
            self._progress.step(training.step, self._reader.latest, lr)
            inside = training.step_in_epoch < training.steps_per_epoch
            if self.ranks.size == 1 or training.step % AGREE == 0:
                self._heed(signals, inside and self._due_in_seconds())
            if inside and _due(config.save_steps, training.step):
                self._save()
        state = self._reader.state
        numbers = self._reader.epoch_mean()
        self._reader.state = state  # the checkpoint of this epoch's end still needs it
        seconds = time.perf_counter() - began
        self._progress.epoch(training.step, numbers, self._lr())
        self._say_graph()
        last = training.epoch == config.optim.epochs
        # Before scoring, so that nothing that goes wrong there can cost the weights.
        due = _due(config.save_every, training.epoch) or _due(config.save_steps, training.step)
        if last or due:
            self._save(must=last)
        self._heed(signals, self._due_in_seconds())
        rate = (training.step - before) / seconds
        numbers |= {"lr": self._lr(), "steps_per_second": rate}
        numbers["skipped"] = float(training.guard.skipped[0])
        with signals.interruptible():
            if self.ranks.first:
                numbers |= measure_health(training)
                warning = self._watch.add(numbers)
                if warning is not None:
                    self._progress.say(warning)
            if self.monitor is not None and (
                last or _due(config.monitor.knn_every, training.epoch)
            ):
                numbers |= self._score(self.monitor, last)
        self._heed(signals)
        self._write_log({"epoch": training.epoch, **numbers})
        self._reader.state = None

    def _write_log(self, numbers: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write(self.training.step, numbers)

    def _lr(self) -> float:
        training = self.training
        return learning_rate(self.config.optim, training.step - 1, training.steps_per_epoch)

    def _score(self, monitor: Monitor, last: bool) -> dict[str, float]:
        """Score the encoder; the best so far is kept in best.pt."""
        training = self.training
        linear = last and self.config.monitor.linear_probe
        scores = monitor.score(training.model.query_encoder, linear=linear)
        self.rows["pretrained encoder"] = scores
        self._progress.say(_knn_line(training.epoch, scores))
        numbers = scores.as_dict()
        name = "knn_20" if "knn_20" in numbers else "knn_1"
        if name in numbers and numbers[name] > self.best.get("score", -1.0):
            place = training.place_state()
            try:
                if self.folder is not None:
                    self._write(self.folder.path / BEST, place)
            except OSError as error:
                self._progress.say(f"warning: {BEST} not written ({error.strerror})")
            else:
                self.best = {"name": name, "score": numbers[name], "epoch": training.epoch}
        return numbers

    # --- Saving ----------------------------------------------------------------------------------

    def _due_in_seconds(self) -> bool:
        seconds = self.config.save_seconds
        return seconds > 0 and time.perf_counter() - self._saved_at > seconds

    def _heed(self, signals: StopSignals, due: bool = False) -> None:
        """Stop if a signal has come to any rank; else save if it is time on any."""
        stop, due = self.ranks.any(signals.received is not None, due)
        if stop:
            signum = max(one or 0 for one in self.ranks.collect(signals.received))
            self._save(must=True)
            raise StoppedError(signum, f"saved at step {self.training.step}")
        if due:
            self._save()

    def _write(self, path: Path, place: dict[str, Any]) -> None:
        training, stream = self.training, self.config.data.stream
        save_checkpoint(
            path,
            models={stream: training.model},
            optimizers={stream: training.optimizer},
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
        """Write the newest checkpoint; where that fails, go on with the one before, or raise."""
        if self._saved_step == self.training.step:
            return
        if int(self.training.guard.skipped[1]) and not must:
            return  # what has led to such a step may be no state to go back to
        place, failed = self.training.place_state(), None
        if self.folder is not None:
            try:
                self.folder.save(lambda path: self._write(path, place), self.config.keep)
            except OSError as error:
                failed = f"checkpoint not written ({error.strerror}); the one before is untouched"
        if must:
            failed = self.ranks.from_first(failed)
            if failed:
                raise CheckpointError(failed)
        if failed:
            self._progress.say(f"warning: {failed}, and training goes on")
        else:
            self._saved_step = self.training.step
        self._saved_at = time.perf_counter()

    # --- What is said ----------------------------------------------------------------------------

    def _check_skipped(self) -> None:
        latest = self._reader.latest
        if latest is None or latest["skipped_in_a_row"] < self.config.max_skipped:
            return
        training = self.training
        step, parts = training.guard.last_skipped()
        index = training.samples_of(step)
        rows = in_metres(training.placed.data[index.to(training.placed.data.device)])
        broken = index[~rows.flatten(1).isfinite().all(1).cpu()].tolist()
        if broken:
            why = f"samples {_listed(broken)} hold coordinates that are not finite"
        else:
            why = (
                f"its samples are {_listed(index.tolist())}, all finite; a lower optim.lr than "
                f"{self.config.optim.lr} may help, or optim.clip_norm"
            )
        raise DivergedError(
            f"{latest['skipped_in_a_row']:.0f} steps in a row were skipped, since their "
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


def _knn_line(epoch: int, scores: Scores) -> str:
    numbers = {"kNN-1": scores.knn_1, "kNN-20": scores.knn_20}
    shown = "  ".join(f"{k} {100 * v:.1f} %" for k, v in numbers.items() if v is not None)
    return f"{'untrained' if epoch == 0 else f'epoch {epoch}'}: {shown} on held-out samples"

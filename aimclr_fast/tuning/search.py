"""Successive halving: many short runs, the best third again for three times as long, and so on."""

from __future__ import annotations

import csv
import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from aimclr_fast._errors import Error
from aimclr_fast._files import written_whole
from aimclr_fast.config import TrainConfig

from .space import METHODS, VALUES, changed, draw
from .trial import CRITERIA, Bench, OutOfTimeError, Samples, Scores

KEEP = 3  # one of so many goes on, and trains so many times as long
FEWEST, MOST = 9, 81  # trials
SHORTEST = 30  # steps
CALIBRATION = 8  # steps, for their time alone
#: Part of the time that is planned with: methods differ in what a step costs.
PLANNED = 0.6
#: What a trial is judged by where there are no labels.
CRITERION = "rank"
COLUMNS = (
    "trial", "round", "fold", "steps", "method", *VALUES, "pool", "scale", "score", "knn_1",
    "linear", *CRITERIA, "training_seconds", "seconds",
)  # fmt: skip
UNTRAINED = -1  # the number of the trial that does not train
Say = Callable[[str], None]


class SearchError(Error, ValueError):
    """The search cannot run, or its folder holds another one."""


@dataclass(frozen=True)
class Plan:
    """How much a search does.

    Attributes:
        trials: in the first round.
        steps: of the runs of the last round.
    """

    trials: int
    steps: int

    @property
    def rounds(self) -> list[tuple[int, int]]:
        """(trials, steps) of each round; the last one compares at most three."""
        counts = [self.trials]
        while counts[-1] > KEEP:
            counts.append(-(-counts[-1] // KEEP))
        last = len(counts) - 1
        return [
            (count, max(1, round(self.steps / KEEP ** (last - place))))
            for place, count in enumerate(counts)
        ]

    def seconds(self, per_step: float, fixed: float) -> float:
        """Of one process, if steps and the rest of a trial take as long as given."""
        return sum(count * (fixed + steps * per_step) for count, steps in self.rounds)


def make_plan(seconds: float, per_step: float, fixed: float, steps: int) -> Plan:
    """The largest plan for the time there is: at least `FEWEST` trials if need be of fewer steps,
    and more, up to `MOST`, only where the last round has all `steps`.
    """
    for count in range(MOST, FEWEST, -1):
        if Plan(count, steps).seconds(per_step, fixed) <= seconds:
            return Plan(count, steps)
    for count in range(FEWEST, 1, -1):
        for shorter in range(steps, min(steps, SHORTEST) - 1, -1):
            if Plan(count, shorter).seconds(per_step, fixed) <= seconds:
                return Plan(count, shorter)
    return Plan(1, min(steps, SHORTEST))


class Search:
    """A search in a folder, which it may have begun before.

    Args:
        samples: training samples.
        bases: the configuration with each of `METHODS`, and as it is under "".
        folder: for trials.csv.
        identity: what another search in this folder would have otherwise.
        seed: of the draws and the runs.
        jobs: trials at a time.
        say: prints a line.

    Raises:
        SearchError: there are too few samples, or the folder holds another search.
    """

    def __init__(
        self,
        samples: Samples,
        bases: Mapping[str, TrainConfig],
        folder: Path,
        identity: Mapping[str, Any],
        *,
        seed: int,
        jobs: int,
        say: Say,
    ) -> None:
        self._samples, self._folder, self._seed, self._jobs = samples, folder, seed, jobs
        self._say = say
        self._bench = Bench(samples)
        if not self._bench.folds:
            raise SearchError("there are too few training samples (or groups) for folds")
        self.labels = samples.labels is not None
        self.bases = bases
        self._methods = [name for name in METHODS if self._bench.can(bases[name])]
        self._identity = json.loads(json.dumps({**identity, "seed": seed, "labels": self.labels}))
        self.plan, self.rows = self._left()

    def run(self, seconds: float) -> None:
        """Search for so long; the trials that end are in `rows` and trials.csv.

        Raises:
            SearchError: not one trial ended.
        """
        deadline = time.monotonic() + seconds
        if self.plan is None:
            self.plan = self._made_plan(deadline)
        rounds = self.plan.rounds
        self._say(
            "; then ".join(f"{count} trials of {steps} steps" for count, steps in rounds)
            + f"; {'labels' if self.labels else CRITERION} of held-out training samples judge"
        )
        numbers = list(range(self.plan.trials))
        with _workers(self._jobs, self._samples) as workers:
            for place, (count, steps) in enumerate(rounds):
                numbers = (self._ranked(place - 1) if place else numbers)[:count]
                last = place == len(rounds) - 1
                tasks = self._tasks(place, [*numbers, *[UNTRAINED] * last], steps, deadline)
                for trial, scores in _results(workers, self._bench, tasks):
                    self._add(place, trial, 0 if trial == UNTRAINED else steps, scores)
                if time.monotonic() > deadline:
                    self._say("the time is over" + ("" if last else ": not all rounds were run"))
                    break
        if not any(row["trial"] != UNTRAINED for row in self.rows):
            raise SearchError("not one trial ended in this time: give more --minutes")

    def config_of(self, trial: int) -> TrainConfig:
        """The configuration of a trial."""
        return changed(self.bases, self._drawn(trial))

    def best(self) -> dict[str, Any]:
        """The best row of the last round that has any."""
        trained = [row for row in self.rows if row["trial"] != UNTRAINED]
        last = max(row["round"] for row in trained)
        return max((row for row in trained if row["round"] == last), key=lambda row: row["score"])

    def correlations(self) -> list[tuple[str, int, int, float, float]]:
        """How well each criterion without labels ranks what labels rank, in each round of five or
        more trials: (criterion, round, trials, Spearman's correlation with the score over trials,
        that over the readouts of a trial). A trial counts with its mean over readouts, and the last
        is a mean over trials.
        """
        found = []
        for place in sorted({row["round"] for row in self.rows}):
            trials: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for row in self.rows:
                if row["round"] == place and row["trial"] != UNTRAINED:
                    trials[row["trial"]].append(row)
            if len(trials) < 5:
                continue
            for name in CRITERIA:
                pairs = [[(row[name], row["score"]) for row in rows] for rows in trials.values()]
                over = _correlation([np.mean(of, axis=0) for of in pairs])
                within = float(np.mean([_correlation(of) for of in pairs]))
                found.append((name, place, len(trials), over, within))
        return found

    # --- Rounds ----------------------------------------------------------------------------------

    def _drawn(self, trial: int) -> dict[str, Any]:
        return draw(max(trial, 0), self._seed, self._methods, labels=self.labels)

    def _ranked(self, place: int) -> list[int]:
        """The trials of a round, by the score of their best readout."""
        best: dict[int, float] = {}
        for row in self.rows:
            if row["round"] == place and row["trial"] != UNTRAINED:
                best[row["trial"]] = max(row["score"], best.get(row["trial"], -math.inf))
        return sorted(best, key=lambda trial: (-best[trial], trial))

    def _tasks(
        self, place: int, trials: Sequence[int], steps: int, deadline: float
    ) -> dict[int, tuple[Any, ...]]:
        """What `Bench.run` takes, for the trials of a round that are not in the folder yet."""
        done = {row["trial"] for row in self.rows if row["round"] == place}
        return {
            trial: (self._seeded(trial), 0 if trial == UNTRAINED else steps, place, deadline)
            for trial in trials
            if trial not in done
        }

    def _add(self, place: int, trial: int, steps: int, scores: Sequence[Scores]) -> None:
        config = self.config_of(trial)
        fields = {name: _value(config, name) for name in ("method", *VALUES)}
        about = {"trial": trial, "round": place, "fold": place, "steps": steps, **fields}
        rows = [{**about, **row, "score": self._score(row)} for row in scores]
        self.rows += rows
        self._write()
        best = max(rows, key=lambda row: row["score"])
        name = "untrained" if trial == UNTRAINED else f"trial {trial}"
        self._say(
            f"round {place}, {name} ({fields['method']}): {best['score']:.3f} with "
            f"{best['pool']}, {best['scale']}; {best['seconds']:.0f} s"
        )

    def _seeded(self, trial: int) -> TrainConfig:
        config = self.config_of(trial)
        config.seed = self._seed
        return config

    def _score(self, row: Scores) -> float:
        if self.labels:
            return (float(row["knn_1"]) + float(row["linear"])) / 2
        return float(row[CRITERION])

    # --- The folder ------------------------------------------------------------------------------

    def _made_plan(self, deadline: float) -> Plan:
        """From the time of a few steps of the configuration as it is."""
        steps = self._steps(self._seeded(0))
        for taken in (1, CALIBRATION):  # the first has to import and to warm up
            (row, *_) = self._bench.run(self._seeded(0), taken, 0, math.inf)
        per_step = float(row["training_seconds"]) / CALIBRATION
        fixed = float(row["seconds"]) - float(row["training_seconds"])
        seconds = PLANNED * self._jobs * (deadline - time.monotonic())
        plan = make_plan(seconds, per_step, fixed, steps)
        with written_whole(self._folder / "plan.json") as temporary:
            temporary.write_text(json.dumps({**asdict(plan), **self._identity}, indent=1) + "\n")
        return plan

    def _steps(self, config: TrainConfig) -> int:
        """Of the whole run that the configuration describes."""
        if config.optim.steps is not None:
            return config.optim.steps
        batch = config.optim.batch_size or 64
        return config.optim.epochs * max(1, len(self._samples.rows) // batch)

    def _left(self) -> tuple[Plan | None, list[dict[str, Any]]]:
        """The plan and the rows of this search that the folder holds."""
        path = self._folder / "plan.json"
        if not path.exists():
            if any(file for file in self._folder.glob("*") if not file.name.startswith(".")):
                raise SearchError(f"{self._folder} is not empty, but holds no search")
            return None, []
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            plan = Plan(int(there.pop("trials")), int(there.pop("steps")))
            rows = _read(self._folder / "trials.csv")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchError(f"{self._folder}: not readable as a search ({error})") from error
        differing = [name for name in self._identity if there.get(name) != self._identity[name]]
        if differing:
            raise SearchError(
                f"{self._folder} holds another search: {', '.join(differing)} differ; name another "
                "folder with --out"
            )
        ended = {(row["trial"], row["round"]) for row in rows}
        self._say(f"{self._folder}: going on after {len(ended)} trials")
        return plan, rows

    def _write(self) -> None:
        with (
            written_whole(self._folder / "trials.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def _correlation(pairs: Sequence[Any]) -> float:
    """Spearman's, of pairs [N, 2]; 0 where one side is constant."""
    values = np.array(pairs)
    return float(spearmanr(values).statistic) if np.ptp(values, axis=0).all() else 0.0


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _parsed(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _parsed(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def _value(config: TrainConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


@contextmanager
def _workers(jobs: int, samples: Samples) -> Iterator[ProcessPoolExecutor | None]:
    """The processes of the trials; None where it is this one.

    Raises:
        SearchError: one of them has ended.
    """
    if jobs == 1:
        yield None
        return
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (samples, threads)) as workers:
        try:
            yield workers
        except BaseException as error:
            workers.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenExecutor):
                raise SearchError(
                    "the process of a trial has ended: it was killed, perhaps for want of memory; "
                    "fewer --jobs need less, and the same command goes on"
                ) from None
            raise


def _results(
    workers: ProcessPoolExecutor | None, bench: Bench, tasks: Mapping[int, tuple[Any, ...]]
) -> Iterator[tuple[int, list[Scores]]]:
    """Trials as they end, but for those that the deadline ends."""
    if workers is None:
        found = ((trial, _run(bench, *task)) for trial, task in tasks.items())
    else:
        futures = {workers.submit(_work, *task): trial for trial, task in tasks.items()}
        found = ((futures[future], future.result()) for future in as_completed(futures))
    for trial, scores in found:
        if scores is not None:
            yield trial, scores


def _run(bench: Bench, *task: Any) -> list[Scores] | None:
    try:
        return bench.run(*task)
    except OutOfTimeError:
        return None


_bench: Bench | None = None  # of a worker


def _begin(samples: Samples, threads: int) -> None:
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the first process's to tell
    torch.set_num_threads(threads)
    _bench = Bench(samples)


def _work(*task: Any) -> list[Scores] | None:
    assert _bench is not None
    return _run(_bench, *task)

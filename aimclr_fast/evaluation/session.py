"""What every evaluation from the command line shares: options, data, encoders, saved results."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import rich.table
import torch
from rich.console import Console

from aimclr_fast._checkpoint import CheckpointError, load_checkpoint
from aimclr_fast._devices import usable_device
from aimclr_fast._files import check_folder
from aimclr_fast.data import Store, resolve_store
from aimclr_fast.data.store import sha256
from aimclr_fast.functional import STREAMS

from .finetune import FinetuneConfig
from .head_file import save_head
from .models import LoadedEncoder, encoder_from, streams_of
from .outcome import Outcome
from .problem import EvaluationError, Problem, open_problem
from .protocols import Subject, config_checksum, differences
from .results import (
    ResultsError,
    Row,
    append_results,
    check_results_csv,
    data_checksum,
    save_results,
    versions,
)
from .tables import make_tables
from .transfer import TransferConfig, check_layout, map_joints, mapped, parse_pairs

CHOICES = ("test", "val")
#: Evaluations that have no best epoch, no k and no rate.
CHOOSE_NOTHING = ("retrieval", "cluster", "figures")


@dataclass(frozen=True)
class Options:
    """What every evaluation takes.

    Attributes:
        data: folder of a store, or the name of an embedded one.
        protocol: which samples train and which test, as declared by the store; auto: as the
            checkpoint was trained where `data` is its own store, otherwise xsub.
        stream: of the checkpoint's encoders, joint, motion or bone; all takes each that it has.
        choose: what the best epoch is chosen on: test, as published, or val, the split's validation
            samples. With val, k, learning rates of a sweep and searched weights are chosen on them
            too, instead of on folds of the training samples, and results are of the test samples.
        baselines: evaluate also what a pretrained encoder has to beat.
        name: what the pretrained encoder is called in results and tables.
        seed: of classifiers, draws and clusters.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        backend: of the ops; auto picks the fastest that can run.
        encode_batch: sequences encoded at once.
        threads: CPU threads; 0 leaves it to torch.
        output: folder for the results; evaluations/PROTOCOL-STORE-SPLIT-TIME when left out.
        csv: file that every evaluation adds its numbers to.
        scratch: recipe of the supervised baseline; finetune and semi use their own, with the
            encoder at the classifier's learning rate.
    """

    data: str = "ui_prmd"
    protocol: str = "auto"
    stream: str = "all"
    choose: str = "test"
    baselines: bool = False
    name: str = "pretrained"
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    encode_batch: int = 256
    threads: int = 0
    output: str | None = None
    csv: str = "evaluations/results.csv"
    scratch: FinetuneConfig = field(default_factory=lambda: FinetuneConfig(lr_encoder=0.1))


class Source(NamedTuple):
    """One encoder, the file it is from, and what that says of the data it was trained on."""

    path: str
    checksum: str
    epoch: int
    loaded: LoadedEncoder
    data: Mapping[str, Any]

    def subject(self, name: str) -> Subject:
        """The encoder as something to evaluate."""
        seed = int(self.loaded.config.get("seed", 0))
        return Subject(name, self.loaded.encoder, self.loaded.stream, run_seed=seed)


def open_sources(paths: Sequence[str], stream: str) -> list[Source]:
    """The encoders of checkpoints, one for each stream asked for.

    Raises:
        CheckpointError: a file is no checkpoint, or lacks the stream; the message names it.
        EvaluationError: no such stream at all.
    """
    if stream not in (*STREAMS, "all"):
        raise EvaluationError(f"stream is {stream!r}, but must be {', '.join(STREAMS)} or all")
    sources = []
    for path in paths:
        state = load_checkpoint(path)
        checksum, epoch = sha256(Path(path)), int(state.get("epoch", 0))
        try:
            for one in streams_of(state) if stream == "all" else (stream,):
                loaded = encoder_from(state, one)
                sources.append(Source(path, checksum, epoch, loaded, dict(state.get("data", {}))))
        except (CheckpointError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error
    return sources


class Session:
    """One evaluation: opens the data, keeps the rows, says and saves them.

    Args:
        evaluation: name of the protocol.
        options: what every evaluation takes.
        config: the protocol's own configuration.
        console: where progress and tables go.
        csv: whether the rows are also for `options.csv`.

    Raises:
        EvaluationError: device or output folder cannot be used.
        ResultsError: results.csv cannot be added to.
        StoreError: no such store.
    """

    def __init__(
        self, evaluation: str, options: Options, config: Any, console: Console, *, csv: bool = True
    ) -> None:
        self.evaluation, self.options, self.config, self.console = (
            evaluation,
            options,
            config,
            console,
        )
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self._csv = Path(options.csv) if csv else None
        self._made = False
        self._failed: list[str] = []  # what could not be saved
        self._began = time.perf_counter()
        self._problems: dict[int, Problem] = {}
        self._mapped: dict[tuple[Any, ...], Problem] = {}  # each is a copy of the data
        if options.choose not in CHOICES:
            raise EvaluationError(
                f"choose is {options.choose!r}, but must be {' or '.join(CHOICES)}"
            )
        if options.choose == "val" and evaluation in CHOOSE_NOTHING:
            raise EvaluationError(f"--choose val: {evaluation} chooses nothing, so leave it out")
        if options.encode_batch < 1 or options.threads < 0:
            raise EvaluationError("encode_batch must be at least 1, and threads at least 0")
        if options.threads:
            torch.set_num_threads(options.threads)
        try:
            self.device = usable_device(options.device)
        except ValueError as error:
            raise EvaluationError(str(error)) from error
        self.store: Store = resolve_store(options.data)
        self.folder = Path(
            options.output
            or f"evaluations/{evaluation}-{self.store.path.name}-{options.protocol}-"
            f"{datetime.now():%Y%m%d-%H%M%S}"
        )
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise EvaluationError(
                f"output {self.folder} exists and is not an empty folder; name another"
            )
        try:
            check_folder(self.folder)
        except OSError as error:
            raise EvaluationError(
                f"output {self.folder} cannot be written: {error.strerror}: {error.filename}"
            ) from error
        if self._csv is not None:
            check_results_csv(self._csv)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def make_folder(self) -> Path:
        """Make the folder for results; a name by time may be another evaluation's by now."""
        if not self._made:
            try:
                self.folder.mkdir(parents=True, exist_ok=self.options.output is not None)
            except FileExistsError:
                self.folder = self.folder.with_name(f"{self.folder.name}-{os.getpid()}")
                self.folder.mkdir()
            self._made = True
        return self.folder

    def problem(self, source: Source) -> Problem:
        """The data as this encoder takes them.

        Raises:
            EvaluationError: they are of another skeleton, or pose no problem.
        """
        data = source.loaded.config.get("data", {})
        step = int(data.get("frame_step", 1))
        if step not in self._problems:
            self._problems[step] = open_problem(
                self.store,
                self.options.protocol,
                frame_step=step,
                device=self.device,
                batch_size=self.options.encode_batch,
                backend=self.options.backend,
                choose=self.options.choose,
            )
        problem, layout = self._problems[step], source.loaded.layout
        if not isinstance(self.config, TransferConfig):
            check_layout(problem, layout)
            return problem
        joints = map_joints(layout, problem.layout, parse_pairs(self.config.joints))
        note = f"{source.path}: {layout.name} from {problem.layout.name}: {joints.describe()}"
        if note not in self.notes:
            self.notes.append(note)
            self.say(note)
        key = (step, layout, joints.source)
        if key not in self._mapped:
            self._mapped[key] = mapped(problem, layout, joints)
        return self._mapped[key]

    def keep_head(self, outcome: Outcome, source: Source) -> Outcome:
        """Save the classifier of a linear evaluation, and say in its details where."""
        if self.evaluation != "linear":
            return outcome
        name = f"head-{source.loaded.stream}-{source.checksum[:8]}.pt"
        try:
            path = self.make_folder() / name
            save_head(
                path,
                outcome.save,
                self.problem(source).classes,
                stream=source.loaded.stream,
                checkpoint_sha256=source.checksum,
            )
        except OSError as error:  # the numbers are there all the same
            self._failed.append(f"{self.folder / name}: {error.strerror}")
            return outcome
        return replace(outcome, details={**outcome.details, "head": name})

    def add(
        self, subject: Subject, outcome: Outcome, *sources: Source, beside: Source | None = None
    ) -> None:
        """Keep and print one row; a baseline has no source, but one that it stands beside."""
        chosen = "chosen on val" if self.options.choose == "val" else ""
        parts = (outcome.setting, differences(self.config), chosen)
        row = Row(
            self.evaluation,
            self.store.path.name,
            self.options.protocol,
            subject.features,
            subject.stream,
            ", ".join(part for part in parts if part),
            epoch=sources[0].epoch if sources else None,
            run_seed=subject.run_seed,
            seed=self.options.seed,
            draw=outcome.draw,
            checkpoint=" + ".join(dict.fromkeys(one.path for one in sources)),
            checkpoint_sha256=" + ".join(dict.fromkeys(one.checksum for one in sources)),
            data_sha256=data_checksum(self.store.meta),
            config=" + ".join(
                dict.fromkeys(
                    config_checksum(one.loaded.config, subject.features, self.options.scratch)
                    for one in (sources or ([beside] if beside else []))
                )
            ),
            metrics=outcome.metrics,
            details=outcome.details,
        )
        self.rows.append(row)
        numbers = "  ".join(f"{name} {100 * value:.1f}" for name, value in row.metrics.items())
        what = " ".join(part for part in (row.features, row.stream, outcome.setting) if part)
        drawn = "" if row.draw is None else f" draw {row.draw + 1}"
        self.say(f"{what}{drawn}: {numbers}")

    def finish(self) -> None:
        """Print the table, write results.json and, if asked to, add to results.csv.

        Raises:
            EvaluationError: not all could be written; the message says where the numbers are.
        """
        date = datetime.now().astimezone().isoformat(timespec="seconds")
        print_tables(self.rows, self.console)
        about = {
            "evaluation": self.evaluation,
            "command": shlex.join(["python", "-m", "aimclr_fast.evaluate", *sys.argv[1:]]),
            "date": date,
            "seconds": round(time.perf_counter() - self._began, 1),
            "device": str(self.device),
            "versions": versions(),
            "options": asdict(self.options),
            "config": asdict(self.config),
            "seed": self.options.seed,
            "data": {
                "store": self.store.path.name,
                "protocol": self.options.protocol,
                "layout": self.store.layout.name,
                "classes": list(self.store.class_names),
                "checksums": self.store.meta.get("checksums", {}),
                "sha256": data_checksum(self.store.meta),
            },
            "notes": self.notes,
        }
        saved = self._save(about)
        added = ""
        if self._csv is not None:
            try:
                append_results(self._csv, self.rows, date)
                added = f", added to {self._csv}"
            except ResultsError as error:
                self._failed.append(str(error))
        if self._failed:
            where = "printed above" if saved is None else f"in {saved}"
            raise EvaluationError(
                f"not written: {'; '.join(self._failed)}; the numbers are {where}"
            )
        self.say(f"saved: {saved}{added}")

    def _save(self, about: dict[str, Any]) -> Path | None:
        """Write results.json, to the folder for temporary files if it cannot be where it should."""
        try:
            self.make_folder()
            return save_results(self.folder, self.rows, about)
        except OSError as error:
            self._failed.append(f"{self.folder}: {error.strerror}")
        try:
            return save_results(Path(tempfile.mkdtemp(prefix="evaluation-")), self.rows, about)
        except OSError:
            return None


def print_tables(rows: Sequence[Row], console: Console) -> None:
    """The tables of rows on a terminal."""
    for made in make_tables(rows):
        shown = rich.table.Table(title=made.title, title_justify="left")
        for column in made.header:
            words = column in ("features", "stream", "setting")
            side = "left" if words else "right"
            shown.add_column(column, justify=side, overflow="fold")  # type: ignore[arg-type]
        for row in made.rows:
            shown.add_row(*row)
        console.print(shown)

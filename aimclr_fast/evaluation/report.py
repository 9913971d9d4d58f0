"""What an evaluation prints and saves."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import rich.table
import torch
from rich.console import Console

from aimclr_fast._files import check_folder
from aimclr_fast.data import Store
from aimclr_fast.inference.head_file import save_head

from .labeled_data import EvaluationError
from .options import EvaluationOptions
from .outcome import Outcome
from .provenance import config_checksum, differences
from .representation import Representation
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


class Report:
    """Keeps the rows of one evaluation, prints them and saves them.

    Args:
        evaluation: name of the protocol.
        options: what every evaluation takes.
        config: the protocol's own configuration.
        store: the data.
        device: where encoders and classifiers run.
        console: where progress and tables go.
        csv: whether the rows are also for `options.csv`.

    Raises:
        EvaluationError: the output folder cannot be used.
        ResultsError: results.csv cannot be added to.
    """

    def __init__(
        self,
        evaluation: str,
        options: EvaluationOptions,
        config: Any,
        store: Store,
        device: torch.device,
        console: Console,
        *,
        csv: bool = True,
    ) -> None:
        self.evaluation, self.options, self.config = evaluation, options, config
        self.store, self.device, self.console = store, device, console
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self._csv = Path(options.csv) if csv else None
        self._made = False
        self._failed: list[str] = []  # what could not be saved
        self._began = time.perf_counter()
        self.folder = Path(
            options.output
            or f"evaluations/{evaluation}-{store.path.name}-{options.split}-"
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
        """Print a line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line, and keep it for results.json; a repeated one is dropped."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def make_folder(self) -> Path:
        """Make the folder for results; another evaluation may have taken a default name by now."""
        if not self._made:
            try:
                self.folder.mkdir(parents=True, exist_ok=self.options.output is not None)
            except FileExistsError:
                self.folder = self.folder.with_name(f"{self.folder.name}-{os.getpid()}")
                self.folder.mkdir()
            self._made = True
        return self.folder

    def keep_head(self, representation: Representation, outcome: Outcome) -> Outcome:
        """Save the classifier of a pretrained encoder, and say in the outcome's details where."""
        (file,) = representation.files
        name = f"head-{representation.stream}-{file.checksum[:8]}.pt"
        try:
            path = self.make_folder() / name
            save_head(
                path,
                outcome.save,
                representation.data.classes,
                stream=representation.stream,
                pool=representation.pool,
                checkpoint_sha256=file.checksum,
            )
        except OSError as error:  # the numbers are there all the same
            self._failed.append(f"{self.folder / name}: {error.strerror}")
            return outcome
        return replace(outcome, details={**outcome.details, "head": name})

    def add(self, representation: Representation, outcome: Outcome) -> None:
        """Keep and print one row."""
        files = representation.files
        chosen = "chosen on val" if self.options.choose == "val" else ""
        setting = ", ".join(part for part in (outcome.setting, representation.setting) if part)
        parts = (setting, differences(self.config), chosen)
        runs: list[Mapping[str, Any]] = [file.loaded.config for file in files]
        row = Row(
            self.evaluation,
            self.store.path.name,
            self.options.split,
            representation.name,
            representation.stream,
            ", ".join(part for part in parts if part),
            epoch=files[0].epoch if files else None,
            run_seed=representation.run_seed,
            seed=self.options.seed,
            draw=outcome.draw,
            checkpoint=_joined(file.path for file in files),
            checkpoint_sha256=_joined(file.checksum for file in files),
            data_sha256=data_checksum(self.store.meta),
            config=_joined(
                config_checksum(run, representation.name, self.options.scratch)
                for run in runs or [representation.run_config]
            ),
            metrics=outcome.metrics,
            details=outcome.details,
        )
        self.rows.append(row)
        numbers = "  ".join(f"{name} {100 * value:.1f}" for name, value in row.metrics.items())
        what = " ".join(part for part in (row.features, row.stream, setting) if part)
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
                "protocol": self.options.split,
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
        """Write results.json; to a temporary folder if the output folder cannot be written."""
        try:
            self.make_folder()
            return save_results(self.folder, self.rows, about)
        except OSError as error:
            self._failed.append(f"{self.folder}: {error.strerror}")
        try:
            return save_results(Path(tempfile.mkdtemp(prefix="evaluation-")), self.rows, about)
        except OSError:
            return None


def _joined(parts: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(parts))


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

"""Results: every number with what is needed to reproduce it."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from aimclr_fast._errors import Error
from aimclr_fast._files import check_folder, written_whole
from aimclr_fast._locks import FileLock, LockedError

PACKAGES = ("aimclr_fast", "torch", "numpy", "scikit-learn", "scipy")


class ResultsError(Error, ValueError):
    """A file of results cannot be read or added to; the message names it."""


@dataclass(frozen=True)
class Row:
    """The numbers of one encoder under one evaluation, and where they come from.

    Attributes:
        evaluation: knn, linear, ...
        store: name of the data set.
        protocol: the split, which says what trains and what tests; 0.1.0 called it so, and files
            keep the name.
        features: pretrained (or the name given to it), untrained, supervised, raw poses, or raw
            poses, aligned.
        stream: joint, motion, bone, or several with + between; empty for raw poses.
        setting: what differs from the defaults, and amounts of labels.
        epoch: of the checkpoint.
        run_seed: of the pretraining run.
        seed: of the evaluation.
        draw: number of the random subset of labels.
        checkpoint: the file, as named by the user.
        checkpoint_sha256: of the file.
        data_sha256: of the store's checksums.
        config: checksum of what the encoder was trained by, without its seed.
        metrics: shares in 0..1.
        details: curves, chosen rates, what was done; in results.json only.
    """

    evaluation: str
    store: str
    protocol: str
    features: str
    stream: str = ""
    setting: str = ""
    epoch: int | None = None
    run_seed: int | None = None
    seed: int = 0
    draw: int | None = None
    checkpoint: str = ""
    checkpoint_sha256: str = ""
    data_sha256: str = ""
    config: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for rows of the same measurement: all but the numbers and the file's name."""
        own = asdict(self)
        return tuple(own[name] for name in IDENTITY if name != "checkpoint")


IDENTITY = tuple(f.name for f in fields(Row) if f.name not in ("metrics", "details"))
#: One line of results.csv is one metric of one row.
COLUMNS = ("date", *IDENTITY, "metric", "value")
HEADER = ",".join(COLUMNS) + "\n"
_PATIENCE = 30.0  # seconds to wait for another run that adds to the same file


def data_checksum(meta: Mapping[str, Any]) -> str:
    """One checksum of a store, from those of its files (meta.json)."""
    sums = meta.get("checksums") or {}
    text = "\n".join(f"{name} {sums[name]}" for name in sorted(sums))
    return hashlib.sha256(text.encode()).hexdigest() if sums else ""


def versions() -> dict[str, str]:
    """Of Python, what numbers depend on, and the GPU if there is one."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[package] = str(getattr(__import__(package), "__version__", "unknown"))
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    return found


def save_results(folder: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> Path:
    """Write results.json."""
    path = folder / "results.json"
    content = {**about, "rows": [asdict(row) for row in rows]}
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def check_results_csv(path: Path) -> None:
    """Find out, before anything is measured, whether `append_results` can add to a file.

    Raises:
        ResultsError: the file has other columns, or cannot be written to.
    """
    try:
        if not path.exists():
            check_folder(path.parent)
            return
        with path.open("r+", encoding="utf-8", newline="") as file:
            _check_header(path, file.readline())
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: {_reason(error, path)}") from error


def append_results(path: Path, rows: Iterable[Row], date: str) -> None:
    """Add rows to a results.csv; it is made, with a header, where there is none.

    Raises:
        ResultsError: the file has other columns, or cannot be written to; nothing was added.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        own = asdict(row)
        for metric, value in row.metrics.items():
            cells = ["" if own[name] is None else own[name] for name in IDENTITY]
            writer.writerow([date, *cells, metric, f"{value:.6f}"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other runs may add to it, each for a moment.
        with FileLock(path, wait=_PATIENCE), path.open("rb+", buffering=0) as file:
            found = file.readline().decode()
            _check_header(path, found)
            end = file.seek(0, io.SEEK_END)
            lines = f"{'' if found else HEADER}{text.getvalue()}"
            # A checkpoint's path need not be UTF-8.
            left = memoryview(lines.encode("utf-8", "backslashreplace"))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:  # a full disk: no half line
                file.truncate(end)
                raise
    except (OSError, UnicodeDecodeError, LockedError) as error:
        raise ResultsError(f"{path}: {_reason(error, path)}") from error


def _check_header(path: Path, found: str) -> None:
    if found not in ("", HEADER):
        raise ResultsError(f"{path}: has other columns than a results.csv of this version")


def _reason(error: Exception, path: Path) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    elsewhere = error.filename not in (None, str(path), path)
    return f"{error.strerror}: {error.filename}" if elsewhere else error.strerror


def read_results(paths: Iterable[Path]) -> list[Row]:
    """Rows of results.csv and results.json files; one measured twice counts once, the later.

    Raises:
        ResultsError: a file cannot be read or is something else.
    """
    rows: dict[tuple[Any, ...], Row] = {}
    for path in paths:
        try:
            found = _from_json(path) if path.suffix == ".json" else _from_csv(path)
            # By file, so that one does not replace half the metrics of another's row.
            rows.update({row.identity: row for row in found})
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ResultsError(f"{path}: not a file of results ({reason})") from error
    return list(rows.values())


def _from_json(path: Path) -> list[Row]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**row) for row in content["rows"]]


def _from_csv(path: Path) -> list[Row]:
    numbers = {"epoch", "run_seed", "seed", "draw"}
    rows: dict[tuple[Any, ...], Row] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, strict=True):
            known: dict[str, Any] = {
                name: (int(line[name]) if line[name] else None) if name in numbers else line[name]
                for name in IDENTITY
            }
            row = Row(**known)
            metrics = {**rows.get(row.identity, row).metrics, line["metric"]: float(line["value"])}
            rows[row.identity] = Row(**known, metrics=metrics)
    return list(rows.values())

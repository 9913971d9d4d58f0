"""The folder of a run: its lock, its checkpoints and run.json."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from aimclr_fast._locks import FileLock, LockedError
from aimclr_fast._renamed import with_new_names
from aimclr_fast.config import ConfigError, TrainConfig, what_is_learned
from aimclr_fast.data import Store
from aimclr_fast.data.preprocessing import Preprocessing

from .checkpoint import CheckpointError, digest, load_checkpoint, written_whole

NEWEST, NEXT, BEST, ABOUT = "checkpoint.pt", "next.pt", "best.pt", "run.json"


def data_identity(store: Store, train_index: Tensor) -> dict[str, Any]:
    """Identity of a data set: checksums of its files and of the training samples' indices; and its
    traits that an encoder needs (`Store.traits`).
    """
    return {
        "training_samples": len(train_index),
        "training_index": digest(train_index),
        **store.checksums(),
        **store.traits(),
    }


class RunFolder:
    """An open run folder. Made by `open_run`.

    Attributes:
        path: the folder.
        state: the newest good checkpoint in it when it was opened, if any.
        warnings: what was wrong with newer ones.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock
        self._damaged: list[Path] = []
        self.warnings: list[str] = []
        self.state = self._newest()

    def close(self) -> None:
        """Release the folder to other processes."""
        self._lock.close()

    def _chain(self) -> list[Path]:
        """The checkpoint files, newest first."""
        numbers = sorted(
            int(number)
            for file in self.path.glob("previous-*.pt")
            if (number := file.stem.removeprefix("previous-")).isdecimal()
        )
        names = [NEXT, NEWEST, *(f"previous-{number}.pt" for number in numbers)]
        return [self.path / name for name in names if (self.path / name).exists()]

    def _newest(self) -> dict[str, Any] | None:
        files = self._chain()
        for file in files:
            try:
                state = load_checkpoint(file)
            except CheckpointError as error:
                self._damaged.append(file)
                self.warnings.append(str(error))
            else:
                return state
        if files:
            raise CheckpointError("; ".join(self.warnings))
        return None

    def save(self, write: Callable[[Path], None], keep: int) -> None:
        """Write the newest checkpoint with `write`, then rename each older one to the next name.

        A complete newest checkpoint is under one of the names at every moment, and no file is
        deleted before the new one is on the disk; so there are up to `keep` + 1 meanwhile.
        """
        write(self.path / NEXT)
        for file in self._damaged:
            if file.name != NEXT:  # which was replaced just now
                file.unlink(missing_ok=True)
        self._damaged.clear()
        self.settle(keep)

    def settle(self, keep: int) -> None:
        """Give the newest checkpoint its name, and the older ones theirs."""
        if not (self.path / NEXT).exists() or self.path / NEXT in self._damaged:
            return
        names = [NEWEST, *(f"previous-{number}.pt" for number in range(1, keep))]
        for newer, older in reversed(list(pairwise(names))):
            if (self.path / newer).exists():
                os.replace(self.path / newer, self.path / older)
        os.replace(self.path / NEXT, self.path / NEWEST)
        for file in self._chain():
            if file.name not in names:
                file.unlink()

    def describe(self, config: TrainConfig, data: Mapping[str, Any], **about: object) -> None:
        """Write run.json: what this run is, for `open_run` and for people."""
        content = {"config": asdict(config), "data": dict(data), **about}
        with written_whole(self.path / ABOUT) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def resumed_precision(config: TrainConfig) -> str | None:
    """The precision of the run that a configuration resumes, as its run.json has it; None for a
    new run, and where that is not known.
    """
    path = _resumed(config)
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8")) if path else {}
        name = about["config"]["precision"]
        if name == "auto":  # of versions that did not keep what it was; on a CPU it was fp32
            return "fp32" if about["device"] == "cpu" else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # `open_run` says what is wrong
    return str(name)


def _resumed(config: TrainConfig) -> Path | None:
    """The folder of the run to resume, if there is to be one."""
    chosen = config.output if config.resume == "auto" else config.resume
    return None if config.resume is None or chosen is None else Path(chosen)


def open_run(config: TrainConfig, data: Mapping[str, Any]) -> RunFolder:
    """Make the folder of a new run, or open that of a run to resume.

    Raises:
        ConfigError: it holds something else, another run, or one that another process is training.
        CheckpointError: it has checkpoints, and all are damaged.
    """
    if config.resume is None:
        return _locked(_new_folder(config))
    path = _resumed(config)
    if path is None:
        raise ConfigError("resume is 'auto', but output, the run's folder, is not given")
    if not _has_content(path):
        if config.resume != "auto":
            raise ConfigError(f"resume: {path} holds no run")
        return _locked(_made(path))
    if not (path / ABOUT).is_file():
        raise ConfigError(f"output {path} is not empty, but holds no run to resume")
    run = _locked(path)
    try:
        if run.state is None:
            about = _read_about(path / ABOUT)
        else:
            about = run.state
        learned = what_is_learned(about["config"])
        if learned.get("precision") == "auto" != config.precision:
            learned["precision"] = resumed_precision(config) or config.precision
        differing = [
            f"{name} is {there!r} there and {here!r} here"
            + (f" (--precision {there} goes on with it)" if name == "precision" else "")
            for name, there, here in (
                *_differences(learned, what_is_learned(asdict(config))),
                *_differences(data_known(about["data"]), data_known(dict(data))),
            )
        ]
        if differing:
            more = f", and {len(differing) - 3} more differ" if len(differing) > 3 else ""
            listed = "; ".join(differing[:3])
            raise ConfigError(f"output {path} holds another run: {listed}{more}")
    except BaseException:
        run.close()
        raise
    for name in (ABOUT, "config.yaml", "metrics.jsonl", "best.pt", NEXT):
        for file in path.glob(f".{name}.*"):  # what a process that was killed had half written
            file.unlink()
    run.settle(config.keep)
    return run


def data_known(data: dict[str, Any]) -> dict[str, Any]:
    """A data identity with the fields of this version; earlier ones knew fewer. Without the
    duration, which says nothing of the data and may not have been known.
    """
    data = {name: value for name, value in data.items() if name != "duration"}
    steps = data.get("preprocessing")
    if steps is None:
        return data
    return {**data, "preprocessing": Preprocessing.from_dict(steps).to_dict()}


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {"config": dict(with_new_names(about["config"])), "data": dict(about["data"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not readable ({error})") from error


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys([*there, *here]):
        old, new = there.get(name), here.get(name)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            found += _differences(old or {}, new or {}, f"{prefix}{name}.")
        elif old != new:
            found.append((prefix + name, old, new))
    return found


def _has_content(path: Path) -> bool:
    """Hidden files do not count: they are locks and what a killed process was writing."""
    return path.is_dir() and any(not file.name.startswith(".") for file in path.iterdir())


def _new_folder(config: TrainConfig) -> Path:
    if config.output is not None:
        path = Path(config.output)
        if _has_content(path):
            raise ConfigError(
                f"output {path} exists and is not an empty folder; name another, or resume its "
                "run: --resume auto"
            )
        return _made(path)
    data = config.data
    name = f"{Path(data.store).name}-{data.split}-{'-'.join(data.streams)}"
    path = Path("runs", f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    # Another run may start in this very second.
    return _made(path.with_name(f"{path.name}-{os.getpid()}") if path.exists() else path)


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        message = f"output {path} exists and is not an empty folder; name another"
        raise ConfigError(message) from error
    except OSError as error:
        raise ConfigError(f"output {path}: {error.strerror}") from error
    return path


def _locked(path: Path) -> RunFolder:
    try:
        lock = FileLock(path / ".lock")
    except LockedError as error:
        raise ConfigError(f"output {path}: another process is training in it ({error})") from error
    except OSError as error:
        raise ConfigError(f"output {path}: {error.strerror}") from error
    try:
        return RunFolder(path, lock)
    except BaseException:
        lock.close()
        raise

"""Search for a recipe that fits a store: python -m aimclr_fast.tune --data STORE [options]."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ._console import plain_console
from ._files import check_folder, written_whole
from ._locks import FileLock
from .cli import Parser, UserError, config_names, run
from .config import config_text, what_is_learned
from .data import Store, resolve_store, split
from .data.splits import default_split
from .evaluation.labeled_data import training_groups
from .nn.readouts import PUBLISHED
from .train import configured
from .training.run_folder import data_identity
from .tuning.search import CRITERION, UNTRAINED, Search
from .tuning.space import METHODS, VALUES
from .tuning.trial import CRITERIA, Samples

PROGRAM = "python -m aimclr_fast.tune"
LABELS = ("none", "train")
SHOWN = 10  # rows of the table


def parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s --data STORE [--split NAME] [--labels train] [--out FOLDER] [--minutes 30]",
        description="Try methods, learning rates, augmentations and readouts in many short runs on "
        "part of the training samples, judge them on the rest, and write OUT/config.yaml for "
        "python -m aimclr_fast.train --config. Test samples are not read.",
    )
    parser.add_argument("--data", type=str, default="ui_prmd", help="folder of a store")
    parser.add_argument(
        "--split", type=str, help="its training samples are used; default: the first"
    )
    parser.add_argument("--labels", type=str, default="none",
                        help="train: judge by labels of held-out training samples; none: by "
                        f"{CRITERION}, without labels")  # fmt: skip
    parser.add_argument("--config", type=str, default="small",
                        help=f"what is varied: a YAML file, or one of {', '.join(config_names())}"
                        )  # fmt: skip
    parser.add_argument("--out", type=str, help="folder to write to; default runs/tune-STORE-SPLIT")
    parser.add_argument("--minutes", type=float, default=30.0, help="the search ends after these")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and the runs")
    return parser


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    if given.labels not in LABELS:
        raise UserError(f"--labels {given.labels}: choose from {', '.join(LABELS)}")
    if not given.minutes > 0 or given.jobs < 1 or not 0 <= given.seed < 2**63:
        raise UserError("--minutes must be positive, --jobs at least 1, --seed not negative")
    console = plain_console()
    store = resolve_store(given.data)
    name = given.split or default_split(store)
    try:
        rows = split(store, name)[0]
    except ValueError as error:
        raise UserError(f"--split: {error}") from error
    common = ["--config", given.config, "--data", given.data, "--split", name]
    bases = {method: configured([*common, "--method", method]) for method in METHODS}
    bases[""] = configured(common)
    folder = Path(given.out or f"runs/tune-{store.path.name}-{name}")
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(FileLock(folder / ".lock")):
        search = Search(
            _samples(given.data, store, rows, given.labels == "train"),
            bases,
            folder,
            {
                "data": data_identity(store, torch.from_numpy(rows)),
                "config": what_is_learned(asdict(bases[""])),
                "values": VALUES,  # or a trial would be drawn again as another
            },
            seed=given.seed,
            jobs=given.jobs,
            say=lambda line: console.print(line, soft_wrap=True),
        )
        search.run(60 * given.minutes)
        _report(search, folder, console)


def _samples(spec: str, store: Store, rows: Any, labeled: bool) -> Samples:
    labels = None
    if labeled:
        if "label" not in store.samples:
            raise UserError(f"--labels train: {store.path} has no labels")
        # Of the training samples alone: not even the number of classes is that of all.
        _, labels = np.unique(store.samples["label"][rows], return_inverse=True)
        if labels.max() == 0:
            raise UserError(f"--labels train: the training samples of {store.path} have one class")
    _, groups = training_groups(store.samples, rows) or ("", None)
    return Samples(spec, rows, labels, groups)


def _report(search: Search, folder: Path, console: Console) -> None:
    best = search.best()
    console.print(_table(search, best["round"]))
    for name, place, count, over, within in search.correlations() if search.labels else []:
        console.print(
            f"{name}, without labels, against labels: {over:+.2f} over {count} trials of round "
            f"{place}, {within:+.2f} over the readouts of a trial (Spearman)",
            soft_wrap=True,
        )
    config = search.config_of(best["trial"])
    if (best["pool"], best["scale"]) != (PUBLISHED, "none"):
        config.monitor.pool, config.monitor.scale = best["pool"], best["scale"]
    path = folder / "config.yaml"
    with written_whole(path) as temporary:
        about = f"# Trial {best['trial']} of {PROGRAM}; readout {best['pool']}\n"
        temporary.write_text(about + config_text(config), encoding="utf-8")
    console.print(
        f"trial {best['trial']}, readout {best['pool']} ({best['scale']} scale for neighbors)\n"
        f"trials: {folder / 'trials.csv'}\n"
        f"train with: python -m aimclr_fast.train --config {path}",
        soft_wrap=True,
    )


def _table(search: Search, place: int) -> Table:
    """The best rows of a round, the configuration as it was, and the untrained encoder."""
    rows = sorted((r for r in search.rows if r["round"] == place), key=lambda r: -r["score"])
    best: dict[int, dict[str, Any]] = {}
    for row in rows:
        best.setdefault(row["trial"], row)
    shown = [row for row in best.values() if row["trial"] > 0][:SHOWN]
    shown += [best[number] for number in (0, UNTRAINED) if number in best]
    columns = ("knn_1", "linear", *CRITERIA) if search.labels else CRITERIA
    table = Table(title=f"round {place}: held-out training samples, the best readout of each trial")
    for column in ("trial", "method", "lr", "readout", "score", *columns):
        # Names and numbers stay whole on a narrow terminal; readouts and methods can be broken.
        table.add_column(column, no_wrap=column in ("trial", "score", "knn_1", "linear"))
    for row in shown:
        number = {0: "0 (as configured)", UNTRAINED: "untrained"}.get(row["trial"], row["trial"])
        table.add_row(
            str(number), row["method"], str(row["optim.lr"]), f"{row['pool']}, {row['scale']}",
            *(f"{row[column]:.3f}" for column in ("score", *columns)),
        )  # fmt: skip
    return table


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

"""``python -m aimclr_fast.report RUN...``: what runs learned, on one page."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import csv
import dataclasses
import json
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._files import check_folder
from .cli import Parser, UserError, run

if TYPE_CHECKING:
    from .data import Store
    from .evaluation.run_page import Page

PROGRAM = "python -m aimclr_fast.report"
_METRICS = {"knn_1": "kNN-1 %", "knn_20": "kNN-20 %", "linear": "linear %"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: of the run.
        about: run.json.
        results: results.json.
    """

    folder: Path
    about: dict[str, Any]
    results: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The run's configuration."""
        config: dict[str, Any] = self.about["config"]
        return config


def parser() -> Parser:
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s RUN... [options]",
        description="Write what runs of one recipe learned to one HTML page, which needs no "
        "network. The table is of all runs; the figures and the map are of the first.",
    )
    add = command.add_argument
    add("runs", type=str, nargs="+", help="folders of finished runs that differ by their seeds")
    add("--out", type=str, default=None, help="the page; default: report.html in the first run")
    add("--data", type=str, default="auto", help="the store; auto: the one the runs trained on")
    add("--stream", type=str, default=None, help="of runs with several; default: the first")
    add("--overwrite", action="store_true", help="replace a page that is there")
    return command


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    runs = [read_run(Path(name)) for name in given.runs]
    _check_alike(runs)
    out = Path(given.out) if given.out else runs[0].folder / "report.html"
    if out.exists() and not given.overwrite:
        raise UserError(f"{out}: exists already (--overwrite replaces it)")
    check_folder(out.parent)
    from .data import resolve_store
    from .evaluation.labeled_data import open_labeled_data, open_unlabeled_data
    from .evaluation.own_split import own_store
    from .evaluation.representation import Pretrained
    from .evaluation.request import read_encoders
    from .evaluation.run_page import Page, add_map, learned
    from .pages import write_page

    first = runs[0]
    files = read_encoders(str(first.folder / "checkpoint.pt"), given.stream or "all")
    store = own_store(files) if given.data == "auto" else resolve_store(given.data)
    takes = files[0].loaded.layout
    if store.layout != takes:
        raise UserError(
            f"{store.path}: has layout {store.layout.name}, but the encoder of {first.folder} "
            f"takes {takes.name}"
        )
    page = Page()
    _scores(page, runs)
    step, seed = int(first.config["data"]["frame_step"]), int(first.config["seed"])
    if store.labels is not None and len(set(store.labels.tolist())) > 1:
        data = open_labeled_data(store, first.config["data"]["split"], frame_step=step)
        learned(page, Pretrained(files[0], data), store, seed=seed)
    else:
        data = open_unlabeled_data(store, frame_step=step)
        add_map(page, Pretrained(files[0], data), store, seed=seed)
    _curves(page, first)
    _settings(page, first)
    _data(page, store)
    title = f"{first.config['method']} on {store.path.name}, {first.config['data']['split']}"
    write_page(
        out, title=title, data=page.data, body=page.body, scripts=["player", "map", "report"]
    )
    print(f"saved: {out} ({out.stat().st_size / 1e6:.2f} MB)")


def read_run(folder: Path) -> Run:
    """The files of a finished run.

    Raises:
        UserError: one is missing or damaged.
    """
    found = []
    for name in ("run.json", "results.json"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            what = "no such folder" if not folder.is_dir() else f"has no {name}: not a finished run"
            raise UserError(f"{folder}: {what}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / name}: not readable: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{folder / name}: not readable: it holds no fields")
        found.append(content)
    about, results = found
    if not isinstance(about.get("config"), dict) or not isinstance(results.get("scores"), dict):
        raise UserError(f"{folder}: run.json or results.json lacks what a run writes")
    return Run(folder, about, results)


def _check_alike(runs: Sequence[Run]) -> None:
    """Runs of one table are of one recipe and the same data, each with a seed of its own."""
    from .training.run_folder import data_known

    first = _learned(runs[0])
    for other in runs[1:]:
        own = _learned(other)
        pair = f"{runs[0].folder} and {other.folder}"
        for name in {**first, **own}:
            if first.get(name) != own.get(name):
                raise UserError(
                    f"{pair} differ in {name} ({first.get(name)} and {own.get(name)}): a report is "
                    "of runs that differ by their seeds alone"
                )
        if data_known(runs[0].about.get("data", {})) != data_known(other.about.get("data", {})):
            raise UserError(f"{pair} were trained on different data")
    seeds = [run.config["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"two runs have the same seed: {', '.join(map(str, seeds))}")


def _learned(run: Run) -> dict[str, Any]:
    """The fields that decide what a run learned, without its seed."""
    from .config import what_is_learned

    found = dict(_flat(what_is_learned(run.config)))
    found.pop("seed", None)
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        inside = isinstance(value, Mapping)
        found += _flat(value, f"{prefix}{name}.") if inside else [(prefix + name, value)]
    return found


def _scores(page: Page, runs: Sequence[Run]) -> None:
    from .evaluation.run_page import table

    rows = []
    for name in runs[0].results["scores"]:
        cells = []
        for metric in _METRICS:
            values = [
                100 * run.results["scores"].get(name, {}).get(metric, float("nan")) for run in runs
            ]
            known = [value for value in values if value == value]
            mean = f"{statistics.mean(known):.1f}" if known else "-"
            spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
            cells.append(mean + spread)
        rows.append((name, *cells))
    seeds = ", ".join(str(run.config["seed"]) for run in runs)
    seconds = statistics.mean(float(run.results.get("seconds", 0)) for run in runs)
    of = f"one run, seed {seeds}, trained for {seconds:.0f} s"
    if len(runs) > 1:
        of = (
            f"mean and standard deviation of {len(runs)} runs, seeds {seeds}, each "
            f"trained for {seconds:.0f} s. The map and the figures are of seed "
            f"{runs[0].config['seed']}"
        )
    text = f"<p>Accuracy on the test samples: {of}.</p>\n"
    text += table(["features", *_METRICS.values()], rows)
    page.sections.append(("Scores", text if rows else "<p>None: the store has no labels.</p>"))


def _curves(page: Page, run: Run) -> None:
    from .evaluation.run_page import picture
    from .nn import get_method
    from .training.report import curves_of

    losses = get_method(run.config["method"]).losses
    try:
        text = picture(curves_of(run.folder, losses), "loss and accuracy over the epochs")
    except (OSError, ValueError, LookupError):
        text = "<p>No curves: the run's metrics.jsonl is not there or damaged.</p>"
    page.sections.append(("Training", text))


def _settings(page: Page, run: Run) -> None:
    from .config import TrainConfig
    from .evaluation.run_page import table

    published = dict(_flat(dataclasses.asdict(TrainConfig())))
    rows = [
        (name, value, published[name])
        for name, value in _learned(run).items()
        if name in published and value != published[name]
    ]
    text = (
        table(["setting", "this run", "published recipe"], rows)
        if rows
        else "<p>All settings are those of the published recipe.</p>"
    )
    page.sections.append(("Settings that differ from the published recipe", text))


def _data(page: Page, store: Store) -> None:
    import html

    from .data.conversion import LEFT_OUT
    from .evaluation.run_page import table

    lines = [store.summary()]
    lines += [str(store.meta[field]) for field in ("source", "licence") if store.meta.get(field)]
    text = "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
    reasons: Counter[str] = Counter()
    for one in store.parts or (store,):
        try:
            with (one.path / LEFT_OUT).open(encoding="utf-8", newline="") as file:
                reasons.update(row.get("reason", "") for row in csv.DictReader(file))
        except OSError:
            continue
    if reasons:
        text += table(["left out, because it", "samples"], reasons.most_common(20))
    else:
        text += "<p>Nothing is known to have been left out.</p>"
    page.sections.append(("Data", text))


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])

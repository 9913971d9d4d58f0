"""Methods on several data sets at equal compute: train, measure, and print a table.

    python scripts/compare_methods.py ui_prmd:xsub stores/kard:xsub --seeds 0 1 2 --jobs 2 \
        --runs runs/methods --csv methods.csv

Each data set is STORE:SPLIT. All methods have the same encoder, batch and optimizer, and their
published losses and augmentations. Compute is counted in passes of a batch through the encoder, a
forward pass 1 and a backward pass 2, so that a step of SkeletonCLR (query forward and backward, key
forward) is 4 and one of AimCLR, with the extreme view, 7. ActCLR has half of the passes for its
first phase, AimCLR, and half for its own.

Runs are kept in --runs, and none that is there is trained again; nor is what --csv holds measured
again. A row is added as soon as it is measured. Arguments after -- go to `python -m
aimclr_fast.train`. Nothing is chosen on test samples: for choices there are the columns "folds", of
the training samples in folds of their subjects.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from compare_readouts import NEIGHBORS, measure
from rich.console import Console
from run_seeds import Planned, Run, add_options, save, train_all

from aimclr_fast.evaluation.baselines import baselines
from aimclr_fast.evaluation.labeled_data import Features, LabeledData
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import get_protocol, knn
from aimclr_fast.evaluation.representation import ALIGNED, RAW, UNTRAINED, Pretrained
from aimclr_fast.evaluation.request import resolve


class Compared(NamedTuple):
    """A method.

    Attributes:
        arguments: of the training command.
        passes: of a batch through the encoder in a step, forward 1, backward 2.
        after: the method whose run it starts from.
    """

    arguments: str
    passes: int
    after: str = ""


METHODS = {
    "SkeletonCLR": Compared("--method skeletonclr", 4),
    "AimCLR": Compared("--method aimclr", 7),
    "AimCLR++": Compared("--method aimclr++", 7),
    "SkeleMixCLR+": Compared("--method skelemixclr+", 13),
    "HiCLR": Compared("--method hiclr", 10),
    "ActCLR": Compared("--method actclr", 12, after="AimCLR"),
    "small": Compared("--config small", 7),
    "small, turned": Compared("--config small --augment.turn_deg 180", 7),
}
# Fields that fit the data, and one size for all. Mining starts in mid-run, as published.
SHARED = (
    "--data.frame_step null --data.frames 17 --model.channels 8 --model.features 128 "
    "--model.embedding 64 --model.dropout 0 --model.queue_size null --model.momentum 0.99 "
    "--optim.batch_size 32 --optim.lr 0.03 --optim.schedule cosine --actionlet.stages null "
    "--actionlet.late_epoch null --monitor.knn_every 0 --monitor.raw_poses false "
    "--monitor.linear_probe false --threads 1"
)
# Of all but the recipe "small", which is a config of its own.
PUBLISHED = "--config ui_prmd --optim.mining_epoch null"
FIRST = "-first-phase"
FOLDS = ("knn_1 folds", "knn_20 folds")
SHOWN = ("knn_1", "knn_20", "linear")
KEY = ("store", "split", "features", "stream", "pool", "seed")
Row = dict[str, object]
Keys = set[tuple[str, ...]]  # of rows


class Place(NamedTuple):
    """A data set and one of its splits."""

    store: str
    split: str

    @classmethod
    def parse(cls, text: str) -> Place:
        store, colon, split = text.rpartition(":")
        if not colon:
            raise argparse.ArgumentTypeError(f"{text!r} is not STORE:SPLIT")
        return cls(store, split)

    @property
    def name(self) -> str:
        return Path(self.store).name


def plan(
    place: Place, method: str, seed: int, options: argparse.Namespace, phase: str = ""
) -> Planned:
    """The run of a method in its folder, or its first phase for another one."""
    compared = METHODS[method]
    share = 0.5 if phase or compared.after else 1.0
    steps = max(1, round(share * options.passes / compared.passes))
    arguments = [*compared.arguments.split(), *SHARED.split(), "--data", place.store]
    arguments += ["--split", place.split, "--streams", options.streams, f"--optim.steps={steps}"]
    if "--config" not in compared.arguments:
        arguments = [*PUBLISHED.split(), *arguments]
    if compared.after:
        first = plan(place, compared.after, seed, options, FIRST)
        arguments += ["--start", str(first.output / "checkpoint.pt")]
    folder = Path(options.runs) / f"{place.name}-{place.split}" / options.streams.replace(",", "+")
    output = folder / f"{method.lower().replace(', ', '-')}{phase}" / f"seed{seed}"
    return Planned(seed, [*arguments, *options.arguments], output)


def numbers(data: LabeledData, features: Features) -> Row:
    """Columns of the test samples, then of folds of the training samples."""
    found: Row = dict(measure(features))
    folds = [knn.classify(part, NEIGHBORS).metrics for part in features.held_out(data.folds())]
    for name in FOLDS:
        values = [fold[name.removesuffix(" folds")] for fold in folds]
        found[name] = round(mean(values), 4) if values else ""
    return found


def measured(
    place: Place,
    method: str,
    run: Planned,
    passes: int,
    pools: Sequence[str],
    have: Keys,
) -> Iterable[Row]:
    """Rows of a run that are not there yet: its encoder, the same untrained, and raw poses."""
    options = EvaluationOptions(data=place.store, split=place.split)
    protocol = get_protocol("knn")
    request = resolve(
        protocol, [str(run.output / "checkpoint.pt")], options, protocol.config(), Console()
    )
    streams = request.pretrained
    several = [streams] if len(streams) > 1 else []
    for group in (*([one] for one in streams), *several):
        first, *others = group
        for pool in pools:
            one = replace(first, pool=pool, beside=tuple(other.file for other in others))
            yield from _rows(place, method, one, passes * len(group), have)


def _rows(place: Place, method: str, one: Pretrained, passes: int, have: Keys) -> Iterable[Row]:
    shown = [one.representation(method)]
    shown += baselines(one, (UNTRAINED, RAW), None, seen=set(), say=print)
    for made in shown:
        pool, seed = ("", "") if made.encoder is None else (made.pool, made.run_seed)
        values = (place.name, place.split, made.name, made.stream, pool, seed)
        about: Row = dict(zip(KEY, values, strict=True))
        if key_of(about) in have:
            continue
        have.add(key_of(about))
        cost = passes if made.name == method else 0
        yield {**about, **numbers(one.data, made.features()), "passes": cost}


def key_of(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def passes_of(options: argparse.Namespace) -> set[str]:
    """The passes of a row of one stream, or of all side by side."""
    streams = options.streams.count(",") + 1
    return {str(count * options.passes) for count in (1, streams)}


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Sequence[Row], places: Sequence[Place], pool: str) -> str:
    """A row for each method and stream by a readout, a column for each data set, as Markdown.

    A cell is kNN-1 / kNN-20 / linear in percent, means over the seeds.
    """
    names = [f"{place.name} {place.split}" for place in places]
    lines = [f"| {pool} | stream | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
    own = [row for row in rows if row["pool"] in ("", pool)]
    keys = dict.fromkeys((row["features"], row["stream"]) for row in own)
    bare = (RAW, ALIGNED, UNTRAINED)
    for key in sorted(keys, key=lambda key: (key[0] not in bare, str(key[1]))):
        cells = []
        for place in places:
            same = [
                row
                for row in own
                if (row["store"], row["split"]) == (place.name, place.split)
                and (row["features"], row["stream"]) == key
            ]
            means = [100 * mean(float(str(row[name])) for row in same) for name in SHOWN if same]
            cells.append(" / ".join(f"{value:.1f}" for value in means))
        lines.append(f"| {' | '.join(map(str, (*key, *cells)))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", nargs="+", type=Place.parse, metavar="STORE:SPLIT")
    add_options(parser, [0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--streams", default="joint", help="as of the training command")
    parser.add_argument("--readouts", nargs="+", default=["mean", "mean+max"])
    parser.add_argument(
        "--passes", type=int, default=1400, help="of a batch through each encoder (%(default)s)"
    )
    options = parser.parse_args()
    if options.csv is None or options.runs is None:
        parser.error("--csv and --runs are needed")

    asked = [(p, m, s) for p in options.places for s in options.seeds for m in options.methods]
    rows = read(options.csv)
    have = {key_of(row) for row in rows}
    if others := {str(row["passes"]) for row in rows} - {"0", ""} - passes_of(options):
        parser.error(f"{options.csv} holds runs of {', '.join(others)} passes: choose another file")
    first = [
        plan(place, after, seed, options, FIRST)
        for place, method, seed in asked
        if (after := METHODS[method].after)
    ]
    train_all(first, options.jobs, lambda finished: None)
    todo = [(place, method, plan(place, method, seed, options)) for place, method, seed in asked]
    done = 0

    def add_rows(finished: list[Run]) -> None:
        nonlocal done
        for place, method, run in todo[done : len(finished)]:
            for row in measured(place, method, run, options.passes, options.readouts, have):
                rows.append(row)
                save(options.csv, rows)
        done = len(finished)

    train_all([run for *_, run in todo], options.jobs, add_rows)
    for pool in options.readouts:
        print(f"\n{table(rows, options.places, pool)}")


if __name__ == "__main__":
    main()

"""Readouts of pretrained encoders, and of the same encoders untrained: kNN and linear probe.

    python scripts/compare_readouts.py runs/default/seed*/checkpoint.pt --csv readouts.csv

For each readout a row of the pretrained and one of the untrained encoder, and one of raw poses, two
where nobody aligned them:
kNN-1 and kNN-20 by cosine, of features as they are and standardized by the training samples, and a
logistic regression on standardized features. Everything is measured on the split's test samples and
nothing is chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from run_seeds import mean_and_spread, save

from aimclr_fast.evaluation.baselines import baselines, untrained
from aimclr_fast.evaluation.labeled_data import Features
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.probe import linear_probe
from aimclr_fast.evaluation.protocols import get_protocol, knn
from aimclr_fast.evaluation.representation import RAW, Pretrained
from aimclr_fast.evaluation.request import resolve
from aimclr_fast.nn.readouts import parse_readout, split_readouts

READOUTS = ("mean", "max", "mean+max", "joints", "parts", "segments")
NEIGHBORS = knn.Config(k=[1, 20])
COLUMNS = ("knn_1", "knn_20", "knn_1 standardized", "knn_20 standardized", "linear")
Row = dict[str, object]


def measure(features: Features) -> dict[str, float]:
    """Accuracies by column."""
    found = dict(knn.classify(features, NEIGHBORS).metrics)
    scaled = knn.classify(features.scaled("standardize"), NEIGHBORS).metrics
    found |= {f"{name} standardized": value for name, value in scaled.items()}
    arrays = (features.train, features.train_labels, features.test, features.test_labels)
    found["linear"] = linear_probe(*(tensor.cpu().numpy() for tensor in arrays))
    return {name: round(found[name], 4) for name in COLUMNS}


def rows_of(one: Pretrained, readouts: tuple[str, ...]) -> Iterator[Row]:
    """The rows of an encoder, those of the untrained one included."""
    about = {"stream": one.stream, "seed": one.run_seed}
    atoms = dict.fromkeys(name for pool in readouts for name in parse_readout(pool))
    for representation in (one.representation("pretrained"), untrained(one)):
        encoder = representation.encoder
        assert encoder is not None
        found = one.data.features(encoder, one.stream, "+".join(atoms))
        sides = [
            split_readouts(rows, "+".join(atoms), encoder.backbone.features, one.data.layout)
            for rows in (found.train, found.test)
        ]
        for pool in readouts:
            parts = parse_readout(pool)
            train, test = (torch.cat([side[name] for name in parts], 1) for side in sides)
            features = found._replace(train=train, test=test)
            yield {"features": representation.name, "pool": pool, **about, **measure(features)}


def table(rows: list[Row]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    lines = [f"| features | stream | readout | {' | '.join(COLUMNS)} |"]
    lines.append(f"|---|---|---|{'---:|' * len(COLUMNS)}")
    for key in dict.fromkeys((row["features"], row["stream"], row["pool"]) for row in rows):
        same = [row for row in rows if (row["features"], row["stream"], row["pool"]) == key]
        cells = [mean_and_spread([float(str(r[c])) for r in same]) for c in COLUMNS]
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data", default="auto", help="store (the one that they were trained on)")
    parser.add_argument("--split", default="auto", help="of the store (%(default)s)")
    parser.add_argument("--readouts", nargs="+", default=READOUTS)
    parser.add_argument("--csv", type=Path, required=True, help="every number, by seed")
    options = parser.parse_args()

    asked = EvaluationOptions(data=options.data, split=options.split)
    protocol = get_protocol("knn")
    request = resolve(protocol, options.checkpoints, asked, protocol.config(), Console())
    rows: list[Row] = []
    for raw in baselines(request.pretrained[0], (RAW,), None, seen=set(), say=print):
        about = {"features": raw.name, "pool": "", "stream": "", "seed": ""}
        rows.append({**about, **measure(raw.features())})
    for one in request.pretrained:
        rows += rows_of(one, tuple(options.readouts))
        save(options.csv, rows)
    print(table(rows))


if __name__ == "__main__":
    main()

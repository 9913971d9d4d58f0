"""Sizes of the pages and files that the package makes, beside their limits.

    python benchmarks/page_sizes.py       # also writes benchmarks/results/page_sizes.csv; minutes

The report is of a run on UI-PRMD, whose test half has 1,000 sequences, and on that data set twice,
whose has 2,000; the run has two steps, which does not matter to the size. The timeline and the
page of neighbors are of test sequences, as many as the pages hold; the encoder is the one that
comes with the package.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import results

from aimclr_fast import classify, export, report, search, train
from aimclr_fast.data import Store, resolve_store, split, write_store
from aimclr_fast.inference.pretrained import pretrained_file

FILE = results.FOLDER / "page_sizes.csv"
#: Bytes that a file must stay below; others have no limit.
LIMITS = {"report": 5_000_000, "encoder": 2_000_000}
TIMELINE, QUERIES = 60, 12  # sequences


def main() -> None:
    store, shipped = resolve_store("ui_prmd"), pretrained_file("ui_prmd")
    assert shipped is not None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = folder / "run"
        train.command_line(
            [
                "--config=ui_prmd",
                f"--output={run}",
                "--optim.steps=2",
                "--monitor.linear_probe=false",
            ]
        )
        rows = [  # each measured before the next is written, which may take its place
            row("report", 1000, report_on("ui_prmd", run)),
            row("report", 2000, report_on(twice(store, folder / "twice"), run)),
            row("timeline", TIMELINE, timeline(store, folder)),
            row("neighbors", QUERIES, neighbors(store, folder)),
            row("encoder", None, shipped),
            row("encoder as ONNX", None, exported(folder / "plain.onnx")),
            row("encoder as ONNX, int8", None, exported(folder / "int8.onnx", "--int8")),
        ]
    results.write_cells(FILE, rows, list(rows[0]))
    for one in rows:
        print(", ".join(f"{name} {cell}" for name, cell in list(one.items())[:4]))
    if any(one["limit"] and int(one["bytes"]) >= int(one["limit"]) for one in rows):
        sys.exit("a file is larger than its limit")


def row(what: str, sequences: int | None, file: Path) -> dict[str, str]:
    machine = asdict(results.this_machine())
    return {
        "file": what,
        "sequences": str(sequences or ""),
        "bytes": str(file.stat().st_size),
        "limit": str(LIMITS.get(what, "")),
        **{name: machine[name] for name in ("commit", "date", "python", "torch", "numpy")},
    }


def twice(store: Store, folder: Path) -> Path:
    """A store with every sequence two times, so that the test half is as large as the data set."""
    columns = {
        name: np.concatenate([cells, cells])
        for name, cells in store.samples.items()
        if name != "name"
    }
    names = [f"{name}{ending}" for ending in ("", "_again") for name in store.samples["name"]]
    write_store(
        folder,
        np.concatenate([store.positions, store.positions]),
        {"name": names, **columns},
        layout=store.layout,
        preprocessing=store.preprocessing,
        classes=store.class_names,
        splits=store.meta["splits"],
    )
    return folder


def report_on(store: str | Path, run: Path) -> Path:
    report.command_line([str(run), f"--data={store}", "--overwrite"])
    return run / "report.html"


def recordings(store: Store, folder: Path, count: int) -> Path:
    """Test sequences as files, evenly spread."""
    test = split(store, "xsub")[1]
    folder.mkdir()
    for at in test[np.linspace(0, len(test) - 1, count).round().astype(int)]:
        poses = store.as_tensor(int(at))[..., 0].permute(1, 2, 0).numpy()
        np.save(folder / f"{store.samples['name'][at]}.npy", poses)
    return folder


def timeline(store: Store, folder: Path) -> Path:
    source = recordings(store, folder / "timeline", TIMELINE)
    classify.command_line([str(source), "--encoder=ui_prmd", f"--out={folder / 'answers'}"])
    return folder / "answers" / "timeline.html"


def neighbors(store: Store, folder: Path) -> Path:
    source = recordings(store, folder / "queries", QUERIES)
    search.command_line(
        ["ui_prmd", str(source), "--encoder=ui_prmd", f"--out={folder / 'neighbors'}"]
    )
    return folder / "neighbors" / "neighbors.html"


def exported(file: Path, *more: str) -> Path:
    export.command_line(["ui_prmd", "--format=onnx", f"--out={file}", *more])
    return file


if __name__ == "__main__":
    main()

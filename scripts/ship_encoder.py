"""Make the encoder that comes with the package from a run of the default command.

    python -m aimclr_fast.train --threads 1 --precision fp32 --output run
    python scripts/ship_encoder.py run ui_prmd

Trains the classifier on the split's training samples (`evaluate linear`, on standardized features,
at the rate that is best on folds of these), and writes the weights and their card to
aimclr_fast/inference/shipped/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from aimclr_fast.data import resolve_store
from aimclr_fast.data.store import sha256

SHIPPED = Path(__file__).resolve().parents[1] / "aimclr_fast" / "inference" / "shipped"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="what load_encoder is to call it")
    given = parser.parse_args()
    checkpoint = given.run / "checkpoint.pt"
    out = SHIPPED / f"{given.name}.safetensors"
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        call(
            "evaluate", "linear", checkpoint, "--standardize=true", "--sweep=true",
            "--threads=1",
            f"--output={scratch}", f"--csv={scratch}/results.csv",
        )  # fmt: skip
        (head,) = Path(scratch).glob("head-*.pt")
        call("export", checkpoint, f"--head={head}", f"--out={out}", "--overwrite")
        found = json.loads((Path(scratch) / "results.json").read_text())
    card = make_card(given.run, found, out)
    out.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def call(command: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", f"aimclr_fast.{command}", *map(str, arguments)], check=True
    )


def make_card(run: Path, linear: dict[str, Any], weights: Path) -> dict[str, Any]:
    about = json.loads((run / "run.json").read_text())
    results = json.loads((run / "results.json").read_text())
    config = {k: v for k, v in about["config"].items() if k not in ("output", "resume", "threads")}
    store = resolve_store(config["data"]["store"])
    (row,) = linear["rows"]
    return {
        "about": "AimCLR++ without mining on UI-PRMD's rehabilitation exercises, each subject "
        "filmed from another side; a linear classifier of the 20 classes trained on the frozen "
        "features of the training subjects",
        "command": "python -m aimclr_fast.train --threads 1 --precision fp32",
        "made": "python scripts/ship_encoder.py run ui_prmd",
        "data": {
            "store": config["data"]["store"],
            "split": config["data"]["split"],
            "checksums": store.checksums(),
            **{field: store.meta[field] for field in ("source", "licence", "citation")},
        },
        "config": config,
        "seed": config["seed"],
        "test_scores": results["scores"],
        "classifier_test_accuracy": row["metrics"]["top1_last"],
        "package": about["package"],
        "torch": about["torch"],
        "device": about["device"],
        "sha256": sha256(weights),
    }


if __name__ == "__main__":
    main()

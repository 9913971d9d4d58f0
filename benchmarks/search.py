"""Time and recall of the exact search among many features on one core.

    python benchmarks/search.py        # also writes benchmarks/results/search.csv; 0.5 GB of disk

Random features of unit length, 128 wide, as the encoder that comes with the package gives. Recall
is against a search in float64. `copy_ms` is a copy of the features in the same run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import results
import torch

from aimclr_fast.inference.index import FeatureIndex

WIDTH, K, QUERIES, ROUNDS = 128, 10, (1, 64), 7
COUNTS = (10**5, 10**6)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in COUNTS:
            rows += measured(count, Path(scratch) / f"{count}.npy")
    results.write_cells(results.FOLDER / "search.csv", rows, list(rows[0]))


def measured(count: int, file: Path) -> list[dict[str, str]]:
    random = np.random.default_rng(0)
    features = np.lib.format.open_memmap(file, "w+", np.float32, (count, WIDTH))
    for first in range(0, count, 100_000):
        part = random.standard_normal((min(100_000, count - first), WIDTH), dtype=np.float32)
        features[first : first + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    features.flush()
    index = FeatureIndex(np.load(file, mmap_mode="r"), {})
    copied = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        np.array(index.features)
        copied.append(time.perf_counter() - start)
    found = []
    for queries in QUERIES:
        rows = torch.from_numpy(random.standard_normal((queries, WIDTH), dtype=np.float32))
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            _, near = index.nearest(rows, K)
            seconds.append(time.perf_counter() - start)
        ms = 1e3 * median(seconds)
        row = {
            "features": str(count), "width": str(WIDTH), "queries": str(queries), "k": str(K),
            "ms": f"{ms:.1f}", "ms_a_query": f"{ms / queries:.2f}",
            "recall": f"{recall(index, rows, near):.4f}",
            "copy_ms": f"{1e3 * median(copied):.1f}",
            **results.machine_cells(),
        }  # fmt: skip
        print(", ".join(f"{name} {cell}" for name, cell in row.items()))
        found.append(row)
    return found


def recall(index: FeatureIndex, queries: torch.Tensor, near: torch.Tensor) -> float:
    right = 0
    for query, found in zip(queries.double().numpy(), near.tolist(), strict=True):
        scores = np.concatenate(
            [
                index.features[start : start + 100_000].astype(np.float64) @ query
                for start in range(0, len(index.features), 100_000)
            ]
        )
        right += len(set(found) & set(np.argpartition(-scores, K)[:K].tolist()))
    return right / near.numel()


if __name__ == "__main__":
    main()

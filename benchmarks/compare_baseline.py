"""How near the baseline is to the authors' code, in the cases that were measured there.

    python benchmarks/compare_baseline.py [--save]     # --save: to benchmarks/results/baseline.csv

The authors' times are those of baseline/README.md: AUTHORS is not measured here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import results
import torch
from baseline import contrast, eadm
from baseline.augment import Normal, Strong
from baseline.encoder import Encoder
from bench_queue_contrast import TEMPERATURE, WIDTH
from bench_skeleton_augment import LAYOUT, SHAPE

from aimclr_fast.functional import AugmentConfig

ROUNDS = 15
AUTHORS = {  # milliseconds
    "strong augmentation, a sample": 0.62,
    "normal augmentation, a sample": 0.10,
    "EADM, forward and backward at [256, 256, 13, 25]": 2040.0,
    "losses with mining, N=128, K=32768, D=128": 99.0,
    "encoder, forward and backward, N=16, M=2": 511.0,
    "encoder, forward, N=16, M=2": 247.0,
}


def timings() -> dict[str, float]:
    """Median milliseconds by the names of AUTHORS."""
    torch.manual_seed(0)
    samples = np.random.default_rng(0).standard_normal((200, *SHAPE)).astype(np.float32)
    config = AugmentConfig()
    chains = (
        Strong(config, np.random.default_rng(0), LAYOUT),
        Normal(config, np.random.default_rng(0)),
    )
    x = torch.randn(256, 256, 13, 25, requires_grad=True)
    rows = [
        torch.nn.functional.normalize(torch.randn(n, WIDTH), dim=1) for n in (128, 128, 128, 128)
    ]
    views = [row.requires_grad_() for row in rows[:3]]
    queue = torch.nn.functional.normalize(torch.randn(32768, WIDTH), dim=1).T.contiguous()
    encoder, batch = Encoder(LAYOUT, dropout=0.0), torch.randn(16, *SHAPE)

    def pool() -> None:
        pooled, dropped = eadm.eadm_pool(x)
        torch.autograd.grad(pooled.sum() + dropped.sum(), x)

    def lose() -> None:
        query, extreme, dropped = views
        losses = contrast.losses(query, extreme, dropped, rows[3], queue, TEMPERATURE, 1)
        torch.autograd.grad(losses.loss, views)

    def encode() -> None:
        encoder(batch)

    def train() -> None:
        encoder(batch).sum().backward()

    steps: list[Callable[[], object]] = [
        *(lambda chain=chain: [chain(sample) for sample in samples] for chain in chains),
        pool,
        lose,
        train,
        encode,
    ]
    calls = [len(samples), len(samples), 1, 1, 1, 1]
    return {
        name: median(step) / call for name, step, call in zip(AUTHORS, steps, calls, strict=True)
    }


def median(step: Callable[[], object]) -> float:
    step()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/baseline.csv")
    save = parser.parse_args().save
    measured = timings()
    print("| milliseconds | authors | baseline | ratio |\n|---|---:|---:|---:|")
    for name, ms in measured.items():
        print(f"| {name} | {AUTHORS[name]:.3g} | {ms:.3g} | {ms / AUTHORS[name]:.2f} |")
    if save:
        rows = [
            results.Row(
                "baseline",
                "cpu",
                "fp32",
                f"{name} (authors: {AUTHORS[name]:g})",
                "baseline",
                ms=ms,
                rounds=ROUNDS,
            )
            for name, ms in measured.items()
        ]
        results.write(results.FOLDER / "baseline.csv", rows)


if __name__ == "__main__":
    main()

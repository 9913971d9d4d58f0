"""Latency of live classification on one core: the encoder that comes with the package, one person.

    python benchmarks/streaming.py            # also writes benchmarks/results/streaming.csv

A window of 4 s at 30 frames a second, an answer every half second. `push ms` are those calls that
answer, from a frame to its answer; frames/s counts all calls.
"""

from __future__ import annotations

import time

import numpy as np
import results
import torch

from aimclr_fast import load_encoder
from aimclr_fast.data import resolve_store
from aimclr_fast.inference.streaming import StreamingClassifier

FPS, WINDOW, HOP, ANSWERS = 30.0, 4.0, 0.5, 500


def main() -> None:
    torch.set_num_threads(1)
    encoder = load_encoder("ui_prmd", device="cpu")
    # Poses of a real person in a loop; what they do does not matter to the time.
    poses = resolve_store("ui_prmd").as_tensor(slice(0, 4))[..., 0].permute(0, 2, 3, 1).numpy()
    poses = np.concatenate(poses)
    stream = StreamingClassifier(encoder, fps=FPS, window=WINDOW, hop=HOP)
    answering: list[float] = []
    frame = 0
    began = time.perf_counter()
    while len(answering) < ANSWERS:
        start = time.perf_counter()
        found = stream.push(frame / FPS, {0: poses[frame % len(poses)]})
        if found:
            answering.append(1e3 * (time.perf_counter() - start))
        frame += 1
    seconds = time.perf_counter() - began
    middle, high = np.percentile(answering[10:], [50, 99])
    row = {
        "window_s": f"{WINDOW:g}", "hop_s": f"{HOP:g}", "fps": f"{FPS:g}",
        "p50_push_ms": f"{middle:.2f}", "p99_push_ms": f"{high:.2f}",
        "frames_per_s": f"{frame / seconds:.0f}", "answers": str(len(answering)),
        **results.machine_cells(),
    }  # fmt: skip
    results.write_cells(results.FOLDER / "streaming.csv", [row], list(row))
    print(", ".join(f"{name} {cell}" for name, cell in row.items()))


if __name__ == "__main__":
    main()

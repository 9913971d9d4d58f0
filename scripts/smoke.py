"""Whether an installed aimclr_fast works: python scripts/smoke.py [--pure]. Takes some ten seconds.

Outside a checkout: it loads the compiled library, compares each op with the reference, and calls
each command: it checks the embedded data, trains and evaluates on them, and exports the encoder.
The last needs safetensors.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import aimclr_fast
from aimclr_fast import functional, native, nn
from aimclr_fast.ops.philox import philox4x32


def compare_ops() -> None:
    """One step by the compiled library and by the reference, from the same draws."""
    data = torch.randn(6, 3, 20, 22, 1, generator=torch.Generator().manual_seed(0))
    results = []
    for backend in ("reference", "cpp"):
        torch.manual_seed(0)
        encoder = nn.SkeletonEncoder(nn.STGCN("ui-prmd", channels=4, features=16, dropout=0.0), 8)
        model = nn.AimCLR(encoder, embedding=8, queue_size=32, backend=backend)
        views = functional.skeleton_augment(
            data, torch.arange(6), layout="ui-prmd", config=functional.AugmentConfig(), seed=0,
            step=0, backend=backend,
        )  # fmt: skip
        output = model(*views, topk=1)
        output.loss.backward()
        gradients = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
        gradient = torch.cat([each.flatten() for each in gradients])
        words = philox4x32(torch.zeros(4, dtype=torch.int64), (0, 0), backend)
        results.append([*views, output.loss.detach(), output.keys, gradient, words])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def run(folder: str, *arguments: str) -> None:
    """One of the commands, in a folder outside the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"smoke.py: {' '.join(arguments)}\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pure", action="store_true", help="without the compiled library")
    pure = parser.parse_args().pure
    root = Path(__file__).resolve().parents[1]
    assert not Path(aimclr_fast.__file__).resolve().is_relative_to(root), "this is the checkout"
    assert native.available() != pure, native.why_unavailable()
    if not pure:
        compare_ops()
    small = "--model.channels 4 --model.features 16 --model.embedding 8 --optim.epochs 1"
    quiet = "--monitor.knn_every 0 --monitor.linear_probe false --monitor.raw_poses false"
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "aimclr_fast.prepare", "check", "ui_prmd")
        train = ("aimclr_fast.train", "--output", "run", "--threads", "1")
        run(folder, *train, *small.split(), *quiet.split())
        run(folder, "aimclr_fast.evaluate", "knn", "run/checkpoint.pt", "--output", "knn")
        run(folder, "aimclr_fast.export", "run/checkpoint.pt", "--format", "safetensors")
        for written in ("knn/results.json", "run/checkpoint.safetensors"):
            assert Path(folder, written).exists(), written
    library = "no compiled library" if pure else f"CUDA kernels: {native.cuda_compiled()}"
    print(f"smoke.py: aimclr_fast {aimclr_fast.__version__}, torch {torch.__version__}, {library}")


if __name__ == "__main__":
    main()

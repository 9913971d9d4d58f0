"""The README: its example runs, what it names exists, nothing is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from encoders import checkpoint, save

from aimclr_fast.cli import config_names
from aimclr_fast.data import open_embedded

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


ENCODER, PARTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_encoder_example_runs(tmp_path):
    path = save(checkpoint(open_embedded()), tmp_path / "checkpoint.pt")
    random = np.random.default_rng(0)
    names: dict[str, object] = {"recordings": [random.random((t, 22, 3)) for t in (30, 75)]}
    example = ENCODER.replace("runs/NAME/checkpoint.pt", str(path))
    assert example != ENCODER
    exec(example, names)
    assert names["features"].shape == (2, 8)


def test_the_example_of_parts_runs():
    names: dict[str, object] = {}
    exec(PARTS, names)
    assert names["output"].loss.isfinite()
    assert names["model"].query_encoder.head[0].weight.grad is not None


def test_named_configs_exist():
    for name in re.findall(r"--config (\w+)", README):
        assert name in config_names()


def test_linked_files_exist():
    root = Path(__file__).resolve().parents[1]
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (root / link).exists(), link


def test_no_placeholder_is_left():
    assert not re.search(r"^[A-Z]+_[A-Z]+\b", README, re.MULTILINE)
    assert "TODO" not in README

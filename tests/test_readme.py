"""The README: its example runs, what it names exists, nothing is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path

from aimclr_fast.cli import config_names

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
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

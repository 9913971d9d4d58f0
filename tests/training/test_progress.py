"""What a person sees while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from aimclr_fast.training.pretrain import COMPILING
from aimclr_fast.training.progress import TrainProgress


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("first", ["", COMPILING])
def test_the_first_step_says_what_it_waits_for(terminal, first):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    with TrainProgress(console, 6, 3, (), first=first) as progress:
        progress.begin_epoch()
        if progress._bar is not None:
            progress._bar.refresh()
        said = text.getvalue()
        progress.begin_epoch()
    assert ("compiling the Triton kernels" in said) == bool(first)
    if not terminal:
        assert text.getvalue() == said  # once

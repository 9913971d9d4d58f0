"""The console of the command lines."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

_LOG_WIDTH = 160


def plain_console(**settings: Any) -> Console:
    """A console that prints brackets and colons as they are, in tables and progress bars too.

    Paths and names are full of them, and rich would take them for markup and emoji. Where it is not
    a terminal, lines are not broken: a log is searched by lines.
    """
    console = Console(markup=False, emoji=False, highlight=False, **settings)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _LOG_WIDTH
    return console

"""What the command lines print on."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def plain_console(**settings: Any) -> Console:
    """A console that prints brackets and colons as they are, in tables and progress bars too.

    Paths and names are full of them, and rich would take them for markup and emoji.
    """
    return Console(markup=False, emoji=False, highlight=False, **settings)

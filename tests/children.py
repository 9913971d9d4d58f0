"""Processes that tests start."""

from __future__ import annotations

import os


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a pytest started by a test: it is not one of pytest-xdist's workers."""
    return {name: value for name, value in os.environ.items() if "XDIST" not in name} | extra

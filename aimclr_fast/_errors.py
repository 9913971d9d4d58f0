"""The common base of this package's exceptions."""

from __future__ import annotations


class Error(Exception):
    """Base of every exception that this package defines.

    Each has a built-in base as well where one fits: a StoreError is a ValueError, too. Wrong
    arguments of a function raise plain ValueError and TypeError, as elsewhere.
    """

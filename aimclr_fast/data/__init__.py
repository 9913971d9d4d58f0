"""Stores of skeleton sequences, their splits and the published preprocessing."""

from aimclr_fast.data.embedded import DEFAULT, EMBEDDED, open_embedded, resolve_store
from aimclr_fast.data.preprocessing import preprocess
from aimclr_fast.data.splits import SplitRule, get_split_rule, split, validation
from aimclr_fast.data.store import Store, StoreError, open_store
from aimclr_fast.data.writer import write_store

__all__ = [
    "DEFAULT",
    "EMBEDDED",
    "SplitRule",
    "Store",
    "StoreError",
    "get_split_rule",
    "open_embedded",
    "open_store",
    "preprocess",
    "resolve_store",
    "split",
    "validation",
    "write_store",
]

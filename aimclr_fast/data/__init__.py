"""Stores of skeleton sequences, their protocols and the published preprocessing."""

from aimclr_fast.data.embedded import DEFAULT, EMBEDDED, open_embedded, resolve_store
from aimclr_fast.data.preprocessing import preprocess
from aimclr_fast.data.protocols import Protocol, get_protocol, split, validation
from aimclr_fast.data.store import Store, StoreError, open_store
from aimclr_fast.data.writer import write_store

__all__ = [
    "DEFAULT",
    "EMBEDDED",
    "Protocol",
    "Store",
    "StoreError",
    "get_protocol",
    "open_embedded",
    "open_store",
    "preprocess",
    "resolve_store",
    "split",
    "validation",
    "write_store",
]

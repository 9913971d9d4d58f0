"""Ops: one file each, with its schema, checks, backends, gradient and public function."""

from ._dispatch import (
    Backend,
    BackendError,
    explain,
    pick,
    register_backend,
    unregister_backend,
)

__all__ = ["Backend", "BackendError", "explain", "pick", "register_backend", "unregister_backend"]

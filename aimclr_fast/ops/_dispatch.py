"""Backends of an op: the table of them, and choosing the fastest that can run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aimclr_fast._errors import Error

REFERENCE = "reference"


class BackendError(Error, RuntimeError):
    """The backend asked for cannot run on these inputs."""


def always(_: torch.Tensor) -> str | None:
    """The `why_not` of a backend that runs anywhere."""
    return None


@dataclass(frozen=True)
class Backend:
    """One implementation of an op: either `run`, or `forward` (and `backward`).

    Attributes:
        name: what users call it, as "cpp".
        run: made of PyTorch's operations, which differentiate it: takes the op's call and returns
            the results.
        why_not: given a tensor of the call, the reason this backend cannot run, or None.
        forward: takes the op's call, and outputs that it fills in. It runs inside the torch op,
            which has checked the call and has allocated the outputs.
        backward: the same for the op's backward pass, if it has one.
    """

    name: str
    run: Callable[..., Any] | None = None
    why_not: Callable[[torch.Tensor], str | None] = always
    forward: Callable[..., None] | None = None
    backward: Callable[..., None] | None = None


def register_backend(op: str, backend: Backend) -> None:
    """Add a backend to an op; "auto" asks it before those that are there.

    Args:
        op: name of a module in `aimclr_fast.ops`, as "eadm_pool".
        backend: its functions get the named tuples that the module defines. An op that is no torch
            op (philox) takes a `run` alone.

    Raises:
        ValueError: there is no such op, the op has a backend of that name, or the backend has both
            or neither of `run` and `forward`, or a `forward` that the op does not take.
    """
    table = _table(op)
    if (backend.run is None) == (backend.forward is None):
        raise ValueError(f"{op}: backend {backend.name!r} must have either run or forward")
    if backend.forward is not None and not hasattr(torch.ops.aimclr_fast, op):
        raise ValueError(f"{op} is no torch op: backend {backend.name!r} must have run")
    if backend.name in ("auto", *(one.name for one in table)):
        raise ValueError(f"{op} already has a backend {backend.name!r}")
    table.insert(0, backend)


def unregister_backend(op: str, name: str) -> None:
    """Remove a backend from an op.

    A gradient of what the backend computed needs it: take that before.

    Raises:
        ValueError: there is no such op, or the op has no backend of that name.
    """
    table = _table(op)
    for backend in table:
        if backend.name == name:
            table.remove(backend)
            return
    raise _unknown(op, table, name)


def _table(op: str) -> list[Backend]:
    try:
        table: list[Backend] = importlib.import_module(f"aimclr_fast.ops.{op}").BACKENDS
        return table
    except (ImportError, AttributeError):
        raise ValueError(f"aimclr_fast.ops has no op {op!r}") from None


def _unknown(op: str, backends: Sequence[Backend], name: str) -> ValueError:
    known = ", ".join(["auto", *(backend.name for backend in backends)])
    return ValueError(f"{op}: unknown backend {name!r}; this op has {known}")


def constant_to_dynamo(function: Callable[..., str | None]) -> Callable[..., str | None]:
    """Have Dynamo call a function of constants and not trace what it imports and searches.

    As torch.compiler.assume_constant_result does, but that imports torch._dynamo at once, which
    takes as long as torch itself.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def explain(backends: Sequence[Backend], tensor: torch.Tensor) -> dict[str, str | None]:
    """For each backend, fastest first, why it cannot run on `tensor` (None: it can)."""
    return {backend.name: backend.why_not(tensor) for backend in backends}


def find(op: str, backends: Sequence[Backend], name: str) -> Backend:
    """The backend called `name`.

    Raises:
        ValueError: the op has none of that name.
    """
    for backend in backends:
        if backend.name == name:
            return backend
    raise _unknown(op, backends, name)


def cannot_run(op: str, name: str, reason: str) -> BackendError:
    return BackendError(f"{op}: backend {name!r} cannot run here: {reason}")


def pick(op: str, backends: Sequence[Backend], name: str, tensor: torch.Tensor) -> Backend:
    """The backend called `name`, or with "auto" the first that can run.

    Raises:
        ValueError: there is no backend of that name for the op.
        BackendError: the backend cannot run, with the reason.
    """
    if name == "auto":
        return next(backend for backend in backends if backend.why_not(tensor) is None)
    backend = find(op, backends, name)
    reason = backend.why_not(tensor)
    if reason is not None:
        raise cannot_run(op, name, reason)
    return backend


def check_backend(op: str, backends: Sequence[Backend], name: str, tensor: torch.Tensor) -> None:
    """In a torch op: that `name` is one of the compiled `backends`, and can run on `tensor`.

    Any of them will do for a meta tensor, on which nothing runs: all give the same shapes.

    Raises:
        ValueError: the op knows no such backend.
        BackendError: the backend cannot run, with the reason.
    """
    known = [backend.name for backend in backends if backend.name != REFERENCE]
    if name not in known:
        raise ValueError(f"{op}: unknown backend {name!r}; the op has {', '.join(known)}")
    if tensor.device.type != "meta":
        pick(op, backends, name, tensor)

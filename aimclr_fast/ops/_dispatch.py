"""Choosing a backend: the fastest that can run, with a reason for each that cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from aimclr_fast._errors import Error

REFERENCE = "reference"


class BackendError(Error, RuntimeError):
    """The backend asked for cannot run on these inputs."""


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    Attributes:
        name: "reference", "cpp", "cuda" or "triton".
        run: the implementation.
        why_not: given a tensor of the call, the reason this backend cannot run, or None.
    """

    name: str
    run: Callable[..., Any]
    why_not: Callable[[torch.Tensor], str | None]


def always(_: torch.Tensor) -> str | None:
    """The `why_not` of a backend that runs anywhere."""
    return None


def constant_to_dynamo(function: Callable[..., str | None]) -> Callable[..., str | None]:
    """Have Dynamo call a function of constants and not trace what it imports and searches.

    As torch.compiler.assume_constant_result does, but that imports torch._dynamo at once, which
    takes as long as torch itself.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def explain(backends: tuple[Backend, ...], tensor: torch.Tensor) -> dict[str, str | None]:
    """For each backend, fastest first, why it cannot run on `tensor` (None: it can)."""
    return {backend.name: backend.why_not(tensor) for backend in backends}


def pick(op: str, backends: tuple[Backend, ...], name: str, tensor: torch.Tensor) -> Backend:
    """The backend called `name`, or with "auto" the first that can run.

    Raises:
        ValueError: there is no backend of that name for the op.
        BackendError: the backend cannot run, with the reason.
    """
    if name == "auto":
        return next(backend for backend in backends if backend.why_not(tensor) is None)
    for backend in backends:
        if backend.name == name:
            reason = backend.why_not(tensor)
            if reason is not None:
                raise BackendError(f"{op}: backend {name!r} cannot run here: {reason}")
            return backend
    known = ", ".join(["auto", *(b.name for b in backends)])
    raise ValueError(f"{op}: unknown backend {name!r}; this op has {known}")


def choose(
    op: str, backends: tuple[Backend, ...], name: str, tensor: torch.Tensor
) -> Callable[..., Any]:
    """The implementation of the backend that `pick` picks."""
    return pick(op, backends, name, tensor).run


def check_backend(op: str, backends: tuple[Backend, ...], name: str, tensor: torch.Tensor) -> None:
    """In an op: that `name` is one of the compiled `backends`, and can run on `tensor`.

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

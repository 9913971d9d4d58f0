"""What every torch op has in common: its schema, its registration, the way to a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from ._checks import check_memory
from ._dispatch import REFERENCE, Backend, cannot_run, check_backend, find

# The schema's words for the types of a call's fields.
_WORDS: dict[Any, str] = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    int: "SymInt",
    float: "float",
    bool: "bool",
    str: "str",
    str | None: "str?",
    torch.dtype: "ScalarType",
    Sequence[int]: "int[]",
    Sequence[bool]: "bool[]",
    Sequence[float]: "float[]",
    list[Tensor]: "Tensor[]",
}


def call_of(name: str, *fields: tuple[str, Any]) -> Any:
    """The type of a call, from its fields' names and types."""
    return NamedTuple(name, list(fields))


def fields_of(call: Any) -> list[tuple[str, Any]]:
    """Names and types of a call's fields."""
    return list(get_type_hints(call).items())


def _fields(named_tuple: type) -> str:
    return "(" + ", ".join(f"{_WORDS[hint]} {name}" for name, hint in fields_of(named_tuple)) + ")"


class Op:
    """`torch.ops.aimclr_fast.<name>`: compiled backends, and others beside it that are not.

    What the op takes stands in one named tuple, its call, whose last fields say the backend.
    """

    def __init__(self, name: str, backends: list[Backend]) -> None:
        self.name = name
        self.backends = backends

    def define(
        self,
        call: Any,
        returns: Any,
        prepare: Callable[..., Any],
        compute: Callable[..., None],
        suffix: str = "",
    ) -> None:
        """Register a pass of the op.

        Args:
            call: type of named tuple that holds the arguments.
            returns: type of the result: a named tuple of tensors, or one of the schema's words.
            prepare: checks a call and allocates its outputs. It is the op's fake, so it sees sizes
                and no values.
            compute: fills in the outputs of a checked call.
            suffix: "_backward" for the backward pass.
        """
        word = _WORDS.get(returns) or _fields(returns)
        name = f"aimclr_fast::{self.name}{suffix}"
        torch.library.define(name, f"{_fields(call)} -> {word}")

        def fake(*arguments: Any) -> Any:
            return prepare(call(*arguments))

        def implementation(*arguments: Any) -> Any:
            checked = call(*arguments)
            outputs = prepare(checked)
            check_memory(*arguments)
            compute(checked, outputs)
            return outputs

        torch.library.register_fake(name, fake)
        # On devices other than the first two it says that no backend runs there.
        torch.library.impl(name, ("cpu", "cuda", "mps", "xpu"), implementation)

    def differentiate(
        self, save: Callable[..., None] | None, gradient: Callable[..., Any], suffix: str = ""
    ) -> None:
        """Register the gradient of a pass, as torch.library.register_autograd does."""
        name = f"aimclr_fast::{self.name}{suffix}"
        torch.library.register_autograd(name, gradient, setup_context=save)

    def compiled(self) -> list[Backend]:
        """The backends that run inside the torch op."""
        return [backend for backend in self.backends if backend.run is None]

    def check_backend(
        self, name: str, tensor: Tensor, reason: str | None = None, suffix: str = ""
    ) -> None:
        """In `prepare`: that the backend called `name` can run on `tensor`.

        Args:
            name: of a compiled backend.
            tensor: on whose device the backend runs.
            reason: why no compiled backend can take the call, if there is one.
            suffix: of the pass.
        """
        check_backend(self.name + suffix, self.compiled(), name, tensor)
        if reason is not None:
            raise cannot_run(self.name + suffix, name, reason)

    def forward(self, call: Any, outputs: Any) -> None:
        """In `compute`: has the call's backend fill in the outputs."""
        run = find(self.name, self.backends, call.backend).forward
        assert run is not None
        run(call, outputs)

    def backward(self, call: Any, outputs: Any) -> None:
        """In the backward pass's `compute`: the same.

        Raises:
            NotImplementedError: the backend has no gradient.
        """
        run = find(self.name, self.backends, call.backend).backward
        if run is None:
            raise NotImplementedError(f"{self.name}: backend {call.backend!r} has no gradient")
        run(call, outputs)

    def route(
        self,
        name: str,
        tensor: Tensor,
        *,
        only_reference: str | None = None,
        limit: Callable[[], str | None] = lambda: None,
    ) -> Backend:
        """Where a public function takes a call.

        A compiled backend that is called by its name is not asked here whether it can run: the op
        asks, but for a meta tensor, which any of its backends can shape.

        Args:
            name: of a backend, or "auto" for the first that can run.
            tensor: on whose device the backend runs.
            only_reference: why none but the reference can take the call, if there is a reason.
            limit: the reason why no compiled backend can take the call, or None.

        Raises:
            ValueError: the op has no such backend.
            BackendError: the backend cannot run, with the reason.
        """
        if name == "auto":
            if only_reference is not None:
                return find(self.name, self.backends, REFERENCE)
            reason = limit()
            return next(
                backend
                for backend in self.backends
                if (backend.run is not None or reason is None) and backend.why_not(tensor) is None
            )
        backend = find(self.name, self.backends, name)
        why = only_reference if name != REFERENCE else None
        if why is None and (backend.run is not None or tensor.device.type == "meta"):
            why = backend.why_not(tensor)
        if why is not None:
            raise cannot_run(self.name, name, why)
        return backend


def gradients(call: Any, **fields: Any) -> tuple[Any, ...]:
    """What a gradient returns: one for each argument, None but for `fields`."""
    return tuple(fields.get(name) for name in call._fields)

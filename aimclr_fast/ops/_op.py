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
    """An op: its backends, and `torch.ops.aimclr_fast.<name>` for those with a `forward`.

    The arguments of the op are the fields of one named tuple, its call, which has a field
    `backend`.

    Args:
        name: of the op.
        backends: fastest first.
        results: turns the outputs of the torch op into what a backend's `run` returns.
    """

    def __init__(
        self,
        name: str,
        backends: list[Backend],
        results: Callable[[Any], Any] = lambda outputs: outputs,
    ) -> None:
        self.name = name
        self.backends = backends
        self.results = results

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

    def dispatch(
        self,
        call: Any,
        tensor: Tensor,
        *,
        over_ranks: Callable[[Tensor], Tensor] | None = None,
        only_reference: str | None = None,
        limit: Callable[[], str | None] = lambda: None,
    ) -> Any:
        """Run a call by the backend that its field `backend` names: how a public function ends.

        Args:
            call: the op's call.
            tensor: see `route`, like the last two.
            over_ranks: sums a tensor over the processes of a job; an argument of the reference's
                `run`. Give `only_reference`, too.
            only_reference: see there.
            limit: see there.

        Returns:
            What a backend's `run` returns.

        Raises:
            ValueError: the op has no such backend.
            BackendError: the backend cannot run, with the reason.
        """
        chosen = self.route(call.backend, tensor, only_reference=only_reference, limit=limit)
        call = call._replace(backend=chosen.name)
        if chosen.run is None:
            return self.results(getattr(torch.ops.aimclr_fast, self.name)(*call))
        return chosen.run(call) if over_ranks is None else chosen.run(call, over_ranks)

    def route(
        self,
        name: str,
        tensor: Tensor,
        *,
        only_reference: str | None = None,
        limit: Callable[[], str | None] = lambda: None,
    ) -> Backend:
        """The backend of a call.

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

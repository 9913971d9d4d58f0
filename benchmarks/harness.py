"""A benchmark as a list of cases and a list of providers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from limits import DTYPES, Work
from measure import Step, Unavailable
from results import BASELINE as BASELINE
from results import BF16
from results import FLOOR as FLOOR

from aimclr_fast import native
from aimclr_fast.ops._dispatch import REFERENCE, Backend, explain

COMPILED = "compiled"

Factory = Callable[[Any], Step]


@dataclass(frozen=True)
class Case:
    """Sizes on a device, in a precision of `limits.PRECISIONS`."""

    name: str
    sizes: Mapping[str, int]
    device: str = "cpu"
    precision: str = "fp32"

    def __getitem__(self, size: str) -> int:
        return self.sizes[size]

    def __str__(self) -> str:
        return f"{self.device}-{self.precision}-{self.name}"

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)


@dataclass(frozen=True)
class Bench:
    """One op: `inputs(case)` makes what each provider's factory turns into a step to time.

    A factory raises `Unavailable` where its provider cannot run.
    """

    op: str
    cases: Iterable[Case]
    inputs: Callable[[Case], Any]
    work: Callable[[Case], Work]
    providers: Mapping[str, Factory]
    package: tuple[str, ...] = field(default=())  # the providers that are this package's

    def parametrize(self) -> pytest.MarkDecorator:
        """Providers of a case follow each other, but what is compiled comes after all others, since
        compiling takes longer than timing. Those of `in_bf16` are for the CPU alone.
        """
        pairs = [
            (case, provider)
            for case in self.cases
            for provider in self.providers
            if case.device == "cpu" or not provider.endswith(BF16)
        ]
        pairs.sort(key=lambda pair: pair[1] == COMPILED)
        return pytest.mark.parametrize(
            ("case", "provider"),
            [
                pytest.param(
                    case,
                    provider,
                    id=f"{case}-{provider}",
                    marks=[pytest.mark.cuda] if case.device == "cuda" else [],
                )
                for case, provider in pairs
            ],
        )

    def step(self, provider: str, case: Case, inputs: Any) -> Step:
        if case.device == "cpu" and provider == "triton":
            raise Unavailable("Triton's interpreter is for tests, not for timing")
        return self.providers[provider](inputs)


def cases(sizes: Iterable[Mapping[str, int]], device: str, *precisions: str) -> list[Case]:
    return [
        Case("-".join(f"{k}{v}" for k, v in each.items()), each, device, precision)
        for precision in precisions
        for each in sizes
    ]


def in_bf16(**factories: Factory) -> dict[str, Factory]:
    """Providers that compute in bf16 beside those of the same names, in CPU cases of fp32.

    Args:
        factories: by the names of providers; each heeds the precision of its inputs' case.
    """

    def rounded(factory: Factory) -> Factory:
        def make(inputs: Any) -> Step:
            reason = native.why_no_bf16_products()
            if reason is not None:
                raise Unavailable(reason)
            other = copy.copy(inputs)
            other.case = replace(inputs.case, precision="bf16")
            return replace(factory(other), precision="bf16")

        return make

    return {f"{name}{BF16}": rounded(factory) for name, factory in factories.items()}


def backends(
    registered: Sequence[Backend],
    tensor: Callable[[Any], torch.Tensor],
    forward: Callable[[Any, str], Any],
    backward: Callable[[Any, Any], Any] | None = None,
    reference_graph: bool = True,
) -> dict[str, Factory]:
    """A provider for the reference, for its compiled form and for each backend of an op.

    Args:
        registered: the op's BACKENDS.
        tensor: the tensor of the inputs that decides whether a backend can run.
        forward: calls the op with a backend's name.
        backward: takes the inputs and what `forward` returned.
        reference_graph: a CUDA graph can capture the reference.
    """

    def run(inputs: Any, call: Callable[[Any, str], Any], name: str) -> Callable[[], Any]:
        if backward is None:
            return lambda: call(inputs, name)
        return lambda: backward(inputs, call(inputs, name))

    def factory(name: str) -> Factory:
        def make(inputs: Any) -> Step:
            reason = explain(registered, tensor(inputs))[name]
            if reason is not None:
                raise Unavailable(reason)
            return Step(run(inputs, forward, name), graph=reference_graph or name != REFERENCE)

        return make

    def compiled(inputs: Any) -> Step:
        torch._dynamo.reset()
        call = torch.compile(forward, fullgraph=True, dynamic=False)
        return Step(run(inputs, call, REFERENCE))

    names = [backend.name for backend in registered if backend.name != REFERENCE]
    return {
        REFERENCE: factory(REFERENCE),
        COMPILED: compiled,
        **{name: factory(name) for name in names},
    }


def package_names(registered: Sequence[Backend]) -> tuple[str, ...]:
    """This package's fast providers."""
    return tuple(backend.name for backend in registered if backend.name != REFERENCE)


def compiled_once(ours: dict[str, Factory], case: Mapping[str, int]) -> dict[str, Factory]:
    """`ours`, where only one case is compiled: compiling takes much longer than timing."""
    reason = "compiled for " + " ".join(f"{k}={v}" for k, v in case.items()) + " alone"

    def fits(inputs: Any) -> bool:
        return all(inputs.case[size] == value for size, value in case.items())

    return ours | {COMPILED: capped(ours[COMPILED], reason, fits)}


def capped(factory: Factory, reason: str, fits: Callable[[Any], bool]) -> Factory:
    """`factory`, but only for inputs that fit."""

    def make(inputs: Any) -> Step:
        if not fits(inputs):
            raise Unavailable(reason)
        return factory(inputs)

    return make

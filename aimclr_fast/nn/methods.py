"""The interface of a pretraining method, and the methods by name.

A method is a module of this package that holds ``METHOD``, a :class:`Method`; its name is the
module's, and what the user types after ``--method``. There is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Protocol, cast

from aimclr_fast.layouts import Layout

from .momentum import MomentumContrast
from .stgcn import STGCN, SkeletonEncoder

# Parts that need the extreme view, and why.
_NEED_EXTREME = {
    "eadm": "energy-based dropping drops from the extreme view",
    "d3m": "distributions are matched to those of the extreme view",
}


@dataclass(frozen=True)
class Parts:
    """Which parts of AimCLR are on; all of them are the method, none of them is SkeletonCLR.

    Attributes:
        extreme: the extreme view is encoded (section 3.2).
        eadm: its feature map is also pooled after energy-based dropping (section 3.3).
        d3m: its rows learn the query's distribution (section 3.4). Without it their InfoNCE is
            taken, as the query's: the key itself is what they must be near to.
        nnm: the queue's nearest neighbors join the positives once mining starts (section 3.5).

    Raises:
        ValueError: a part is on whose extreme view is off.
    """

    extreme: bool = True
    eadm: bool = True
    d3m: bool = True
    nnm: bool = True

    def __post_init__(self) -> None:
        for name, reason in _NEED_EXTREME.items():
            if getattr(self, name) and not self.extreme:
                raise ValueError(f"{name} is on, but extreme is off: {reason}")


class Recipe(Protocol):
    """What a method reads of a run's configuration: its groups of fields."""

    @property
    def model(self) -> Any: ...
    @property
    def optim(self) -> Any: ...
    @property
    def backend(self) -> str: ...


class Method(ABC):
    """What training asks of a method.

    Attributes:
        summary: one line for people.
        losses: the parts of the loss that are logged: the name of an attribute of the forward
            pass's output, and its name in figures. The first is that of the query rows, named
            "info_nce" where it is one.
        parts: which of AimCLR's parts are on by default; None where the method has none of them.
    """

    summary: str
    losses: ClassVar[Mapping[str, str]]
    parts: Parts | None = None

    @abstractmethod
    def build(self, layout: Layout, recipe: Recipe) -> MomentumContrast:
        """The model of one stream, with weights drawn from torch's generator.

        Its parameters that require a gradient are trained. Its forward pass takes the three views
        [N, C, T, V, M], extreme, query and key, and what `phase` returns. It moves the key encoder
        and yields an object with a `loss` to minimize, each of `losses`, `keys` [N, D] to enqueue,
        and `neighbors` [N, R, k]: queue indices that R rows of each sample mined, k may be 0.
        """

    def phase(self, recipe: Recipe, epoch: int) -> Hashable:
        """What the forward pass of epoch `epoch` (from 1) takes besides its views.

        On a GPU a step is captured anew when it changes.
        """
        return 0

    def parts_of(self, recipe: Recipe) -> Parts | None:
        """The method's parts, with those of the model's switches that are set.

        Raises:
            ValueError: the switches contradict each other, or the method has no such part.
        """
        switches = {field.name: getattr(recipe.model, field.name) for field in fields(Parts)}
        given = {name: on for name, on in switches.items() if on is not None}
        if self.parts is not None:
            return replace(self.parts, **given)
        if given:
            name, on = next(iter(given.items()))
            raise ValueError(f"{name} is {on}, but the method has no such part")
        return None

    def changes(self, recipe: Recipe) -> list[str]:
        """The switches that differ from the method's own, for people."""
        chosen = self.parts_of(recipe)
        if chosen is None or self.parts is None:
            return []
        usual = asdict(self.parts)
        return [
            f"{'with' if on else 'without'} {name}"
            for name, on in asdict(chosen).items()
            if on != usual[name]
        ]


def plain_encoder(layout: Layout, model: Any) -> SkeletonEncoder:
    """The ST-GCN and the projection head that a configuration's group `model` describes."""
    backbone = STGCN(
        layout,
        in_channels=3,
        channels=model.channels,
        features=model.features,
        dropout=model.dropout,
        temporal_kernel=model.temporal_kernel,
    )
    return SkeletonEncoder(backbone, model.embedding)


def _found() -> dict[str, Method]:
    assert __package__ is not None
    path = sys.modules[__package__].__path__
    names = [module.name for module in pkgutil.iter_modules(path) if module.name[0] != "_"]
    modules = {name: importlib.import_module(f"{__package__}.{name}") for name in names}
    return {
        name: cast(Method, module.METHOD)
        for name, module in modules.items()
        if hasattr(module, "METHOD")
    }


def method_names() -> list[str]:
    """Names of the methods there are."""
    return sorted(_found())


def get_method(name: str) -> Method:
    """A method by its name.

    Raises:
        ValueError: there is none by that name; the message lists those there are.
    """
    found = _found()
    if name not in found:
        raise ValueError(f"unknown method {name!r}: choose from {', '.join(sorted(found))}")
    return found[name]

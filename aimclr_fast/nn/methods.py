"""The interface of a pretraining method, and the methods by name.

A method is a module of this package that holds ``METHOD``, a :class:`Method`; its name, which the
user types after ``--method``, is the module's unless it has one of its own. A module with several
holds them as ``METHODS``. There is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from aimclr_fast.functional import AugmentConfig, skeleton_augment_streams
from aimclr_fast.layouts import Layout

from .momentum import MomentumContrast
from .stgcn import STGCN, SkeletonEncoder

#: The views of a step by stream, then by name; see `Method.augment`.
Views = dict[str, dict[str, Tensor]]

MOST_MIXES = 6  # each is two of at most 16 sets of rows
# Parts that need another, and why.
_NEED = {
    "eadm": (("extreme",), "energy-based dropping drops from the extreme view"),
    "d3m": (("extreme", "masked"), "distributions are matched to those of the extreme view"),
    "chain": (("d3m",), "it is a chain of matched distributions"),
}


@dataclass(frozen=True)
class Parts:
    """What a method is put together of; by default AimCLR, and SkeletonCLR with none of them.

    Attributes:
        extreme: the extreme view is encoded (AimCLR, section 3.2).
        eadm: its feature map is also pooled after energy-based dropping (section 3.3).
        d3m: its rows learn the query's distribution (section 3.4). Without it their InfoNCE is
            taken, as the query's: the key itself is what they must be near to.
        nnm: the queue's nearest neighbors join the positives once mining starts (section 3.5).
        masked: a second extreme view is encoded, in which joints are hidden by a learned value
            (HiCLR).
        chain: each view learns the distribution of the next weaker one, in the order query,
            extreme, dropped, masked, and not that of the query (HiCLR).
        mixes: how often the query view is mixed with that of another sample; what was pasted in
            and what is left are rows with an InfoNCE of their own (SkeleMixCLR).
        norm_head: the projection head has a batch norm (SkeleMixCLR).
        cross_stream: several streams learn together, and in the end vote for common positives
            (3s-AimCLR++).

    Raises:
        ValueError: a part is on that needs one that is off, or there are too many mixes.
    """

    extreme: bool = True
    eadm: bool = True
    d3m: bool = True
    nnm: bool = True
    masked: bool = False
    chain: bool = False
    mixes: int = 0
    norm_head: bool = False
    cross_stream: bool = False

    def __post_init__(self) -> None:
        for name, (needed, reason) in _NEED.items():
            if getattr(self, name) and not any(getattr(self, other) for other in needed):
                raise ValueError(f"{name} is on, but {needed[0]} is off: {reason}")
        if not 0 <= self.mixes <= MOST_MIXES:
            raise ValueError(f"mixes is {self.mixes}, but must be from 0 to {MOST_MIXES}")


class Recipe(Protocol):
    """What a method reads of a run's configuration: its groups of fields."""

    @property
    def data(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def optim(self) -> Any: ...
    @property
    def augment(self) -> Any: ...
    @property
    def mix(self) -> Any: ...
    @property
    def mask(self) -> Any: ...
    @property
    def actionlet(self) -> Any: ...
    @property
    def votes(self) -> Any: ...
    @property
    def start(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def backend(self) -> str: ...


class Sampled(NamedTuple):
    """The sequences of a step, before views are made of them.

    Attributes:
        data: resident data set [S, 3, T, V, M].
        index: [N] the sequences of the step.
        layout: of the skeleton.
        streams: the streams that are trained.
        epoch: from 1. A method whose views depend on it says so with `Method.augmentation`.
        step: of the draws.
        offset: place of index[0] in the global batch.
    """

    data: Tensor
    index: Tensor  # type: ignore[assignment]  # not the tuple's method
    layout: Layout
    streams: Sequence[str]
    epoch: int
    step: int | Tensor
    offset: int = 0


def draw_views(
    recipe: Recipe, batch: Sampled, names: Sequence[str], config: AugmentConfig | None = None
) -> Views:
    """Views [N, 3, T, V, M] of a batch in its streams, from one read.

    Args:
        recipe: its group `augment` says how.
        batch: the sequences.
        names: of the views, as `functional.skeleton_augment` has them.
        config: in place of the recipe's.
    """
    found = skeleton_augment_streams(
        batch.data,
        batch.index,
        layout=batch.layout,
        config=config or recipe.augment,
        seed=recipe.seed,
        step=batch.step,
        offset=batch.offset,
        streams=batch.streams,
        views=names,
        backend=recipe.backend,
    )
    return {
        stream: {name: getattr(views, name) for name in names}
        for stream, views in zip(batch.streams, found, strict=True)
    }


class Method(ABC):
    """What training asks of a method. The defaults are those of a method of one stream and the
    three views extreme, query and key.

    Attributes:
        name: what the user types; None for that of its module.
        summary: one line for people.
        losses: the parts of the loss that are logged: the name of an attribute of the forward
            pass's output, and its name in figures. The first is that of the query rows, named
            "info_nce" where it is one.
        parts: the parts that are on by default; None where the method is not put together of them.
        published: the numbers that it was published with, where they are not the defaults of a
            configuration: its fields by group, such as {"model": {"temperature": 0.2}}.
    """

    name: str | None = None
    summary: str
    losses: Mapping[str, str]
    parts: Parts | None = None
    published: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def build(self, layout: Layout, recipe: Recipe) -> MomentumContrast:
        """The model of one stream, with weights drawn from torch's generator.

        Its parameters that require a gradient are trained. Its forward pass takes the views that
        `augment` makes by their names and, as `phase`, what `phase` returns (unless the method has
        a `forward` of its own).
        """

    def losses_of(self, recipe: Recipe) -> Mapping[str, str]:
        """`losses`, with those of switches that are set."""
        return self.losses

    def augment(self, recipe: Recipe, batch: Sampled) -> Views:
        """The views of a step's sequences by stream, then by name.

        Each stream must have a `query` and a `key`, [N, 3, T, V, M]: the signs of a collapse are
        measured on them.
        """
        return draw_views(recipe, batch, ("extreme", "query", "key"))

    def check(  # noqa: B027  not every method has something to refuse
        self, recipe: Recipe, layout: Layout, frames: int, samples: int
    ) -> None:
        """Refuse what the method cannot do with sequences of this skeleton and so many frames, in
        steps of so many samples.

        Raises:
            ValueError: names the field and what would do.
        """

    def phase(self, recipe: Recipe, epoch: int) -> Hashable:
        """What the forward pass of epoch `epoch` (from 1) takes besides its views.

        On a GPU a step is captured anew when it changes.
        """
        return 0

    def augmentation(self, recipe: Recipe, epoch: int) -> Hashable:
        """What `augment` does otherwise in epoch `epoch` (from 1) than in others.

        On a GPU a step is captured anew when it changes, and only then: what is captured keeps the
        `Sampled.epoch` of its capture.
        """
        return 0

    def phases(self, recipe: Recipe) -> str:
        """The phases that a run will have, for its opening lines; empty if there is only one."""
        return ""

    def forward(self, models: Mapping[str, Any], views: Views, phase: Any) -> Any:
        """The forward pass of one stream, or of several that learn together.

        It moves the key encoders and yields an object with a `loss` to minimize, each of the
        `losses`, `keys` [N, D] to enqueue, and `neighbors` [N, R, k]: queue indices that R rows of
        each sample mined, k may be 0; or `positives` [N], the number of positives that a row has.
        With several streams each of these has a first axis of the streams.
        """
        ((stream, model),) = models.items()
        return model(**views[stream], phase=phase)

    def joins(self, recipe: Recipe) -> bool:
        """Whether there are several streams, and they learn together, in one forward pass."""
        return False

    def join(self, models: Mapping[str, Any], recipe: Recipe) -> None:  # noqa: B027  optional
        """Let the models of streams that learn together share what they share."""

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
        changed = {name: on for name, on in asdict(chosen).items() if on != usual[name]}
        return [
            f"{'with' if on else 'without'} {name}" if isinstance(on, bool) else f"{on} {name}"
            for name, on in changed.items()
        ]


def plain_encoder(layout: Layout, model: Any, *, norm_head: bool = False) -> SkeletonEncoder:
    """The ST-GCN and the projection head that a configuration's group `model` describes."""
    backbone = STGCN(
        layout,
        in_channels=3,
        channels=model.channels,
        features=model.features,
        dropout=model.dropout,
        temporal_kernel=model.temporal_kernel,
        strategy=getattr(model, "graph", "spatial"),  # 0.1.0 had no other
    )
    return SkeletonEncoder(backbone, model.embedding, norm_head=norm_head)


def _found() -> dict[str, Method]:
    assert __package__ is not None
    path = sys.modules[__package__].__path__
    names = [module.name for module in pkgutil.iter_modules(path) if module.name[0] != "_"]
    found: dict[str, Method] = {}
    for name in names:
        module = importlib.import_module(f"{__package__}.{name}")
        own = [module.METHOD] if hasattr(module, "METHOD") else getattr(module, "METHODS", [])
        found |= {method.name or name: method for method in own}
    return found


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

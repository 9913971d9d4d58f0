"""A pretrained encoder as a function of recorded sequences; `load_encoder` makes one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aimclr_fast.data import sanity
from aimclr_fast.data.duration import Duration
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.readers import FLAT_LAYOUTS, UNITS
from aimclr_fast.functional import STREAMS, AugmentParams, apply_augment
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.folded import FoldedSTGCN, fold
from aimclr_fast.nn.precision import autocast
from aimclr_fast.nn.readouts import PUBLISHED, parse_readout, readout_width

Positions: TypeAlias = npt.NDArray[Any] | Tensor
_LOOKED = 8  # sequences of a call whose bodies' size is looked at


@dataclass(frozen=True)
class Traits:
    """What must be known of an encoder's training sequences to use it on others.

    Attributes:
        stream: joint, motion or bone, or several with + between, whose features stand side by side.
        preprocessing: what was done to each sequence; None if unknown.
        frames: number of frames of each sequence after preprocessing.
        bodies: number of bodies of each sequence; an absent one counts, as zeros, in the mean over
            bodies.
        frame_step: step between the frames that are taken; 1 takes all.
        class_names: of the classifier, if there is one.
        pool: the readout of the feature map; see `aimclr_fast.nn.readouts`.
        duration: how long the training sequences lasted, and their frame rate; None if unknown.
    """

    stream: str = "joint"
    preprocessing: Preprocessing | None = field(default_factory=Preprocessing)
    frames: int = 50
    bodies: int = 2
    frame_step: int = 1
    class_names: tuple[str, ...] = ()
    pool: str = PUBLISHED
    duration: Duration | None = None

    def __post_init__(self) -> None:
        known = isinstance(self.stream, str) and set(self.streams) <= set(STREAMS)
        if not known or len(set(self.streams)) < len(self.streams):
            raise ValueError(
                f"stream must be one of {', '.join(STREAMS)}, or different ones with + between, "
                f"got {self.stream!r}"
            )
        for name in ("frames", "bodies", "frame_step"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        parse_readout(self.pool)

    @property
    def streams(self) -> tuple[str, ...]:
        """The names in `stream`."""
        return tuple(self.stream.split("+"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        steps = self.preprocessing
        return {
            **vars(self),
            "preprocessing": None if steps is None else steps.to_dict(),
            "class_names": list(self.class_names),
            "duration": None if self.duration is None else self.duration.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Traits:
        """The inverse of `to_dict`, for values read from a file."""
        steps, names = values["preprocessing"], values["class_names"]
        duration = values.get("duration")  # not in files of older versions
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names must be a list of names, got {names!r}")
        return cls(
            **{
                **values,
                "preprocessing": None if steps is None else Preprocessing.from_dict(steps),
                "class_names": tuple(names),
                "duration": None if duration is None else Duration.from_dict(duration),
            }
        )


def with_classifier(
    encoder: SkeletonEncoder,
    traits: Traits,
    weight: Tensor,
    bias: Tensor,
    class_names: Sequence[str],
) -> tuple[SkeletonEncoder, Traits]:
    """The encoder with a linear classifier (weight [K, F], bias [K]) on its features as its head.

    Raises:
        ValueError: shapes do not fit the features or the names.
    """
    width, names = _width(encoder, traits), tuple(class_names)
    if weight.shape != (len(names), width) or bias.shape != (len(names),) or not names:
        raise ValueError(
            f"expected weight [{len(names)}, {width}] and bias [{len(names)}] for {len(names)} "
            f"class names, got {list(weight.shape)} and {list(bias.shape)}"
        )
    encoder.head = nn.Linear(width, len(names))
    encoder.head.load_state_dict({"weight": weight, "bias": bias})
    return encoder, replace(traits, class_names=names)


def _width(encoder: SkeletonEncoder, traits: Traits) -> int:
    backbone = encoder.backbone
    width = readout_width(traits.pool, backbone.features, backbone.layout)
    return width * len(traits.streams)  # all are as wide as the first


class EmbeddingModel(nn.Module):
    """The part of an encoder that is a network, which is what export writes.

    Args:
        encoder: its head is a classifier, or is not used.
        traits: stream, frame step, and class names where the head is a classifier.
        beside: encoders of the other streams of `traits`, whose heads are not used.

    Attributes:
        backend: of the ops that prepare sequences.
        precision: what feature maps are computed in, fp32 or bf16.

    Shapes: preprocessed positions [N, 3, T, V, M] -> features [N, F], or with a classifier
    (features [N, F], class probabilities [N, K]).
    """

    def __init__(
        self, encoder: SkeletonEncoder, traits: Traits, beside: Sequence[SkeletonEncoder] = ()
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.beside = nn.ModuleList(beside)
        self.traits = traits
        self.backend = "auto"
        self.precision = "fp32"

    @property
    def is_folded(self) -> bool:
        return isinstance(self.encoder.backbone, FoldedSTGCN)

    def folded(
        self, dtype: torch.dtype | None = None, *, channels_last: bool = True
    ) -> EmbeddingModel:
        """A copy whose backbones are folded; for the arguments and errors see `nn.folded.fold`."""
        model = copy.deepcopy(self)
        for own in (model.encoder, *model.beside):
            backbone: Any = fold(own.backbone, dtype, channels_last=channels_last)
            own.backbone = backbone
        return model

    def forward(self, positions: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        step = self.traits.frame_step
        if step > 1:  # not a slice: what is traced holds for any length only if nothing is strided
            kept = torch.arange(0, positions.shape[2], step, device=positions.device)
            positions = positions.index_select(2, kept)
        found = []
        for stream, encoder in zip(self.traits.streams, (self.encoder, *self.beside), strict=True):
            x = apply_augment(
                positions,
                AugmentParams(),
                layout=self.encoder.backbone.layout,
                stream=stream,
                backend=self.backend,
            )
            with autocast(self.precision, x.device):
                features = encoder.features(x, self.traits.pool)
            found.append(features.to(positions.dtype))
        features = found[0] if len(found) == 1 else torch.cat(found, 1)
        if not self.traits.class_names:
            return features
        return features, self.encoder.head(features).softmax(1)


class Classified(NamedTuple):
    """What `Encoder.classify` returns.

    Attributes:
        features: [N, F].
        probabilities: [N, K], in the order of `Encoder.class_names`.
        names: the most probable class of each sequence.
    """

    features: Tensor
    probabilities: Tensor
    names: list[str]


class Encoder:
    """Turns recorded sequences into features; made by `load_encoder`.

    A sequence is positions in meters, y up, of shape [T, V, 3] (one body) or [M, T, V, 3], NumPy or
    torch, of any length. A batch is a list of sequences, which may differ in length and bodies, or
    one array [N, M, T, V, 3]. Bodies that were not seen are zeros, joints that were not are zeros
    or NaN. Each is preprocessed as the encoder's training data were; with `preprocessed=True` it is
    taken as it is.

    Attributes:
        model: the network, on `device` and in eval mode.
        layout: the skeleton, with V joints.
        traits: what is known of the training data.
    """

    def __init__(self, model: EmbeddingModel, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.layout = model.encoder.backbone.layout
        self.traits = model.traits

    def __repr__(self) -> str:
        traits = self.traits
        lasting = "" if traits.duration is None else f", each {traits.duration}"
        classes = f", {len(traits.class_names)} classes" if traits.class_names else ""
        return (
            f"Encoder({self.num_features} features of the {traits.stream} stream, "
            f"{self.layout.name} ({self.layout.num_joints} joints), {traits.frames} frames"
            f"{lasting}{classes}, on {self.device})"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classifier's classes; empty without a classifier."""
        return self.traits.class_names

    @property
    def num_features(self) -> int:
        """Width F of the features."""
        return _width(self.model.encoder, self.traits)

    def with_classifier(self, weight: Tensor, bias: Tensor, class_names: Sequence[str]) -> Encoder:
        """This encoder with a linear classifier: weight [K, F], bias [K] and K names.

        Raises:
            ValueError: shapes do not fit the features or the names.
        """
        bare, *beside = copy.deepcopy([self.model.encoder, *self.model.beside])
        encoder, traits = with_classifier(bare, self.traits, weight, bias, class_names)
        model = EmbeddingModel(encoder, traits, beside)
        model.backend, model.precision = self.model.backend, self.model.precision
        return Encoder(model, self.device)

    def __call__(
        self,
        sequences: Positions | Sequence[Positions],
        *,
        preprocessed: bool = False,
        batch_size: int = 64,
    ) -> Tensor:
        """Features [N, F] of a batch, or [F] of one sequence, float32 on the encoder's device.

        Raises:
            ValueError: a sequence has the wrong shape, number of joints or bodies, a value that is
                not finite, or nobody in it; the preprocessing is not known and `preprocessed` was
                not set; or without it, the first sequences are not in meters, by the size of their
                bodies (not checked for 2D layouts).
            TypeError: a sequence is not an array of floating point numbers.
        """
        features, _, single = self._run(sequences, preprocessed, batch_size)
        return features[0] if single else features

    def classify(
        self,
        sequences: Positions | Sequence[Positions],
        *,
        preprocessed: bool = False,
        batch_size: int = 64,
    ) -> Classified:
        """Features, class probabilities and names; a single sequence is a batch of one.

        Raises:
            ValueError: there is no classifier, or as `__call__`.
            TypeError: as `__call__`.
        """
        if not self.class_names:
            raise ValueError(
                "this encoder has no classifier: load it with a head, or a linear checkpoint"
            )
        features, probabilities, _ = self._run(sequences, preprocessed, batch_size)
        best = probabilities.argmax(1).tolist()
        return Classified(features, probabilities, [self.class_names[i] for i in best])

    def prepare(self, sequence: Positions, *, preprocessed: bool = False) -> npt.NDArray[Any]:
        """One sequence as the network takes it: preprocessed float32 [3, T, V, M]."""
        x = _as_array(sequence)
        joints, traits = self.layout.num_joints, self.traits
        if x.ndim == 3:
            x = x[None]
        if x.ndim != 4 or x.shape[3] != 3 or x.shape[2] != joints or min(x.shape) == 0:
            raise ValueError(
                f"expected [T, {joints}, 3] or [M, T, {joints}, 3] positions of layout "
                f"{self.layout.name!r}, got shape {list(np.shape(sequence))}"
            )
        if len(x) > traits.bodies:
            raise ValueError(
                f"{len(x)} bodies, but the encoder was trained on at most {traits.bodies}; "
                "[N, M, T, V, 3] is a batch"
            )
        x = x.transpose(3, 1, 2, 0)
        if preprocessed:
            if not np.isfinite(x).all():
                raise ValueError("positions must be finite")
            x = x.astype(np.float32)
        else:
            if traits.preprocessing is None:
                raise ValueError(
                    "how the encoder's training data were preprocessed is not known: do the same "
                    "and pass preprocessed=True, or load it with preprocessing=Preprocessing(...)"
                )
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
                x = traits.preprocessing(x, self.layout)
            if not np.isfinite(x).all():
                raise ValueError("values are too large to be preprocessed")
            if traits.preprocessing.frames is None:  # the store pads sequences to the longest
                x = np.pad(x, ((0, 0), (0, max(0, traits.frames - x.shape[1])), (0, 0), (0, 0)))
        return np.pad(x, ((0, 0), (0, 0), (0, 0), (0, traits.bodies - x.shape[3])))

    def _run(
        self, sequences: Positions | Sequence[Positions], preprocessed: bool, batch_size: int
    ) -> tuple[Tensor, Tensor, bool]:
        """Features, probabilities [N, 0 or K], and whether it was one sequence."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        single, each = _split(sequences)
        classes = len(self.class_names)
        features = torch.empty(len(each), self.num_features, device=self.device)
        probabilities = torch.empty(len(each), classes, device=self.device)
        for rows, positions in self._batches(each, preprocessed, batch_size):
            with torch.inference_mode():
                out = self.model(torch.from_numpy(positions).to(self.device))
            where = torch.tensor(rows, device=self.device)
            if classes:
                features[where], probabilities[where] = out
            else:
                features[where] = out
        return features, probabilities, single

    def _batches(
        self, sequences: Sequence[Positions], preprocessed: bool, size: int
    ) -> Iterator[tuple[list[int], npt.NDArray[Any]]]:
        """Indices and positions of at most `size` sequences of one length."""
        waiting: dict[int, list[tuple[int, npt.NDArray[Any]]]] = {}
        first: list[npt.NDArray[Any]] = []
        for index, sequence in enumerate(sequences):
            try:
                x = self.prepare(sequence, preprocessed=preprocessed)
            except (TypeError, ValueError) as error:
                raise type(error)(f"sequence {index}: {error}") from None
            if index < _LOOKED and not preprocessed:
                first.append(x)
                if index == min(_LOOKED, len(sequences)) - 1:
                    check_size(first, self.layout)
            batch = waiting.setdefault(x.shape[1], [])
            batch.append((index, x))
            if len(batch) == size:
                yield _stack(waiting.pop(x.shape[1]))
        for batch in waiting.values():
            yield _stack(batch)


def check_size(positions: Sequence[npt.NDArray[Any]], layout: Layout) -> None:
    """Refuse positions that are not in meters, for which the network would give some features."""
    size = None if layout.name in FLAT_LAYOUTS else sanity.impossible_size(positions, layout)
    if size is None:
        return
    units = [f"{unit}: multiply by {UNITS[unit]}" for unit in sanity.likely_units(size, layout)]
    mend = f"these look like {' or '.join(units)}" if units else "scale them"
    raise ValueError(
        f"bodies are {sanity.meters(size)} tall; positions are expected in meters, {mend} "
        "(preprocessed=True takes them as they are)"
    )


def _stack(batch: Iterable[tuple[int, npt.NDArray[Any]]]) -> tuple[list[int], npt.NDArray[Any]]:
    rows, positions = zip(*batch, strict=True)
    return list(rows), np.stack(positions)


def _split(sequences: Any) -> tuple[bool, Sequence[Positions]]:
    """Whether it is one sequence, and the sequences."""
    if isinstance(sequences, list | tuple):
        return False, sequences
    if not isinstance(sequences, np.ndarray | Tensor):
        raise TypeError(f"expected an array, a tensor or a list, got {type(sequences).__name__}")
    if sequences.ndim == 5:
        return False, list(sequences)
    return True, [sequences]


def _as_array(x: Any) -> npt.NDArray[Any]:
    if isinstance(x, Tensor):
        if x.is_floating_point():
            x = x.detach().cpu().to(torch.promote_types(x.dtype, torch.float32))
        x = x.numpy()
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"expected an array of floating point numbers (meters), got {kind}")
    return x

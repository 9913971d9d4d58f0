"""What is evaluated: the features of an encoder, or raw poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from aimclr_fast.inference.checkpoints import LoadedEncoder
from aimclr_fast.nn import SkeletonEncoder
from aimclr_fast.nn.readouts import PUBLISHED

from .labeled_data import Features, LabeledData
from .outcome import Outcome

UNTRAINED, SUPERVISED, RAW = "untrained", "supervised", "raw poses"
ALIGNED = f"{RAW}, aligned"


class EncoderFile(NamedTuple):
    """An encoder and the checkpoint it is from.

    Attributes:
        path: of the checkpoint, as named by the user.
        checksum: SHA-256 of the file.
        epoch: of the checkpoint.
        loaded: the encoder, and what it was trained as.
        data: what the checkpoint says of the store it was trained on.
    """

    path: str
    checksum: str
    epoch: int
    loaded: LoadedEncoder
    data: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Representation:
    """One representation of labeled sequences.

    Attributes:
        name: "untrained", "supervised", "raw poses", "raw poses, aligned", or the name of a
            pretrained encoder.
        encoder: None for raw poses.
        stream: joint, motion or bone, or several side by side with + between; empty for raw
            poses.
        data: the sequences, in the encoder's skeleton.
        own: the outcome of its own classifier, where it was trained with labels.
        run_seed: of the pretraining run, or of what was drawn in its place.
        run_config: configuration of the pretraining run; a baseline has that of the encoder that
            it is compared with.
        files: the checkpoints it is from; none for a baseline.
        pool: the readout of the encoders.
        beside: encoders of the other streams.
    """

    name: str
    encoder: SkeletonEncoder | None
    stream: str
    data: LabeledData
    own: Outcome | None = None
    run_seed: int | None = None
    run_config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[EncoderFile, ...] = ()
    pool: str = PUBLISHED
    beside: tuple[SkeletonEncoder, ...] = ()

    @property
    def setting(self) -> str:
        """What differs from the published readout and float32, for tables."""
        pool = "" if self.pool == PUBLISHED else f"pool={self.pool}"
        precision = "" if self.encoder is None else self.data.precision
        other = "" if precision in ("", "fp32") else f"precision={precision}"
        return ", ".join(part for part in (pool, other) if part)

    def features(self) -> Features:
        """Frozen features of the training, test and validation samples."""
        encoders = zip((self.encoder, *self.beside), self.stream.split("+"), strict=True)
        return Features.side_by_side(
            [
                self.data.features(encoder, stream, self.pool, align=self.name == ALIGNED)
                for encoder, stream in encoders
            ]
        )


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained encoder, and the data as it takes them.

    Attributes:
        file: its checkpoint.
        data: in its skeleton.
        pool: its readout.
        beside: other streams of the checkpoint, which are one representation with it.
    """

    file: EncoderFile
    data: LabeledData
    pool: str = PUBLISHED
    beside: tuple[EncoderFile, ...] = ()

    @property
    def stream(self) -> str:
        """Joint, motion or bone, or several with + between."""
        return "+".join(file.loaded.stream for file in (self.file, *self.beside))

    @property
    def run_seed(self) -> int:
        """Seed of the pretraining run."""
        return int(self.file.loaded.config.get("seed", 0))

    def representation(self, name: str) -> Representation:
        """The encoder's features under a name."""
        encoders = [file.loaded.encoder for file in (self.file, *self.beside)]
        return self.of_encoders(name, encoders, files=(self.file, *self.beside))

    def of_encoders(
        self, name: str, encoders: Sequence[SkeletonEncoder], **about: Any
    ) -> Representation:
        """Other encoders, one for each stream, on the same data with the same readout."""
        return Representation(
            name,
            encoders[0],
            self.stream,
            self.data,
            run_seed=self.run_seed,
            run_config=self.file.loaded.config,
            pool=self.pool,
            beside=tuple(encoders[1:]),
            **about,
        )


#: What a protocol yields, as soon as each is measured.
Outcomes: TypeAlias = Iterator[tuple[Representation, Outcome]]

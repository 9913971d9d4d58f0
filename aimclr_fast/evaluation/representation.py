"""What is evaluated: the features of an encoder, or raw poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from aimclr_fast.inference.checkpoints import LoadedEncoder
from aimclr_fast.nn import SkeletonEncoder

from .labeled_data import Features, LabeledData
from .outcome import Outcome

UNTRAINED, SUPERVISED, RAW = "untrained", "supervised", "raw poses"


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
        name: "untrained", "supervised", "raw poses", or the name of a pretrained encoder.
        encoder: None for raw poses.
        stream: joint, motion or bone; empty for raw poses.
        data: the sequences, in the encoder's skeleton.
        own: the outcome of its own classifier, where it was trained with labels.
        run_seed: of the pretraining run, or of what was drawn in its place.
        run_config: configuration of the pretraining run; a baseline has that of the encoder that
            it is compared with.
        files: the checkpoints it is from; none for a baseline.
    """

    name: str
    encoder: SkeletonEncoder | None
    stream: str
    data: LabeledData
    own: Outcome | None = None
    run_seed: int | None = None
    run_config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[EncoderFile, ...] = ()

    def features(self) -> Features:
        """Frozen features of the training, test and validation samples."""
        return self.data.features(self.encoder, self.stream)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained encoder, and the data as it takes them."""

    file: EncoderFile
    data: LabeledData

    @property
    def stream(self) -> str:
        """Joint, motion or bone."""
        return self.file.loaded.stream

    @property
    def run_seed(self) -> int:
        """Seed of the pretraining run."""
        return int(self.file.loaded.config.get("seed", 0))

    def representation(self, name: str) -> Representation:
        """The encoder's features under a name."""
        loaded = self.file.loaded
        return Representation(
            name,
            loaded.encoder,
            loaded.stream,
            self.data,
            run_seed=self.run_seed,
            run_config=loaded.config,
            files=(self.file,),
        )


#: What a protocol yields, as soon as each is measured.
Outcomes: TypeAlias = Iterator[tuple[Representation, Outcome]]

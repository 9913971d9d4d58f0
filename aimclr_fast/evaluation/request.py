"""One evaluation as asked for, resolved: options checked, data and encoders opened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from aimclr_fast._checkpoint import CheckpointError, load_checkpoint
from aimclr_fast._devices import usable_device
from aimclr_fast.data import resolve_store
from aimclr_fast.data.store import sha256
from aimclr_fast.functional import STREAMS
from aimclr_fast.inference.checkpoints import encoder_from, streams_of
from aimclr_fast.layouts import Layout

from .baselines import BASELINES, baselines
from .finetuning import FinetuneConfig
from .labeled_data import EvaluationError, LabeledData, open_labeled_data
from .options import CHOICES, EvaluationOptions
from .protocols import EvaluationProtocol
from .report import Report
from .representation import EncoderFile, Pretrained, Representation

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, eq=False)
class Request(Generic[ConfigT]):
    """What a protocol's `run` gets.

    Attributes:
        config: the protocol's own options.
        options: what every evaluation takes.
        paths: checkpoints, as named by the user.
        pretrained: an encoder for each checkpoint and stream asked for, with the data.
        report: prints and saves; it adds each outcome that `run` yields.
    """

    config: ConfigT
    options: EvaluationOptions
    paths: tuple[str, ...]
    pretrained: tuple[Pretrained, ...]
    report: Report
    _seen: set[tuple[Any, ...]] = field(default_factory=set)

    def representations(
        self,
        of: Iterable[Pretrained] | None = None,
        *,
        kinds: Collection[str] = BASELINES,
        scratch: FinetuneConfig | None = None,
        train_supervised: bool = True,
    ) -> Iterator[Representation]:
        """Each pretrained encoder's and, if asked for, those of its baselines.

        Baselines that several encoders share come once in a request.

        Args:
            of: these encoders; left out, all.
            kinds: baselines that make sense here.
            scratch: recipe of the supervised encoder; left out, that of the options.
            train_supervised: False leaves the supervised encoder to be trained by the protocol.
        """
        recipe = (scratch or self.options.scratch) if train_supervised else None
        for one in self.pretrained if of is None else of:
            yield one.representation(self.options.name)
            if self.options.baselines:
                yield from baselines(one, kinds, recipe, seen=self._seen, say=self.report.say)


def resolve(
    protocol: EvaluationProtocol,
    paths: Sequence[str],
    options: EvaluationOptions,
    config: Any,
    console: Console,
) -> Request[Any]:
    """Check what was asked for and open it, so that all complaints come before any work.

    Raises:
        CheckpointError: a file is no checkpoint.
        EvaluationError: data, checkpoints and options do not go together.
        ResultsError: results.csv cannot be added to.
        StoreError: the data cannot be read.
    """
    device = _checked(protocol, options)
    store = resolve_store(options.data)
    report = Report(
        protocol.name, options, config, store, device, console, csv=protocol.adds_to_csv
    )
    files = read_encoders(paths, options.stream)
    by_step: dict[int, LabeledData] = {}
    fitted: dict[tuple[int, Layout], tuple[LabeledData, str]] = {}  # may be copies: share them
    pretrained = []
    for file in files:
        layout = file.loaded.layout
        step = int(file.loaded.config.get("data", {}).get("frame_step", 1))
        if step not in by_step:
            by_step[step] = open_labeled_data(
                store,
                options.protocol,
                frame_step=step,
                device=device,
                batch_size=options.encode_batch,
                backend=options.backend,
                choose=options.choose,
            )
        if (step, layout) not in fitted:
            fitted[step, layout] = protocol.adapt(by_step[step], layout, config)
        data, how = fitted[step, layout]
        if how:
            report.note(f"{file.path}: {how}")
        pretrained.append(Pretrained(file, data))
    return Request(config, options, tuple(paths), tuple(pretrained), report)


def _checked(protocol: EvaluationProtocol, options: EvaluationOptions) -> torch.device:
    """Refuse values that no evaluation can have; the device, which is there."""
    if options.choose not in CHOICES:
        raise EvaluationError(f"choose is {options.choose!r}, but must be {' or '.join(CHOICES)}")
    if options.choose == "val" and not protocol.chooses:
        raise EvaluationError(f"--choose val: {protocol.name} chooses nothing, so leave it out")
    if options.encode_batch < 1 or options.threads < 0:
        raise EvaluationError("encode_batch must be at least 1, and threads at least 0")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        return usable_device(options.device)
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def read_encoders(paths: Sequence[str], stream: str) -> list[EncoderFile]:
    """The encoders of checkpoints, one for each stream asked for.

    Raises:
        CheckpointError: a file is no checkpoint, or lacks the stream; the message names it.
        EvaluationError: no such stream at all.
    """
    if stream not in (*STREAMS, "all"):
        raise EvaluationError(f"stream is {stream!r}, but must be {', '.join(STREAMS)} or all")
    files = []
    for path in paths:
        state = load_checkpoint(path)
        checksum, epoch = sha256(Path(path)), int(state.get("epoch", 0))
        try:
            for one in streams_of(state) if stream == "all" else (stream,):
                files.append(EncoderFile(path, checksum, epoch, encoder_from(state, one)))
        except (CheckpointError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error
    return files

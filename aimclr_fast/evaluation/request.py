"""One evaluation, resolved: options checked, data and encoders opened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from aimclr_fast._checkpoint import CheckpointError, load_checkpoint
from aimclr_fast._devices import usable_device
from aimclr_fast.data import Store, resolve_store
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.store import sha256
from aimclr_fast.functional import STREAMS
from aimclr_fast.inference.checkpoints import encoder_from, streams_of
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import STGCN
from aimclr_fast.nn.precision import check_precision
from aimclr_fast.nn.readouts import PUBLISHED, readout_width

from .baselines import BASELINES, baselines
from .finetuning import FinetuneConfig
from .joint_mapping import check_layout
from .labeled_data import EvaluationError, LabeledData, open_labeled_data
from .options import CHOICES, EvaluationOptions
from .own_split import AUTO, own_split, own_store
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

    def refuse_frozen(self, what: str) -> None:
        """Refuse options on frozen features.

        Raises:
            EvaluationError: one is set; the message says that `what` trains the encoder.
        """
        if self.options.precision != "fp32":
            raise EvaluationError(f"{what} trains the encoder in float32: leave out --precision")
        if self.options.pool != PUBLISHED or self.options.side_by_side:
            raise EvaluationError(
                f"{what} trains the encoder with a classifier on the published readout of one "
                "stream: leave out --pool and --side_by_side"
            )

    def representations(
        self,
        of: Iterable[Pretrained] | None = None,
        *,
        kinds: Collection[str] = BASELINES,
        scratch: FinetuneConfig | None = None,
        train_supervised: bool = True,
    ) -> Iterator[Representation]:
        """Representations of each pretrained encoder and, if asked for, of its baselines.

        A baseline that several encoders share comes once.

        Args:
            of: the encoders; left out, all.
            kinds: the baselines that apply.
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
    """Check what was asked for and open it, so that errors come before any work.

    Raises:
        CheckpointError: a file is no checkpoint.
        EvaluationError: data, checkpoints and options do not fit each other.
        ResultsError: results.csv cannot be added to.
        StoreError: the data cannot be read.
    """
    device = _prepare(protocol, options)
    files: list[EncoderFile] = []
    for path in paths:
        files += read_encoders(path, options.stream)
    if options.data != AUTO:
        store = resolve_store(options.data)
    elif protocol.adapt is None:
        store = own_store(files)
    else:
        raise EvaluationError(f"{protocol.name} is to another data set: name it with --data")
    if options.split == AUTO:
        options = replace(options, split=own_split(files, store, console))
    report = Report(
        protocol.name, options, config, store, device, console, csv=protocol.adds_to_csv
    )
    by_step: dict[int, LabeledData] = {}
    adapted: dict[tuple[int, Layout], tuple[LabeledData, str]] = {}  # each is a copy
    pretrained = []
    for file in files:
        layout = file.loaded.layout
        _check_readout(options.pool, file.loaded.encoder.backbone)
        step = int(file.loaded.config.get("data", {}).get("frame_step", 1))
        if step not in by_step:
            by_step[step] = open_labeled_data(
                store,
                options.split,
                frame_step=step,
                device=device,
                batch_size=options.encode_batch,
                backend=options.backend,
                choose=options.choose,
                precision=options.precision,
            )
        data = by_step[step]
        if protocol.adapt is None:
            check_layout(data, layout)
        else:
            if (step, layout) not in adapted:
                adapted[step, layout] = protocol.adapt(data, layout, config)
            data, how = adapted[step, layout]
            report.note(f"{file.path}: {how}")
        if warning := _other_normalization(file.data.get("preprocessing"), store):
            report.note(f"{file.path}: {warning}")
        pretrained.append(Pretrained(file, data, options.pool))
    if options.side_by_side:
        pretrained = _side_by_side(pretrained)
    return Request(config, options, tuple(paths), tuple(pretrained), report)


def _check_readout(pool: str, backbone: STGCN) -> None:
    try:
        readout_width(pool, backbone.features, backbone.layout)
    except ValueError as error:
        raise EvaluationError(f"--pool {pool}: {error}") from error


def _side_by_side(pretrained: Sequence[Pretrained]) -> list[Pretrained]:
    """The streams of each checkpoint as one."""
    together: dict[str, list[Pretrained]] = {}
    for one in pretrained:
        together.setdefault(one.file.path, []).append(one)
    for path, (first, *others) in together.items():
        if not others:
            raise EvaluationError(f"--side_by_side: {path} gives the {first.stream} stream alone")
    return [
        replace(first, beside=tuple(one.file for one in others))
        for first, *others in together.values()
    ]


def _other_normalization(learned: Mapping[str, Any] | None, store: Store) -> str:
    """What to know of an encoder that learned from sequences normalized in another way."""
    if learned is None or store.preprocessing is None:
        return ""
    theirs = Preprocessing.from_dict(dict(learned)).normalize
    ours = store.preprocessing.normalize
    if theirs == ours:
        return ""
    return (
        f"trained on sequences normalized by {theirs}, {store.path.name} is normalized by {ours}; "
        f"--normalize {theirs} of prepare makes a store like the one it was trained on"
    )


def _prepare(protocol: EvaluationProtocol, options: EvaluationOptions) -> torch.device:
    """Refuse invalid options, and set the number of threads.

    Returns:
        The device, which can be used.
    """
    if options.choose not in CHOICES:
        raise EvaluationError(f"choose is {options.choose!r}, but must be {' or '.join(CHOICES)}")
    if options.choose == "val" and not protocol.chooses:
        raise EvaluationError(f"--choose val: {protocol.name} chooses nothing, so leave it out")
    if options.encode_batch < 1 or options.threads < 0:
        raise EvaluationError("encode_batch must be at least 1, and threads at least 0")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        device = usable_device(options.device)
        check_precision(options.precision, device)
        return device
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def read_encoders(path: str, stream: str) -> list[EncoderFile]:
    """The encoders of a checkpoint: the one of a stream, or "all".

    Raises:
        CheckpointError: the file is no checkpoint, or lacks the stream; the message names it.
        EvaluationError: no such stream at all.
    """
    if stream not in (*STREAMS, "all"):
        raise EvaluationError(f"stream is {stream!r}, but must be {', '.join(STREAMS)} or all")
    state = load_checkpoint(path)
    checksum, epoch = sha256(Path(path)), int(state.get("epoch", 0))
    try:
        streams = streams_of(state) if stream == "all" else (stream,)
        data = dict(state.get("data", {}))
        return [
            EncoderFile(path, checksum, epoch, encoder_from(state, one), data) for one in streams
        ]
    except (CheckpointError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error

"""What a pretraining run is made of. The defaults are the published recipe (NTU RGB+D)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from ._errors import Error
from ._fields import (
    ADDED,
    LEARNED,
    FittedBool,
    FittedInt,
    FittedInts,
    FittedStr,
    Meaning,
    added,
    added_defaults,
    learned,
    machine,
    meanings,
    saving,
)
from .functional import AugmentConfig


class ConfigError(Error, ValueError):
    """A field has a value that cannot work; the message names the field."""


@dataclass
class DataConfig:
    """Which sequences to learn from.

    Attributes:
        store: folder of a store, or the name of an embedded one; several with commas between them
            are joined.
        split: which samples train and which test, as declared by the store; null takes one that it
            declares. --split is short for it.
        stream: joint, motion or bone, or several with commas between: an encoder is trained on
            each, side by side. --streams is short for it.
        frame_step: step between the frames that are taken; 1 takes all, null takes about `frames`.
        frames: number of frames aimed at where frame_step is null.
        sided: classes differ by side (wave left, wave right), so that left and right joints are
            never swapped (augment.spatial_flip_prob becomes 0). null decides by the names of the
            classes: true where two of them become the same without the words left and right, or
            where there are no names.
    """

    store: str = machine("ui_prmd")
    split: FittedStr = learned("xsub")
    stream: str = learned("joint")
    frame_step: FittedInt = learned(1)
    frames: int = added(17)
    sided: FittedBool = added(False)

    @property
    def streams(self) -> tuple[str, ...]:
        """The names in `stream`."""
        return tuple(name.strip() for name in self.stream.split(","))


@dataclass
class ModelConfig:
    """The encoder pair, the queue and the losses.

    Attributes:
        channels: width of the encoder's first stage.
        features: width of the representation.
        embedding: width of the projection head's output.
        dropout: dropout after each temporal convolution.
        temporal_kernel: number of frames that a temporal convolution covers; odd.
        queue_size: number of keys in the queue; null takes the largest multiple of the batch within
            the training samples, at most 32768.
        momentum: fraction of its weights that the key encoder keeps in each step.
        temperature: softmax temperature of the losses.
        keep_prob: attention threshold; energy-based dropping drops what reaches it.
        topk: number of neighbors mined for each row once mining starts.
        d3m_weight: weight of each of the losses of the extreme, dropped and masked rows.
        mix_weight: weight of the losses of mixed sequences, half of it for each of the two.
        extreme: encode the extreme view; null, here and below, means the method's default.
        eadm: energy-based dropping on the extreme view.
        d3m: match distributions; false takes the InfoNCE of the extreme view's rows instead.
        nnm: mine nearest neighbors, from optim.mining_epoch on.
        masked: also encode a second extreme view with hidden joints; see the group mask.
        chain: each view learns the distribution of the next weaker one, not that of the query.
        mixes: number of mixes of each sequence with another, 0 for none; see the group mix.
        norm_head: a batch norm in the projection head.
        cross_stream: train several streams together, with common positives; see the group votes.
        share_head: with cross_stream, the heads of the other streams end in that of the first;
            false gives each its own.
        graph: spatial (ST-GCN's, as in AimCLR) or directed (SkeleMixCLR's).
        init: copy (torch's initialization, the key encoder a copy, as in MoCo) or official
            (ST-GCN's initialization, drawn separately for the key encoder, as in the authors'
            code).
    """

    channels: int = learned(16)
    features: int = learned(256)
    embedding: int = learned(128)
    dropout: float = learned(0.5)
    temporal_kernel: int = learned(9)
    queue_size: FittedInt = learned(32768)
    momentum: float = learned(0.999)
    temperature: float = learned(0.07)
    keep_prob: float = learned(0.7)
    topk: int = learned(1)
    d3m_weight: float = learned(0.5)
    mix_weight: float = added(1.0)
    extreme: bool | None = learned(None)
    eadm: bool | None = learned(None)
    d3m: bool | None = learned(None)
    nnm: bool | None = learned(None)
    masked: bool | None = added(None)
    chain: bool | None = added(None)
    mixes: int | None = added(None)
    norm_head: bool | None = added(None)
    cross_stream: bool | None = added(None)
    share_head: bool = added(True)
    graph: str = added("spatial")
    init: str = learned("copy")


@dataclass
class OptimConfig:
    """Stochastic gradient descent and its schedule; epochs count from 1.

    Attributes:
        epochs: number of passes over the training samples.
        steps: number of steps, in place of epochs: the last epoch ends with the last step. The
            cosine runs over the steps; fields in epochs still count passes.
        batch_size: number of sequences per step, over all processes; the last, incomplete batch of
            an epoch is dropped. null takes 64, or for small sets the largest power of two that is
            at most half of the training samples.
        lr: base learning rate.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        clip_norm: maximum norm of the gradient; larger gradients are scaled down. 0 turns it off.
        schedule: step (times gamma at each milestone) or cosine (to zero).
        milestones: epochs after which the learning rate is multiplied by gamma.
        gamma: factor at each milestone.
        warmup_epochs: number of first epochs over which the learning rate rises linearly.
        mining_epoch: first epoch with nearest-neighbor mining; 0 never mines, null mines in the
            second half of the run, as published.
    """

    epochs: int = learned(300)
    steps: int | None = added(None)
    batch_size: FittedInt = learned(128)
    lr: float = learned(0.1)
    momentum: float = learned(0.9)
    weight_decay: float = learned(1e-4)
    clip_norm: float = learned(0.0)
    schedule: str = learned("step")
    milestones: list[int] = field(default_factory=lambda: [250], metadata=LEARNED)
    gamma: float = learned(0.1)
    warmup_epochs: int = learned(0)
    mining_epoch: FittedInt = learned(151)


@dataclass
class MixConfig:
    """How sequences are mixed where model.mixes is not 0; the numbers are drawn uniformly.

    Attributes:
        parts_min: least number of body parts that are pasted in, of five.
        parts_max: largest number.
        blocks_min: least number of blocks of four frames that are pasted in; null means the
            published 7 of 16, or 3 of 13 in actclr; for sequences of fewer blocks the same share
            of them, rounded down but at least one.
        blocks_max: largest number, at most a quarter of the frames; null likewise means 11, or 5.
    """

    parts_min: int = 2
    parts_max: int = 3
    blocks_min: int | None = None
    blocks_max: int | None = None


@dataclass
class MaskConfig:
    """What is hidden in the masked view.

    Attributes:
        share: of the joints in each frame, rounded down but at least one.
        per_sample: each sequence has joints of its own; false hides the same in the whole batch.
    """

    share: float = 0.1
    per_sample: bool = False


@dataclass
class ActionletConfig:
    """The second phase of ActCLR (method actclr).

    Attributes:
        form: what actionlets are the gradient of: cosine (the cosine similarity of a sequence's row
            and the average row) or released (that of each number by itself, as in the released
            program, which leaves rounding errors of it).
        neighbors_share: share of the queue's keys that a row is compared by, those nearest to its
            teacher; rounded down but at least one key.
        stages: last epoch with all augmentations, last with most of them, last with few; after that
            views are not augmented at all. null takes the same shares of the run as published.
        late_epoch: first epoch with smaller mixes in the blended view; 0 has none, null takes the
            same share of the run as published.
    """

    form: str = "cosine"
    neighbors_share: float = 0.125
    stages: FittedInts = field(default_factory=lambda: [100, 200, 300])
    late_epoch: FittedInt = 200


@dataclass
class VotesConfig:
    """Common positives of several streams (model.cross_stream). A stream votes for a key that is
    among the nearest of the query and of the extreme row.

    Attributes:
        epoch: first epoch with votes, at least optim.mining_epoch; before it each stream has its
            own. 0, or optim.mining_epoch 0, never votes; null votes in the last quarter of the run,
            as published.
        topk: number of nearest keys of each row that count.
        least: number of streams that must vote for a key.
    """

    epoch: FittedInt = 301
    topk: int = 20
    least: int = 2


@dataclass
class MonitorConfig:
    """What is measured during and after training on the split's test samples; at the same epochs
    the best checkpoint is chosen, on validation samples or training folds. All that is by the
    published readout, the mean.

    Attributes:
        knn_every: number of epochs between kNN measurements; 0 measures only before and after.
        linear_probe: fit a logistic regression on the features at the end.
        raw_poses: also fit it on the raw poses, for comparison, and on the raw poses aligned (each
            sequence turned as a whole) where preprocessing did not turn them; slow on large data
            sets.
        batch_size: number of sequences encoded at once.
        pool: readout that is measured beside the published one before and after training: mean,
            max, joints, parts, segments, or several with + between, such as mean+max; null for
            none. A resumed run has the untrained encoder by it only if it began with it.
        scale: what is done to the features of pool, as training features say, before neighbors are
            looked for: none, center or standardize.
    """

    knn_every: int = machine(10)
    linear_probe: bool = machine(True)
    raw_poses: bool = machine(False)
    batch_size: int = machine(256)
    pool: str | None = machine(None)
    scale: str = machine("none")


@dataclass
class TrainConfig:
    """A pretraining run.

    Attributes:
        method: pretraining method, one of those listed at the end of --help.
        data: sequences to learn from.
        augment: amplitudes and probabilities of the augmentations.
        model: encoder, queue, losses.
        optim: optimizer and schedule.
        mix: what is exchanged between sequences.
        mask: what is hidden.
        actionlet: ActCLR's second phase.
        votes: common positives of streams.
        monitor: what is measured.
        start: checkpoint of another run, or its folder, whose query encoder of each stream is what
            both encoders start from; left out, they start from random weights.
        output: folder for the run; runs/STORE-SPLIT-STREAM-TIME when left out.
        resume: auto resumes the run in output if there is one; a folder resumes its run, as
            configured there.
        seed: seed of weights, augmentation, dropout and shuffling.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        placement: where the sequences are kept: device, pinned (host memory that the GPU reads in
            place), mmap (in the file, read one batch ahead), or auto for the first that is large
            enough.
        batch_statistics: with several processes, what batch norm and energy-based dropping take for
            the batch in training: rank (each process's share; the running statistics are the mean
            over processes) or synchronized (the global batch, as one process would have it; with
            the reference's slower blocks).
        precision: what the encoder computes in: fp32, tf32 (GPUs), bf16 (GPUs, and CPUs with
            AVX512-BF16 or AMX; weights, statistics and losses stay in float32), or auto for bf16
            where that is faster: on these GPUs, and on these CPUs with the cpp backend; else fp32.
            A resumed run keeps the precision it began in.
        cuda_graph: on a GPU, launch each step as one CUDA graph.
        backend: backend of the ops; auto picks the fastest that can run.
        encoder_backend: backend of the encoder's blocks; left out, it is that of the ops.
        threads: number of CPU threads; 0 leaves it to torch.
        save_every: number of epochs between checkpoints.
        save_steps: number of steps between checkpoints within an epoch; 0 for none.
        save_seconds: seconds between checkpoints within an epoch; 0 for none.
        keep: number of checkpoints kept: checkpoint.pt (the newest), then previous-1.pt, ...; the
            best by kNN on validation samples or training folds is also kept, as best.pt.
        max_skipped: number of consecutive steps with a loss or gradient that is not finite after
            which the run stops; such steps are skipped.
        profile: number of steps to time by section instead of training; 0 trains.
    """

    method: str = learned("aimclr")
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig, metadata=LEARNED)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mix: MixConfig = field(default_factory=MixConfig, metadata=ADDED)
    mask: MaskConfig = field(default_factory=MaskConfig, metadata=ADDED)
    actionlet: ActionletConfig = field(default_factory=ActionletConfig, metadata=ADDED)
    votes: VotesConfig = field(default_factory=VotesConfig, metadata=ADDED)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    start: str | None = added(None)
    output: str | None = saving(None)
    resume: str | None = saving(None)
    seed: int = learned(0)
    device: str = machine("auto")
    placement: str = machine("auto")
    batch_statistics: str = learned("rank")
    precision: str = learned("auto")
    cuda_graph: bool = machine(True)
    backend: str = machine("auto")
    encoder_backend: str | None = machine(None)
    threads: int = machine(0)
    save_every: int = saving(10)
    save_steps: int = saving(0)
    save_seconds: float = saving(600.0)
    keep: int = saving(2)
    max_skipped: int = machine(5)
    profile: int = machine(0)


def config_text(config: TrainConfig) -> str:
    """A configuration as the YAML file that `--config` reads."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


MEANINGS: Mapping[str, Meaning] = meanings(TrainConfig)
_ADDED: Mapping[str, Any] = added_defaults(TrainConfig)


def what_is_learned(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a configuration in plain containers that decide what is learned.

    Fields that this version does not know count as such; groups without any are left out. So are
    fields that 0.1.0 did not have, at their defaults.
    """
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            if group := what_is_learned(value, f"{prefix}{name}."):
                kept[name] = group
        elif prefix + name in _ADDED and value == _ADDED[prefix + name]:
            continue
        elif MEANINGS.get(prefix + name, Meaning.LEARNED) is Meaning.LEARNED:
            kept[name] = value
    return kept

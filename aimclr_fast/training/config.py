"""What a pretraining run is made of. The defaults are the published recipe (NTU RGB+D)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aimclr_fast._schedule import SCHEDULES
from aimclr_fast.functional import STREAMS, AugmentConfig
from aimclr_fast.nn import METHODS, Parts
from aimclr_fast.nn.aimclr import INITS

from .placement import PLACEMENTS
from .precision import PRECISIONS

BATCH_STATISTICS = ("rank", "synchronised")
# A slip of the finger beyond these would fill the memory before anyone is told.
MOST_CHANNELS, MOST_TAPS = 8192, 999


class ConfigError(ValueError):
    """A field has a value that cannot work; the message names the field."""


@dataclass
class DataConfig:
    """Which sequences to learn from.

    Attributes:
        store: folder of a store, or the name of an embedded one.
        split: which samples train and which test, as declared by the store. --split is short for
            it.
        stream: joint, motion or bone, or several with commas between: an encoder is trained on
            each, side by side. --streams is short for it.
        frame_step: take every so many frames; 1 takes all.
    """

    store: str = "ui_prmd"
    split: str = "xsub"
    stream: str = "joint"
    frame_step: int = 1

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
        temporal_kernel: frames a temporal convolution sees, odd.
        queue_size: keys in the queue.
        momentum: share of itself the key encoder keeps each step.
        temperature: softmax temperature of the losses.
        keep_prob: attention at which energy-based dropping drops.
        topk: neighbours mined per row once mining starts.
        d3m_weight: weight of each of the two losses of the extreme view.
        extreme: encode the extreme view; null here and below: as the method does.
        eadm: energy-based dropping on the extreme view.
        d3m: match distributions; false takes the InfoNCE of the extreme view's rows instead.
        nnm: mine nearest neighbours, from optim.mining_epoch on.
        init: copy (torch's weights, the key encoder a copy, as MoCo) or official (ST-GCN's weights,
            drawn apart for the key encoder, as the authors' code).
    """

    channels: int = 16
    features: int = 256
    embedding: int = 128
    dropout: float = 0.5
    temporal_kernel: int = 9
    queue_size: int = 32768
    momentum: float = 0.999
    temperature: float = 0.07
    keep_prob: float = 0.7
    topk: int = 1
    d3m_weight: float = 0.5
    extreme: bool | None = None
    eadm: bool | None = None
    d3m: bool | None = None
    nnm: bool | None = None
    init: str = "copy"


@dataclass
class OptimConfig:
    """Stochastic gradient descent and its schedule; epochs count from 1.

    Attributes:
        epochs: passes over the training samples.
        batch_size: sequences per step, over all processes; the last, incomplete batch of an epoch
            is dropped.
        lr: base learning rate.
        momentum: of the optimiser.
        weight_decay: of the optimiser.
        clip_norm: largest norm of the gradient, longer ones are shortened; 0 leaves it as it is.
        schedule: step (times gamma at each milestone) or cosine (to zero).
        milestones: last epochs at the rate before; the next epoch has it times gamma.
        gamma: factor at each milestone.
        warmup_epochs: the rate climbs linearly over these first epochs.
        mining_epoch: first epoch with nearest-neighbour mining; 0 never mines.
    """

    epochs: int = 300
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    schedule: str = "step"
    milestones: list[int] = field(default_factory=lambda: [250])
    gamma: float = 0.1
    warmup_epochs: int = 0
    mining_epoch: int = 151


@dataclass
class MonitorConfig:
    """What is measured during and after training on the split's test samples; at the same epochs
    the best checkpoint is chosen, on validation samples or training folds.

    Attributes:
        knn_every: epochs between two kNN measurements; 0 measures only before and after.
        linear_probe: fit a logistic regression on the features at the end.
        raw_poses: also fit it on the raw poses, for comparison; slow on large data sets.
        batch_size: sequences encoded at once.
    """

    knn_every: int = 10
    linear_probe: bool = True
    raw_poses: bool = False
    batch_size: int = 256


@dataclass
class TrainConfig:
    """A pretraining run.

    Attributes:
        method: aimclr, or skeletonclr (momentum contrast between two normal views: AimCLR with
            extreme, eadm, d3m and nnm off).
        data: which sequences.
        augment: amplitudes and probabilities of the augmentations.
        model: encoder, queue, losses.
        optim: optimiser and schedule.
        monitor: what is measured.
        output: folder for the run; runs/STORE-PROTOCOL-STREAM-TIME when left out.
        resume: auto goes on with the run in output if there is one; a folder goes on with its run
            as configured there.
        seed: of weights, draws and shuffling.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        placement: where the sequences are kept: device, pinned (host memory that the GPU reads in
            place), mmap (in the file, read one batch ahead), or auto for the first that is large
            enough.
        batch_statistics: with several processes, what batch norm and energy-based dropping take for
            the batch in training: rank (each process's share; the running statistics are the mean
            over processes) or synchronised (the global batch, as one process would have it; with
            the reference's slower blocks).
        precision: what the encoder computes in: fp32, tf32, bf16 (statistics and losses stay in
            float32), or auto for bf16 on GPUs that have it and fp32 elsewhere.
        cuda_graph: on a GPU, launch each step as one CUDA graph.
        backend: of the ops; auto picks the fastest that can run.
        encoder_backend: of the encoder's blocks, if another than backend.
        threads: CPU threads; 0 leaves it to torch.
        save_every: epochs between two checkpoints.
        save_steps: steps between two checkpoints, in long epochs; 0 for none within an epoch.
        save_seconds: seconds between two checkpoints, in long epochs; 0 for none within an epoch.
        keep: checkpoints kept: checkpoint.pt, the newest, and those before it, previous-1.pt, ...;
            the best by kNN on validation samples or training folds is kept in best.pt besides.
        max_skipped: steps in a row whose loss or gradient is not finite, after which the run stops;
            they are skipped.
        profile: instead of training, take this many steps and say where their time goes.
    """

    method: str = "aimclr"
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    output: str | None = None
    resume: str | None = None
    seed: int = 0
    device: str = "auto"
    placement: str = "auto"
    batch_statistics: str = "rank"
    precision: str = "auto"
    cuda_graph: bool = True
    backend: str = "auto"
    encoder_backend: str | None = None
    threads: int = 0
    save_every: int = 10
    save_steps: int = 0
    save_seconds: float = 600.0
    keep: int = 2
    max_skipped: int = 5
    profile: int = 0

    @property
    def parts(self) -> Parts:
        """The method's parts, with those of the model's switches that are set."""
        names = ("extreme", "eadm", "d3m", "nnm")
        switches = {name: getattr(self.model, name) for name in names}
        given = {name: on for name, on in switches.items() if on is not None}
        try:
            return replace(METHODS[self.method], **given)
        except ValueError as error:
            raise ConfigError(f"model.{error}") from error

    def validate(self, train_samples: int) -> None:
        """Check the fields against each other and the number of training samples.

        Raises:
            ConfigError: naming the field, its value and what would do.
        """

        def require(holds: bool, name: str, wanted: str) -> None:
            value: object = self
            for part in name.split("."):
                value = getattr(value, part)
            if not holds:
                raise ConfigError(f"{name} is {value!r}, but must be {wanted}")

        data, model, optim = self.data, self.model, self.optim
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}")
        mines = model.topk > 0 and optim.mining_epoch > 0
        require(mines or not model.nnm, "model.nnm", "off with model.topk or optim.mining_epoch 0")
        _ = self.parts  # refuses switches that contradict each other
        different = len(set(data.streams)) == len(data.streams)
        names = f"one of {', '.join(STREAMS)}, or different ones with commas between"
        require(different and set(data.streams) <= set(STREAMS), "data.stream", names)
        require(data.frame_step >= 1, "data.frame_step", "at least 1")
        require(model.init in INITS, "model.init", f"one of {', '.join(INITS)}")
        require(optim.schedule in SCHEDULES, "optim.schedule", f"one of {', '.join(SCHEDULES)}")
        for name in ("channels", "features", "embedding"):
            within = 1 <= getattr(model, name) <= MOST_CHANNELS
            require(within, f"model.{name}", f"from 1 to {MOST_CHANNELS}")
        require(optim.batch_size >= 1, "optim.batch_size", "at least 1")
        require(optim.epochs >= 1, "optim.epochs", "at least 1")
        require(optim.lr >= 0, "optim.lr", "at least 0")
        require(0 <= optim.momentum < 1, "optim.momentum", "in [0, 1)")
        require(optim.weight_decay >= 0, "optim.weight_decay", "at least 0")
        require(optim.warmup_epochs >= 0, "optim.warmup_epochs", "at least 0")
        require(optim.mining_epoch >= 0, "optim.mining_epoch", "at least 0")
        require(0 <= model.dropout < 1, "model.dropout", "in [0, 1)")
        require(0 <= model.momentum <= 1, "model.momentum", "in [0, 1]")
        require(model.temperature > 0, "model.temperature", "positive")
        require(0 < model.keep_prob <= 1, "model.keep_prob", "in (0, 1]")
        odd = model.temporal_kernel % 2 == 1 and 1 <= model.temporal_kernel <= MOST_TAPS
        require(odd, "model.temporal_kernel", f"odd, from 1 to {MOST_TAPS}")
        require(model.topk >= 0, "model.topk", "at least 0")
        require(
            max(optim.batch_size, model.topk, 1) <= model.queue_size < 2**31,
            "model.queue_size",
            f"below 2^31 and at least the batch size ({optim.batch_size}) and topk ({model.topk})",
        )
        require(
            optim.batch_size <= train_samples,
            "optim.batch_size",
            f"at most the number of training samples ({train_samples})",
        )
        require(self.monitor.batch_size >= 1, "monitor.batch_size", "at least 1")
        require(self.monitor.knn_every >= 0, "monitor.knn_every", "at least 0")
        require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        known = ", ".join(BATCH_STATISTICS)
        require(self.batch_statistics in BATCH_STATISTICS, "batch_statistics", f"one of {known}")
        require(self.placement in PLACEMENTS, "placement", f"one of {', '.join(PLACEMENTS)}")
        require(optim.clip_norm >= 0, "optim.clip_norm", "at least 0")
        require(self.profile >= 0, "profile", "at least 0")
        for name in ("save_every", "keep", "max_skipped"):
            require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("save_steps", "save_seconds"):
            require(getattr(self, name) >= 0, name, "at least 0")
        require(self.threads >= 0, "threads", "at least 0")
        require(0 <= self.seed < 2**64, "seed", "in 0..2^64-1")

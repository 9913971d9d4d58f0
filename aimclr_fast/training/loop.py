"""The pretraining loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from aimclr_fast.data import Store
from aimclr_fast.functional import skeleton_augment
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder

from .config import TrainConfig
from .progress import LOSSES
from .schedule import learning_rate, mines

READ_BACK = 0.25  # seconds between two readings of the losses: reading waits for the device


def pick_device(name: str) -> torch.device:
    """`name` as a device; "auto" is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def build_model(config: TrainConfig, store: Store) -> AimCLR:
    """The model of a configuration, with weights drawn from torch's generator."""
    model = config.model
    backbone = STGCN(
        store.layout,
        in_channels=3,
        channels=model.channels,
        features=model.features,
        dropout=model.dropout,
        temporal_kernel=model.temporal_kernel,
    )
    return AimCLR(
        SkeletonEncoder(backbone, model.embedding),
        embedding=model.embedding,
        queue_size=model.queue_size,
        momentum=model.momentum,
        temperature=model.temperature,
        keep_prob=model.keep_prob,
        d3m_weight=model.d3m_weight,
        init=model.init,
        backend=config.backend,
    )


class Pretraining:
    """The state of a run and the step that moves it.

    Args:
        config: a validated configuration.
        store: where the layout comes from.
        data: all sequences, resident on the device.
        train_index: samples to learn from.
    """

    def __init__(
        self, config: TrainConfig, store: Store, data: Tensor, train_index: Tensor
    ) -> None:
        self.config = config
        self.data = data
        self.train_index = train_index.cpu()
        self.model = build_model(config, store).to(data.device)
        self.optimizer = torch.optim.SGD(
            self.model.query_encoder.parameters(),
            lr=config.optim.lr,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
        )
        self.layout = store.layout
        self.epoch = 0
        self.step = 0

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_index) // self.config.optim.batch_size

    def shuffled(self, epoch: int) -> Tensor:
        """Training samples in the order of one epoch, a function of the seed and the epoch."""
        # The low 63 bits: torch's generator takes no more.
        seed = (self.config.seed * 1_000_003 + epoch) % 2**63
        order = torch.randperm(len(self.train_index), generator=torch.Generator().manual_seed(seed))
        return self.train_index[order]

    def train_epoch(self) -> Iterator[Tensor]:
        """Run the next epoch; after each step, yields its LOSSES as one tensor on the device."""
        self.epoch += 1
        self.model.train()
        topk = self.config.model.topk if mines(self.config.optim, self.epoch) else 0
        batches = self.shuffled(self.epoch).split(self.config.optim.batch_size)
        for index in batches[: self.steps_per_epoch]:
            yield self.train_step(index.to(self.data.device), topk)

    def train_step(self, index: Tensor, topk: int) -> Tensor:
        """One step on the samples `index`; returns LOSSES, not yet read back."""
        lr = learning_rate(self.config.optim, self.step, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        views = skeleton_augment(
            self.data,
            index,
            layout=self.layout,
            config=self.config.augment,
            seed=self.config.seed,
            step=self.step,
            stream=self.config.data.stream,
            backend=self.config.backend,
        )
        output = self.model(views.extreme, views.query, views.key, topk)
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        self.optimizer.step()
        self.model.enqueue(output.keys)
        self.step += 1
        return torch.stack([getattr(output, name).detach() for name in LOSSES])


class LossReader:
    """Averages losses on the device and reads them back now and then, not every step."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0
        self._last_read = -float("inf")
        self.latest: dict[str, float] | None = None

    def add(self, losses: Tensor) -> bool:
        """Take one step's losses; True when `latest` was read anew."""
        self._sum = losses if self._sum is None else self._sum + losses
        self._count += 1
        if time.perf_counter() - self._last_read < READ_BACK:
            return False
        self.latest = dict(zip(LOSSES, losses.tolist(), strict=True))
        self._last_read = time.perf_counter()
        return True

    def epoch_mean(self) -> dict[str, float]:
        """Means since the last call."""
        assert self._sum is not None, "no step was taken"
        means = (self._sum / self._count).tolist()
        self._sum, self._count = None, 0
        return dict(zip(LOSSES, means, strict=True))

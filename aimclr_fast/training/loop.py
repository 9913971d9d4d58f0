"""The pretraining loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aimclr_fast._sections import section
from aimclr_fast.data import Store
from aimclr_fast.functional import skeleton_augment
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder

from .config import TrainConfig
from .graph import GraphedStep
from .placement import Batch, Placed, batches
from .precision import autocast, resolve_precision, use_precision
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
    aimclr = AimCLR(
        SkeletonEncoder(backbone, model.embedding),
        embedding=model.embedding,
        queue_size=model.queue_size,
        momentum=model.momentum,
        temperature=model.temperature,
        keep_prob=model.keep_prob,
        d3m_weight=model.d3m_weight,
        parts=config.parts,
        init=model.init,
        backend=config.backend,
    )
    if config.encoder_backend is not None:
        for encoder in (aimclr.query_encoder, aimclr.key_encoder):
            encoder.backend = config.encoder_backend
    return aimclr


class Pretraining:
    """The state of a run and the step that moves it.

    Args:
        config: a validated configuration.
        store: where the layout comes from.
        placed: all sequences, where they are kept.
        train_index: samples to learn from.
        device: what trains.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: Store,
        placed: Placed,
        train_index: Tensor,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.placed = placed
        self.train_index = train_index.cpu()
        self.layout = store.layout
        self.precision = resolve_precision(config.precision, device)
        use_precision(self.precision, device)
        self.model = build_model(config, store).to(device)
        # On a GPU all that changes from step to step is read from the GPU's memory, so that the
        # step can be one graph.
        cuda = device.type == "cuda"
        self._lr = torch.zeros((), device=device)
        self.optimizer = torch.optim.SGD(
            self.model.query_encoder.parameters(),
            lr=self._lr if cuda else config.optim.lr,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
            fused=cuda,
        )
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._index = torch.zeros(config.optim.batch_size, dtype=torch.int64, device=device)
        self._rows: Tensor | None = None
        self._graphs: dict[int, GraphedStep] = {}
        self.use_graphs = config.cuda_graph
        self.epoch = 0
        self.step = 0

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_index) // self.config.optim.batch_size

    @property
    def topk(self) -> int:
        """Neighbours mined in the current epoch."""
        return self.config.model.topk if mines(self.config.optim, self.epoch) else 0

    def shuffled(self, epoch: int) -> Tensor:
        """Training samples in the order of one epoch, a function of the seed and the epoch."""
        # The low 63 bits: torch's generator takes no more.
        seed = (self.config.seed * 1_000_003 + epoch) % 2**63
        order = torch.randperm(len(self.train_index), generator=torch.Generator().manual_seed(seed))
        return self.train_index[order]

    def train_epoch(self) -> Iterator[Tensor]:
        """Run the next epoch; after each step, yields its LOSSES as one tensor on the device.

        The next step overwrites it.
        """
        self.epoch += 1
        self.model.train()
        for batch in self.epoch_batches(self.epoch):
            yield self.train_step(batch)

    def epoch_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in its order."""
        order = self.shuffled(epoch).split(self.config.optim.batch_size)
        return batches(self.placed, list(order[: self.steps_per_epoch]), self.device)

    def train_step(self, batch: Batch) -> Tensor:
        """One step; returns LOSSES, not yet read back."""
        lr = learning_rate(self.config.optim, self.step, self.steps_per_epoch)
        if self.device.type == "cuda":
            losses = self._graphed_step(batch, lr)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            losses = self._eager_step(batch, self.step, self.topk)
        self.step += 1
        return losses

    def _graphed_step(self, batch: Batch, lr: float) -> Tensor:
        self._lr.fill_(lr)
        self._step.fill_(self.step)
        self._index.copy_(batch.index)
        data = batch.data
        if self.placed.where == "mmap":
            if self._rows is None:
                self._rows = torch.empty_like(data)
            data = self._rows.copy_(data)
        topk = self.topk
        if topk not in self._graphs:
            self._graphs.clear()  # mining has begun: the graph without is not needed again
            still = Batch(data, self._index)
            self._graphs[topk] = GraphedStep(
                lambda: self._eager_step(still, self._step, topk), self.device
            )
        graph = self._graphs[topk]
        return graph() if self.use_graphs else graph.alone()

    @property
    def graph_why_not(self) -> str | None:
        """Why steps are not CUDA graphs, if they could be and are not."""
        reasons = (graph.why_not for graph in self._graphs.values())
        return next((reason for reason in reasons if reason is not None), None)

    def _eager_step(self, batch: Batch, step: int | Tensor, topk: int) -> Tensor:
        config = self.config
        with section("augment"):
            views = skeleton_augment(
                batch.data,
                batch.index,
                layout=self.layout,
                config=config.augment,
                seed=config.seed,
                step=step,
                stream=config.data.stream,
                backend=config.backend,
            )
        with autocast(self.precision, self.device):
            output = self.model(views.extreme, views.query, views.key, topk)
        with section("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            output.loss.backward()
        with section("optimiser"):
            if config.optim.clip_norm > 0:
                nn.utils.clip_grad_norm_(
                    self.model.query_encoder.parameters(), config.optim.clip_norm
                )
            self.optimizer.step()
            self.model.enqueue(output.keys)
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
        self._sum = losses.clone() if self._sum is None else self._sum + losses
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

"""The pretraining loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from aimclr_fast._sections import section
from aimclr_fast.data import Store
from aimclr_fast.functional import Views, skeleton_augment_streams

from .config import TrainConfig
from .graph import GraphedStep
from .placement import Batch, Placed, batches
from .precision import resolve_precision, use_precision
from .progress import LOSSES
from .schedule import learning_rate, mines
from .streams import StreamTraining, by_stream

READ_BACK = 0.25  # seconds between two readings of the losses: reading waits for the device


def pick_device(name: str) -> torch.device:
    """`name` as a device; "auto" is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class Pretraining:
    """The state of a run and the step that moves it.

    Args:
        config: a validated configuration; its seed becomes that of torch's generator.
        store: where the layout comes from.
        placed: all sequences, where they are kept.
        train_index: samples to learn from.
        device: what trains.

    Attributes:
        streams: models and optimisers by stream; they share the batches and the draws.
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
        # On a GPU all that changes from step to step is read from the GPU's memory, so that the
        # step can be one graph.
        self._lr = torch.zeros((), device=device)
        self.streams = {
            stream: StreamTraining(config, store.layout, device, self.precision, self._lr)
            for stream in config.data.streams
        }
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
        """Run the next epoch; after each step, yields each stream's LOSSES as one tensor
        [streams, LOSSES] on the device.

        The next step overwrites it.
        """
        self.epoch += 1
        for stream in self.streams.values():
            stream.model.train()
        for batch in self.epoch_batches(self.epoch):
            yield self.train_step(batch)

    def epoch_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in its order."""
        order = self.shuffled(epoch).split(self.config.optim.batch_size)
        return batches(self.placed, list(order[: self.steps_per_epoch]), self.device)

    def train_step(self, batch: Batch) -> Tensor:
        """One step of each stream; returns [streams, LOSSES], not yet read back."""
        lr = learning_rate(self.config.optim, self.step, self.steps_per_epoch)
        if self.device.type == "cuda":
            losses = self._graphed_step(batch, lr)
        else:
            for stream in self.streams.values():
                for group in stream.optimizer.param_groups:
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

    def augment(self, batch: Batch, step: int | Tensor) -> tuple[Views, ...]:
        """The views of a step's batch in each stream, from one read."""
        config = self.config
        return skeleton_augment_streams(
            batch.data,
            batch.index,
            layout=self.layout,
            config=config.augment,
            seed=config.seed,
            step=step,
            streams=tuple(self.streams),
            backend=config.backend,
        )

    def _eager_step(self, batch: Batch, step: int | Tensor, topk: int) -> Tensor:
        with section("augment"):
            views = self.augment(batch, step)
        pairs = zip(self.streams.values(), views, strict=True)
        return torch.stack([stream.step(its_views, topk) for stream, its_views in pairs])


class LossReader:
    """Averages losses on the device and reads them back now and then, not every step.

    Args:
        streams: names of the rows of what is added.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self._streams = tuple(streams)
        self._sum: Tensor | None = None
        self._count = 0
        self._last_read = -float("inf")
        self.latest: dict[str, float] | None = None

    def add(self, losses: Tensor) -> bool:
        """Take one step's [streams, LOSSES]; True when `latest` was read anew."""
        self._sum = losses.clone() if self._sum is None else self._sum + losses
        self._count += 1
        if time.perf_counter() - self._last_read < READ_BACK:
            return False
        self.latest = self._named(losses)
        self._last_read = time.perf_counter()
        return True

    def epoch_mean(self) -> dict[str, float]:
        """Means since the last call."""
        assert self._sum is not None, "no step was taken"
        means = self._named(self._sum / self._count)
        self._sum, self._count = None, 0
        return means

    def _named(self, losses: Tensor) -> dict[str, float]:
        rows = [dict(zip(LOSSES, row, strict=True)) for row in losses.tolist()]
        return by_stream(dict(zip(self._streams, rows, strict=True)))

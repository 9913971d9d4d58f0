"""The pretraining loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aimclr_fast._sections import section
from aimclr_fast.data import Store
from aimclr_fast.functional import Views, skeleton_augment_streams

from .config import TrainConfig
from .distributed import Ranks
from .graph import GraphedStep
from .guard import REPORT
from .placement import Batch, Placed, batches
from .precision import resolve_precision, use_precision
from .schedule import learning_rate, mines
from .streams import StreamTraining

READ_BACK = 0.25  # seconds between two readings of the losses: reading waits for the device
TAKEN = REPORT.index("taken")


class Pretraining:
    """The state of a run and the step that moves it.

    Args:
        config: a validated configuration; its seed becomes that of torch's generator.
        store: where the layout comes from.
        placed: all sequences, where they are kept.
        train_index: samples to learn from.
        device: what trains.
        ranks: the processes that train as one; each takes its share of every batch.

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
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self.ranks = ranks or Ranks()
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
            stream: StreamTraining(
                config, store.layout, device, self.precision, self._lr, self.ranks
            )
            for stream in config.data.streams
        }
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        share = config.optim.batch_size // self.ranks.size
        self._index = torch.zeros(share, dtype=torch.int64, device=device)
        self._rows: Tensor | None = None
        self._graphs: dict[int, GraphedStep] = {}
        self.use_graphs = config.cuda_graph
        self.epoch = 0
        self.step = 0
        self.resumed = False  # within an epoch, or before what is done at its end

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
        """Run the next epoch, or after `load_state` what is left of the one it was saved in.

        After each step, yields each stream's REPORT as one tensor [streams, REPORT] on the device;
        the next step overwrites it.
        """
        if not self.resumed:
            self.epoch += 1
        self.resumed = False
        for stream in self.streams.values():
            stream.model.train()
        for batch in self.epoch_batches(self.epoch, self.step_in_epoch):
            yield self.train_step(batch)

    @property
    def step_in_epoch(self) -> int:
        """Steps of the current epoch that were taken."""
        return self.step - max(self.epoch - 1, 0) * self.steps_per_epoch

    def epoch_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This rank's share of the batches of one epoch, in its order, from the `first` on."""
        order = self.shuffled(epoch).split(self.config.optim.batch_size)
        shares = [self.ranks.share(rows) for rows in order[first : self.steps_per_epoch]]
        return batches(self.placed, shares, self.device)

    def samples_of(self, step: int) -> Tensor:
        """Indices [N] of the samples of any step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self.config.optim.batch_size
        return self.shuffled(epoch + 1)[place * size : (place + 1) * size]

    def place_state(self) -> dict[str, Any]:
        """What the loop must know to go on exactly, besides weights, optimisers and step.

        All ranks call it at once: each has its own draws of dropout.
        """
        own: dict[str, Any] = {
            "streams": {name: stream.place_state() for name, stream in self.streams.items()},
            "torch_rng": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            own["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return {"ranks": self.ranks.collect(own)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of a run of the same configuration and data."""
        places = state["place"]["ranks"]
        as_many = len(places) == self.ranks.size
        place = places[self.ranks.rank if as_many else 0]
        self.epoch, self.step = state["epoch"], state["step"]
        self.resumed = True
        for name, stream in self.streams.items():
            models, optimizers = state["models"], state["optimizers"]
            stream.load_state(models[name], optimizers[name], place["streams"][name])
        if not as_many:
            for stream in self.streams.values():
                stream.seed_draws(self.step)
            return
        torch.set_rng_state(place["torch_rng"])
        if self.device.type == "cuda" and "cuda_rng" in place:
            torch.cuda.set_rng_state(place["cuda_rng"].cpu(), self.device)

    def train_step(self, batch: Batch) -> Tensor:
        """One step of each stream; returns [streams, REPORT], not yet read back."""
        lr = learning_rate(self.config.optim, self.step, self.steps_per_epoch)
        if self.device.type == "cuda":
            report = self._graphed_step(batch, lr)
        else:
            for stream in self.streams.values():
                for group in stream.optimizer.param_groups:
                    group["lr"] = lr
            report = self._eager_step(batch, self.step, self.topk)
        self.step += 1
        return report

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
            self.free_graphs()  # mining has begun: the graph without is not needed again
            self._graphs[topk] = GraphedStep(self.device)
        graph, still = self._graphs[topk], Batch(data, self._index)
        run = graph if self.use_graphs else graph.alone
        return run(lambda: self._eager_step(still, self._step, topk))

    def free_graphs(self) -> None:
        """Destroy the CUDA graphs; steps after this capture new ones.

        With several GPUs they hold messages of the process group, and must be gone before it is.
        """
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()

    @property
    def graph_why_not(self) -> str | None:
        """Why steps are not CUDA graphs, if they could be and are not."""
        reasons = (graph.why_not for graph in self._graphs.values())
        return next((reason for reason in reasons if reason is not None), None)

    def augment(self, batch: Batch, step: int | Tensor, offset: int = 0) -> dict[str, Views]:
        """The views of a step's batch in each stream, from one read.

        The batch's first row is at `offset` of the global batch.
        """
        config = self.config
        views = skeleton_augment_streams(
            batch.data,
            batch.index,
            layout=self.layout,
            config=config.augment,
            seed=config.seed,
            step=step,
            offset=offset,
            streams=tuple(self.streams),
            backend=config.backend,
        )
        return dict(zip(self.streams, views, strict=True))

    def _eager_step(self, batch: Batch, step: int | Tensor, topk: int) -> Tensor:
        with section("augment"):
            views = self.augment(batch, step, self.ranks.rank * len(batch.index))
        return torch.stack(
            [stream.train_step(views[name], step, topk) for name, stream in self.streams.items()]
        )


class LossReader:
    """Averages the reports of steps on the device and reads them now and then, not every step.

    Steps that were skipped do not count. `state` goes into checkpoints, so that the means of an
    epoch that was interrupted are those of all its steps.

    Args:
        streams: names of the rows of a report.
        state: of the reader that goes on.

    Attributes:
        latest: what was read last, by stream and name.
    """

    def __init__(self, streams: Iterable[str], state: Tensor | None = None) -> None:
        self._streams = tuple(streams)
        self.state = state
        self._last_read = -float("inf")
        self.latest: dict[str, dict[str, float]] | None = None

    def add(self, report: Tensor) -> bool:
        """Take one step's [streams, REPORT]; True when `latest` was read anew."""
        counted = torch.where(report[:, TAKEN, None] > 0, report, 0.0)
        self.state = counted if self.state is None else self.state + counted
        # The CPU has nothing to wait for.
        if report.is_cuda and time.perf_counter() - self._last_read < READ_BACK:
            return False
        self.latest = self._named(report)
        self._last_read = time.perf_counter()
        return True

    def epoch_mean(self) -> dict[str, dict[str, float]]:
        """Means by stream and name over the steps since the last call; NaN if all were skipped."""
        assert self.state is not None, "no step was taken"
        means = self._named((self.state / self.state[:, TAKEN, None])[:, :TAKEN])
        self.state = None
        return means

    def _named(self, rows: Tensor) -> dict[str, dict[str, float]]:
        numbers = [dict(zip(REPORT, row, strict=False)) for row in rows.tolist()]
        return dict(zip(self._streams, numbers, strict=True))

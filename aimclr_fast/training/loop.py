"""The pretraining loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aimclr_fast._sections import section
from aimclr_fast.data import Store
from aimclr_fast.functional import Views, skeleton_augment
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder

from .config import TrainConfig
from .distributed import Ranks, average_
from .graph import GraphedStep
from .guard import REPORT, StepGuard
from .placement import Batch, Placed, batches
from .precision import autocast, resolve_precision, use_precision
from .progress import LOSSES
from .schedule import learning_rate, mines

READ_BACK = 0.25  # seconds between two readings of the losses: reading waits for the device
TAKEN = REPORT.index("taken")


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
        ranks: the processes that train as one; each takes its share of every batch.
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
        self.epoch = 0
        self.step = 0
        self.device = device
        self.placed = placed
        self.train_index = train_index.cpu()
        self.layout = store.layout
        self.precision = resolve_precision(config.precision, device)
        use_precision(self.precision, device)
        self.model = build_model(config, store).to(device)  # the same weights on all ranks
        self._synchronised = self.ranks.size > 1 and config.batch_statistics == "synchronised"
        if self._synchronised:
            for encoder in (self.model.query_encoder, self.model.key_encoder):
                encoder.backbone.over_ranks = self.ranks
        self._seed_ranks()
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
        if cuda and config.optim.momentum > 0:
            # The fused optimiser would leave them unset if the very first step is not taken.
            for parameter in self.model.query_encoder.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.guard = StepGuard(self.model, device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        share = config.optim.batch_size // self.ranks.size
        self._index = torch.zeros(share, dtype=torch.int64, device=device)
        self._rows: Tensor | None = None
        self._graphs: dict[int, GraphedStep] = {}
        self.use_graphs = config.cuda_graph
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

        After each step, yields its REPORT as one tensor on the device; the next step overwrites it.
        """
        if not self.resumed:
            self.epoch += 1
        self.resumed = False
        self.model.train()
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
        """What the loop must know to go on exactly, besides weights, optimiser and step.

        All ranks call it at once: each draws its own dropout.
        """
        draws = [torch.get_rng_state()]
        if self.device.type == "cuda":
            draws.append(torch.cuda.get_rng_state(self.device))
        return {"skipped": self.guard.skipped.clone(), "rng": self.ranks.collect(draws)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of a run of the same configuration and data."""
        stream = self.config.data.stream
        self.model.load_state_dict(state["models"][stream])
        # Its settings are this run's: the saved ones may belong to another kind of device.
        momenta = state["optimizers"][stream]["state"]
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": momenta, "param_groups": settings})
        if self.device.type == "cuda":
            for group in self.optimizer.param_groups:
                group["lr"] = self._lr
        self.epoch, self.step = state["epoch"], state["step"]
        self.resumed = True
        self.guard.skipped.copy_(state["place"]["skipped"])
        draws = state["place"]["rng"]
        if len(draws) != self.ranks.size:
            self._seed_ranks(always=True)
            return
        own = draws[self.ranks.rank]
        torch.set_rng_state(own[0])
        if self.device.type == "cuda" and len(own) > 1:
            torch.cuda.set_rng_state(own[1], self.device)

    def _seed_ranks(self, *, always: bool = False) -> None:
        """Give each rank its own draws of dropout; the first one goes on with those it has."""
        if always or not self.ranks.first:
            place = self.step * self.ranks.size + self.ranks.rank
            torch.manual_seed((self.config.seed * 1_000_003 + place) % 2**63)

    def train_step(self, batch: Batch) -> Tensor:
        """One step; returns its REPORT, not yet read back."""
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

    def augment(self, batch: Batch, step: int | Tensor, offset: int = 0) -> Views:
        """The views of a step's batch, whose first row is at `offset` of the global batch."""
        config = self.config
        return skeleton_augment(
            batch.data,
            batch.index,
            layout=self.layout,
            config=config.augment,
            seed=config.seed,
            step=step,
            offset=offset,
            stream=config.data.stream,
            backend=config.backend,
        )

    def _eager_step(self, batch: Batch, step: int | Tensor, topk: int) -> Tensor:
        with section("augment"):
            offset = self.ranks.rank * len(batch.index)
            views = self.augment(batch, step, offset)
        statistics = self.guard.remember()
        with autocast(self.precision, self.device):
            output = self.model(views.extreme, views.query, views.key, topk)
        with section("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            output.loss.backward()
        losses = torch.stack([getattr(output, name).detach() for name in LOSSES])
        positives = _positives(output.neighbors)
        keys = output.keys
        if self.ranks.size > 1:
            with section("messages"):
                gradients = [
                    p.grad for p in self.model.query_encoder.parameters() if p.grad is not None
                ]
                average_(self.ranks, (gradients, self.guard.statistics, [losses, positives]))
                keys = self.ranks.gather(keys)
        with section("optimiser"):
            norm = self._gradient_norm()
            fine = self.guard.judge(losses, norm, step)
            if self.device.type == "cuda":
                self.optimizer.found_inf = (~fine).float()  # type: ignore[attr-defined]
                self.optimizer.step()
            elif fine:
                self.optimizer.step()
            self.guard.restore(statistics, fine)
            self.model.enqueue(keys, fine)
        counts = torch.stack([norm, positives, fine, *self.guard.skipped])
        return torch.cat([losses, counts.to(losses.dtype)])

    def _gradient_norm(self) -> Tensor:
        """Norm of the gradient, which is shortened if it is too long."""
        parameters = list(self.model.query_encoder.parameters())
        longest = self.config.optim.clip_norm
        if longest > 0:
            return nn.utils.clip_grad_norm_(parameters, longest)
        return nn.utils.get_total_norm(p.grad for p in parameters if p.grad is not None)


def _positives(neighbors: Tensor) -> Tensor:
    """Mean number of positives in a row, of the neighbours mined [N, 3, topk]."""
    mined = neighbors.flatten(1).sort(1).values
    if mined.shape[1] == 0:
        return torch.ones((), device=mined.device)
    again = (mined[:, 1:] == mined[:, :-1]).sum(1)
    return 1 + mined.shape[1] - again.float().mean()


class LossReader:
    """Averages the reports of steps on the device and reads them now and then, not every step.

    Steps that were skipped do not count. `state` goes into checkpoints, so that the means of an
    epoch that was interrupted are those of all its steps.
    """

    def __init__(self, state: Tensor | None = None) -> None:
        self.state = state
        self._last_read = -float("inf")
        self.latest: dict[str, float] | None = None

    def add(self, report: Tensor) -> bool:
        """Take one step's report; True when `latest` was read anew."""
        counted = torch.where(report[TAKEN] > 0, report, 0.0)
        self.state = counted if self.state is None else self.state + counted
        # The CPU has nothing to wait for.
        if report.is_cuda and time.perf_counter() - self._last_read < READ_BACK:
            return False
        self.latest = dict(zip(REPORT, report.tolist(), strict=True))
        self._last_read = time.perf_counter()
        return True

    def epoch_mean(self) -> dict[str, float]:
        """Means over the steps since the last call; NaN if all were skipped."""
        assert self.state is not None, "no step was taken"
        means = dict(zip(REPORT[:TAKEN], (self.state / self.state[TAKEN]).tolist(), strict=False))
        self.state = None
        return means

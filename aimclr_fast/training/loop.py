"""The pretraining loop: epochs, and a whole step from the batch to the queue.

A step is `Pretraining.train_step`, which runs `_step` as it is on a CPU and as a CUDA graph on a
GPU. What it calls is beside it, `streams` (models and an optimizer) and `guard` (steps that are not
taken), and in `nn`, where the method makes views (`Method.augment`) and has its forward pass
(`Method.forward`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aimclr_fast._schedule import learning_rate
from aimclr_fast._sections import section
from aimclr_fast.config import ConfigError
from aimclr_fast.layouts import Layout
from aimclr_fast.nn.methods import Sampled, Views
from aimclr_fast.nn.precision import autocast, use_precision

from .distributed import average_
from .graph import GraphedStep
from .guard import report_names
from .job import Job
from .placement import Batch, Placed, batches
from .start import starting_encoders
from .streams import StreamState


class Pretraining:
    """The state of a run and the step that moves it.

    Args:
        job: the configuration, resolved; its seed becomes that of torch's generator.
        layout: of the skeleton.
        placed: all sequences, where they are kept.
        train_index: samples to learn from.

    Attributes:
        learners: models and an optimizer of each stream, or of all that learn together; they
            share the batches and the draws.
        streams: the learner of each stream.
        names: of what a step reports for each stream.
    """

    def __init__(self, job: Job, layout: Layout, placed: Placed, train_index: Tensor) -> None:
        self.job, self.config = job, job.config
        self.ranks, self.device = job.ranks, job.device
        self.placed = placed
        self.train_index = train_index.cpu()
        self.layout = layout
        self.names = report_names(job.losses)
        use_precision(job.precision, self.device)
        # On a GPU all that changes from step to step is read from the GPU's memory, so that the
        # step can be one graph.
        self._lr = torch.zeros((), device=self.device)
        try:
            job.method.check(self.config, layout, placed.data.shape[2], job.batch)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.learners = [StreamState(job, layout, self._lr, names) for names in job.together]
        self.streams = {name: learner for learner in self.learners for name in learner.models}
        self._step_number = torch.zeros((), dtype=torch.int64, device=self.device)
        self._index = torch.zeros(job.batch, dtype=torch.int64, device=self.device)
        self._rows: Tensor | None = None
        self._graphs: dict[Hashable, GraphedStep] = {}
        self.use_graphs = self.config.cuda_graph
        self.epoch = 0
        self.step = 0
        self.resumed = False  # within an epoch, or before what is done at its end

    # --- A step, top to bottom -------------------------------------------------------------------

    def train_step(self, batch: Batch) -> Tensor:
        """One step of all streams; returns [streams, names], not yet read back."""
        lr = self.learning_rate(self.step)
        if self.device.type == "cuda":
            report = self._graphed_step(batch, lr)
        else:
            for learner in self.learners:
                for group in learner.optimizer.param_groups:
                    group["lr"] = lr
            report = self._step(batch, self.step, self.phase)
        self.step += 1
        return report

    def _step(self, batch: Batch, step: int | Tensor, phase: Hashable) -> Tensor:
        """Augment once for all streams, then let each learn from its views."""
        with section("augment"):
            views = self.augment(batch, step, self.ranks.rank * len(batch.index))
        return torch.cat([self.learn(learner, views, step, phase) for learner in self.learners])

    def learn(
        self, learner: StreamState, views: Views, step: int | Tensor, phase: Hashable
    ) -> Tensor:
        """The step of one stream, or of all that learn together, on their views: forward, backward,
        exchange, update, enqueue. Returns [its streams, names].

        Nothing here waits for the device: whether the step is taken is decided on it.
        """
        models = learner.models
        with learner.own_draws():
            statistics = learner.guard.remember()
            with autocast(self.job.precision, self.device):
                own = {name: views[name] for name in models}
                output = self.job.method.forward(models, own, phase)  # moves the key encoders, too
            with section("backward"):
                learner.optimizer.zero_grad(set_to_none=True)
                output.loss.backward(torch.ones_like(output.loss))  # of the sum over streams
            parts = ("loss", *self.job.losses)
            losses = torch.stack([getattr(output, name).detach().view(-1) for name in parts])
            positives = mean_positives(output)
            keys = output.keys.view(len(models), -1, output.keys.shape[-1]).unbind()
            if self.ranks.size > 1:
                with section("messages"):
                    gradients = [p.grad for p in learner.parameters if p.grad is not None]
                    message = (gradients, learner.guard.statistics, [losses, positives])
                    average_(self.ranks, message)
                    keys = [self.ranks.gather(rows) for rows in keys]
            with section("optimizer"):
                norm = self._gradient_norm(learner.parameters)
                summed = losses.sum(1) if len(models) > 1 else losses[:, 0]
                fine = learner.guard.judge(summed, norm, step)
                if self.device.type == "cuda":
                    learner.optimizer.found_inf = (~fine).float()  # type: ignore[attr-defined]
                    learner.optimizer.step()
                elif fine:
                    learner.optimizer.step()
                learner.guard.restore(statistics, fine)
                for model, rows in zip(models.values(), keys, strict=True):
                    model.enqueue(rows, fine)
        counts = [norm, positives, fine, *learner.guard.skipped]
        numbers = torch.stack([count.expand(len(models)) for count in counts])
        return torch.cat([losses, numbers.to(losses.dtype)]).T

    def _gradient_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Norm of the gradient, which is shortened if it is too long."""
        longest = self.config.optim.clip_norm
        if longest > 0:
            return nn.utils.clip_grad_norm_(parameters, longest)
        return nn.utils.get_total_norm(p.grad for p in parameters if p.grad is not None)

    def augment(self, batch: Batch, step: int | Tensor, offset: int = 0) -> Views:
        """The views of a step's batch by stream and name, from one read.

        The batch's first row is at `offset` of the global batch.
        """
        sampled = Sampled(
            batch.data, batch.index, self.layout, tuple(self.streams), self.epoch, step, offset
        )
        return self.job.method.augment(self.config, sampled)

    # --- Epochs ----------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_index) // self.config.optim.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole run; `optim.steps` may end it within an epoch."""
        optim = self.config.optim
        return optim.epochs * self.steps_per_epoch if optim.steps is None else optim.steps

    def learning_rate(self, step: int) -> float:
        """Rate of a step, from 0."""
        optim = self.config.optim
        return learning_rate(optim, step, self.steps_per_epoch, optim.steps)

    @property
    def phase(self) -> Hashable:
        """What the method's forward pass takes in the current epoch, besides its views."""
        return self.job.method.phase(self.config, self.epoch)

    def shuffled(self, epoch: int) -> Tensor:
        """Training samples in the order of one epoch, a function of the seed and the epoch."""
        # The low 63 bits: torch's generator takes no more.
        seed = (self.config.seed * 1_000_003 + epoch) % 2**63
        order = torch.randperm(len(self.train_index), generator=torch.Generator().manual_seed(seed))
        return self.train_index[order]

    def train_epoch(self) -> Iterator[Tensor]:
        """Run the next epoch, or after `load_state` what is left of the one it was saved in.

        After each step, yields each stream's report as one tensor [streams, names] on the device;
        the next step overwrites it.
        """
        if not self.resumed:
            self.epoch += 1
        self.resumed = False
        for learner in self.learners:
            learner.model.train()
        end = self.step_in_epoch + self.steps_left_in_epoch
        for batch in self.epoch_batches(self.epoch, self.step_in_epoch, end):
            yield self.train_step(batch)

    @property
    def step_in_epoch(self) -> int:
        """Steps of the current epoch that were taken."""
        return self.step - max(self.epoch - 1, 0) * self.steps_per_epoch

    @property
    def steps_left_in_epoch(self) -> int:
        """Steps of the current epoch that are yet to be taken."""
        return min(self.steps_per_epoch - self.step_in_epoch, self.steps - self.step)

    def epoch_batches(self, epoch: int, first: int = 0, end: int | None = None) -> Iterator[Batch]:
        """This rank's share of the batches of one epoch, in its order, those before `first` and
        from `end` on left out.
        """
        order = self.shuffled(epoch).split(self.config.optim.batch_size)
        end = self.steps_per_epoch if end is None else end
        shares = [self.ranks.share(rows) for rows in order[first:end]]
        return batches(self.placed, shares, self.device)

    def samples_of(self, step: int) -> Tensor:
        """Indices [N] of the samples of any step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self.config.optim.batch_size
        return self.shuffled(epoch + 1)[place * size : (place + 1) * size]

    def start_from(self, given: str) -> None:
        """Begin with the query encoders of another run, in both encoders of each stream.

        Args:
            given: its checkpoint or its folder.

        Raises:
            ConfigError: as `starting_encoders` has it; then nothing is loaded.
        """
        models = {name: learner.models[name] for name, learner in self.streams.items()}
        own = {name: model.query_encoder for name, model in models.items()}
        for name, encoder in starting_encoders(given, self.job, self.layout, own).items():
            for side in (models[name].query_encoder, models[name].key_encoder):
                side.load_state_dict(encoder.state_dict())

    # --- Resuming --------------------------------------------------------------------------------

    def place_state(self) -> dict[str, Any]:
        """What the loop must know to go on exactly, besides weights, optimizers and step.

        All ranks call it at once: each has its own draws of dropout.
        """
        own: dict[str, Any] = {
            "streams": {learner.name: learner.place_state() for learner in self.learners},
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
        for learner in self.learners:
            optimizer, own = (of[learner.name] for of in (state["optimizers"], place["streams"]))
            learner.load_state(state["models"], optimizer, own)
        if not as_many:
            for learner in self.learners:
                learner.seed_draws(self.step)
            return
        torch.set_rng_state(place["torch_rng"])
        if self.device.type == "cuda" and "cuda_rng" in place:
            torch.cuda.set_rng_state(place["cuda_rng"].cpu(), self.device)

    # --- Steps of a GPU --------------------------------------------------------------------------

    def _graphed_step(self, batch: Batch, lr: float) -> Tensor:
        self._lr.fill_(lr)
        self._step_number.fill_(self.step)
        self._index.copy_(batch.index)
        data = batch.data
        if self.placed.where == "mmap":
            if self._rows is None:
                self._rows = torch.empty_like(data)
            data = self._rows.copy_(data)
        phase = self.phase
        key = phase, self.job.method.augmentation(self.config, self.epoch)
        if key not in self._graphs:
            self.free_graphs()  # such as without mining: that graph is not needed again
            self._graphs[key] = GraphedStep(self.device)
        graph, still = self._graphs[key], Batch(data, self._index)
        run = graph if self.use_graphs else graph.alone
        return run(lambda: self._step(still, self._step_number, phase))

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


def mean_positives(output: Any) -> Tensor:
    """Mean number of positives in a row of each stream, [streams] or for one stream a scalar, of a
    forward pass that counted them or tells the neighbors mined [N, R, k].
    """
    counted: Tensor | None = getattr(output, "positives", None)
    if counted is not None:
        return counted.float().mean(-1)
    mined: Tensor = output.neighbors.flatten(1).sort(1).values
    if mined.shape[1] == 0:
        return torch.ones((), device=mined.device)
    again = (mined[:, 1:] == mined[:, :-1]).sum(1)
    return 1 + mined.shape[1] - again.float().mean()

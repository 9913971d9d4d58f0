"""What each stream of a run, or all that learn together, have of their own: models, an optimizer,
a guard and dropout's draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from aimclr_fast.layouts import Layout
from aimclr_fast.nn import MomentumContrast

from .guard import StepGuard
from .job import Job


def build_model(job: Job, layout: Layout) -> MomentumContrast:
    """The model of a stream, with weights drawn from torch's generator."""
    config = job.config
    model = job.method.build(layout, config)
    encoders = (model.query_encoder, model.key_encoder)
    if config.encoder_backend is not None:
        for encoder in encoders:
            encoder.backend = config.encoder_backend
    if job.ranks.size > 1 and config.batch_statistics == "synchronized":
        for encoder in encoders:
            encoder.over_ranks = job.ranks
    return model.to(job.device)


class StreamState:
    """All that the steps of one stream change, or of several that learn together. It trains as in
    a run of its own, whatever others are beside it.

    Args:
        job: its seed gives the weights, the same for each stream.
        layout: of the skeleton.
        lr: learning rate on the device, read by the steps of a GPU.
        names: of the streams.

    Attributes:
        models: by stream.
        model: that of the only stream, or all of them.
        parameters: those that are trained.
    """

    def __init__(self, job: Job, layout: Layout, lr: Tensor, names: Sequence[str]) -> None:
        self._seed, self._ranks = job.config.seed, job.ranks
        on_gpu, optim = job.device.type == "cuda", job.config.optim
        self.models: dict[str, MomentumContrast] = {}
        for name in names:
            torch.manual_seed(job.config.seed)
            self.models[name] = build_model(job, layout)  # the same on all ranks
        self.model: nn.Module = self.models[names[0]]
        if len(names) > 1:
            job.method.join(self.models, job.config)
            self.model = nn.ModuleDict(self.models).to(job.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=lr if on_gpu else optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
            fused=on_gpu,
        )
        if on_gpu and optim.momentum > 0:
            # The fused optimizer would leave them unset if the very first step is not taken.
            for parameter in self.parameters:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.guard = StepGuard(self.model, job.device, job.losses)
        # Dropout draws from torch's generator. Where several streams take turns on the CPU, each
        # has the draws to itself; on a GPU they are part of the captured graph and follow one
        # another.
        alone = names == job.config.data.streams or job.device.type != "cpu"
        self._draws = None if alone else torch.get_rng_state()
        if not job.ranks.first:
            self.seed_draws(0)

    @property
    def name(self) -> str:
        """Of the first stream: checkpoints have the optimizer under it."""
        return next(iter(self.models))

    @contextmanager
    def own_draws(self) -> Iterator[None]:
        """Inside, dropout draws what it would if this were the only stream."""
        if self._draws is not None:
            torch.set_rng_state(self._draws)
        yield
        if self._draws is not None:
            self._draws = torch.get_rng_state()

    def seed_draws(self, step: int) -> None:
        """Begin draws of dropout that no other rank has."""
        turn = step * self._ranks.size + self._ranks.rank
        torch.manual_seed((self._seed * 1_000_003 + turn) % 2**63)
        if self._draws is not None:
            self._draws = torch.get_rng_state()

    def place_state(self) -> dict[str, Any]:
        """What the stream must know to go on exactly, besides weights and optimizer."""
        place: dict[str, Any] = {"skipped": self.guard.skipped.to("cpu", copy=True)}
        if self._draws is not None:
            place["draws"] = self._draws
        return place

    def load_state(
        self, models: Mapping[str, Any], optimizer: Mapping[str, Any], place: Mapping[str, Any]
    ) -> None:
        """Go on from the states of models by stream, optimizer and `place_state`."""
        for name, model in self.models.items():
            model.load_state_dict(models[name])
        # Its settings are this run's: the saved ones may belong to another kind of device.
        settings = self.optimizer.state_dict()["param_groups"]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict({"state": optimizer["state"], "param_groups": settings})
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr  # on a GPU the very tensor that graphs read
        self.guard.skipped.copy_(place["skipped"])
        if self._draws is not None and "draws" in place:
            self._draws = place["draws"].cpu()

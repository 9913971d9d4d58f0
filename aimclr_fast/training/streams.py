"""What each stream of a run has of its own: a model, an optimiser and its share of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aimclr_fast._sections import section
from aimclr_fast.functional import Views
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder

from .config import TrainConfig
from .distributed import Ranks, average_
from .guard import LOSSES, StepGuard
from .precision import autocast


def build_model(config: TrainConfig, layout: Layout) -> AimCLR:
    """The model of a configuration, with weights drawn from torch's generator."""
    model = config.model
    backbone = STGCN(
        layout,
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


class StreamTraining:
    """Trains one stream as a run of its own would, whatever the others beside it.

    Args:
        config: a validated configuration; its seed gives the weights, the same for each stream.
        layout: of the skeleton.
        device: what trains.
        precision: what the encoder computes in.
        lr: learning rate on the device, read by the steps of a GPU.
        ranks: the processes that train as one.
    """

    def __init__(
        self,
        config: TrainConfig,
        layout: Layout,
        device: torch.device,
        precision: str,
        lr: Tensor,
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._config, self._device, self._precision = config, device, precision
        torch.manual_seed(config.seed)
        self.model = build_model(config, layout).to(device)  # the same on all ranks
        if ranks.size > 1 and config.batch_statistics == "synchronised":
            for encoder in (self.model.query_encoder, self.model.key_encoder):
                encoder.backbone.over_ranks = ranks
        self.optimizer = torch.optim.SGD(
            self.model.query_encoder.parameters(),
            lr=lr if device.type == "cuda" else config.optim.lr,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
            fused=device.type == "cuda",
        )
        if device.type == "cuda" and config.optim.momentum > 0:
            # The fused optimiser would leave them unset if the very first step is not taken.
            for parameter in self.model.query_encoder.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.guard = StepGuard(self.model, device)
        # Dropout draws from torch's generator. Where several streams take turns on the CPU, each
        # has the draws to itself; on a GPU they are part of the captured graph and follow one
        # another.
        alone = len(config.data.streams) == 1 or device.type != "cpu"
        self._draws = None if alone else torch.get_rng_state()
        if not ranks.first:
            self.seed_draws(0)

    def seed_draws(self, step: int) -> None:
        """Begin draws of dropout that no other rank has."""
        place = step * self._ranks.size + self._ranks.rank
        torch.manual_seed((self._config.seed * 1_000_003 + place) % 2**63)
        if self._draws is not None:
            self._draws = torch.get_rng_state()

    def place_state(self) -> dict[str, Any]:
        """What the stream must know to go on exactly, besides weights and optimiser."""
        place: dict[str, Any] = {"skipped": self.guard.skipped.to("cpu", copy=True)}
        if self._draws is not None:
            place["draws"] = self._draws
        return place

    def load_state(
        self, model: Mapping[str, Any], optimizer: Mapping[str, Any], place: Mapping[str, Any]
    ) -> None:
        """Go on from the states of model, optimiser and `place_state`."""
        self.model.load_state_dict(model)
        # Its settings are this run's: the saved ones may belong to another kind of device.
        settings = self.optimizer.state_dict()["param_groups"]
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict({"state": optimizer["state"], "param_groups": settings})
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr  # on a GPU the very tensor that graphs read
        self.guard.skipped.copy_(place["skipped"])
        if self._draws is not None and "draws" in place:
            self._draws = place["draws"].cpu()

    def train_step(self, views: Views, step: int | Tensor, topk: int) -> Tensor:
        """One step on the stream's views; returns its REPORT, not yet read back."""
        if self._draws is not None:
            torch.set_rng_state(self._draws)
        statistics = self.guard.remember()
        with autocast(self._precision, self._device):
            output = self.model(views.extreme, views.query, views.key, topk)
        with section("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            output.loss.backward()
        losses = torch.stack([getattr(output, name).detach() for name in LOSSES])
        positives, keys = _positives(output.neighbors), output.keys
        if self._ranks.size > 1:
            with section("messages"):
                parameters = self.model.query_encoder.parameters()
                gradients = [p.grad for p in parameters if p.grad is not None]
                average_(self._ranks, (gradients, self.guard.statistics, [losses, positives]))
                keys = self._ranks.gather(keys)
        with section("optimiser"):
            norm = self._gradient_norm()
            fine = self.guard.judge(losses, norm, step)
            if self._device.type == "cuda":
                self.optimizer.found_inf = (~fine).float()  # type: ignore[attr-defined]
                self.optimizer.step()
            elif fine:
                self.optimizer.step()
            self.guard.restore(statistics, fine)
            self.model.enqueue(keys, fine)
        if self._draws is not None:
            self._draws = torch.get_rng_state()
        counts = torch.stack([norm, positives, fine, *self.guard.skipped])
        return torch.cat([losses, counts.to(losses.dtype)])

    def _gradient_norm(self) -> Tensor:
        """Norm of the gradient, which is shortened if it is too long."""
        parameters = list(self.model.query_encoder.parameters())
        longest = self._config.optim.clip_norm
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


def by_stream(numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Numbers of each stream as those of the run: of one stream under their own names; of several
    under STREAM/NAME, and their means under NAME.
    """
    each = list(numbers.values())
    means = {name: sum(of[name] for of in each) / len(each) for name in each[0]}
    if len(each) == 1:
        return means
    named = {f"{stream}/{name}": v for stream, of in numbers.items() for name, v in of.items()}
    return means | named

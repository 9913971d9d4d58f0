"""What each stream of a run has of its own: a model, an optimiser and its share of a step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aimclr_fast._sections import section
from aimclr_fast.functional import Views
from aimclr_fast.layouts import Layout
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder

from .config import TrainConfig
from .precision import autocast
from .progress import LOSSES


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
    """

    def __init__(
        self,
        config: TrainConfig,
        layout: Layout,
        device: torch.device,
        precision: str,
        lr: Tensor,
    ) -> None:
        self._config, self._device, self._precision = config, device, precision
        torch.manual_seed(config.seed)
        self.model = build_model(config, layout).to(device)
        self.optimizer = torch.optim.SGD(
            self.model.query_encoder.parameters(),
            lr=lr if device.type == "cuda" else config.optim.lr,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
            fused=device.type == "cuda",
        )
        # Dropout draws from torch's generator. Where several streams take turns on the CPU, each
        # has the draws to itself; on a GPU they are part of the captured graph and follow one
        # another.
        alone = len(config.data.streams) == 1 or device.type != "cpu"
        self.draws = None if alone else torch.get_rng_state()

    def step(self, views: Views, topk: int) -> Tensor:
        """One step on the stream's views; returns LOSSES, not yet read back."""
        if self.draws is not None:
            torch.set_rng_state(self.draws)
        with autocast(self._precision, self._device):
            output = self.model(views.extreme, views.query, views.key, topk)
        with section("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            output.loss.backward()
        with section("optimiser"):
            clip_norm = self._config.optim.clip_norm
            if clip_norm > 0:
                nn.utils.clip_grad_norm_(self.model.query_encoder.parameters(), clip_norm)
            self.optimizer.step()
            self.model.enqueue(output.keys)
        if self.draws is not None:
            self.draws = torch.get_rng_state()
        return torch.stack([getattr(output, name).detach() for name in LOSSES])


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

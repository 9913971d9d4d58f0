"""Fine-tuning: encoder and linear classifier trained together on labeled sequences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from aimclr_fast._schedule import learning_rate
from aimclr_fast.functional import AugmentConfig, AugmentParams, apply_augment, skeleton_augment
from aimclr_fast.inference.features import in_meters
from aimclr_fast.nn import SkeletonEncoder

from .labeled_data import LabeledData
from .outcome import Outcome, classified, top
from .recipe import check_recipe


@dataclass(frozen=True)
class FinetuneConfig:
    """SGD on encoder and classifier, each at its own learning rate under one schedule.

    Attributes:
        epochs: number of passes over the labeled training samples.
        batch_size: number of sequences per step; the last batch of an epoch may be smaller.
        lr: learning rate of the classifier.
        lr_encoder: learning rate of the encoder.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        schedule: step (times gamma at each milestone) or cosine (to zero).
        milestones: epochs after which both learning rates are multiplied by gamma.
        gamma: factor at each milestone.
        warmup_epochs: number of first epochs over which the learning rates rise linearly.
        augment: train on normal views (temporal crop and shear) instead of the plain sequences.
        test_every: number of epochs between two measurements on the test (and validation) samples.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    lr_encoder: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    milestones: list[int] = field(default_factory=lambda: [20])
    gamma: float = 0.1
    warmup_epochs: int = 2
    augment: bool = True
    test_every: int = 1

    def __post_init__(self) -> None:
        check_recipe(self)
        if not self.lr_encoder >= 0 or self.test_every < 1:
            raise ValueError(
                f"lr_encoder is {self.lr_encoder} and test_every {self.test_every}, but must be at "
                "least 0 and 1"
            )


def finetune(
    data: LabeledData,
    encoder: SkeletonEncoder,
    stream: str,
    config: FinetuneConfig,
    *,
    seed: int,
    rows: Tensor | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Outcome, SkeletonEncoder]:
    """Fine-tune a copy of `encoder` with a new classifier; the encoder itself stays as it is.

    An untrained encoder with `lr_encoder` as large as `lr` is supervised training from scratch.

    Args:
        data: labeled sequences.
        encoder: what to start from.
        stream: joint, motion or bone.
        config: the recipe.
        seed: of the classifier's weights, shuffling, augmentation and dropout.
        rows: rows of `data.train` that have labels; None: all.
        progress: called with epoch and mean loss after each epoch.

    Returns:
        The outcome, and the tuned encoder, whose head gives class logits.
    """
    device, generator = data.device, torch.Generator().manual_seed(seed)
    train = data.train if rows is None else data.train[rows]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        # Not the old head: it is replaced, and may be of any shape.
        backbone = copy.deepcopy(encoder.backbone)
        model = SkeletonEncoder(backbone, len(data.classes), projection=False).to(device)
        model.backend = data.backend
        groups = [
            {"params": model.backbone.parameters(), "base": config.lr_encoder},
            {"params": model.head.parameters(), "base": config.lr},
        ]
        optimizer = torch.optim.SGD(
            groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay
        )
        unit, step = replace(config, lr=1.0), 0
        steps_per_epoch = -(-len(train) // config.batch_size)
        test_labels = data.labels[data.test].to(device)
        accuracy = torch.full((config.epochs,), torch.nan)
        choice = None if data.val is None else accuracy.clone()
        best, logits, best_logits = -1.0, torch.zeros(0), torch.zeros(0)
        for epoch in range(config.epochs):
            model.train()
            total = torch.zeros((), device=device)
            order = train[torch.randperm(len(train), generator=generator)]
            for batch in order.split(config.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = group["base"] * learning_rate(unit, step, steps_per_epoch)
                x = _view(data, batch, stream, seed=seed, step=step, augment=config.augment)
                target = data.labels[batch].to(device)
                loss = nn.functional.cross_entropy(model(x), target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(batch)
                step += 1
            last = epoch + 1 == config.epochs
            if last or (epoch + 1) % config.test_every == 0:
                logits = scores(data, model, stream, data.test)
                accuracy[epoch] = worth = top(logits, test_labels)
                if choice is not None and data.val is not None:
                    found = scores(data, model, stream, data.val)
                    choice[epoch] = worth = top(found, data.labels[data.val])
                if worth > best:
                    best, best_logits = worth, logits
            if progress is not None:
                progress(epoch + 1, float(total) / len(train))
    details = {"labeled": len(train)}
    outcome = classified(logits, best_logits, test_labels, accuracy, choice, details=details)
    return outcome, model.eval()


@torch.no_grad()
def scores(data: LabeledData, model: SkeletonEncoder, stream: str, index: Tensor) -> Tensor:
    """Class logits [Q, C] of samples `index`, not augmented, in eval mode."""
    model.eval()
    rows = [
        model(_view(data, batch, stream, seed=0, step=0, augment=False)).float()
        for batch in index.split(data.batch_size)
    ]
    return torch.cat(rows)


def _view(
    data: LabeledData, index: Tensor, stream: str, *, seed: int, step: int, augment: bool
) -> Tensor:
    """Samples as the encoder takes them, [N, 3, T, V, M]."""
    sequences = data.sequences[index.to(data.sequences.device)].to(data.device)
    if not augment:
        return apply_augment(
            in_meters(sequences),
            AugmentParams(),
            layout=data.layout,
            stream=stream,
            backend=data.backend,
        )
    return skeleton_augment(
        sequences,
        torch.arange(len(sequences), device=sequences.device),
        layout=data.layout,
        config=AugmentConfig(),
        seed=seed,
        step=step,
        stream=stream,
        dtype=torch.float32,
        backend=data.backend,
    ).query

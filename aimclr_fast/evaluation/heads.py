"""Linear evaluation as published: a linear classifier trained by SGD on frozen features.

The encoder is in eval mode and the data are not augmented, so a sequence has the same features in
every epoch: they are encoded once. Training is then a few small matrix products a step, and
heads with different learning rates can share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from aimclr_fast._schedule import learning_rate

from .labeled_data import Features, Folds
from .outcome import VALIDATION, Outcome, classified
from .recipe import check_recipe
from .scaling import fit_scaling

#: Learning rates of a sweep.
SWEEP = tuple(float(f"{rate:.3g}") for rate in np.geomspace(0.01, 30, 20))


@dataclass(frozen=True)
class LinearConfig:
    """Linear evaluation; the defaults are the published recipe.

    Attributes:
        lr: learning rate.
        epochs: number of passes over the training features.
        batch_size: number of samples per step; the last batch of an epoch may be smaller.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        schedule: step (times gamma at each milestone) or cosine (to zero).
        milestones: epochs after which the learning rate is multiplied by gamma.
        gamma: factor at each milestone.
        warmup_epochs: number of first epochs over which the learning rate rises linearly.
        sweep: train with twenty learning rates at once and keep the one that is best on training
            folds, or on validation samples (`choose`).
        standardize: give each feature mean 0 and standard deviation 1 over the training samples.
            Not part of the published recipe; needed for an untrained encoder, whose features hardly
            vary around their mean.
    """

    lr: float = 3.0
    epochs: int = 100
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "step"
    milestones: list[int] = field(default_factory=lambda: [80])
    gamma: float = 0.1
    warmup_epochs: int = 0
    sweep: bool = False
    standardize: bool = False

    def __post_init__(self) -> None:
        check_recipe(self)


class Head(NamedTuple):
    """Linear classifiers: `weight` [..., C, F] and `bias` [..., C]."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """[N, F] -> [N, C], for a single classifier."""
        return torch.addmm(self.bias, features, self.weight.T)


class Trained(NamedTuple):
    """Heads of R learning rates after training.

    Attributes:
        last: after the last epoch.
        best: after the epoch that was best on the validation samples, or else the test samples.
        accuracy: on the test samples after each epoch, [epochs, R].
        choice: on the samples that the best epoch was chosen on, likewise.
    """

    last: Head
    best: Head
    accuracy: Tensor
    choice: Tensor

    def pick(self, rate: int) -> Trained:
        """The head of one learning rate alone."""
        heads = (Head(head.weight[rate], head.bias[rate]) for head in (self.last, self.best))
        return Trained(next(heads), next(heads), self.accuracy[:, rate], self.choice[:, rate])


def linear_evaluation(
    features: Features,
    config: LinearConfig,
    *,
    seed: int,
    folds: Folds | None = None,
    sweep: Sequence[float] = SWEEP,
) -> Outcome:
    """Train a linear classifier as configured and score the test samples.

    With a sweep, all its rates are tried on the training folds (or on the validation samples) and
    then trained on all training samples at once; the rate that was best on held-out samples counts,
    and every rate's test accuracy is in the details.

    Args:
        features: frozen features.
        config: the recipe.
        seed: of weights and shuffling.
        folds: parts of the training samples (`LabeledData.folds`); needed for a sweep where there
            are no validation samples.
        sweep: learning rates of a sweep.
    """
    plain = features
    if config.standardize:
        features = features.scaled("standardize")
    rates: Sequence[float] = (config.lr,)
    details: dict[str, object] = {"standardized": config.standardize}
    chosen = 0
    if config.sweep:
        if folds is None and features.val is None:
            raise ValueError("a sweep needs training folds")
        rates = sweep
        held = held_out_accuracy(features, config, folds or [], rates, seed=seed)
        chosen = int(held.argmax())
    trained = train_heads(features, config, seed=seed, rates=rates)
    if config.sweep:
        details["chosen_on"] = (
            f"{len(folds or ())} training folds" if features.val is None else VALIDATION
        )
        details["sweep"] = [
            {
                "lr": rate,
                "held_out": round(float(held[i]), 6),
                "top1_last": round(float(trained.accuracy[-1, i]), 6),
                "top1_best": round(float(trained.accuracy[:, i].max()), 6),
            }
            for i, rate in enumerate(rates)
        ]
    picked = trained.pick(chosen)
    head = _for_plain(picked.last, plain) if config.standardize else picked.last
    return classified(
        picked.last.logits(features.test),
        picked.best.logits(features.test),
        features.test_labels,
        picked.accuracy,
        None if features.val is None else picked.choice,
        details={"lr": rates[chosen], **details},
        save={"weight": head.weight, "bias": head.bias},
    )


def _for_plain(head: Head, features: Features) -> Head:
    """A classifier of standardized features as one of the features themselves."""
    mean, deviation = fit_scaling(features.train)
    weight = head.weight.double() / deviation
    bias = head.bias - weight @ mean
    return Head(weight.to(head.weight.dtype), bias.to(head.bias.dtype))


def held_out_accuracy(
    features: Features, config: LinearConfig, folds: Folds, rates: Sequence[float], *, seed: int
) -> Tensor:
    """Accuracy [R] of each learning rate on all held-out samples together."""
    right, parts = torch.zeros(len(rates)), features.held_out(folds)
    for part in parts:
        right += train_heads(part, config, seed=seed, rates=rates).accuracy[-1] * len(part.test)
    return right / sum(len(part.test) for part in parts)


def train_heads(
    features: Features, config: LinearConfig, *, seed: int, rates: Sequence[float] | None = None
) -> Trained:
    """Train one linear classifier for each learning rate, all from the same start and batches.

    Args:
        features: frozen features.
        config: the recipe.
        seed: of weights (torch's linear layer) and shuffling.
        rates: learning rates, R of them, in place of `config.lr`.

    Each step is two matrix products for all heads together. SGD is torch's: the momentum buffer
    takes gradient plus decay, weights take the rate times the buffer. The mean logits of S streams'
    classifiers are those of one head, of weights that are 1/S of theirs and of the mean bias, so it
    stands for them: SGD moves its weights at 1/S^2 of the rate, its bias at 1/S, and their decay is
    that of the whole rate.
    """
    x, labels, device = features.train, features.train_labels, features.train.device
    rates = [config.lr] if rates is None else list(rates)
    count, classes, streams = len(rates), features.num_classes, features.streams
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        starts = [nn.Linear(x.shape[1] // streams, classes) for _ in range(streams)]
    # One row a (head, class); the last column is the bias.
    bias = torch.stack([start.bias for start in starts]).mean(0)[:, None]
    weight = torch.cat([*(start.weight / streams for start in starts), bias], 1)
    weight = weight.detach().to(device).repeat(count, 1)
    momentum = torch.zeros_like(weight)
    relative = torch.tensor(rates, device=device).repeat_interleave(classes)[:, None]
    shares = torch.full_like(weight[:1], 1 / streams**2)
    shares[:, -1] = 1 / streams
    relative = relative * shares
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    targets = torch.nn.functional.one_hot(labels, classes).to(x.dtype)

    shuffle = torch.Generator().manual_seed(seed)
    steps_per_epoch = -(-len(x) // config.batch_size)
    unit, step = replace(config, lr=1.0), 0
    best, accuracy = weight.clone(), torch.zeros(config.epochs, count)
    choice = accuracy if features.val is None else torch.zeros_like(accuracy)
    for epoch in range(config.epochs):
        order = torch.randperm(len(x), generator=shuffle).to(device)
        for batch in order.split(config.batch_size):
            rows = x[batch]
            logits = (rows @ weight.T).view(len(rows), count, classes)
            gradient = (logits.softmax(2) - targets[batch, None]) / len(rows)
            gradient = gradient.flatten(1).T @ rows
            if config.weight_decay:
                gradient.add_(weight / shares, alpha=config.weight_decay)
            # The first step's buffer is the gradient itself, as in torch: it starts from zero.
            momentum.mul_(config.momentum).add_(gradient)
            weight.sub_(relative * momentum * learning_rate(unit, step, steps_per_epoch))
            step += 1
        accuracy[epoch] = _accuracy(weight, features.test, features.test_labels, count)
        if features.val is not None and features.val_labels is not None:
            choice[epoch] = _accuracy(weight, features.val, features.val_labels, count)
        better = choice[epoch] > choice[:epoch].amax(0) if epoch else torch.ones(count) > 0
        rows_better = better.to(device).repeat_interleave(classes)
        best[rows_better] = weight[rows_better]
    return Trained(_heads(weight, count), _heads(best, count), accuracy, choice)


def _heads(weight: Tensor, count: int) -> Head:
    weight = weight.unflatten(0, (count, -1))
    return Head(weight[..., :-1].clone(), weight[..., -1].clone())


def _accuracy(weight: Tensor, samples: Tensor, labels: Tensor, count: int) -> Tensor:
    """Accuracy [R] of each head on samples [Q, F]; 0 for a head that diverged."""
    right = torch.zeros(count, dtype=torch.int64)
    block = max(1, 2**24 // len(weight))
    for x, target in zip(samples.split(block), labels.split(block), strict=True):
        logits = torch.addmm(weight[:, -1], x, weight[:, :-1].T).unflatten(1, (count, -1))
        value, predicted = logits.max(2)
        right += ((predicted == target[:, None]) & value.isfinite()).sum(0).cpu()
    return right / max(len(samples), 1)

"""Signs of collapsed features, measured at the end of each epoch."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from aimclr_fast.nn import MomentumContrast
from aimclr_fast.nn.precision import autocast

from .loop import Pretraining
from .placement import batches

ROWS = 64  # sequences to measure on
FLAT_FEATURES = 0.01  # share of the standard deviation of rows spread in all directions
FLAT_LOSS = 0.99  # share of ln(K + 1), the loss of a uniform softmax
PATIENCE = 3  # consecutive epochs before a warning


@torch.no_grad()
def measure_health(training: Pretraining) -> dict[str, dict[str, float]]:
    """Signs of collapse in each stream, on a few sequences of the last step's batch.

    Returns:
        By stream, then by name:
        feature_std: standard deviation of the unit query rows over the sequences, times the root
            of their width: near 1 if they are spread evenly, 0 if all are the same.
        teacher_entropy: entropy of the softmax over key and queue, in nats; ln(K + 1) if it is
            uniform.
        queue_age: age of the oldest key in the queue, in steps.
    """
    step = training.step - 1
    index = training.samples_of(step)[:ROWS]
    (batch,) = batches(training.placed, [index], training.device)
    views = training.augment(batch, step)
    found = {}
    for name, learner in training.streams.items():
        taken = training.step - int(learner.guard.skipped[0])
        found[name] = _health(training, learner.models[name], views[name], taken)
    return found


def _health(
    training: Pretraining, model: MomentumContrast, views: Mapping[str, Tensor], taken: int
) -> dict[str, float]:
    was_training = model.training
    model.eval()
    with autocast(training.job.precision, training.device):
        query, key = model.query_encoder(views["query"]), model.key_encoder(views["key"])
    model.train(was_training)
    query, key = F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ model.queue.T], 1) / model.temperature
    log_teacher = logits.log_softmax(1)
    entropy = -(log_teacher.exp() * log_teacher).sum(1).mean()
    spread = (
        query.std(0).mean() * math.sqrt(query.shape[1]) if len(query) > 1 else query.new_ones(())
    )
    kept = len(model.queue) / training.config.optim.batch_size
    return {
        "feature_std": float(spread),
        "teacher_entropy": float(entropy),
        "queue_age": min(float(taken), kept),
    }


def memory_in_use(device: torch.device) -> int:
    """Resident memory of the process in bytes (its peak where there is no /proc, 0 if unknown); on
    a GPU, the peak of what torch has allocated there.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * mmap.PAGESIZE
    except OSError:
        try:
            import resource
        except ImportError:  # Windows
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


class CollapseWatch:
    """Detects features that are the same for all sequences.

    Args:
        queue_size: keys K in the queue.
    """

    def __init__(self, queue_size: int) -> None:
        self._flat = FLAT_LOSS * math.log(queue_size + 1)
        self._epochs = 0

    def add(self, numbers: dict[str, float]) -> str | None:
        """Take an epoch's numbers; returns a warning, once until the features recover."""
        signs = []
        if numbers["feature_std"] < FLAT_FEATURES:
            signs.append(f"feature_std is {numbers['feature_std']:.4f}, near 0")
        loss = numbers.get("info_nce", 0.0)  # not every method has one
        if loss > self._flat:
            signs.append(f"info_nce is {loss:.2f}, near ln(queue_size + 1)")
        self._epochs = self._epochs + 1 if signs else 0
        if self._epochs != PATIENCE:
            return None
        return (
            f"the features have collapsed for {PATIENCE} epochs: {' and '.join(signs)}. "
            "Try a lower optim.lr, a longer optim.warmup_epochs, a model.momentum closer to 1, or "
            "gradient clipping (optim.clip_norm)"
        )

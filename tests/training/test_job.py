"""A configuration is resolved once: device, precision, backends, share of the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aimclr_fast.config import ConfigError, DataConfig, OptimConfig, TrainConfig
from aimclr_fast.nn import get_method
from aimclr_fast.training.distributed import Ranks
from aimclr_fast.training.job import resolve


def ranks_of(size: int) -> Ranks:
    ranks = Ranks()
    ranks.size = size
    return ranks


def config_of(**fields) -> TrainConfig:
    return TrainConfig(**{"optim": OptimConfig(batch_size=8), "device": "cpu", **fields})


def test_what_was_left_open_is_decided():
    config = config_of(backend="reference", encoder_backend="torch")
    job = resolve(config, ranks_of(2), samples=20, frames=50)
    assert (job.device, job.precision, job.batch) == (torch.device("cpu"), "fp32", 4)
    assert job.backends == {
        "skeleton_augment": "reference",
        "stgcn_block": "torch",
        "eadm_pool": "reference",
        "queue_contrast": "reference",
    }
    assert job.method is get_method("aimclr")
    mixing = resolve(replace(config, method="skelemixclr"), ranks_of(1), samples=20, frames=64)
    assert mixing.backends == {**job.backends, "skelemix": "reference", "masked_pool": "reference"}
    assert job.config == config  # nothing was left to the data
    assert config == config_of(backend="reference", encoder_backend="torch")  # as it was given


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"optim": OptimConfig(batch_size=21)}, 1, "batch_size is 21, but must be at most the num"),
        ({"optim": OptimConfig(batch_size=9)}, 2, "batch_size is 9, but must be a multiple of the"),
        ({"data": DataConfig(frame_step=26)}, 1, "frame_step is 26, but must leave two of 50"),
        ({"precision": "bf16"}, 1, "precision is 'bf16', but the CPU trains in fp32"),
        ({"profile": 3}, 2, "profile is 3, but looks at one process alone"),
        ({"device": "cuda:1"}, 2, "device is 'cuda:1', but each of 2 processes takes a GPU"),
        ({"device": "toaster"}, 1, "device is 'toaster'"),
        ({"encoder_backend": "cuda"}, 1, "backend: "),
    ],
)
def test_what_cannot_be_is_named(fields, size, message):
    with pytest.raises(ConfigError, match=message):
        resolve(config_of(**fields), ranks_of(size), samples=20, frames=50)

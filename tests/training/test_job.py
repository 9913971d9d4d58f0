"""A configuration is resolved once: device, precision, backends, share of the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aimclr_fast import native
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
    assert job.config == replace(config, precision="fp32")  # nothing was left to the data
    assert config == config_of(backend="reference", encoder_backend="torch")  # as it was given


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"optim": OptimConfig(batch_size=21)}, 1, "batch_size is 21, but must be at most the num"),
        ({"optim": OptimConfig(batch_size=9)}, 2, "batch_size is 9, but must be a multiple of the"),
        ({"data": DataConfig(frame_step=26)}, 1, "frame_step is 26, but must leave two of 50"),
        ({"precision": "tf32"}, 1, "precision is 'tf32', but only GPUs .* Give --precision fp32"),
        ({"profile": 3}, 2, "profile is 3, but looks at one process alone"),
        ({"device": "cuda:1"}, 2, "device is 'cuda:1', but each of 2 processes takes a GPU"),
        ({"device": "toaster"}, 1, "device is 'toaster'"),
        ({"encoder_backend": "cuda"}, 1, "backend: "),
    ],
)
def test_what_cannot_be_is_named(fields, size, message):
    with pytest.raises(ConfigError, match=message):
        resolve(config_of(**fields), ranks_of(size), samples=20, frames=50)


def test_a_precision_that_the_cpu_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    config = config_of(precision="bf16")
    with pytest.raises(ConfigError, match=r"'bf16', but this .* them\. Give --precision fp32"):
        resolve(config, ranks_of(1), samples=20, frames=50)
    with pytest.raises(ConfigError, match="a run that began in bf16 can only go on where"):
        resolve(config_of(), ranks_of(1), samples=20, frames=50, began_in="bf16")


def test_backends_are_picked_for_maps_of_the_precision(bf16_cpu):
    job = resolve(config_of(precision="bf16"), ranks_of(1), samples=20, frames=50)
    assert (job.precision, job.config.precision) == ("bf16", "bf16")
    assert job.backends["stgcn_block"] == "cpp"


@pytest.mark.parametrize(
    ("asked", "began_in", "wanted", "said"),
    [
        ("auto", None, "bf16", []),
        ("auto", "bf16", "bf16", []),
        ("auto", "fp32", "fp32", ["precision fp32: the run began in it"]),
        ("fp32", "bf16", "fp32", []),  # which the run's folder refuses
    ],
)
def test_auto_is_what_a_resumed_run_began_in(bf16_cpu, asked, began_in, wanted, said):
    config = config_of(precision=asked)
    job = resolve(config, ranks_of(1), samples=20, frames=50, began_in=began_in)
    assert (job.precision, list(job.chosen)) == (wanted, said)


@pytest.mark.parametrize("flag", ["backend", "encoder_backend"])
def test_auto_takes_bf16_only_for_compiled_blocks(bf16_cpu, flag):
    """PyTorch's own are slower in it; a run that began in it keeps it all the same."""
    others = config_of(**{flag: "reference"})
    job = resolve(others, ranks_of(1), samples=20, frames=50)
    assert (job.precision, job.backends["stgcn_block"]) == ("fp32", "reference")
    assert (
        resolve(config_of(**{flag: "cpp"}), ranks_of(1), samples=20, frames=50).precision == "bf16"
    )
    job = resolve(others, ranks_of(1), samples=20, frames=50, began_in="bf16")
    assert job.precision == "bf16"


@pytest.mark.parametrize(("size", "wanted"), [(1, "bf16"), (2, "fp32")])
def test_auto_takes_fp32_where_statistics_are_of_all_processes(bf16_cpu, size, wanted):
    """Their blocks are the reference's."""
    config = config_of(batch_statistics="synchronized")
    assert resolve(config, ranks_of(size), samples=20, frames=50).precision == wanted

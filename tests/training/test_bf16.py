"""Training in bf16 on a CPU: what stays float32, every method, and runs that are resumed."""

from __future__ import annotations

import functools
import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from refusals import refusal
from small_data import write_tiny
from torch import Tensor
from training.test_methods import MIX, SMALL

from aimclr_fast import native
from aimclr_fast.config import ConfigError, OptimConfig, TrainConfig
from aimclr_fast.evaluation.finetuning import FinetuneConfig
from aimclr_fast.evaluation.provenance import config_checksum
from aimclr_fast.functional import eadm_pool, masked_pool
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn.stgcn import STGCN
from aimclr_fast.ops import eadm_pool as eadm_op
from aimclr_fast.ops import masked_pool as masked_op
from aimclr_fast.ops import stgcn_block as block_op
from aimclr_fast.train import command_line
from aimclr_fast.training import pretrain
from aimclr_fast.training.checkpoint import load_checkpoint
from aimclr_fast.training.job import Job, published_config
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.placement import place_sequences
from aimclr_fast.training.run_folder import ABOUT, open_run, resumed_precision

CPU = torch.device("cpu")
FRAMES, SAMPLES = 48, 12
METHODS = {
    "skeletonclr": {},
    "aimclr": {},
    "aimclr++": {"model": {"dropout": 0.5}},
    "skelemixclr": {"model": {"norm_head": True}},
    "skelemixclr+": {},
    "hiclr": {},
    "actclr": {"start": "the encoders of another run"},
}
refused = functools.partial(refusal, command_line)


# --- A step --------------------------------------------------------------------------------------


def trained(
    method: str, precision: str, *, backend: str = "auto", channels: int = 2
) -> Pretraining:
    """A small model after two steps, on sequences that any augmentation leaves alive."""
    config = published_config(method, **METHODS[method])
    model = replace(
        SMALL, channels=channels, dropout=config.model.dropout, norm_head=config.model.norm_head
    )
    config = replace(
        config,
        model=model,
        optim=OptimConfig(batch_size=6, lr=0.01, mining_epoch=1, epochs=1),
        mix=MIX,
        precision=precision,
        encoder_backend=backend,
    )
    positions = torch.randn(SAMPLES, 3, FRAMES, 22, 2, generator=torch.Generator().manual_seed(0))
    placed = place_sequences(positions.numpy(), CPU, "device")
    index = torch.arange(SAMPLES)
    training = Pretraining(Job(config, CPU), get_layout("ui-prmd"), placed, index)
    training.reports = list(training.train_epoch())  # type: ignore[attr-defined]
    return training


@pytest.fixture
def seen(monkeypatch):
    """Dtypes of the maps that went into C++ kernels, by op; all else fails the test."""
    found: dict[str, set[torch.dtype]] = {}
    for op in (block_op, eadm_op, masked_op):
        name = op.__name__.rpartition(".")[2]
        plain = op._cpp

        def spied(*given: Any, name: str = name, plain=plain, **more: Any) -> None:
            maps = given[1].x if name == "stgcn_block" else given[1]
            found.setdefault(name, set()).add(maps.dtype)
            plain(*given, **more)

        monkeypatch.setattr(op, "_cpp", spied)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_with_bf16_maps_and_float32_for_the_rest(bf16_cpu, seen, method):
    training = trained(method, "bf16")
    assert seen.pop("stgcn_block") == {torch.bfloat16}
    assert all(dtypes == {torch.bfloat16} for dtypes in seen.values())
    assert ("eadm_pool" in seen) == (method == "aimclr")
    assert ("masked_pool" in seen) == method.startswith("skelemix")
    losses = torch.stack(training.reports)
    assert losses.isfinite().all()
    (learner,) = training.learners
    floats = [
        *learner.model.state_dict().values(),
        *(p.grad for p in learner.parameters if p.grad is not None),
        *(one for of in learner.optimizer.state.values() for one in of.values()),
        losses,
    ]
    wide = {one.dtype for one in floats if isinstance(one, Tensor) and one.is_floating_point()}
    assert wide == {torch.float32}

    exact, place = torch.stack(trained(method, "fp32").reports), training.names.index("loss")
    assert not torch.equal(losses, exact)
    torch.testing.assert_close(losses[0, :, place], exact[0, :, place], rtol=0.05, atol=0.01)


def test_a_gradient_is_as_near_to_that_of_float32_as_by_pytorchs_operations(bf16_cpu):
    def gradient(precision: str, backend: str) -> Tensor:
        training = trained("aimclr", precision, backend=backend, channels=8)
        (learner,) = training.learners
        return torch.cat([p.grad.flatten() for p in learner.parameters if p.grad is not None])

    exact = gradient("fp32", "cpp")
    ours, theirs = (
        float((gradient("bf16", backend) - exact).norm() / exact.norm())
        for backend in ("cpp", "torch")
    )
    assert 0 < ours < 1.2 * theirs


def test_heads_and_pooled_rows_are_float32(bf16_cpu, monkeypatch):
    """A head under autocast would multiply in bfloat16, and a mean would be rounded to it."""
    training = trained("aimclr", "fp32")
    (learner,) = training.learners
    encoder = learner.model.query_encoder.eval()
    x = torch.randn(3, 3, FRAMES, 22, 2)
    maps = torch.randn(6, 4, 12, 22, dtype=torch.bfloat16)
    mask = torch.zeros(12, 22, dtype=torch.bool)
    mask[:4] = True
    wanted = [encoder.head(encoder._over_bodies(rows, x)) for rows in (
        maps.double().mean((2, 3)).float(), *eadm_pool(maps, 0.7), *masked_pool(maps, mask)
    )]  # fmt: skip
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = [
            *encoder.pool(maps),
            *encoder.pool_with_drop(maps, keep_prob=0.7),
            *encoder.pool_with_mask(maps, mask=mask),
        ]
        got = [encoder.project(encoder._over_bodies(rows, x)) for rows in pooled]
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_what_a_step_keeps_for_backward(bf16_cpu):
    """Of the published encoder, in bytes: maps are half, and dropout's draws stay bits."""

    def kept(dtype: torch.dtype) -> int:
        torch.manual_seed(0)
        encoder, found = STGCN("ntu-rgb+d"), {}

        def pack(tensor: Tensor) -> Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
        ):
            encoder(torch.randn(8, 3, 50, 25, 2))
        parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
        return sum(size for place, size in found.items() if place not in parameters)

    assert kept(torch.bfloat16) <= 0.52 * kept(torch.float32)


# --- A run ---------------------------------------------------------------------------------------

TINY = """\
data: {store: store, split: odd-even}
model: {channels: 2, features: 8, embedding: 8, dropout: 0.5, queue_size: 32, momentum: 0.99}
optim: {epochs: 1, batch_size: 8, lr: 0.01, mining_epoch: 2}
monitor: {knn_every: 0, linear_probe: false}
save_every: 1
threads: 1
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    write_tiny(tmp_path / "store")
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain, "draw_curves", lambda *_: None)
    return tmp_path


def train(*arguments: str) -> None:
    command_line(["--config", "tiny.yaml", "--output", "run", "--resume", "auto", *arguments])


def test_a_run_keeps_its_precision(bf16_cpu, tiny, monkeypatch, capsys):
    """In its files, its first lines, and when it is resumed; other machines refuse it."""
    train("--precision", "bf16")
    assert "parameters on cpu in bf16," in capsys.readouterr().out
    recorded = {
        load_checkpoint("run/checkpoint.pt")["config"]["precision"],
        yaml.safe_load(Path("run/config.yaml").read_text())["precision"],
        json.loads(Path("run/run.json").read_text())["config"]["precision"],
    }
    assert recorded == {"bf16"}
    Path("run/checkpoint.pt").unlink()
    train("--encoder_backend", "torch")  # anew, where auto is another one for a new run
    assert "parameters on cpu in bf16," in capsys.readouterr().out

    auto = ["--config", "tiny.yaml", "--output", "run", "--resume", "auto"]
    by_folder = ["--resume", "run"]
    for arguments in (auto, by_folder):
        message = refused(capsys, *arguments, "--precision", "fp32")
        assert "precision is 'bf16' there and 'fp32' here (--precision bf16 goes on" in message
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: "this processor lacks them")
    for arguments in (auto, by_folder):
        message = refused(capsys, *arguments)
        assert "precision is 'bf16', but this processor lacks them" in message
        assert "a run that began in bf16 can only go on where that is computed" in message


def resumed(folder: Path, there: str, here: str, **about: object) -> TrainConfig:
    """A configuration that resumes a run of which run.json has another precision."""
    config = TrainConfig(output=str(folder), resume="auto", precision=here)
    before = {"config": asdict(replace(config, precision=there)), "data": {}, **about}
    (folder / ABOUT).write_text(json.dumps(before))
    return config


@pytest.mark.parametrize(
    ("there", "device", "began_in"),
    [
        ("bf16", "cpu", "bf16"),
        ("fp32", "A GPU", "fp32"),
        ("auto", "cpu", "fp32"),  # as earlier versions wrote it
        ("auto", "A GPU", None),
    ],
)
def test_what_a_run_began_in(tmp_path, there, device, began_in):
    config = resumed(tmp_path, there, "auto", device=device)
    assert resumed_precision(config) == began_in
    assert resumed_precision(replace(config, resume=None)) is None
    assert resumed_precision(replace(config, output=str(tmp_path / "none"))) is None
    here = began_in or "bf16"
    with closing(open_run(replace(config, precision=here), {})):
        pass
    if began_in is not None:
        other = "fp32" if here == "bf16" else "bf16"
        with pytest.raises(ConfigError, match=f"precision is '{here}' there and '{other}' here"):
            open_run(replace(config, precision=other), {})


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"config": 3}'])
def test_a_damaged_record_is_left_to_the_run_s_folder(tmp_path, content):
    (tmp_path / ABOUT).write_text(content)
    assert resumed_precision(TrainConfig(output=str(tmp_path), resume="auto")) is None


def test_fp32_is_what_auto_was_in_rows_of_earlier_versions():
    rows = {
        config_checksum(asdict(TrainConfig(precision=name)), "pretrained", FinetuneConfig())
        for name in ("auto", "fp32")
    }
    assert len(rows) == 1
    bf16 = asdict(TrainConfig(precision="bf16"))
    assert config_checksum(bf16, "pretrained", FinetuneConfig()) not in rows

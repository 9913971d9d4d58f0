"""Whole steps against the authors' numbers where float32 rounds differently: blocks of a GPU, GPUs.

Losses and all that a step leaves behind are compared with the authors'. A gradient jumps where the
input of a ReLU rounds to the other side of zero, and the authors' has their sides; so gradients are
compared with those of the exact step, in float64, that takes the same side at each ReLU. Outside
the band of tests/tolerances.py the sides must be the exact ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from nn.test_golden import STEPS, encoder, feeds_a_norm, model_before, prefixed
from tolerances import RELU_BAND, STEP_GRADIENTS, assert_near

from aimclr_fast.nn import AimCLR
from aimclr_fast.nn.official import from_official

__all__ = ["encoder"]  # a fixture
CUDA = pytest.mark.cuda
F32, F64 = torch.float32, torch.float64
# A device, the backend of the encoder's blocks, that of the other ops, and the dtype. The blocks of
# a GPU run in float64 here: PyTorch's batch norm for CPUs adds up less exactly with channels last.
PLACES = [
    ("cpu", "reference", "reference", F32),
    ("cpu", "torch", "reference", F64),
    pytest.param("cuda", "reference", "reference", F32, marks=CUDA),
    pytest.param("cuda", "auto", "auto", F32, marks=[CUDA, pytest.mark.smoke]),
]


class Sides:
    """On which side of zero each input of a ReLU was, in order."""

    def __init__(self) -> None:
        self._positive: list[torch.Tensor] = []
        self._plain = torch.relu

    @contextmanager
    def recorded(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "relu", self._record)
            yield

    @contextmanager
    def taken(self) -> Iterator[None]:
        """In an exact step: the sides that were recorded."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "relu", self._take)
            yield
        assert not self._positive

    def _record(self, x: torch.Tensor) -> torch.Tensor:
        self._positive.append((x > 0).cpu())
        return self._plain(x)

    def _take(self, x: torch.Tensor) -> torch.Tensor:
        positive = self._positive.pop(0)
        band = x.abs() < RELU_BAND * x.abs().max()
        assert (positive == (x > 0))[~band].all(), "a ReLU differs outside the band"
        return torch.where(band, x * positive, self._plain(x))


def assert_exact_gradients(module: torch.nn.Module, exact: torch.nn.Module) -> None:
    for name, parameter in exact.named_parameters():
        if parameter.grad is None:
            continue
        actual, wanted = module.get_parameter(name).grad.cpu().double(), parameter.grad
        limit = STEP_GRADIENTS[module.get_parameter(name).dtype]
        if feeds_a_norm(name):  # zero but for rounding
            scale = exact.get_parameter(name.replace("bias", "weight")).grad.abs().max()
        else:
            scale = wanted.abs().max()
        off = ((actual - wanted).abs().max() / scale).item()
        assert off <= limit, f"{name}: off by {off:.3g} of the largest, {limit:.3g} allowed"


@pytest.mark.parametrize(("device", "blocks", "ops", "dtype"), PLACES)
def test_encoder_in_training_mode(golden, encoder, device, blocks, ops, dtype):
    g, sides = golden("encoder"), Sides()
    exact = copy.deepcopy(encoder).double()
    exact.backend = "reference"
    encoder.to(device, dtype).backend = blocks
    with sides.recorded():
        out = encoder.forward_with_drop(g["x"].to(device, dtype), 0.7, backend=ops)
    assert_near(out[0], g["train_out"])
    assert_near(out[1], g["train_out_drop"])
    torch.autograd.backward(out, [g[y].to(device, dtype) for y in ("gy", "gyd")])
    with sides.taken():
        wanted = exact.forward_with_drop(g["x"].double(), 0.7, backend="reference")
    torch.autograd.backward(wanted, [g["gy"].double(), g["gyd"].double()])
    assert_exact_gradients(encoder, exact)
    state = encoder.state_dict()
    for name, value in prefixed(g.tree("after/")).items():
        assert_near(state[name], value, what=name)


def step(model: AimCLR, g, topk: int) -> None:
    """The authors' step; its losses and what it leaves behind are theirs."""
    out = model(*(g[view].to(model.queue) for view in ("x_extreme", "x_q", "x_k")), topk)
    losses = torch.stack([out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped])
    assert_near(losses, g["loss"])
    out.loss.backward()
    model.enqueue(out.keys)
    after, state = from_official(g.tree("after/")), model.state_dict()
    assert set(state) == set(after)
    for key, value in after.items():
        assert_near(state[key], value, what=key)
    assert state["queue_ptr"].item() == 0  # 56 + 8 keys wrap round the queue of 64


@pytest.mark.parametrize(("device", "blocks", "ops", "dtype"), PLACES)
@pytest.mark.parametrize("name", STEPS)
def test_whole_step(golden, name, device, blocks, ops, dtype):
    g, sides = golden(name), Sides()
    model, exact = model_before(g).to(device, dtype), model_before(g).double()
    exact.backend = "reference"
    model.backend = ops
    model.query_encoder.backend = model.key_encoder.backend = blocks
    with sides.recorded():
        step(model, g, STEPS[name])
    with sides.taken():
        views = (g[view].double() for view in ("x_extreme", "x_q", "x_k"))
        exact(*views, STEPS[name]).loss.backward()
    assert_exact_gradients(model, exact)


@pytest.mark.cuda
@pytest.mark.smoke
@pytest.mark.parametrize("name", STEPS)
def test_whole_step_with_triton_blocks(golden, name):
    """Their ReLUs are inside the kernels, so their sides are not known. Gradients of single blocks
    are compared in tests/ops.
    """
    model = model_before(golden(name)).cuda()
    model.query_encoder.backend = model.key_encoder.backend = "triton"
    step(model, golden(name), STEPS[name])
    assert all(p.grad.isfinite().all() for p in model.query_encoder.parameters())


@pytest.mark.cuda
@pytest.mark.parametrize("backend", ["auto", "triton"])
def test_encoder_in_eval_mode(golden, encoder, backend):
    g = golden("encoder")
    encoder.cuda().eval().backend = backend
    with torch.no_grad():
        assert_near(encoder(g["x"].cuda()), g["eval_out"])

"""Encoder and whole training steps against the authors' numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from tolerances import GRADIENTS, assert_near

from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder
from aimclr_fast.nn.official import encoder_from_official, from_official

STEPS = {"step_ddm": 0, "step_nnm1": 1, "step_nnm5": 5}


def feeds_a_norm(name: str) -> bool:
    """Convolution biases that batch norm subtracts again: their exact gradient is zero."""
    return name.endswith((".temporal.bias", ".residual.0.bias"))


def assert_gradients(module: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    parameters = dict(module.named_parameters())
    assert set(expected) <= set(parameters)
    for name, gradient in expected.items():
        actual = parameters[name].grad
        if feeds_a_norm(name):
            weight = expected[name.replace("bias", "weight")].abs().max()
            for noise in (actual, gradient):
                assert noise.abs().max() <= GRADIENTS[torch.float32] * weight, name
        else:
            assert_near(actual, gradient, gradient=True, what=name)


def prefixed(tree: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return encoder_from_official({f"encoder_q.{name}": value for name, value in tree.items()})


class ReluBand:
    """Lets the ReLUs whose input rounding may carry across zero fall on either side.

    The order of additions, so the thread count, decides where such an input falls, and a whole row
    of a gradient with it. A step is checked with the sides float32 rounding gives here, and if they
    are not those it gave the authors, with the exact ones. Outside the band nothing may differ.
    """

    BAND = 1e-6  # of the largest input

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._plain = torch.relu
        self._exact: list[torch.Tensor] = []
        self._monkeypatch = monkeypatch

    def check(self, module: torch.nn.Module, forward: Callable, inputs: tuple, verify: Callable):
        """`verify(module, forward(module, *inputs))` makes the assertions."""
        try:
            fresh = copy.deepcopy(module)
            verify(fresh, forward(fresh, *inputs))
        except AssertionError:
            with self._monkeypatch.context() as patch:
                patch.setattr(torch, "relu", self._record)
                exact = copy.deepcopy(module).double()
                exact.backend = "reference"
                forward(exact, *(x.double() for x in inputs))
                patch.setattr(torch, "relu", self._replay)
                out = forward(module, *inputs)
            verify(module, out)

    def _record(self, x: torch.Tensor) -> torch.Tensor:
        self._exact.append(x.detach())
        return self._plain(x)

    def _replay(self, x: torch.Tensor) -> torch.Tensor:
        exact = self._exact.pop(0)
        band = exact.abs() < self.BAND * exact.abs().max()
        assert ((x > 0) == (exact > 0))[~band].all(), "a ReLU differs outside the band"
        return torch.where(band, x * (exact > 0), self._plain(x))


@pytest.fixture
def relu_band(monkeypatch) -> ReluBand:
    return ReluBand(monkeypatch)


@pytest.fixture
def encoder(golden) -> SkeletonEncoder:
    backbone = STGCN(channels=8, features=32, dropout=0.0)
    encoder = SkeletonEncoder(backbone, 16, projection=False)
    encoder.load_state_dict(prefixed(golden("encoder").tree("sd/")))
    return encoder


def test_encoder_in_eval_mode(golden, encoder):
    g = golden("encoder")
    with torch.no_grad():
        assert_near(encoder.eval()(g["x"]), g["eval_out"])


def test_encoder_in_training_mode(golden, encoder, relu_band):
    g = golden("encoder")

    def verify(encoder, out):
        assert_near(out[0], g["train_out"])
        assert_near(out[1], g["train_out_drop"])
        torch.autograd.backward(out, [g["gy"], g["gyd"]])
        gradients = prefixed(g.tree("grad/"))
        assert len(gradients) == len(list(encoder.parameters()))
        assert_gradients(encoder, gradients)
        state = encoder.state_dict()
        for name, value in prefixed(g.tree("after/")).items():
            assert_near(state[name], value, what=name)

    encoder.backend = "reference"
    relu_band.check(encoder, lambda e, x: e.forward_with_drop(x, 0.7), (g["x"],), verify)


def model_before(g) -> AimCLR:
    before = from_official(g.tree("before/"))
    backbone = STGCN(
        channels=before["query_encoder.backbone.blocks.0.temporal.weight"].shape[0],
        features=before["query_encoder.head.0.weight"].shape[0],
        dropout=0.0,
    )
    model = AimCLR(SkeletonEncoder(backbone, 16), embedding=16, queue_size=64)
    model.load_state_dict(before)
    return model


@pytest.mark.parametrize("name", STEPS)
def test_whole_pretraining_step(golden, name, relu_band):
    g = golden(name)

    def verify(model, out):
        losses = torch.stack([out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped])
        assert_near(losses, g["loss"])
        out.loss.backward()
        model.enqueue(out.keys)
        gradients = from_official(g.tree("grad/"))
        assert len(gradients) == len(list(model.query_encoder.parameters()))
        assert_gradients(model, gradients)
        after, state = from_official(g.tree("after/")), model.state_dict()
        assert set(state) == set(after)
        for key, value in after.items():
            assert_near(state[key], value, what=key)
        assert state["queue_ptr"].item() == 0  # 56 + 8 keys wrap round the queue of 64

    model = model_before(g)
    model.backend = "reference"
    views = (g["x_extreme"], g["x_q"], g["x_k"])
    relu_band.check(model, lambda m, *v: m(*v, STEPS[name]), views, verify)


@pytest.mark.parametrize("backend", ["cpp", "triton"])
@pytest.mark.parametrize("name", STEPS)
def test_whole_step_of_the_fast_backends(golden, name, backend, relu_band):
    """Of the ops beside the encoder, against the reference in float64: float32 gradients of the
    authors are off by 1e-4.
    """
    g = golden(name)
    views = (g["x_extreme"], g["x_q"], g["x_k"])
    exact = model_before(g).double()
    exact.backend = "reference"
    expected = exact(*(view.double() for view in views), STEPS[name])
    expected.loss.backward()
    gradients = {n: p.grad for n, p in exact.named_parameters() if p.grad is not None}

    def verify(model, out):
        assert torch.equal(out.neighbors, expected.neighbors)
        for loss in ("loss", "info_nce", "d3m_extreme", "d3m_dropped"):
            assert_near(getattr(out, loss), getattr(expected, loss), what=loss)
        out.loss.backward()
        assert_gradients(model, gradients)

    model = model_before(g)
    model.backend = backend
    model.query_encoder.backend = model.key_encoder.backend = "reference"
    relu_band.check(model, lambda m, *v: m(*v, STEPS[name]), views, verify)


@pytest.mark.parametrize("name", STEPS)
def test_whole_step_in_cpp(golden, name):
    """Everything in C++, in float64, where no ReLU's input rounds to the other side."""
    g = golden(name)
    views = [g[view].double() for view in ("x_extreme", "x_q", "x_k")]
    results = []
    for backend in ("reference", "cpp"):
        model = model_before(g).double()
        model.backend = backend
        out = model(*views, STEPS[name])
        out.loss.backward()
        results.append((out, dict(model.named_parameters()), model.state_dict()))
    (expected, parameters, after), (out, own_parameters, own_after) = results
    assert torch.equal(out.neighbors, expected.neighbors)
    assert_near(out.loss, expected.loss, dtype=torch.float64)
    for key, value in parameters.items():
        if value.grad is not None and not feeds_a_norm(key):
            what = {"gradient": True, "dtype": torch.float64, "what": key}
            assert_near(own_parameters[key].grad, value.grad, **what)
    for key, value in after.items():
        assert_near(own_after[key], value, dtype=torch.float64, what=key)


@pytest.mark.parametrize("backend", ["cpp", "reference", "torch"])
def test_encoder_of_each_backend(golden, encoder, backend):
    g = golden("encoder")
    encoder.backend = backend
    with torch.no_grad():
        assert_near(encoder.eval()(g["x"]), g["eval_out"])
    plain, dropped = encoder.train().forward_with_drop(g["x"], 0.7)
    assert_near(plain, g["train_out"])
    assert_near(dropped, g["train_out_drop"])
    state = encoder.state_dict()
    for name, value in prefixed(g.tree("after/")).items():
        assert_near(state[name], value, what=name)


@pytest.mark.parametrize("name", STEPS)
def test_logits_and_distributions_of_a_step(golden, name):
    """What the loss is made of, from the rows the encoders put out."""
    g = golden(name)
    model = model_before(g)

    def distribution(rows, keys):
        rows = torch.nn.functional.normalize(rows, dim=1)
        positive = (rows * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, rows @ model.queue.T], 1) / 0.07
        return logits, logits.softmax(1)

    with torch.no_grad():
        extreme, dropped = model.query_encoder.forward_with_drop(g["x_extreme"], 0.7)
        query = model.query_encoder(g["x_q"])
        model.update_key_encoder()
        keys = torch.nn.functional.normalize(model.key_encoder(g["x_k"]), dim=1)
    logits, teacher = distribution(query, keys)
    assert_near(logits, g["logits"])
    assert_near(teacher, g["p_teacher"])
    assert_near(distribution(extreme, keys)[1], g["p_extreme"])
    assert_near(distribution(dropped, keys)[1], g["p_extreme_drop"])

"""stgcn_block in C++ with bfloat16 maps: what goes in and comes out, what is kept, who refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ops.test_stgcn_block import CASES, Case, converted, make, run, with_bits
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.functional import stgcn_block
from aimclr_fast.ops import stgcn_block as op
from aimclr_fast.ops._dispatch import BackendError, explain

BF16 = torch.bfloat16
CONVOLUTION = Case(2, 16, 32, 13, 25, stride=2, residual="convolution")
MAPS = ("x", "y")

pytestmark = pytest.mark.usefixtures("bf16_cpu")


def with_bf16_maps(case: Case) -> dict:
    """Arguments of float32 but for x."""
    arguments = converted(make(case), torch.float32)
    return arguments | {"x": arguments["x"].detach().to(BF16).requires_grad_()}


def grad_of(case: Case) -> Tensor:
    torch.manual_seed(1)
    shape = (case.batch, case.out, -(-case.frames // case.stride), case.joints)
    return torch.randn(shape).to(BF16)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.detach().double() - other.detach().double()).norm())


@pytest.mark.parametrize("case", [CASES[2], CASES[3], CASES[5], CASES[17]], ids=str)
def test_errs_no_more_than_the_operations_of_pytorch(case):
    """From float64 and the same rounded x. Rounded maps turn the sign of some elements at a ReLU,
    each by chance.
    """
    arguments, grad = with_bf16_maps(case), grad_of(case)
    exact = run(converted(arguments, torch.float64), grad.double(), "reference")
    theirs = run(arguments, grad, "reference")
    ours = run(arguments, grad, "cpp")
    for name, value in ours.items():
        assert value.dtype == (BF16 if name in MAPS else torch.float32), name
        if case.training and name in ("temporal bias", "residual bias"):
            continue  # exactly zero, and rounding in both
        error = distance(value, exact[name])
        # The operations of float64 do not round statistics that are given.
        least = 1e-6 * float(exact[name].detach().norm())
        assert error <= 1.5 * distance(theirs[name], exact[name]) + least, name


@pytest.mark.parametrize("case", [CASES[1], CONVOLUTION], ids=str)
def test_parameters_may_be_bfloat16(case):
    """They are widened, and their gradients rounded."""
    half = converted(make(case), BF16)
    wide = converted(half, torch.float32) | {"x": half["x"]}
    grad = grad_of(case)
    got, wanted = run(half, grad, "cpp"), run(wide, grad, "cpp")
    for name, value in got.items():
        assert torch.equal(value, wanted[name].to(value.dtype)), name
        assert value.dtype == (torch.float32 if name == "statistics" else BF16)


def test_what_is_kept_for_backward_is_half_as_large():
    kept = {}
    for dtype in (torch.float32, BF16):
        arguments = converted(make(CONVOLUTION), torch.float32)
        arguments["x"] = arguments["x"].detach().to(dtype).requires_grad_()
        found: dict[int, Tensor] = {}

        def pack(tensor: Tensor, found: dict[int, Tensor] = found) -> Tensor:
            if tensor.dim() == 4 and tensor.is_floating_point() and tensor.shape[0] == 2:
                found[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            stgcn_block(**arguments, backend="cpp")
        assert {tensor.dtype for tensor in found.values()} == {dtype}
        kept[dtype] = sum(tensor.nbytes for tensor in found.values())
    assert len(found) == 5  # x, y, and what goes into three norms
    assert kept[BF16] == kept[torch.float32] / 2


def test_groups_are_batches_of_their_own():
    case = CONVOLUTION._replace(batch=4, drop=False)
    arguments, grad = with_bf16_maps(case), grad_of(case)
    got = run(arguments | {"groups": 2}, grad, "cpp")
    apart = [
        run(arguments | {"x": x.detach().requires_grad_()}, own, "cpp")
        for x, own in zip(arguments["x"].chunk(2), grad.chunk(2), strict=True)
    ]
    for name, value in got.items():
        each = [one[name] for one in apart]
        if name in MAPS:
            assert torch.equal(value, torch.cat(each)), name
        elif name == "statistics":
            assert torch.equal(value, torch.stack(each))
        else:
            torch.testing.assert_close(value, sum(each))


@pytest.mark.parametrize("training", [True, False])
def test_without_gradients_the_output_is_the_same(training):
    arguments = with_bf16_maps(CONVOLUTION._replace(training=training))
    y, statistics = stgcn_block(**arguments, backend="cpp")
    with torch.no_grad():
        plain = stgcn_block(**arguments, backend="cpp")
    assert torch.equal(y, plain[0])
    assert torch.equal(statistics, plain[1])


def test_an_empty_batch():
    arguments = with_bf16_maps(CONVOLUTION._replace(batch=0))
    y, statistics = stgcn_block(**arguments, backend="cpp")
    assert (y.shape, y.dtype, statistics.dtype) == ((0, 32, 7, 25), BF16, torch.float32)
    y.sum().backward()
    assert (arguments["spatial"][0].grad == 0).all()


def test_bits_of_keep_and_any_layout():
    bits, plain = with_bits(with_bf16_maps(CONVOLUTION))
    strided = plain | {"x": plain["x"].detach().transpose(2, 3).contiguous().transpose(2, 3)}
    strided["x"].requires_grad_()
    grad = grad_of(CONVOLUTION)
    wanted = run(plain, grad, "cpp")
    for other in (bits, strided):
        for name, value in run(other, grad, "cpp").items():
            assert torch.equal(value, wanted[name]), name


def test_a_view_at_an_odd_address():
    """Two elements are one word of a product, also where x begins in the middle of one."""
    arguments = with_bf16_maps(CONVOLUTION)
    x = arguments["x"].detach()
    room = torch.empty(x.numel() + 1, dtype=BF16)
    odd = room[1:].view(2, 13, 25, 16).permute(0, 3, 1, 2).copy_(x)
    assert odd.data_ptr() % 4 == 2
    wanted = stgcn_block(**arguments, backend="cpp")
    got = stgcn_block(**arguments | {"x": odd}, backend="cpp")
    assert all(map(torch.equal, got, wanted))


@pytest.mark.parametrize("case", [CASES[1], CONVOLUTION], ids=str)
def test_opcheck(case):
    arguments = with_bf16_maps(case)
    residual = arguments["residual"]
    inputs = (
        arguments["x"], arguments["adjacency"], *arguments["spatial"], *arguments["temporal"],
        arguments["norms"], *((None, None) if isinstance(residual, str) else residual),
        arguments["running"], arguments["keep"],
    )  # fmt: skip
    settings = (residual == "identity", 1 / 0.6, case.stride, 1e-5, 1, True, None)
    forward = torch.ops.aimclr_fast.stgcn_block.default
    torch.library.opcheck(forward, (*inputs, *settings, "cpp"))
    inputs = [None if x is None else x.detach() for x in inputs]
    saved = forward(*inputs, *settings, "cpp")
    backward = torch.ops.aimclr_fast.stgcn_block_backward.default
    torch.library.opcheck(backward, (torch.randn_like(saved[0]), *inputs, *settings, *saved, "cpp"))


def test_compiles_as_one_graph():
    arguments = with_bf16_maps(CONVOLUTION)

    def loss(x: Tensor) -> Tensor:
        return stgcn_block(**{**arguments, "x": 2 * x})[0].float().square().sum()

    x = arguments["x"]
    (wanted,) = torch.autograd.grad(loss(x), x)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(x), x)
    assert torch.equal(got, wanted)


def test_auto_takes_it_and_autocast_changes_nothing():
    arguments, grad = with_bf16_maps(CONVOLUTION), grad_of(CONVOLUTION)
    wanted = run(arguments, grad, "cpp")
    with torch.autocast("cpu", dtype=BF16):
        got = run(arguments, grad, "auto")
    assert all(torch.equal(value, wanted[name]) for name, value in got.items())
    assert explain(op.BACKENDS, arguments["x"])["cpp"] is None


def test_an_older_library_says_what_it_lacks(monkeypatch):
    older = SimpleNamespace(stgcn_block_forward_f32_cpu=None)
    monkeypatch.setattr(native, "load", lambda: older)
    arguments = with_bf16_maps(CONVOLUTION)
    with pytest.raises(BackendError, match="built from older sources, which had no bfloat16 kern"):
        stgcn_block(**arguments, backend="cpp")
    y, _ = stgcn_block(**arguments)  # by PyTorch's operations
    assert y.dtype == BF16

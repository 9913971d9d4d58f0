"""The blocks that a GPU runs by default, PyTorch's operations with channels last, on the CPU."""

from __future__ import annotations

import pytest
import torch
from ops.test_stgcn_block import CASES, assert_equal, converted, leaves, make, moved, run
from tolerances import assert_near

from aimclr_fast.functional import stgcn_block
from aimclr_fast.ops import stgcn_block as op
from aimclr_fast.ops._dispatch import pick


def adjacency_first(case) -> bool:
    return 3 * case.channels < 2 * case.out


def test_both_orders_are_tried():
    assert {adjacency_first(case) for case in CASES} == {True, False}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference_in_float64(case, dtype):
    exact = make(case)
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints).double()
    wanted = run(converted(exact, torch.float64), grad, "reference")
    got = run(converted(exact, dtype), grad, "torch")
    assert_equal(got, wanted, case, dtype)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[2], CASES[3]], ids=str)
@pytest.mark.parametrize("kept", ["as it is", "channels last"])
def test_what_comes_out_has_channels_last(case, kept):
    arguments = converted(make(case), torch.float32)
    if kept == "channels last":
        x = arguments["x"].detach().contiguous(memory_format=torch.channels_last)
        arguments["x"] = x.requires_grad_()
    y, _ = stgcn_block(**arguments, backend="torch")
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (CASES[1], torch.bfloat16),
        (CASES[1], torch.float16),
        (CASES[2], torch.bfloat16),
        (CASES[3], torch.bfloat16),
        (CASES[3], torch.float16),
    ],
    ids=str,
)
@pytest.mark.smoke
def test_halves(case, dtype, device):
    """Values and gradients err no more than the reference's on the CPU, of the same rounded x."""
    case = case._replace(batch=16)  # many elements whose sign at a ReLU rounding may turn
    exact = make(case)
    exact["x"] = exact["x"].to(dtype).double()
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints)
    grad = grad.to(dtype).double()
    wanted = run(converted(exact, torch.float64), grad, "reference")
    arguments = converted(exact, torch.float32)
    arguments["x"] = arguments["x"].detach().to(dtype).requires_grad_()
    got = run(moved(arguments, device), grad.to(device), "torch")
    assert got["y"].dtype == dtype
    assert got["statistics"].dtype == torch.float32
    beside = run(arguments, grad, "reference")
    for name, expected in wanted.items():
        if name not in ("temporal bias", "residual bias"):  # their exact gradient is zero
            error, allowed = ((r[name].cpu().double() - expected).norm() for r in (got, beside))
            assert error <= 1.5 * allowed, f"{name}: {error:.3g}, the reference {allowed:.3g}"


def test_an_absent_edge_gets_no_gradient_and_a_nan_stays():
    arguments = converted(make(CASES[1]), torch.float64)
    y, _ = stgcn_block(**arguments, backend="torch")
    (gradient,) = torch.autograd.grad(y.sum(), arguments["adjacency"])
    assert (gradient[arguments["adjacency"] == 0] == 0).all()
    with torch.no_grad():
        arguments["adjacency"][0, 0, 0] = torch.nan
    assert stgcn_block(**arguments, backend="torch")[0].isnan().any()


def test_an_empty_batch():
    case = CASES[1]._replace(training=False, drop=False)
    arguments = converted(make(case), torch.float32)
    arguments["x"] = arguments["x"].detach()[:0].requires_grad_()
    y, _ = stgcn_block(**arguments, backend="torch")
    assert y.shape == (0, case.out, case.frames, case.joints)
    gradients = torch.autograd.grad(y.sum(), list(leaves(arguments).values()))
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_strided_blocks_of_few_channels(backend):
    """A strided 1x1 convolution's gradient ends the process where channels are last and few."""
    case = CASES[2]._replace(batch=12, channels=8, out=16, frames=50)
    exact = make(case)
    grad = torch.randn(case.batch, case.out, 25, case.joints).double()
    wanted = run(converted(exact, torch.float64), grad, "reference")
    arguments = converted(exact, torch.float32)
    x = arguments["x"].detach().contiguous(memory_format=torch.channels_last)
    arguments["x"] = x.requires_grad_()
    assert_equal(run(arguments, grad, backend), wanted, case, torch.float32)


def test_it_is_what_a_gpu_gets_by_default():
    assert pick("stgcn_block", op.BACKENDS, "auto", torch.empty(1, device="meta")).name == "torch"


def test_second_derivatives():
    """As the reference: there is nothing of ours to differentiate."""
    case = CASES[1]._replace(batch=1, frames=3, drop=False)
    arguments = converted(make(case), torch.float64)
    found = []
    for backend in ("torch", "reference"):
        y, _ = stgcn_block(**arguments, backend=backend)
        (first,) = torch.autograd.grad(y.square().sum(), arguments["x"], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), arguments["x"])
        found.append(second)
    assert_near(*found, gradient=True, dtype=torch.float64)

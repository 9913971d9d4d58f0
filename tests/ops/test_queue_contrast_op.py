"""queue_contrast as a torch op: registration, torch.compile, second derivatives, settings."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_near
from torch import Tensor

from aimclr_fast.functional import queue_contrast
from aimclr_fast.ops import queue_contrast as op
from aimclr_fast.ops._dispatch import BackendError, explain


@pytest.fixture(
    params=[
        pytest.param(("cpp", "cpu"), id="cpp"),
        pytest.param(("triton", "cpu"), id="triton-interpreter"),
        pytest.param(("triton", "cuda"), id="triton-cuda", marks=pytest.mark.cuda),
    ]
)
def place(request) -> tuple[str, str]:
    """A backend, and the device of its tensors."""
    if request.param == ("triton", "cpu") and torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    return request.param


def unit_rows(*shape: int, device: str = "cpu") -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1).to(device)


def inputs_on(device: str, width: int = 16) -> list[Tensor]:
    """Query, extreme and dropped rows that need gradients, keys and a queue."""
    torch.manual_seed(0)
    rows = [unit_rows(3, width, device=device).requires_grad_() for _ in range(3)]
    return [*rows, unit_rows(3, width, device=device), unit_rows(40, width, device=device)]


def arguments(inputs: list[Tensor]) -> tuple:
    """The torch op's arguments up to the temperature."""
    return inputs[:3], inputs[3:4], inputs[4:], *op.AIMCLR


@pytest.mark.parametrize(("topk", "precision"), [(0, None), (2, "ieee")])
def test_opcheck(place, topk, precision):
    backend, device = place
    torch.library.opcheck(
        torch.ops.aimclr_fast.queue_contrast,
        (*arguments(inputs_on(device)), 0.07, topk, 0, backend, precision),
    )


@pytest.mark.parametrize("named", [True, False])
def test_compiles_without_a_graph_break(place, named):
    backend, device = place
    inputs = inputs_on(device)

    def loss(topk: int) -> Tensor:
        return queue_contrast(*inputs, 0.07, topk, backend if named else "auto").loss

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for topk in (0, 1):  # mining sets in during a training
        have, want = compiled(topk), loss(topk)
        assert_near(have, want)
        for one, other in zip(
            *(torch.autograd.grad(x, inputs[:3]) for x in (have, want)), strict=True
        ):
            assert_near(one, other)


def test_a_second_derivative_is_refused(place):
    backend, device = place
    inputs = inputs_on(device)
    loss = queue_contrast(*inputs, backend=backend).info_nce
    (gradient,) = torch.autograd.grad(loss.square(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("error", "message", "width", "dtype", "precision"),
    [
        (BackendError, "a multiple of 16 wide, up to 256, got 24", 24, torch.float32, None),
        (BackendError, "a multiple of 16 wide, up to 256, got 272", 272, torch.float32, None),
        (BackendError, "no float64 kernels", 16, torch.float64, None),
        (ValueError, "precision must be one of ieee, tf32", 16, torch.float32, "fp8"),
    ],
)
def test_what_triton_refuses(error, message, width, dtype, precision):
    inputs = [x.to(dtype) for x in inputs_on("cpu", width)]
    with pytest.raises(error, match=message):
        op.queue_contrast(*inputs, 0.07, 0, "triton", precision=precision)


def test_cpp_can_run_here():
    assert explain(op.BACKENDS, torch.zeros(2, 16))["cpp"] is None


@pytest.mark.cuda
def test_triton_is_first_on_a_gpu():
    reasons = explain(op.BACKENDS, torch.zeros(2, 16, device="cuda"))
    assert next(name for name, reason in reasons.items() if reason is None) == "triton"


@pytest.mark.parametrize(
    ("setting", "precision"), [("highest", "ieee"), ("high", "tf32"), ("medium", "bf16")]
)
def test_the_precision_of_float32_is_torchs_setting(setting, precision):
    full, half, bf16 = (torch.zeros(1, dtype=d) for d in (torch.float, torch.half, torch.bfloat16))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        assert op.default_precision(full, full) == precision
        assert op.default_precision(full, bf16) == precision
        assert op.default_precision(half, half) == "fp16"
        assert op.default_precision(bf16, bf16) == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_precision_of_float32_by_torchs_newer_setting():
    """In a new process, since torch does not go back to the older setting."""
    code = """
import torch
from aimclr_fast.ops.queue_contrast import default_precision
for setting in ("tf32", "ieee"):
    torch.backends.cuda.matmul.fp32_precision = setting
    print(default_precision(torch.zeros(1), torch.zeros(1)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tf32", "ieee"]


class NoGradient(torch.autograd.Function):
    """Lets values through, and no gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


def test_losses_without_a_gradient_give_none():
    inputs = inputs_on("cpu")
    rows = [row.detach().requires_grad_() for row in inputs[:3]]
    call = (rows, *arguments(inputs)[1:], 0.07, 0, 0, "cpp", None)
    losses = torch.ops.aimclr_fast.queue_contrast(*call)[0]
    NoGradient.apply(losses).sum().backward()
    assert all(row.grad is None for row in rows)

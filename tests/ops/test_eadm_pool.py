"""Every backend of eadm_pool against the reference, in values, gradients and masks.

Attention within a narrow band around keep_prob may fall on either side of it, so masks must be
equal outside the band, and values are compared with those that the backend's own masks imply.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from tolerances import assert_near
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.functional import eadm_pool
from aimclr_fast.ops import eadm_pool as op
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.reference import eadm_pool as reference

E_LAMBDA = 1e-4
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# How far rounding may move an attention: a few units in the last place of what is summed.
BAND = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 3e-6, torch.float16: 3e-6}

SHAPES = [
    (2, 6, 13, 25),  # the last feature map of NTU sequences of 50 frames
    (3, 5, 13, 17),
    (2, 33, 7, 20),  # one channel more than a block
    (2, 3, 16, 22),
    (4, 3, 1, 25),
    (2, 7, 13, 1),
    (3, 4, 1, 1),
    (1, 1, 50, 25),
    (3, 37, 11, 7),
    (2, 3, 5, 50),
]


@pytest.fixture(
    params=[
        pytest.param(("cpp", "cpu"), id="cpp"),
        pytest.param(("triton", "cpu"), id="triton-interpreter"),
        pytest.param(("triton", "cuda"), id="triton-cuda", marks=pytest.mark.cuda),
    ]
)
def place(request):
    """A backend, and the device of its tensors."""
    if request.param == ("triton", "cpu") and torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    return request.param


class Result(NamedTuple):
    pooled: Tensor
    pooled_drop: Tensor
    dx: Tensor
    element_kept: Tensor  # [B, C, T, V]
    joint_kept: Tensor  # [B, V]


def unpack(bits: Tensor, frames: int) -> Tensor:
    """Octets [B, C, O, V] as booleans [B, C, T, V]."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)[:, None]
    return (bits[..., None, :] >> places & 1).flatten(2, 3)[:, :, :frames].bool()


def run(backend: str, x: Tensor, keep_prob: float, grads: tuple[Tensor, Tensor]) -> Result:
    x = x.detach().requires_grad_()
    outputs = torch.ops.aimclr_fast.eadm_pool(x, keep_prob, E_LAMBDA, backend)
    pooled, pooled_drop, bits, kept_joints, _ = outputs
    (dx,) = torch.autograd.grad((pooled, pooled_drop), x, grads)
    return Result(pooled, pooled_drop, dx, unpack(bits, x.shape[2]), kept_joints.bool())


def implied(x: Tensor, element: Tensor, joint: Tensor, grads: tuple[Tensor, Tensor]) -> Result:
    """The reference's formula in float64 for given masks."""
    x = x.detach().double().requires_grad_()
    elements = element.double() * element.numel() / element.sum().clamp(min=1)
    joints = joint.double() * joint.numel() / joint.sum().clamp(min=1)
    pooled, dropped = x.mean((2, 3)), (x * elements * joints[:, None, None]).mean((2, 3))
    (dx,) = torch.autograd.grad((pooled, dropped), x, [g.double() for g in grads])
    return Result(pooled, dropped, dx, element, joint)


def assert_is_the_reference(
    result: Result, x: Tensor, keep_prob: float, grads: tuple[Tensor, Tensor]
) -> None:
    attention = reference.attention(x.double(), E_LAMBDA)
    joints = attention.mean((1, 2))
    for what, mask, values in (
        ("elements", result.element_kept, attention),
        ("joints", result.joint_kept, joints),
    ):
        sure = (values - keep_prob).abs() > BAND[x.dtype]
        assert torch.equal(mask[sure], values[sure] < keep_prob), what
        assert sure.double().mean() > 0.99, "the band would excuse too much"
    expected = implied(x, result.element_kept, result.joint_kept, grads)
    precise = torch.float64 if x.dtype == torch.float64 else torch.float32
    assert result.pooled.dtype == result.pooled_drop.dtype == precise
    assert_near(result.pooled, expected.pooled, dtype=precise, what="pooled")
    assert_near(result.pooled_drop, expected.pooled_drop, dtype=precise, what="pooled_drop")
    assert result.dx.dtype == x.dtype
    assert_near(result.dx, expected.dx, gradient=True, dtype=x.dtype, what="dx")


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    draws = torch.randn(2, *x.shape[:2], dtype=dtype).to(x.device)
    return draws[0], draws[1]


def supported(backend: str, dtype: torch.dtype) -> bool:
    return backend == "cpp" or dtype != torch.float64


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_equals_the_reference(place, shape, memory_format):
    backend, device = place
    for seed, dtype in enumerate(filter(lambda d: supported(backend, d), FLOATS)):
        torch.manual_seed(seed)
        # Uneven joints, so that some are dropped, and rectified, as the encoder's map is.
        x = torch.randn(shape) * torch.linspace(0.5, 3.0, shape[3])
        x = x.relu().to(device, dtype).contiguous(memory_format=memory_format)
        grads = gradients(x)
        keep_prob = 0.7 if seed % 2 else 0.65
        result = run(backend, x, keep_prob, grads)
        assert_is_the_reference(result, x, keep_prob, grads)
        assert result.dx.is_contiguous(memory_format=memory_format)
        if place != ("triton", "cpu"):  # the interpreter runs one program after the other
            again = run(backend, x, keep_prob, grads)
            assert all(torch.equal(one, two) for one, two in zip(result, again, strict=True))


def test_the_cases_drop_some_joints_and_some_elements():
    torch.manual_seed(0)
    x = (torch.randn(SHAPES[0]) * torch.linspace(0.5, 3.0, 25)).relu()
    result = run("cpp", x, 0.65, gradients(x))
    assert 0 < result.joint_kept.float().mean() < 1
    assert 0 < result.element_kept.float().mean() < 1


@pytest.mark.parametrize("keep_prob", [0.7, 0.9])
@pytest.mark.smoke
def test_values_and_gradient_are_the_authors(place, keep_prob, golden):
    backend, device = place
    g = golden("eadm")
    x = g[f"x_{keep_prob}"].to(device).requires_grad_()
    pooled, pooled_drop = eadm_pool(x, keep_prob, backend=backend)
    assert_near(pooled.cpu(), g[f"x_{keep_prob}"].mean((2, 3)))
    assert_near(pooled_drop.cpu(), g[f"y_{keep_prob}"].mean((2, 3)))
    pooled_drop.backward(g[f"g_{keep_prob}"].to(device))
    assert_near(x.grad.cpu(), g[f"dx_{keep_prob}"], gradient=True)


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (3, 0, 5, 6)])
def test_empty(place, shape):
    backend, device = place
    x = torch.randn(shape, device=device, requires_grad=True)
    outputs = eadm_pool(x, backend=backend)
    assert all(out.shape == shape[:2] for out in outputs)
    sum(out.sum() for out in outputs).backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2],
        lambda x: x[:, :, 1:],
        lambda x: x.transpose(2, 3),
        lambda x: x.transpose(0, 1),
        lambda x: x[:1, :, :, :1].expand(3, -1, -1, 4),
    ],
)
def test_strided(place, view):
    backend, device = place
    torch.manual_seed(0)
    x = view(torch.randn(4, 6, 9, 5, device=device))
    grads = gradients(x)
    assert_is_the_reference(run(backend, x, 0.7, grads), x, 0.7, grads)


def test_everything_dropped_gives_zero_not_nan(place):
    backend, device = place
    x = torch.randn(4, 3, 6, 5, device=device, requires_grad=True)
    _, pooled_drop = eadm_pool(x, 0.5, backend=backend)  # attention is above sigmoid(0.5)
    assert (pooled_drop == 0).all()
    pooled_drop.sum().backward()
    assert (x.grad == 0).all()


def test_nothing_dropped_is_plain_pooling(place):
    backend, device = place
    x = torch.randn(4, 3, 20, 25)
    x[0, 0, 3, 7] = 1e4  # an attention that rounds to one
    pooled, pooled_drop = eadm_pool(x.to(device), 1.0, backend=backend)
    assert_near(pooled_drop, pooled)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_what_is_not_finite_is_not_hidden(place, memory_format, value):
    backend, device = place
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 5)
    x[1, 2, 3, 4] = value
    x = x.to(device).contiguous(memory_format=memory_format)
    for got, wanted in zip(eadm_pool(x, backend=backend), reference.eadm_pool(x), strict=True):
        assert torch.equal(got.isfinite(), wanted.isfinite())
        assert_near(got.nan_to_num(0, 0, 0), wanted.nan_to_num(0, 0, 0))


@pytest.mark.parametrize("used", [0, 1])
def test_one_output_may_be_unused(place, used):
    backend, device = place
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 6, device=device, requires_grad=True)
    grad = torch.randn(2, 5, device=device)
    (got,) = torch.autograd.grad(eadm_pool(x, backend=backend)[used], x, grad)
    (wanted,) = torch.autograd.grad(reference.eadm_pool(x)[used], x, grad)
    assert_near(got, wanted, gradient=True)


def test_bits_and_scalars_are_all_that_is_saved(place):
    backend, device = place
    x = torch.randn(2, 16, 13, 25, device=device, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        eadm_pool(x, backend=backend)
    kept = sum(tensor.numel() * tensor.element_size() for tensor in saved)
    assert kept == 2 * 16 * 2 * 25 + 2 * 25 + 4  # bits, joints, the scale


def test_gradcheck():
    # The masks are constants to autograd but not to finite differences, so stay off the edges.
    for seed in range(100):
        torch.manual_seed(seed)
        x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
        attention = reference.attention(x)
        edges = torch.cat([attention.flatten(), attention.mean((1, 2)).flatten()]) - 0.7
        if edges.abs().min() > 1e-4:
            break
    for memory_format in FORMATS.values():
        inputs = x.contiguous(memory_format=memory_format).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: eadm_pool(x, backend="cpp"), (inputs,))


def test_second_derivatives_need_the_reference():
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(eadm_pool(x, backend="cpp")[0].square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="backend='reference'"):
        dx.sum().backward()
    pooled = eadm_pool(x, backend="reference")[0]
    (dx,) = torch.autograd.grad(pooled.square().sum(), x, create_graph=True)
    dx.sum().backward()
    assert_near(x.grad, torch.full_like(x, 2 / 20), gradient=True)


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_opcheck(place, memory_format):
    backend, device = place
    x = torch.randn(2, 5, 7, 6, device=device).contiguous(memory_format=memory_format)
    forward = torch.ops.aimclr_fast.eadm_pool.default
    arguments = (x.requires_grad_(), 0.7, E_LAMBDA, backend)
    torch.library.opcheck(forward, arguments)
    pooled, pooled_drop, *saved = forward(x.detach(), *arguments[1:])
    last = memory_format == torch.channels_last
    torch.library.opcheck(
        torch.ops.aimclr_fast.eadm_pool_backward.default,
        (pooled, pooled_drop, *saved, 7, last, x.dtype, backend),
    )


@pytest.mark.parametrize("choice", ["auto", "forced", "reference"])
def test_compiles_as_one_graph(place, choice):
    backend, device = place
    backend = {"auto": "auto", "forced": backend, "reference": "reference"}[choice]

    def loss(x: Tensor) -> Tensor:
        pooled, pooled_drop = eadm_pool(2 * x, backend=backend)
        return (pooled * pooled_drop).sum()

    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 6, device=device, requires_grad=True)
    (wanted,) = torch.autograd.grad(loss(x), x)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(x), x)
    assert_near(got, wanted, gradient=True)


def test_choice_of_a_backend(monkeypatch):
    x = torch.randn(2, 3, 4, 5)
    with pytest.raises(BackendError, match="no float64 kernels"):
        eadm_pool(x.double(), backend="triton")
    with pytest.raises(ValueError, match="unknown backend 'cuda'; this op has auto, cpp, triton"):
        eadm_pool(x, backend="cuda")
    with pytest.raises(BackendError, match="runs on the CPU, and the tensor is on meta"):
        eadm_pool(x.to("meta"), backend="cpp")
    called = []
    library = native.load()
    original = library.eadm_pool_forward_f32_cpu
    monkeypatch.setattr(
        library, "eadm_pool_forward_f32_cpu", lambda **a: (called.append(a), original(**a))
    )
    eadm_pool(x)
    assert len(called) == 1
    assert [backend.name for backend in op.BACKENDS] == ["cpp", "triton", "reference"]

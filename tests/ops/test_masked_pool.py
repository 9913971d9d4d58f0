"""Every backend of masked_pool against the reference, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_near
from torch import Tensor

from aimclr_fast.functional import masked_pool
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.reference import masked_pool as reference

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SHAPES = [
    (2, 6, 16, 25),  # the last feature map of NTU sequences of 64 frames
    (3, 5, 13, 17),
    (2, 33, 7, 20),  # one channel more than a lane
    (4, 3, 1, 25),
    (2, 65, 13, 1),
    (1, 1, 50, 25),
    (3, 300, 3, 2),
    (2, 3, 1, 2),
]
forward = torch.ops.aimclr_fast.masked_pool


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


def make_mask(frames: int, joints: int) -> Tensor:
    """A stretch of time at some joints, as skelemix makes it; part of the map in any case."""
    mask = torch.zeros(frames, joints, dtype=torch.bool)
    mask[frames // 4 : frames // 4 + max(frames // 2, 1), : max(joints // 3, 1)] = True
    assert 0 < mask.sum() < mask.numel()
    return mask


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    draws = torch.randn(2, *x.shape[:2], dtype=dtype).to(x.device)
    return draws[0], draws[1]


def run(backend: str, x: Tensor, mask: Tensor, grads: tuple[Tensor, Tensor]) -> list[Tensor]:
    x = x.detach().requires_grad_()
    pooled = masked_pool(x, mask, backend)
    return [*pooled, *torch.autograd.grad(pooled, x, grads)]


def assert_is_the_reference(backend: str, x: Tensor, mask: Tensor) -> list[Tensor]:
    grads = gradients(x)
    found = run(backend, x, mask, grads)
    exact = run("reference", x.double(), mask, (grads[0].double(), grads[1].double()))
    precise = torch.float64 if x.dtype == torch.float64 else torch.float32
    for pooled, wanted in zip(found[:2], exact[:2], strict=True):
        assert pooled.dtype == precise
        assert_near(pooled, wanted, dtype=precise)
    assert found[2].dtype == x.dtype
    assert_near(found[2], exact[2], gradient=True, dtype=x.dtype, what="dx")
    return found


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_equals_the_reference(place, shape, memory_format):
    backend, device = place
    mask = make_mask(*shape[2:]).to(device)
    for seed, dtype in enumerate(FLOATS if backend == "cpp" else FLOATS[:3]):
        torch.manual_seed(seed)
        x = torch.randn(shape).to(device, dtype).contiguous(memory_format=memory_format)
        found = assert_is_the_reference(backend, x, mask)
        assert found[2].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (3, 0, 5, 6)])
def test_empty(place, shape):
    backend, device = place
    x = torch.randn(shape, device=device, requires_grad=True)
    outputs = masked_pool(x, make_mask(5, 6).to(device), backend)
    assert all(out.shape == shape[:2] for out in outputs)
    sum(out.sum() for out in outputs).backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2],
        lambda x: x[:, :, 1:],
        lambda x: x.transpose(2, 3),
        lambda x: x[:1, :, :, :1].expand(3, -1, -1, 4),
    ],
)
def test_strided(place, view):
    backend, device = place
    torch.manual_seed(0)
    x = view(torch.randn(4, 6, 9, 5, device=device))
    wide = make_mask(2 * x.shape[2], 2 * x.shape[3]).to(device)
    assert_is_the_reference(backend, x, wide[::2, ::2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_what_is_not_finite_stays_on_its_side(place, memory_format, value):
    backend, device = place
    x = torch.ones(2, 3, 6, 50)
    mask = make_mask(6, 50)
    x[0, 1][mask] = value
    x[1, 2][~mask] = value
    x = x.to(device).contiguous(memory_format=memory_format)
    inside, outside = masked_pool(x, mask.to(device), backend)
    assert inside.isfinite().logical_not().nonzero().tolist() == [[0, 1]]
    assert outside.isfinite().logical_not().nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("used", [0, 1])
def test_one_output_may_be_unused(place, used):
    backend, device = place
    x = torch.randn(2, 5, 7, 6, device=device, requires_grad=True)
    mask, grad = make_mask(7, 6).to(device), torch.randn(2, 5, device=device)
    (got,) = torch.autograd.grad(masked_pool(x, mask, backend)[used], x, grad)
    (wanted,) = torch.autograd.grad(reference.masked_pool(x, mask)[used], x, grad)
    assert_near(got, wanted, gradient=True)


def test_the_mask_is_all_that_is_saved(place):
    backend, device = place
    x = torch.randn(2, 16, 13, 25, device=device, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        masked_pool(x, make_mask(13, 25).to(device), backend)
    assert [tensor.shape for tensor in saved] == [(13, 25)]


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_gradcheck(memory_format):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    mask = make_mask(5, 4)
    assert torch.autograd.gradcheck(lambda x: masked_pool(x, mask, "cpp"), (x.requires_grad_(),))


def test_second_derivatives_need_the_reference():
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    pooled = masked_pool(x, make_mask(5, 4), "cpp")[0]
    (dx,) = torch.autograd.grad(pooled.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="backend='reference'"):
        dx.sum().backward()


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_opcheck(place, memory_format):
    backend, device = place
    x = torch.randn(2, 5, 7, 6, device=device).contiguous(memory_format=memory_format)
    mask = make_mask(7, 6).to(device)
    torch.library.opcheck(forward.default, (x.requires_grad_(), mask, backend))
    last = memory_format == torch.channels_last
    torch.library.opcheck(
        torch.ops.aimclr_fast.masked_pool_backward.default,
        (*gradients(x), mask, last, x.dtype, backend),
    )


@pytest.mark.parametrize("choice", ["auto", "forced", "reference"])
def test_compiles_as_one_graph(place, choice):
    backend, device = place
    backend = {"auto": "auto", "forced": backend, "reference": "reference"}[choice]
    mask = make_mask(7, 6).to(device)

    def loss(x: Tensor) -> Tensor:
        inside, outside = masked_pool(2 * x, mask, backend)
        return (inside * outside).sum()

    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 6, device=device, requires_grad=True)
    (wanted,) = torch.autograd.grad(loss(x), x)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(x), x)
    assert_near(got, wanted, gradient=True)


X = torch.zeros(2, 3, 4, 5)
HALF = torch.eye(4, 5, dtype=torch.bool)


@pytest.mark.parametrize("backend", ["cpp", "triton", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"features must have shape \[B, C, T, V\]", (X[0], HALF)),
        (ValueError, "at least one frame and one joint", (X[:, :, :0], HALF[:0])),
        (ValueError, r"mask must have shape \[4, 5\]", (X, HALF[1:])),
        (ValueError, "both true and false entries, got only true", (X, HALF | True)),
        (ValueError, "both true and false entries, got only false", (X, HALF & False)),
        (TypeError, "mask must be of dtype bool", (X, HALF.int())),
        (TypeError, "features must be of dtype", (X.long(), HALF)),
        (TypeError, "mask must be a tensor", (X, [[True, False]])),
    ],
)
def test_bad_arguments_are_named(backend, error, message, arguments):
    with pytest.raises(error, match=message):
        masked_pool(*arguments, backend)


def test_choice_of_a_backend():
    with pytest.raises(BackendError, match="no float64 kernels"):
        masked_pool(X.double(), HALF, "triton")
    with pytest.raises(ValueError, match="this op has auto, cpp, triton, reference"):
        masked_pool(X, HALF, "cuda")


# --- C++ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_the_result_does_not_depend_on_the_threads(memory_format):
    torch.manual_seed(0)
    x = torch.randn(30, 40, 13, 25).contiguous(memory_format=memory_format)
    mask, grads, before = make_mask(13, 25), gradients(x), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3, 64):
            torch.set_num_threads(threads)
            results.append(run("cpp", x, mask, grads))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], result, strict=True))


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS.keys())
def test_large_maps_keep_their_accuracy(memory_format):
    torch.manual_seed(0)
    x = (1000 + torch.randn(1, 2, 3000, 25)).contiguous(memory_format=memory_format)
    mask = make_mask(3000, 25)
    ulp = 2**-14  # of a float32 near 1000
    for pooled, chosen in zip(masked_pool(x, mask, "cpp"), (mask, ~mask), strict=True):
        assert (pooled.double() - x.double()[:, :, chosen].mean(2)).abs().max() <= ulp


# --- Triton --------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 256, 2048])
@pytest.mark.parametrize("positions", [2, 325, 100_000])
def test_tiles_stay_in_registers(positions, channels, last):
    from aimclr_fast.triton_kernels import masked_pool as kernels

    tile = kernels.tile_of(channels, positions, last)
    assert tile.block_c * tile.block_n <= kernels.MAX_PER_TILE


# --- On a GPU ------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.smoke
def test_runs_on_the_current_stream_and_in_a_graph():
    torch.manual_seed(0)
    x = torch.randn(4, 32, 13, 25, device="cuda", requires_grad=True)
    mask = make_mask(13, 25).cuda()

    def step():
        inside, outside = masked_pool(x, mask, "triton")
        return torch.autograd.grad((inside * outside).sum(), x)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        wanted = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = step()
    got.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(got, wanted)


@pytest.mark.cuda
def test_on_a_gpu_a_mean_over_nothing_is_nan():
    inside, outside = masked_pool(X.cuda(), (HALF & False).cuda(), "triton")
    assert inside.isnan().all()
    assert (outside == 0).all()

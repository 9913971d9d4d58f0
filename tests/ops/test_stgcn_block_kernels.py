"""stgcn_block's Triton kernels: interpreted on small shapes, compiled at the published ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import triton_published as published
from ops.test_stgcn_block import Case, assert_equal, converted, make, moved, run
from tolerances import assert_near
from triton_aot import Launch, assert_no_spills, compile_launches

from aimclr_fast.functional import stgcn_block
from aimclr_fast.ops import stgcn_block as op
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.triton_kernels import stgcn_block as kernels
from aimclr_fast.triton_kernels import stgcn_block_shapes as shapes

MODULE = "aimclr_fast.triton_kernels.stgcn_block"
PLACES = [
    pytest.param("cpu", id="interpreter"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.cuda),
]
CASES = [
    Case(1, 3, 16, 5, 25, residual="none", drop=False),
    Case(2, 16, 16, 7, 25),
    Case(2, 16, 24, 5, 20, taps=5, stride=2, residual="convolution"),
    Case(1, 24, 32, 6, 17, taps=3, stride=2, residual="convolution", training=False),
    Case(1, 16, 16, 4, 25, taps=1, training=False, drop=False),
    Case(3, 5, 7, 1, 17, stride=2, residual="convolution"),
    Case(1, 16, 8, 3, 5, taps=1, stride=2, residual="convolution"),
]


@pytest.fixture(params=PLACES)
def device(request):
    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    return request.param


def both(case: Case, dtype: torch.dtype, device: str, backend: str = "triton"):
    """What a backend and, in float64, the reference make of the same numbers."""
    exact = make(case)
    rounded = converted(exact, dtype)
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints)
    grad = grad.to(dtype).double()
    wanted = run(converted(rounded, torch.float64), grad, "reference")
    got = run(moved(rounded, device), grad.to(device), backend)
    return {name: value.cpu() for name, value in got.items()}, wanted


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference_in_float64(case, device):
    got, wanted = both(case, torch.float32, device)
    assert got["y"].is_contiguous(memory_format=torch.channels_last)
    assert_equal(got, wanted, case, torch.float32)


@pytest.mark.parametrize(
    ("dtype", "device"),
    [
        (torch.float16, "cpu"),  # of bfloat16 the interpreter cuts bits off where a GPU rounds
        pytest.param(torch.float16, "cuda", marks=pytest.mark.cuda),
        pytest.param(torch.bfloat16, "cuda", marks=pytest.mark.cuda),
    ],
    ids=str,
    indirect=["device"],
)
@pytest.mark.parametrize(
    "case",
    [
        # One launch of the graph convolution's gradients, and two.
        Case(2, 16, 24, 5, 20, taps=5, residual="convolution"),
        Case(1, 40, 72, 5, 17, taps=3, stride=2, residual="convolution"),
    ],
    ids=str,
)
@pytest.mark.smoke
def test_half_precision_errs_no_more_than_the_reference(dtype, device, case):
    """Rounded maps turn the sign of some elements at a ReLU: each differs by more than rounding."""
    got, wanted = both(case, dtype, device)
    assert got["y"].dtype == dtype
    assert got["statistics"].dtype == torch.float32
    beside, _ = both(case, dtype, "cpu", "reference")
    for name, expected in wanted.items():
        if name not in ("temporal bias", "residual bias"):
            error, allowed = ((r[name].double() - expected).norm() for r in (got, beside))
            assert error <= 1.5 * allowed, f"{name}: {error:.3g}, the reference {allowed:.3g}"


@pytest.mark.parametrize("setting", ["highest", "medium"])
def test_torch_decides_how_float32_is_multiplied(setting, device):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        got, wanted = both(Case(1, 16, 16, 3, 5, taps=1), torch.float32, device)
    finally:
        torch.set_float32_matmul_precision(before)
    error = (got["y"].double() - wanted["y"]).norm() / wanted["y"].norm()
    assert (error < 1e-6) == (setting == "highest")
    assert error < 1e-2


def test_a_large_mean_does_not_drown_the_variance(device):
    exact = make(Case(3, 16, 16, 5, 25, taps=1))
    weight, bias = exact["spatial"]
    exact["spatial"] = (weight, bias + 1000.0)
    exact["adjacency"] = torch.eye(25, dtype=torch.float64).repeat(3, 1, 1)
    wanted = stgcn_block(**converted(exact, torch.float64), backend="reference")[1]
    with torch.no_grad():
        got = stgcn_block(**moved(converted(exact, torch.float32), device), backend="triton")[1]
    assert ((got.cpu() - wanted).abs() / wanted.abs())[0, 1].max() < 1e-3


def test_sums_do_not_depend_on_how_many_programs_share_them(device, monkeypatch):
    """And so on the GPU: parts of the rows, merged in their order."""
    case = Case(2, 16, 16, 5, 17, taps=3)
    first, _ = both(case, torch.float32, device)
    again, _ = both(case, torch.float32, device)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    monkeypatch.setattr(shapes, "PROGRAMS_PER_PROCESSOR", 1)
    monkeypatch.setattr(kernels, "MERGED", 2)
    other, wanted = both(case, torch.float32, device)
    assert_equal(other, wanted, case, torch.float32)


def call_of(case: Case) -> op.Call:
    """As backends get it, in training without dropout."""
    arguments = converted(make(case), torch.float32)
    residual = arguments["residual"] if case.residual == "convolution" else (None, None)
    given = (
        arguments["x"], arguments["adjacency"], *arguments["spatial"], *arguments["temporal"],
        arguments["norms"], *residual,
    )  # fmt: skip
    tensors = [None if value is None else value.detach() for value in given]
    identity = case.residual == "identity"
    return op.Call(*tensors, None, None, identity, 1.0, case.stride, 1e-5, True, "triton")


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 5, 16, 5, 17, taps=1, residual="none", drop=False),
        Case(2, 16, 16, 4, 5, taps=1, drop=False),
        Case(2, 16, 24, 3, 5, taps=1, stride=2, residual="convolution", drop=False),
    ],
    ids=str,
)
def test_groups_of_samples_are_convolved_as_if_alone(case, monkeypatch):
    """Of the graph convolution: each has statistics of its own, and parameters get the sum."""
    if torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    call = call_of(case)
    merged: list[torch.Tensor] = []

    def merge(counts, partials, statistics):
        rows = counts.double()[:, None]
        mean = (partials[:, 0] * rows).sum(0) / rows.sum()
        squares = partials[:, 1] + (partials[:, 0] - mean).square() * rows
        merged.append(torch.stack((mean, squares.sum(0) / rows.sum())))

    def one(groups: int, part: slice) -> dict[str, torch.Tensor]:
        batch = case.batch // 2 * groups
        x = call.x[part].contiguous(memory_format=torch.channels_last)
        statistics = torch.ones(groups, len(call.norms), 2, case.out)
        here = SimpleNamespace(**{**call._asdict(), "x": x, "groups": groups})
        block = kernels._block(here, "ieee")
        assert (block.groups, block.batch) == (groups, case.batch // 2)
        y = torch.empty(batch, case.out, case.frames, case.joints)
        y = y.contiguous(memory_format=torch.channels_last)
        monkeypatch.setattr(
            kernels, "_merge_statistics",
            lambda counts, partials, _: [
                merge(*pair, None)
                for pair in zip(counts.chunk(groups), partials.chunk(groups), strict=True)
            ],
        )  # fmt: skip
        kernels._graph_convolution(here, block, y, statistics)
        means = torch.tensor([0.5, -1.0]).view(2, 1, 1, 1)
        statistics += means[:groups] if part.start != case.batch // 2 else means[1:]
        short = -(-case.frames // case.stride)
        generator = torch.Generator().manual_seed(5)

        def drawn(channels: int, frames: int) -> torch.Tensor:
            values = torch.randn(case.batch, channels, frames, case.joints, generator=generator)
            return values[part].contiguous(memory_format=torch.channels_last)

        here.grad_y, here.y = drawn(case.out, short), drawn(case.out, short)
        here.spatial, here.statistics = y, statistics
        gradient = drawn(case.out, case.frames)
        coefficients = torch.randn(2, 2, case.out, generator=generator)
        if groups == 1:
            coefficients = coefficients[int(part.start > 0)]
        shortcut = drawn(case.out, short) if case.residual == "convolution" else None
        out = SimpleNamespace(x=torch.empty_like(x))
        grads = gradient, coefficients.contiguous(), shortcut
        sums = kernels._graph_convolution_gradients(here, block, grads, out)
        found = dict(zip(("weights", "edges", "joints"), sums, strict=True))
        found = {name: value.double().flatten(0, -2).sum(0) for name, value in found.items()}
        return found | {"y": y, "x": out.x}

    half = case.batch // 2
    together = one(2, slice(0, case.batch))
    alone = [one(1, slice(0, half)), one(1, slice(half, case.batch))]
    assert len(merged) == 4
    for got, wanted in zip(merged[:2], merged[2:], strict=True):
        assert_near(got, wanted)
    for name, value in together.items():
        parts = [each[name] for each in alone]
        assert_near(value, torch.cat(parts) if name in "xy" else sum(parts), what=name)


def test_in_evaluation_nothing_need_be_saved(device):
    arguments = moved(converted(make(CASES[3]), torch.float32), device)
    y, statistics = stgcn_block(**arguments, backend="triton")
    with torch.no_grad():
        plain = stgcn_block(**arguments, backend="triton")
    assert torch.equal(y, plain[0])
    assert torch.equal(statistics, plain[1])
    assert_near(statistics.cpu(), arguments["running"].cpu())


def test_too_many_joints_are_refused():
    with pytest.raises(BackendError, match="its tiles hold up to 64 joints, got 65"):
        stgcn_block(**converted(make(Case(1, 2, 2, 1, 65)), torch.float32), backend="triton")
    assert op.MAX_TRITON_JOINTS == shapes.MAX_JOINTS


def test_auto_never_takes_what_no_gpu_has_measured():
    names = [backend.name for backend in op.BACKENDS]
    assert names.index("torch") < names.index("triton")


# --- Ahead of time -------------------------------------------------------------------------------

# Of smaller GPUs, too.
SHARED_LIMIT = 99 << 10


def compiled(block: str, precision: str, training: bool = True) -> list[Launch]:
    launches = compile_launches(*published.stgcn_block(block, precision, training)[:2])
    print(*launches, sep="\n")
    assert_no_spills(launches)
    for launch in launches:
        assert launch.shared_bytes <= SHARED_LIMIT, str(launch)
    return launches


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "precision"),
    [
        *((block, "bf16") for block in published.BLOCKS),
        ("9", "tf32"),
        ("10", "tf32"),
        ("9", "ieee"),
    ],
)
def test_compiled_ahead_of_time_nothing_spills(block, precision):
    launches = compiled(block, precision)
    convolved = "convolution" in published.BLOCKS[block]
    # Each for two architectures; a residual convolution adds itself, its weights' gradient and
    # sums of those, and merges its own norm twice. The graph convolution's gradients take one
    # launch, two, or three.
    graph = sum(launch.kernel == "spatial_gradients_kernel" for launch in launches) // 2
    assert graph == (3 if precision in published.EXACT else 2 if block in ("9", "10") else 1)
    assert len(launches) == 2 * ((21 if convolved else 16) + graph)
    if precision == "ieee":
        return
    products = [launch for launch in launches if "convolution" in launch.kernel]
    for launch in products:
        # The tensor cores, and on Hopper its own instructions where the product is large.
        assert "mma" in launch.ptx, str(launch)
    if block == "10" and precision == "bf16":
        assert all("wgmma" in launch.ptx for launch in products if launch.arch == 90)


@pytest.mark.slow
def test_in_evaluation_nothing_is_summed_but_gradients():
    launches = compiled("10", "bf16", training=False)
    assert len(launches) == 2 * (23 - 3)
    assert not any(launch.kernel == "merge_statistics_kernel" for launch in launches)

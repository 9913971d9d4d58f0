"""stgcn_block's Triton kernels: interpreted on small shapes, compiled at the published ones."""

from __future__ import annotations

import math
from importlib.metadata import version

import pytest
import torch
import triton_published as published
from ops.test_stgcn_block import (
    GROUPED,
    Case,
    assert_equal,
    check_groups,
    converted,
    make,
    moved,
    run,
    with_bits,
)
from tolerances import assert_near
from torch import Tensor
from triton_aot import Launch, assert_no_spills, compile_launches, compile_published

from aimclr_fast.functional import stgcn_block
from aimclr_fast.nn.stgcn import STGCNBlock
from aimclr_fast.ops import stgcn_block as op
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.triton_kernels import stgcn_block as kernels
from aimclr_fast.triton_kernels import stgcn_block_shapes as shapes
from aimclr_fast.triton_kernels.stgcn_block_weights import Weights, unpack

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
    monkeypatch.setattr(kernels, "PROCESSORS", 1)
    monkeypatch.setattr(kernels, "MERGED", 2)
    other, wanted = both(case, torch.float32, device)
    assert_equal(other, wanted, case, torch.float32)


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 16, 16, 3, 25, taps=1),
        Case(1, 16, 24, 5, 17, taps=1, stride=2, residual="convolution"),
        Case(2, 5, 7, 3, 5, taps=1, residual="convolution"),  # eights that are not of one row
        Case(1, 3, 2, 1, 5, taps=1, residual="none"),  # less than a word
    ],
    ids=str,
)
def test_bits_of_keep_are_its_elements(case, device):
    bits, plain = (
        stgcn_block(**moved(each, device), backend="triton")[0]
        for each in with_bits(converted(make(case), torch.float32))
    )
    assert torch.equal(bits, plain)
    # The backward pass reads no more than the masks of it.
    masks = [y.grad_fn.saved_tensors[-1] for y in (bits, plain)]
    assert torch.equal(*masks)


def test_the_encoders_block_drops_the_same_as_others(device):
    torch.manual_seed(0)
    block = STGCNBlock(8, 8, 3, temporal_kernel=1, dropout=0.5).to(device)
    x, adjacency = torch.randn(2, 8, 3, 5, device=device), torch.rand(3, 5, 5, device=device)
    found = {}
    for backend in ("torch", "triton"):
        block.backend = backend
        torch.manual_seed(1)
        y, weight = block(x, adjacency), block.temporal.weight
        found[backend] = y, *torch.autograd.grad(y.square().sum(), weight)
    for got, wanted in zip(found["triton"], found["torch"], strict=True):
        assert_near(got.cpu(), wanted.cpu(), gradient=True)


def test_dropout_hides_nothing_that_is_not_finite(device):
    arguments = converted(make(Case(2, 8, 8, 3, 5, taps=1, training=False)), torch.float32)
    arguments["running"] = arguments["running"].detach()
    arguments["running"][1, 0, 2] = torch.nan
    wanted = stgcn_block(**arguments, backend="reference")[0].isnan()
    got = stgcn_block(**moved(arguments, device), backend="triton")[0].isnan()
    assert torch.equal(got.cpu(), wanted)
    assert wanted.sum() == 2 * 3 * 5


@pytest.mark.parametrize("channels", [5, 16, 20])
def test_masks_have_the_signs_and_what_dropout_kept(channels, device):
    case = Case(2, channels, channels, 3, 5, taps=1)
    arguments = moved(converted(make(case), torch.float32), device)
    y, _ = stgcn_block(**arguments, backend="triton")
    masks = y.grad_fn.saved_tensors[-1].view(2, 3, 5, -1, 1).cpu()
    bits = (masks >> torch.arange(16)) & 1 == 1
    positive, kept = (
        each.flatten(3)[..., :channels].permute(0, 3, 1, 2) for each in bits.split(8, dim=-1)
    )
    assert torch.equal(positive, y.cpu() > 0)
    assert torch.equal(kept, (y.cpu() > 0) & arguments["keep"].cpu())


# --- Groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "groups"), GROUPED, ids=str)
def test_groups_are_as_if_each_came_alone(case, groups, device, monkeypatch):
    monkeypatch.setattr(shapes, "ROW_VALUES", 64)  # several tiles, and some with few rows
    check_groups(case, groups, "triton", device)


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 16, 32, 2, 17, taps=1, residual="convolution"),  # one pass finds all gradients
        Case(2, 40, 72, 2, 5, taps=1, stride=2, residual="convolution"),  # two do
    ],
    ids=str,
)
def test_groups_in_half_precision(case, device):
    check_groups(case, 2, "triton", device, torch.float16)


def test_statistics_of_groups_are_merged_apart(device, monkeypatch):
    """And those of two maps, of which programs have other shares of the rows."""
    monkeypatch.setattr(kernels, "MERGED", 2)
    torch.manual_seed(0)
    found, wanted = [], []
    for parts in (5, 3):
        values = torch.randn(2, parts, 40, 3, device=device).double() + 100.0
        mean = values.mean(2)
        squares = (values - mean[:, :, None]).square().sum(2)
        partials = torch.stack([mean, squares], 2).flatten(0, 1).float()
        counts = torch.full((2 * parts,), 40.0, device=device)
        found.append(kernels.Partials(counts, partials))
        rows = values.flatten(1, 2)
        wanted.append(torch.stack([rows.mean(1), rows.var(1, correction=0)], 1).cpu())
    for maps in (1, 2):
        statistics = torch.zeros(2, 4, 2, 3, device=device)
        kernels._merge_statistics(found[:maps], statistics[:, 1 : 1 + maps])
        assert_near(statistics[:, 1 : 1 + maps].cpu(), torch.stack(wanted[:maps], 1))
        assert (statistics[:, [0, *range(1 + maps, 4)]] == 0).all()


def test_sums_of_any_shape_in_one_launch(device):
    torch.manual_seed(0)

    def sum_of(parts: int, *sizes: int, order: tuple[int, ...]) -> kernels.Sum:
        """Into a tensor whose axes lie in another order."""
        out = torch.full([sizes[i] for i in order], torch.nan, device=device)
        back = sorted(range(len(order)), key=order.__getitem__)
        return kernels.Sum(torch.randn(parts, *sizes, device=device), out.permute(back))

    sums = [
        sum_of(3, 5, 7, 11, order=(2, 1, 0)), sum_of(70, 33, order=(0,)),
        sum_of(1, 4, 3, order=(1, 0)), sum_of(2, 1, 1, 1, order=(1, 2, 0)),
    ]  # fmt: skip
    for given in (sums, sums[:1], [*sums, sum_of(65, 200, order=(0,))]):
        for one in given:
            one.out.fill_(torch.nan)
        kernels._sum_parts(given, 1)
        for one in given:
            assert_near(one.out.cpu(), one.partials.double().sum(0).cpu())


def test_in_evaluation_nothing_need_be_saved(device):
    arguments = moved(converted(make(CASES[3]), torch.float32), device)
    y, statistics = stgcn_block(**arguments, backend="triton")
    with torch.no_grad():
        plain = stgcn_block(**arguments, backend="triton")
    assert torch.equal(y, plain[0])
    assert torch.equal(statistics, plain[1])
    assert_near(statistics.cpu(), arguments["running"].cpu())


def weights_of(case: Case, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
    given = moved(converted(make(case), dtype), device)
    beside = None if isinstance(given["residual"], str) else given["residual"][0]
    return given["spatial"][0], given["temporal"][0], beside


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_are_packed_for_both_directions(dtype, device):
    blocks = [weights_of(case, torch.float32, device) for case in (*CASES, Case(1, 33, 40, 2, 5))]
    for block, packed in zip(blocks, op.pack_weights(blocks, dtype), strict=True):
        got, (spatial, temporal, residual) = unpack(packed, Weights(*block)), block
        width = spatial.shape[1]
        matrices = [spatial.view(-1, len(temporal), width), temporal.squeeze(3).permute(2, 0, 1)]
        matrices += [] if residual is None else [residual.view(1, -1, width)]
        both = [turned for matrix in matrices for turned in (matrix, matrix.transpose(1, 2))]
        for mine, wanted in zip(got, both, strict=residual is not None):
            assert mine.dtype == dtype
            assert mine.is_contiguous()
            # The interpreter cuts off bits of bfloat16.
            loose = (
                {"rtol": 2**-7, "atol": 0} if dtype == torch.bfloat16 else {"rtol": 0, "atol": 0}
            )
            torch.testing.assert_close(mine.float(), wanted.to(dtype).float(), **loose)


def test_weights_of_two_dtypes_are_packed_together(device):
    blocks = [weights_of(CASES[2], dtype, device) for dtype in (torch.float32, torch.float16)]
    together = op.pack_weights(blocks, torch.float16)
    for block, packed in zip(blocks, together, strict=True):
        assert torch.equal(op.pack_weights([block], torch.float16)[0], packed)


@pytest.mark.parametrize("other", [False, True])
def test_a_block_takes_weights_that_are_packed(other, device):
    """And lays them out itself where they are of another precision."""
    case = CASES[2]
    wanted, _ = both(case, torch.float32, device)
    given = moved(converted(make(case), torch.float32), device)
    dtype = torch.float16 if other else torch.float32
    (packed,) = op.pack_weights([weights_of(case, torch.float32, device)], dtype)
    more = {"running": None, "eps": 1e-5, "groups": 1, "over_ranks": None, "backend": "triton"}
    y, _ = op.packed_block(**more | given, packed=packed)
    assert torch.equal(y.cpu(), wanted["y"])
    packed.zero_()  # what the products take, the gradient's too
    y, _ = op.packed_block(**more | given, packed=packed)
    assert torch.equal(y.cpu(), wanted["y"]) == other
    (gradient,) = torch.autograd.grad(y.sum(), given["x"])
    assert (gradient.abs().max() == 0) == (not other)


def test_packed_weights_are_checked():
    case = CASES[2]
    given = converted(make(case), torch.float32)
    more = {"running": None, "eps": 1e-5, "groups": 1, "over_ranks": None, "backend": "triton"}
    (packed,) = op.pack_weights([weights_of(case, torch.float32, "cpu")], torch.float32)
    bad = {
        "packed must hold each weight twice": packed[:-64],
        r"packed must have shape \[size\]": packed[None],
        "packed must be": packed.double(),
        "packed on meta": packed.to("meta"),
    }
    for message, wrong in bad.items():
        with pytest.raises((ValueError, TypeError), match=message):
            op.packed_block(**more | given, packed=wrong)


def test_too_many_joints_are_refused():
    with pytest.raises(BackendError, match="its tiles hold up to 64 joints, got 65"):
        stgcn_block(**converted(make(Case(1, 2, 2, 1, 65)), torch.float32), backend="triton")
    assert op.MAX_TRITON_JOINTS == shapes.MAX_JOINTS


def test_auto_never_takes_what_no_gpu_has_measured():
    names = [backend.name for backend in op.BACKENDS]
    assert names.index("torch") < names.index("triton")


# --- Ahead of time -------------------------------------------------------------------------------

PACK = """
def weights(_, c_in, c_out, frames, joints, taps, stride, residual, *rest):
    spatial, temporal = (3 * c_out, c_in, 1, 1), (c_out, c_out, taps, 1)
    beside = [(c_out, c_in, 1, 1)] if residual == "convolution" else []
    found = [torch.empty(size, device="meta") for size in (spatial, temporal, *beside)]
    return kernels.Weights(*found, *[None] * (3 - len(found)))
kernels.pack_weights([weights(*block) for block in {blocks}], "bf16")
"""
# Of smaller GPUs, too.
SHARED_LIMIT = 99 << 10


def assert_as_predicted(launches: list[Launch]) -> None:
    """Each is among the kernels of an H100's step in the committed prediction, but for the one that
    packs weights, there of all blocks at once.

    What another version of Triton compiles takes other registers.
    """
    import predict  # not on a GPU machine, which collects this file

    rows = predict.read(predict.RESULTS / "predict_h100.csv")
    used = 3 if f"triton {version('triton')}," in rows[0].versions else 0
    known = {
        (row.operation, math.prod(predict.shape_of(row).grid),
         *(row.threads, row.registers, row.shared_bytes)[:used])
        for row in rows
    }  # fmt: skip
    for launch in launches:
        if launch.kernel == "pack_kernel":
            continue
        takes = 32 * launch.warps, launch.registers, launch.shared_bytes
        found = (f"triton.{launch.kernel}", launch.programs, *takes[:used])
        assert found in known, f"{launch}: write benchmarks/results/predict_h100.csv anew"


def compiled(block: str, precision: str, training: bool = True) -> list[Launch]:
    launches = compile_published(published.stgcn_block(block, precision, training))
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
    if precision == "bf16":
        assert_as_predicted([launch for launch in launches if launch.arch == 90])
    convolved = "convolution" in published.BLOCKS[block]
    # Each for two architectures; a residual convolution adds itself and its weights' gradient. The
    # graph convolution's gradients take one launch, two, or three.
    graph = sum(launch.kernel == "spatial_gradients_kernel" for launch in launches) // 2
    assert graph == (3 if precision in published.EXACT else 2 if block in ("9", "10") else 1)
    count = (17 if convolved else 15) + graph
    if precision == "bf16" and published.BLOCKS[block][2] <= 32:
        count -= 1  # both gradients of the temporal convolution are found in one kernel
    elif precision != "bf16" or block != "8":
        count += 1  # the normalized map is written before it is convolved
    assert len(launches) == 2 * count
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
    assert len(launches) == 2 * (20 - 2)
    assert not any(launch.kernel == "merge_statistics_kernel" for launch in launches)


@pytest.mark.slow
def test_all_weights_of_an_encoder_are_packed_in_one_launch():
    launches = compile_launches(MODULE, PACK.format(blocks=list(published.BLOCKS.values())))
    print(*launches, sep="\n")
    assert [launch.kernel for launch in launches] == ["pack_kernel"] * 2  # architectures
    assert_no_spills(launches)

"""stgcn_block over bfloat16 on the CPU, at every level: values, statistics and gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from typing import Any, NamedTuple

import amx
import pytest
import torch
from ops.test_stgcn_block import Case, converted, leaves, make
from torch import Tensor

from aimclr_fast import native
from aimclr_fast.functional import stgcn_block
from aimclr_fast.ops import stgcn_block as op

BF16 = torch.bfloat16
LEVELS = ("baseline", "v3", "v4", "v4_bf16", "amx")

CASES = [
    Case(2, 3, 16, 13, 25, residual="none", drop=False),  # a network's input
    Case(2, 16, 16, 12, 25),
    Case(2, 16, 32, 13, 25, stride=2, residual="convolution"),
    Case(3, 64, 80, 9, 17, residual="convolution"),  # over frequencies, as all wide ones
    Case(3, 16, 16, 11, 22, training=False, drop=False),
    Case(2, 16, 32, 12, 20, stride=2, residual="convolution", training=False),
    Case(5, 32, 32, 10, 20, taps=7),
    Case(7, 8, 24, 7, 17, taps=5, stride=2, residual="convolution"),
    Case(3, 16, 16, 6, 5, taps=1),
    Case(3, 32, 16, 5, 5, taps=1, stride=2, residual="convolution"),
    Case(3, 16, 16, 1, 20),
    Case(2, 16, 16, 1, 17, stride=2, residual="none"),
    Case(9, 64, 64, 13, 22),  # several groups of samples
    Case(2, 5, 7, 4, 3, stride=2, residual="convolution"),  # channels that fill no vector or word
    Case(2, 7, 7, 6, 2, training=False),
    Case(2, 37, 37, 10, 3),
]


@pytest.fixture(scope="session")
def amx_traps(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if why := amx.why_not():
        pytest.skip(why)
    return amx.build(tmp_path_factory.mktemp("amx"))


@pytest.fixture(params=LEVELS)
def bf16_level(request: pytest.FixtureRequest) -> Generator[str]:
    """Each level in turn: below v4_bf16 runs the plain form of the same loops, and amx is emulated
    where the processor lacks it.
    """
    library = native.load()
    level, levels = request.param, library.cpu_levels()
    if level == "amx" and level not in levels:
        with amx.emulated(request.getfixturevalue("amx_traps")):
            yield level
        return
    if level not in levels:
        pytest.skip(f"this processor or build has no level {level}")
    before = library.cpu_level()
    library.set_cpu_level(level)
    yield level
    library.set_cpu_level(before)


class Results(NamedTuple):
    outputs: op.Outputs
    gradients: op.Gradients


def arguments_of(case: Case) -> tuple[op.Call, Tensor]:
    """A call with maps of bfloat16 and parameters of float32, and an upstream gradient."""
    given = converted(make(case), torch.float32)
    tensors = leaves(given)
    keep = given["keep"]
    running = given["running"]
    call = op.Call(
        x=tensors["x"].detach().to(BF16),
        adjacency=tensors["adjacency"].detach(),
        spatial_weight=tensors["spatial weight"].detach(),
        spatial_bias=tensors["spatial bias"].detach(),
        temporal_weight=tensors["temporal weight"].detach(),
        temporal_bias=tensors["temporal bias"].detach(),
        norms=tensors["norms"].detach(),
        residual_weight=tensors["residual weight"].detach() if len(given["norms"]) == 3 else None,
        residual_bias=tensors["residual bias"].detach() if len(given["norms"]) == 3 else None,
        running=None if running is None else running.detach(),
        keep=keep,
        identity=case.residual == "identity",
        scale=1 / given["keep_prob"],
        stride=case.stride,
        eps=1e-5,
        groups=1,
        save=True,
        packed=None,
        backend="cpp",
    )
    shape = case.batch, case.out, -(-case.frames // case.stride), case.joints
    return call, torch.randn(shape).to(BF16).contiguous(memory_format=torch.channels_last)


def run(call: op.Call, grad: Tensor, save: bool = True) -> Results:
    call = op._laid_out(call)._replace(save=save)
    outputs = op.empty_outputs(call)
    op._cpp_forward(call, outputs)
    if not save:
        return Results(outputs, None)
    backward = op.GradientCall(grad, *call[:-1], *outputs, call.backend)
    gradients = op.empty_gradients(backward)
    op._cpp_backward(backward, gradients)
    return Results(outputs, gradients)


# --- The exact block from the maps that were kept ------------------------------------------------


def through(value: Tensor, kept: Tensor) -> Tensor:
    """`kept` in place of `value`, with the gradient of `value`."""
    return value + (kept.double() - value).detach()


def normalized(x: Tensor, norm: Tensor, running: Tensor | None) -> Tensor:
    mean, variance = (
        running if running is not None else (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))
    )
    unit = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return unit * norm[0][:, None, None] + norm[1][:, None, None]


def exact(call: op.Call, kept: op.Outputs | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The maps in float64, and its inputs as leaves.

    With `kept` each map is made of the maps kept before it. Those decide what a ReLU passes, where
    a rounding would else carry an element to the other side.
    """
    names = [name for name in op.INPUTS if isinstance(getattr(call, name), Tensor)]
    of: dict[str, Any] = dict.fromkeys(op.INPUTS)
    of |= {name: getattr(call, name).double() for name in names}
    inputs = {name: of[name].requires_grad_() for name in names if name not in ("keep", "running")}
    running = [None] * 3 if call.running is None else of["running"]
    maps: dict[str, Tensor] = {}

    def reached(name: str, value: Tensor) -> Tensor:
        maps[name] = value
        return value if kept is None else through(value, getattr(kept, name))

    parts, out = len(call.adjacency), len(call.temporal_bias)
    spread = torch.conv2d(of["x"], of["spatial_weight"], of["spatial_bias"])
    spread = spread.unflatten(1, (parts, out))
    x = reached("spatial", torch.einsum("bpctv,pvw->bctw", spread, of["adjacency"]))
    x = normalized(x, of["norms"][0], running[0]).relu()
    padding = (call.temporal_weight.shape[2] // 2, 0)
    x = torch.conv2d(
        x, of["temporal_weight"], of["temporal_bias"], stride=(call.stride, 1), padding=padding
    )
    x = normalized(reached("temporal", x), of["norms"][1], running[1])
    if call.keep is not None:
        x = x * of["keep"] * call.scale
    if call.residual_weight is not None:
        beside = torch.conv2d(
            of["x"], of["residual_weight"], of["residual_bias"], stride=(call.stride, 1)
        )
        x = x + normalized(reached("shortcut", beside), of["norms"][2], running[2])
    elif call.identity:
        x = x + of["x"]
    maps["y"] = x.relu() if kept is None else torch.where(kept.y.double() > 0, x, 0)
    return maps, inputs


UNIT = 2.0**-8  # largest relative error of a rounding to bfloat16


def assert_rounded(got: Tensor, wanted: Tensor, roundings: float, what: str) -> None:
    """Within the error of so many roundings on the way, each of them independent.

    A rounding's error is at most UNIT, and UNIT / sqrt(3) in the mean square. In a sum of n
    products the errors grow as the sum does, by sqrt(n), so the error relative to a map's mean
    square stays that of a single product. No element is off by more than all of them at the largest
    one.
    """
    got, wanted = got.double(), wanted.detach()
    assert got.shape == wanted.shape, what
    size = wanted.square().mean().sqrt()
    error = got - wanted
    allowed = UNIT * (roundings / 3) ** 0.5 * size
    mean, most = error.square().mean().sqrt(), error.abs().max()
    assert mean <= allowed, f"{what}: off by {mean / allowed:.2f} times what is allowed"
    largest = wanted.abs().max()
    assert most <= UNIT * roundings * largest, f"{what}: one is off by {most / largest:.3g}"


# Operands of the products up to a map (weights, and what they are multiplied with) and the map.
ROUNDINGS = {"spatial": 3, "temporal": 3, "shortcut": 2, "y": 1}
# Of the upstream gradient, and of each product's operands and what it gives, on the way to x.
GRADIENT_ROUNDINGS = 8


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_step_is_exact_but_for_roundings(bf16_level, case):
    call, grad = arguments_of(case)
    outputs, gradients = run(call, grad)
    assert outputs.y.dtype == gradients.x.dtype == BF16
    maps, inputs = exact(call, outputs)
    for name, wanted in maps.items():
        # Three planes of a frequency are rounded apart, and two of them meet in each part of it.
        factor = 3 if name == "temporal" and case.out >= 32 and case.stride == 1 else 1
        assert_rounded(getattr(outputs, name), wanted, factor * ROUNDINGS[name], name)
    for i, name in enumerate(("spatial", "temporal", "shortcut")[: len(call.norms)]):
        if case.training:
            kept = getattr(outputs, name).double()
            wanted = torch.stack([kept.mean((0, 2, 3)), kept.var((0, 2, 3), correction=0)])
            torch.testing.assert_close(
                outputs.statistics[0, i].double(), wanted, rtol=1e-4, atol=1e-4
            )
        else:
            assert torch.equal(outputs.statistics[0, i], call.running[i])
    found = torch.autograd.grad(maps["y"], list(inputs.values()), grad.double())
    for name, wanted in zip(inputs, found, strict=True):
        got = getattr(gradients, name)
        assert got.dtype == (BF16 if name == "x" else torch.float32)
        if case.training and name in ("temporal_bias", "residual_bias"):
            assert (got == 0).all()  # a norm subtracts it again
            continue
        if name == "adjacency":
            assert (got[call.adjacency == 0] == 0).all()
            wanted = wanted * (call.adjacency != 0)
        assert_rounded(got, wanted, GRADIENT_ROUNDINGS, f"gradient of {name}")
    again = run(call, grad)
    for one, two in zip((*outputs, *gradients), (*again[0], *again[1]), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("case", [CASES[2], CASES[3], CASES[5], CASES[12]], ids=str)
def test_all_of_a_block_equals_the_reference(bf16_level, case):
    """From the rounded input on in float64, and by the kernels of float32."""
    call, grad = arguments_of(case)
    outputs, _ = run(call, grad, save=False)
    assert_rounded(outputs.y, exact(call, None)[0]["y"], 14, "y")
    single = call._replace(x=call.x.float())
    assert_rounded(
        outputs.y, run(single, grad.float(), save=False)[0].y.double(), 14, "y in float32"
    )


def results_of(call: op.Call, grad: Tensor) -> list[Tensor]:
    outputs, gradients = run(call, grad)
    return [*outputs, *gradients]


@pytest.mark.parametrize("case", [*(CASES[i] for i in (2, 3, 5, 12, 15))], ids=str)
def test_the_result_does_not_depend_on_the_threads(bf16_level, case):
    batch = 13 if bf16_level != "amx" else 5  # emulated, it takes long
    call, grad = arguments_of(case._replace(batch=batch))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(results_of(call, grad))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for one, two in zip(result, results[0], strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[6], CASES[13]], ids=str)
def test_levels_differ_by_roundings_of_sums_alone(bf16_level, case):
    """What is multiplied is the same number at each level, so few sums are rounded apart."""
    if bf16_level == "amx" and case.out >= 32 and case.stride == 1:
        pytest.skip("convolved directly there, and over frequencies at the other levels")
    call, grad = arguments_of(case)
    got = run(call, grad, save=True).outputs
    native.load().set_cpu_level("baseline")
    for name, one, two in zip(got._fields, got, run(call, grad).outputs, strict=True):
        if one.dtype == BF16 and one.numel():
            difference = one.double() - two.double()
            share = (difference.square().mean() / two.double().square().mean()).sqrt()
            assert share <= UNIT / 4, f"{name}: {share / UNIT:.3f} UNIT"


def test_what_is_not_finite_is_not_hidden(bf16_level):
    for case in (CASES[4], CASES[6]._replace(training=False)):
        call, grad = arguments_of(case)
        for value in (torch.nan, torch.inf):
            call.x[1, 2, 3, 4] = value
            y = run(call, grad, save=False).outputs.y
            assert not y[1].isfinite().all()
            assert y[0].isfinite().all()


def test_the_workspace_is_as_large_as_said(bf16_level):
    """Bytes after it stay as they are, whatever it held before."""
    for case in (CASES[2], CASES[6], CASES[13]):
        call, grad = arguments_of(case)
        wanted = results_of(call, grad)
        workspace = op._workspace
        try:
            for fill in (0, 255):
                held = []

                def filled(size: int, fill: int = fill, held: list = held) -> int:
                    block = torch.full((size + 192,), fill, dtype=torch.uint8)
                    held.append((block, -(-block.data_ptr() // 64) * 64 - block.data_ptr() + size))
                    block[held[-1][1] :] = 77
                    return -(-block.data_ptr() // 64) * 64

                op._workspace = filled
                found = results_of(call, grad)
                for one, two in zip(found, wanted, strict=True):
                    assert torch.equal(one, two)
                assert len(held) == 2
                assert all((block[end:] == 77).all() for block, end in held)
        finally:
            op._workspace = workspace


@pytest.mark.parametrize("threads", [2, 16])
def test_workspaces_are_smaller_than_those_of_float32(threads):
    library = native.load()
    shape = {
        "batch": 32, "in": 64, "out": 256, "frames": 13, "joints": 25, "parts": 3, "taps": 9,
        "stride": 1,
    }  # fmt: skip
    for backward in (False, True):
        halves, singles = (
            library.stgcn_block_workspace_cpu(
                **shape, residual=True, backward=backward, element_bytes=size, threads=threads
            )
            for size in (2, 4)
        )
        assert halves < singles


def test_workspaces_hold_the_sums_of_few_shares():
    """With the batch grows what is kept of each sample, not the partial gradients of weights."""
    shape = {"in": 256, "out": 256, "frames": 13, "joints": 25, "parts": 3, "taps": 9, "stride": 1}

    def size(batch: int) -> int:
        return native.load().stgcn_block_workspace_cpu(
            batch=batch, **shape, residual=False, backward=True, element_bytes=2, threads=2
        )

    inner = 2 * 256 * 13 * 25  # a sample's gradient of the spatial norm's output
    assert size(128) - size(32) < 1.1 * 96 * inner


def test_the_public_function_is_not_less_exact_than_autocast():
    """PyTorch's own operations in bfloat16 round as often."""
    case = CASES[1]
    call, grad = arguments_of(case)
    y = run(call, grad, save=False).outputs.y.double()
    maps, _ = exact(call, None)
    given = converted(make(case), torch.float32) | {"x": call.x}
    theirs = stgcn_block(**given, backend="torch")[0].double()
    wanted = maps["y"]
    assert (y - wanted).square().mean() <= 1.5 * (theirs - wanted).square().mean()


def test_level_amx_multiplies_by_tiles(amx_traps):
    if "amx" in native.load().cpu_levels():
        pytest.skip("the processor has tiles of its own, which nothing counts")
    for case in (CASES[1], CASES[3]):
        before = amx_traps.amx_products()
        with amx.emulated(amx_traps):
            run(*arguments_of(case))
        assert amx_traps.amx_products() > before

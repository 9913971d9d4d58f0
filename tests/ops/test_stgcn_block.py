"""Every backend of stgcn_block against the reference: values, statistics and every gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from tolerances import assert_near
from torch import Tensor

from aimclr_fast.functional import stgcn_block
from aimclr_fast.ops import stgcn_block as op
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.reference.stgcn_block import unpacked


class Case(NamedTuple):
    batch: int
    channels: int
    out: int
    frames: int
    joints: int
    taps: int = 9
    stride: int = 1
    residual: str = "identity"
    training: bool = True
    drop: bool = True

    def __str__(self) -> str:
        words = ("x".join(map(str, self[:5])), f"k{self.taps}", f"s{self.stride}", self.residual)
        return "-".join((*words, "train" if self.training else "eval", "drop"[: 4 * self.drop]))


CASES = [
    Case(2, 3, 16, 50, 25, residual="none", drop=False),  # the published encoder's blocks
    Case(2, 16, 16, 13, 25),
    Case(2, 16, 32, 13, 25, stride=2, residual="convolution"),
    Case(1, 64, 256, 13, 25, residual="convolution"),
    Case(3, 16, 16, 11, 22, training=False, drop=False),
    Case(2, 16, 32, 12, 20, stride=2, residual="convolution", training=False),
    Case(2, 48, 48, 9, 17, taps=5),
    Case(7, 8, 24, 7, 17, taps=5, stride=2, residual="convolution"),
    Case(3, 16, 16, 6, 5, taps=1),
    Case(3, 32, 16, 5, 5, taps=1, stride=2, residual="convolution"),
    Case(3, 16, 16, 1, 20),
    Case(2, 64, 64, 13, 22),
    Case(2, 128, 128, 15, 17),  # wide enough to be convolved over frequencies, as many above
    Case(1, 128, 128, 9, 5, taps=3, training=False),
    Case(9, 32, 32, 10, 5, taps=7),  # several groups of samples
    Case(1, 32, 32, 126, 3, training=False),  # the most frequencies, and a frame more
    Case(1, 32, 32, 127, 3),
    Case(2, 5, 7, 4, 3, stride=2, residual="convolution"),  # channels that fill no vector
    Case(2, 7, 7, 3, 1, training=False),
]


def make(case: Case, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Any]:
    """Arguments of `functional.stgcn_block`, with every joint connected to a few others."""
    torch.manual_seed(seed)
    _, width, out, frames, joints, taps, *_ = case
    parts = 3
    norms = 3 if case.residual == "convolution" else 2
    random = torch.randn(parts, joints, joints, dtype=dtype)
    adjacency = random * (torch.rand(parts, joints, joints) < 3 / joints)

    def weights(rows: int, columns: int, taps: int = 1) -> tuple[Tensor, Tensor]:
        weight = torch.randn(rows, columns, taps, 1, dtype=dtype) / (columns * taps) ** 0.5
        return weight, torch.randn(rows, dtype=dtype)

    scale = 1 + 0.3 * torch.randn(norms, out, dtype=dtype)
    means = 0.3 * torch.randn(norms, out, dtype=dtype)
    variances = 0.5 + torch.rand(norms, out, dtype=dtype)
    shape = (case.batch, out, -(-frames // case.stride), joints)
    return {
        "x": torch.randn(case.batch, width, frames, joints, dtype=dtype),
        "adjacency": adjacency,
        "spatial": weights(parts * out, width),
        "temporal": weights(out, out, taps),
        "norms": torch.stack([scale, 0.3 * torch.randn(norms, out, dtype=dtype)], 1),
        "residual": weights(out, width) if norms == 3 else case.residual,
        "running": None if case.training else torch.stack([means, variances], 1),
        "keep": (torch.rand(shape) < 0.6) if case.drop else None,
        "keep_prob": 0.6 if case.drop else 1.0,
        "stride": case.stride,
    }


def leaves(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that have a gradient, by name."""
    found = {}
    for name in ("x", "adjacency", "spatial", "temporal", "norms", "residual"):
        value = arguments[name]
        if isinstance(value, Tensor):
            found[name] = value
        elif not isinstance(value, str):
            found[f"{name} weight"], found[f"{name} bias"] = value
    return found


def converted(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(one, value))
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.detach().to(dtype).requires_grad_()
        return value

    # Running statistics want a gradient, too, and are constants all the same.
    return {name: one(value) for name, value in arguments.items()}


def moved(arguments: dict[str, Any], device: str) -> dict[str, Any]:
    """The same arguments on a device, each still a leaf."""

    def one(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(one, value))
        if isinstance(value, Tensor):
            return value.detach().to(device).requires_grad_(value.requires_grad)
        return value

    return {name: one(value) for name, value in arguments.items()}


def with_bits(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same arguments with bits that were drawn for `keep`, and with the map of these."""
    batch, channels, frames, joints = arguments["keep"].shape
    size = arguments["keep"].numel()
    words = torch.empty(-(-size // 64), dtype=torch.int64).random_(-(2**63), None)
    keep = unpacked(words, size).view(batch, frames, joints, channels).permute(0, 3, 1, 2)
    return {**arguments, "keep": words}, {**arguments, "keep": keep}


def run(arguments: dict[str, Any], grad: Tensor, backend: str) -> dict[str, Tensor]:
    """Everything that comes out: y, statistics, and the gradient of each leaf."""
    y, statistics = stgcn_block(**arguments, backend=backend)
    of = leaves(arguments)
    gradients = torch.autograd.grad(y, list(of.values()), grad.to(y.dtype))
    return {"y": y, "statistics": statistics, **dict(zip(of, gradients, strict=True))}


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor], case: Case, dtype) -> None:
    assert got.keys() == wanted.keys()
    for name, expected in wanted.items():
        if case.training and name in ("temporal bias", "residual bias"):
            # A norm subtracts it again, so its exact gradient is zero.
            weight = wanted[name.replace("bias", "weight")].abs().max()
            assert got[name].abs().max() <= 1e-5 * weight
            continue
        values = name in ("y", "statistics")
        assert_near(got[name], expected, gradient=not values, dtype=dtype, what=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference_in_float64(case, dtype):
    exact = make(case)
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints).double()
    wanted = run(converted(exact, torch.float64), grad, "reference")
    arguments = converted(exact, dtype)
    got = run(arguments, grad, "cpp")
    assert got["y"].is_contiguous(memory_format=torch.channels_last)
    assert_equal(got, wanted, case, dtype)
    again = run(arguments, grad, "cpp")
    assert all(torch.equal(one, two) for one, two in zip(got.values(), again.values(), strict=True))


@pytest.mark.parametrize("case", [CASES[2], CASES[5], CASES[14]], ids=str)
def test_the_result_does_not_depend_on_the_threads(case):
    arguments = converted(make(case._replace(batch=37)), torch.float32)
    grad = torch.randn(37, case.out, -(-case.frames // case.stride), case.joints)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            results.append(run(arguments, grad, "cpp"))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for name, value in result.items():
            assert torch.equal(value, results[0][name]), name


def test_inputs_of_any_layout():
    case = CASES[1]
    exact = make(case)
    grad = torch.randn(2, case.out, case.frames, case.joints)
    wanted = run(converted(exact, torch.float64), grad, "reference")
    exact["x"] = exact["x"].contiguous(memory_format=torch.channels_last)
    exact["keep"] = (
        exact["keep"].to(torch.uint8).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    )
    strided = grad.transpose(2, 3).contiguous().transpose(2, 3)
    got = run(converted(exact, torch.float32), strided, "cpp")
    assert_equal(got, wanted, case, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["cpp", "torch", "reference"])
@pytest.mark.parametrize("case", [CASES[1], CASES[10], CASES[17]], ids=str)
def test_bits_of_keep_are_its_elements(case, backend, dtype):
    bits, plain = with_bits(converted(make(case), dtype))
    grad = torch.randn(case.batch, case.out, -(-case.frames // case.stride), case.joints)
    wanted = run(plain, grad, backend)
    for name, value in run(bits, grad, backend).items():
        assert torch.equal(value, wanted[name]), name


def test_a_large_mean_does_not_drown_the_variance():
    case = Case(4, 16, 16, 13, 25)
    exact = make(case)
    weight, bias = exact["spatial"]
    exact["spatial"] = (weight, bias + 1000.0)
    exact["adjacency"] = torch.eye(25, dtype=torch.float64).repeat(3, 1, 1)
    wanted = stgcn_block(**converted(exact, torch.float64), backend="reference")[1]
    got = stgcn_block(**converted(exact, torch.float32), backend="cpp")[1]
    assert ((got - wanted).abs() / wanted.abs())[0, 1].max() < 1e-3


def test_some_inputs_may_need_no_gradient():
    case = CASES[2]
    arguments = converted(make(case), torch.float32)
    grad = torch.randn(2, case.out, 7, case.joints)
    wanted = run(arguments, grad, "cpp")
    for name, leaf in leaves(arguments).items():
        for other in leaves(arguments).values():
            other.requires_grad_(other is leaf)
        y, _ = stgcn_block(**arguments, backend="cpp")
        (gradient,) = torch.autograd.grad(y, leaf, grad)
        assert torch.equal(gradient, wanted[name]), name


@pytest.mark.parametrize("training", [True, False])
def test_without_gradients_the_output_is_the_same(training):
    arguments = converted(make(CASES[2]._replace(training=training)), torch.float32)
    y, statistics = stgcn_block(**arguments, backend="cpp")
    with torch.no_grad():
        plain = stgcn_block(**arguments, backend="cpp")
    assert torch.equal(y, plain[0])
    assert torch.equal(statistics, plain[1])


def test_gradcheck():
    arguments = make(Case(2, 2, 3, 4, 3, taps=3, stride=2, residual="convolution"), seed=1)
    arguments["adjacency"] = torch.randn(3, 3, 3, dtype=torch.float64)  # all of it edges
    names = ("x", "adjacency", "spatial", "temporal", "norms", "residual")

    def block(*flat: Tensor) -> Tensor:
        x, adjacency, sw, sb, tw, tb, norms, rw, rb = flat
        values = (x, adjacency, (sw, sb), (tw, tb), norms, (rw, rb))
        return stgcn_block(**{**arguments, **dict(zip(names, values, strict=True))}, backend="cpp")[
            0
        ]

    flat = [leaf.requires_grad_() for leaf in leaves(arguments).values()]
    assert torch.autograd.gradcheck(block, flat, atol=1e-6)


def test_what_is_not_finite_is_not_hidden():
    arguments = converted(make(CASES[4]), torch.float32)
    with torch.no_grad():
        arguments["x"][1, 2, 3, 4] = torch.nan
        got, wanted = (stgcn_block(**arguments, backend=b)[0] for b in ("cpp", "reference"))
    # The reference multiplies by the zeros between joints that are no neighbors, too.
    assert got.isnan().any()
    assert wanted.isnan()[got.isnan()].all()


def check_groups(
    case: Case,
    groups: int,
    backend: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Of the case's samples, in one call and each group in its own."""
    arguments, whole = converted(make(case), dtype), None
    if case.drop:
        arguments, plain = with_bits(arguments)
        whole, arguments["keep_prob"] = plain["keep"].to(device), 0.5
    arguments = moved(arguments, device)
    shape = (case.batch, case.out, -(-case.frames // case.stride), case.joints)
    grad = torch.randn(shape, device=device)
    got = run(arguments | {"groups": groups}, grad, backend)
    assert got["statistics"].shape == (groups, len(arguments["norms"]), 2, case.out)
    apart = []
    for own in torch.arange(case.batch, device=device).chunk(groups):
        x = arguments["x"].detach()[own].requires_grad_()
        keep = None if whole is None else whole[own]
        apart.append(run(arguments | {"x": x, "keep": keep}, grad[own], backend))
    for name, value in got.items():
        each = [one[name] for one in apart]
        if name in ("x", "y"):
            wanted = torch.cat(each)
        else:
            wanted = torch.stack(each)
            wanted = wanted if name == "statistics" else wanted.sum(0)
        if name in ("temporal bias", "residual bias"):  # exactly zero, see assert_equal
            continue
        values = name in ("y", "statistics")
        assert_near(value.cpu(), wanted.cpu(), gradient=not values, dtype=dtype, what=name)


GROUPED = [
    (Case(4, 16, 24, 3, 5, taps=3, stride=2, residual="convolution"), 2),
    (Case(4, 5, 5, 3, 17, taps=1, drop=False), 2),
    (Case(3, 3, 16, 1, 25, residual="none"), 3),
]


@pytest.mark.parametrize("backend", ["cpp", "torch", "reference"])
@pytest.mark.parametrize(("case", "groups"), GROUPED, ids=str)
def test_groups_are_batches_of_their_own(case, groups, backend):
    """Each view keeps its own statistics; parameters get the sum of their gradients."""
    check_groups(case, groups, backend)


def test_groups_of_an_empty_batch():
    arguments = converted(make(CASES[2]._replace(batch=0)), torch.float32)
    for backend in ("cpp", "reference"):
        y, statistics = stgcn_block(**arguments, groups=3, backend=backend)
        assert y.shape == (0, 32, 7, 25)
        assert statistics.shape == (3, 3, 2, 32)
        assert statistics.isnan().all()


def test_empty_batch():
    case = CASES[2]
    arguments = converted(make(case._replace(batch=0)), torch.float32)
    y, _ = stgcn_block(**arguments, backend="cpp")
    assert y.shape == (0, 32, 7, 25)
    y.sum().backward()
    assert (arguments["spatial"][0].grad == 0).all()


@pytest.mark.parametrize("bits", [False, True], ids=["map", "bits"])
@pytest.mark.parametrize(
    ("case", "groups"), [(CASES[1], 1), (CASES[6], 1), (CASES[2], 1), (CASES[2], 2)], ids=str
)
def test_opcheck(case, groups, bits):
    arguments = converted(make(case), torch.float32)
    if bits:
        arguments, _ = with_bits(arguments)
    residual = arguments["residual"]
    inputs = (
        arguments["x"], arguments["adjacency"], *arguments["spatial"], *arguments["temporal"],
        arguments["norms"], *((None, None) if isinstance(residual, str) else residual),
        arguments["running"], arguments["keep"],
    )  # fmt: skip
    settings = (residual == "identity", 1 / 0.6, case.stride, 1e-5, groups, True, None)
    forward = torch.ops.aimclr_fast.stgcn_block.default
    torch.library.opcheck(forward, (*inputs, *settings, "cpp"))
    inputs = [None if x is None else x.detach() for x in inputs]
    saved = forward(*inputs, *settings, "cpp")
    backward = torch.ops.aimclr_fast.stgcn_block_backward.default
    torch.library.opcheck(backward, (torch.randn_like(saved[0]), *inputs, *settings, *saved, "cpp"))


@pytest.mark.parametrize("backend", ["auto", "cpp", "reference"])
def test_compiles_as_one_graph(backend):
    arguments = converted(make(CASES[2]), torch.float32)

    def loss(x: Tensor) -> Tensor:
        return stgcn_block(**{**arguments, "x": 2 * x}, backend=backend)[0].square().sum()

    x = arguments["x"]
    (wanted,) = torch.autograd.grad(loss(x), x)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(x), x)
    assert_near(got, wanted, gradient=True)


def test_second_derivatives_need_the_reference():
    arguments = converted(make(CASES[1]), torch.float64)
    y, _ = stgcn_block(**arguments, backend="cpp")
    (dx,) = torch.autograd.grad(y.square().sum(), arguments["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()
    y, _ = stgcn_block(**arguments, backend="reference")
    (dx,) = torch.autograd.grad(y.square().sum(), arguments["x"], create_graph=True)
    dx.sum().backward()


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"x must have shape \[B, C_in, T, V\]", {"x": torch.zeros(2, 3)}),
        (r"adjacency must have shape \[P, 25, 25\]", {"adjacency": torch.zeros(3, 4, 4)}),
        ("stride must be 1 or 2", {"stride": 3}),
        ("residual must be", {"residual": "other"}),
        ("keep_prob must lie", {"keep_prob": 0.0}),
        ("the identity needs as many channels", {"residual": "identity"}),
        (r"norms must have shape \[3, 2, 32\]", {"norms": torch.ones(2, 2, 32)}),
        ("K must be odd", {"temporal": (torch.zeros(32, 32, 4, 1), torch.zeros(32))}),
        ("groups must divide the 2 samples of x, got 3", {"groups": 3}),
        ("groups must divide the 2 samples of x, got 0", {"groups": 0}),
        (
            "groups must be 1 in evaluation, got 2",
            {"groups": 2, "running": torch.ones(3, 2, 32)},
        ),
        (r"keep must have shape \[2, 32, 7, 25\]", {"keep": torch.ones(2, 32, 13, 25).bool()}),
        (r"keep must have shape \[175\]", {"keep": torch.zeros(176, dtype=torch.int64)}),
        ("keep must be of dtype int64", {"keep": torch.zeros(175, dtype=torch.int32)}),
        ("keep must be of dtype uint8, bool", {"keep": torch.zeros(2, 32, 7, 25).long()}),
    ],
)
def test_bad_arguments_are_named(message, change):
    with pytest.raises((ValueError, TypeError), match=message):
        stgcn_block(**{**converted(make(CASES[2]), torch.float32), **change})


def test_choice_of_a_backend():
    arguments = converted(make(CASES[1]), torch.float16)
    with pytest.raises(BackendError, match="no float16 kernels"):
        stgcn_block(**arguments, backend="cpp")
    assert [backend.name for backend in op.BACKENDS] == ["cpp", "torch", "reference", "triton"]


def test_reference_with_every_argument_in_bfloat16():
    case = CASES[1]
    exact = make(case, torch.float32)
    half = converted(exact, torch.bfloat16)
    y, statistics = stgcn_block(**half, backend="reference")
    wanted, wanted_statistics = stgcn_block(**converted(half, torch.float32), backend="reference")
    assert y.dtype == torch.bfloat16
    assert_near(y, wanted, dtype=torch.bfloat16)
    assert_near(statistics, wanted_statistics, dtype=torch.bfloat16)

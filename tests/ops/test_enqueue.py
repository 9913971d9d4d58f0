"""enqueue: the kernel against the reference, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from ops.test_queue_contrast import Place, usable
from triton_aot import assert_no_spills, compile_launches

from aimclr_fast.ops.queue_contrast import enqueue
from aimclr_fast.reference import queue_contrast as reference


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> str:
    """Where the kernel runs."""
    return usable(Place("triton", request.param, torch.float32, "ieee")).device


@pytest.mark.parametrize("accept", [None, True, False])
@pytest.mark.parametrize(
    ("n", "size", "d"), [(7, 20, 16), (20, 20, 48), (128, 300, 128), (1, 1, 16), (0, 5, 16)]
)
def test_equals_the_reference(device, n, size, d, accept):
    torch.manual_seed(0)
    kept, accepts = torch.randn(size, d, device=device), None
    if accept is not None:
        accepts = torch.tensor(accept, device=device)
    for start in {0, size // 2, size - 1}:
        found, wanted = (
            (kept.clone(), torch.tensor([start], device=device)) for _ in range(2)
        )  # fmt: skip
        for _ in range(3):
            keys = torch.randn(d, n, device=device).T
            enqueue(*found, keys, accepts, "triton")
            reference.enqueue(*wanted, keys, accepts)
            assert all(map(torch.equal, found, wanted))
        assert torch.equal(found[0], kept) == (accept is False or n == 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("into", [torch.float32, torch.float16])
def test_keys_become_what_the_queue_holds(device, dtype, into):
    keys = torch.randn(4, 16, device=device).to(dtype)
    queue, pointer = torch.zeros(6, 16, dtype=into, device=device), torch.tensor([4], device=device)
    enqueue(queue, pointer, keys, backend="triton")
    assert torch.equal(queue[[4, 5, 0, 1]], keys.to(into))
    assert not queue[2:4].any()
    assert pointer.tolist() == [2]


def test_autograd_sees_that_the_queue_changed(device):
    queue, pointer = torch.randn(6, 16, device=device), torch.tensor([0], device=device)
    row = torch.randn(16, device=device, requires_grad=True)
    product = queue @ row
    enqueue(queue, pointer, torch.randn(2, 16, device=device), backend="triton")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize("backend", ["auto", "cpp", "triton", "reference"])
@pytest.mark.parametrize("kind", ["double", "narrow", "strided"])
def test_any_queue_takes_keys(backend, kind):
    """Those that the kernels do not take as well."""
    width = 6 if kind == "narrow" else 16
    queue = torch.zeros(9, width, dtype=torch.float64 if kind == "double" else torch.float32)
    if kind == "strided":
        queue = torch.zeros(width, 9).T
    pointer, keys = torch.tensor([7]), torch.randn(4, width)
    enqueue(queue, pointer, keys, backend=backend)
    assert torch.equal(queue[[7, 8, 0, 1]], keys.to(queue.dtype))
    assert pointer.tolist() == [2]


ENQUEUE = """
def empty(*size, dtype=torch.float32):
    return torch.empty(*size, dtype=dtype, device="meta")

pointer, accept = empty(1, dtype=torch.int64), empty(1, dtype=torch.bool)
kernels.enqueue(empty(32768, 128), pointer, empty(128, 128, dtype={dtype}), {accept})
"""


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
@pytest.mark.parametrize("accept", ["accept", "None"])
def test_compiles_for_gpus_without_spills(dtype, accept):
    launches = compile_launches(
        "aimclr_fast.triton_kernels.queue_contrast", ENQUEUE.format(dtype=dtype, accept=accept)
    )
    assert {launch.kernel for launch in launches} == {"enqueue_kernel"}
    assert_no_spills(launches)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize(
    ("keys", "pointer", "message"),
    [
        (torch.ones(5, 32), torch.tensor([0]), r"keys \[5, 32\] do not fit the queue \[5, 16\]"),
        (torch.ones(4, 8), torch.tensor([0]), "do not fit the queue"),
        (torch.ones(16), torch.tensor([0]), "do not fit the queue"),
        (torch.ones(6, 16), torch.tensor([0]), "6 keys, but the queue holds 5"),
        (torch.ones(2, 16), torch.tensor([0], dtype=torch.int32), "pointer must be one int64"),
        (torch.ones(2, 16), torch.tensor([0, 1]), "pointer must be one int64"),
    ],
)
def test_keys_that_do_not_fit_change_nothing(backend, keys, pointer, message):
    whole = torch.zeros(20, 16)
    with pytest.raises(ValueError, match=message):
        enqueue(whole[:5], pointer, keys, backend=backend)
    assert not whole.any()

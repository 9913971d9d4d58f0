"""The ops under arguments nobody should give; see ops.py for the promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import aimclr_fast.functional  # noqa: F401  # registers the ops
from aimclr_fast.ops.queue_contrast import AIMCLR

OPS = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aimclr_fast::")]
PROGRAM = Path(__file__).with_name("ops.py")
#: Calls of each op; scripts/sanitize.sh and a long run by hand ask for more.
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES") or 20)


def test_each_op_computes_or_refuses_clearly_and_its_fake_agrees():
    command = [sys.executable, str(PROGRAM), "--examples", str(EXAMPLES)]
    # A crash would end this process, so that of the ops is another one.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=7200)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    counts = re.findall(r"^(\w+): (computed|refused|compared) (\d+)$", done.stdout, re.MULTILINE)
    names = {name.split("::")[1] for name in OPS}
    assert {name for name, *_ in counts} == names, done.stdout
    assert {name for name, how, _ in counts if how == "compared"} == names, done.stdout
    called = sum(int(count) for _, how, count in counts if how != "compared")
    assert called >= len(OPS) * EXAMPLES
    print(done.stdout)


def test_shapes_that_disagree_do_not_end_the_process():
    one, queue = torch.randn(1, 128), torch.randn(8, 128)
    with pytest.raises(
        ValueError, match=r"\[0\]\[1\] must have shape \[20000, 128\], got \[1, 128\]"
    ):
        torch.ops.aimclr_fast.queue_contrast(
            [torch.randn(20_000, 128), one, one], [one], [queue], *AIMCLR, 0.07, 1, 0, "cpp", None
        )


def test_none_for_a_tensor_is_refused():
    one, queue = torch.randn(1, 8), torch.randn(8, 8)
    with pytest.raises(RuntimeError, match="Expected a value of type 'List"):
        torch.ops.aimclr_fast.queue_contrast(
            [one] * 3, [None], [queue], *AIMCLR, 0.07, 1, 0, "cpp", None
        )
    with pytest.raises(TypeError, match="grad_drop must be a tensor, got NoneType"):
        torch.ops.aimclr_fast.eadm_pool_backward(one, None, *[one] * 3, 1, False, one.dtype, "cpp")


@pytest.mark.parametrize("change", ["freed", "endless", "backend", "device"])
def test_what_torch_lets_through(change):
    x = torch.randn(2, 3, 4, 5)
    backend, message = "cpp", {
        "freed": "its storage was freed",
        "endless": r"x must have fewer than 2\^44 elements",
        "backend": "unknown backend 'reference'; the op has cpp, triton",
        "device": "it runs on the CPU, and the tensor is on cuda:0",
    }[change]  # fmt: skip
    if change == "freed":
        x.untyped_storage().resize_(0)
    elif change == "endless":
        x = torch.empty(0, 3, 2**45, 5)
    elif change == "backend":
        backend = "reference"
    error = (TypeError, ValueError, RuntimeError)
    if change == "device":  # a fake tensor's device need not exist
        with torch._subclasses.FakeTensorMode():
            x = torch.empty(2, 3, 4, 5, device="cuda")
            with pytest.raises(error, match=message):
                torch.ops.aimclr_fast.eadm_pool(x, 0.7, 1e-4, backend)
        return
    with pytest.raises(error, match=message):
        torch.ops.aimclr_fast.eadm_pool(x, 0.7, 1e-4, backend)


def test_data_that_want_a_gradient_are_refused_and_not_silently_left_without():
    from aimclr_fast.functional import AugmentConfig, skeleton_augment

    data = torch.randn(4, 3, 10, 22, 1, requires_grad=True)
    call = {"layout": "ui-prmd", "config": AugmentConfig(), "seed": 0, "step": 0}
    with pytest.raises(RuntimeError, match="it has no gradient for the data"):
        skeleton_augment(data, torch.tensor([1]), **call, backend="cpp")
    skeleton_augment(data, torch.tensor([1]), **call).query.sum().backward()
    assert data.grad[1].abs().sum() > 0
    with torch.no_grad():
        skeleton_augment(data, torch.tensor([1]), **call, backend="cpp")


def test_an_augmentation_whose_parameters_want_a_gradient_is_refused():
    x, shear = torch.randn(2, 3, 10, 3, 1), torch.eye(3).repeat(2, 1, 1).requires_grad_()
    with pytest.raises(NotImplementedError, match=r"no gradient for params\.shear"):
        torch.ops.aimclr_fast.apply_augment(
            x, None, None, shear, *[None] * 5, [0, 2, 1], [0, 0, 0], 0, 6, 15, False, "cpp"
        )


@pytest.mark.parametrize("op", ["eadm_pool", "queue_contrast"])
def test_dynamic_shapes_compile_once(op):
    """The checks of a fake make no constant of a size."""
    torch.compiler.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    def run(n: int) -> Tensor:
        if op == "eadm_pool":
            return eadm(torch.randn(n, 6, 7, 5))
        return contrast(*torch.randn(4, n, 16).unbind(), torch.randn(40 + n, 16))

    eadm = torch.compile(
        lambda x: torch.ops.aimclr_fast.eadm_pool(x, 0.7, 1e-4, "cpp")[0],
        fullgraph=True, dynamic=True, backend=backend,
    )  # fmt: skip
    contrast = torch.compile(
        lambda *x: torch.ops.aimclr_fast.queue_contrast(
            x[:3], x[3:4], x[4:], *AIMCLR, 0.07, 2, 0, "cpp", None
        )[0],
        fullgraph=True, dynamic=True, backend=backend,
    )  # fmt: skip
    for n in (3, 4, 9):
        run(n)
    assert len(graphs) == 1

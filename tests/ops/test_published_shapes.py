"""The kernels at the sizes of the published recipe, before anything is timed: 128 sequences of two
bodies, 50 frames and 25 joints. On a CPU with few sequences, so that these tests are known to work.
"""

from __future__ import annotations

from typing import Any

import bench_train_step
import pytest
import torch
import triton_published as published
from emulation import Runner
from harness import cases
from ops import test_masked_pool as masked
from ops import test_skelemix as mixing
from ops import test_skeleton_augment as augmentation
from ops.test_stgcn_block import Case, converted, make, moved, run, with_bits
from torch import Tensor

CUDA = (pytest.mark.cuda, pytest.mark.published)
BODIES = 2
SEQUENCES = {"cpu": 2, "cuda": 128}


def places(cpu: str, *gpu: str) -> Any:
    """A backend for the CPU, and those of a GPU."""
    found = [pytest.param("cpu", cpu, id=f"{cpu}-cpu")]
    found += [pytest.param("cuda", name, id=f"{name}-cuda", marks=CUDA) for name in gpu]
    return pytest.mark.parametrize(("device", "backend"), found)


@pytest.mark.parametrize("block", published.BLOCKS)
@places("torch", "torch", "triton")
def test_stgcn_block_in_bf16_errs_no_more_than_the_reference(device, backend, block):
    _, *sizes = published.BLOCKS[block]
    case = Case(SEQUENCES[device] * BODIES, *sizes)
    exact, bits = make(case), None
    if case.drop:  # as bits, as in training
        with_words, exact = with_bits(exact)
        bits = with_words["keep"].to(device)
    exact["x"] = exact["x"].bfloat16().double()
    shape = (case.batch, case.out, -(-case.frames // case.stride), case.joints)
    grad = torch.randn(shape).bfloat16().to(device)
    rounded = converted(exact, torch.float32)
    rounded["x"] = rounded["x"].detach().bfloat16().requires_grad_()
    rounded = moved(rounded, device)

    def of_reference(arguments: dict[str, Any]) -> dict[str, Tensor]:
        return run(arguments, grad.to(arguments["x"].dtype), "reference")

    wanted, beside = of_reference(converted(rounded, torch.float64)), of_reference(rounded)
    got = run({**rounded, "keep": bits}, grad, backend)
    assert got["y"].dtype == torch.bfloat16
    for name, expected in wanted.items():
        if name not in ("temporal bias", "residual bias"):  # their exact gradient is zero
            error, allowed = ((r[name].double() - expected).norm() for r in (got, beside))
            assert error <= 1.5 * allowed, f"{name}: {error:.3g}, the reference {allowed:.3g}"


@pytest.mark.parametrize("memory_format", masked.FORMATS.values(), ids=masked.FORMATS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@places("cpp", "triton")
def test_masked_pool(device, backend, dtype, memory_format):
    torch.manual_seed(0)
    x = torch.randn(SEQUENCES[device] * BODIES, 256, 16, 25, device=device).to(dtype)
    mask = masked.make_mask(16, 25).to(device)
    masked.assert_is_the_reference(backend, x.contiguous(memory_format=memory_format), mask)


@pytest.mark.parametrize("shared", [1, 2, 8])  # of fewer samples, several blocks share one
@places("cpp", "cuda")
def test_skeleton_augment(device, backend, shared):
    data = augmentation.make_data(50, 25, BODIES, sequences=256)
    index = augmentation.make_index(max(1, SEQUENCES[device] // shared), sequences=256)
    found = augmentation.augment(Runner(backend, device), data, index)
    augmentation.assert_same(found, augmentation.augment(augmentation.REFERENCE, data, index))


@places("cpp", "cuda")
def test_skelemix(device, backend):
    query = mixing.make_query(max(3, SEQUENCES[device]), 64, 25, BODIES)
    found = mixing.call(query.to(device), backend=backend)
    wanted = mixing.call(query, backend="reference")
    for one, other in zip((*found.views, *found[1:]), (*wanted.views, *wanted[1:]), strict=True):
        assert torch.equal(one.cpu(), other)


def gradient(device: str, precision: str, backend: str) -> Tensor:
    """Of the first step, over all parameters."""
    (case,) = cases([{"N": SEQUENCES[device], "S": 1}], device, precision)
    training = bench_train_step.pretraining(bench_train_step.Inputs(case), backend)
    next(training.train_epoch())
    (learner,) = training.learners
    of = [p.grad for p in learner.parameters if p.grad is not None]
    return torch.cat([each.double().flatten() for each in of])


@places("torch", "torch", "triton")
def test_a_step_in_bf16_is_as_near_to_float32_as_by_the_reference(device, backend, bf16_cpu):
    exact = gradient(device, "fp32", "reference")
    found, beside = (
        (gradient(device, "bf16", name) - exact).norm() for name in (backend, "reference")
    )
    assert exact.norm() > 0
    assert found <= 1.5 * beside

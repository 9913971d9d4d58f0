"""Backends that are registered from outside the package, in one file, and removed again."""

from __future__ import annotations

import importlib
import pkgutil
import runpy

import pytest
import torch
from tolerances import assert_near
from torch import Tensor

from aimclr_fast import ops
from aimclr_fast.functional import (
    MixConfig,
    apply_augment,
    eadm_pool,
    masked_pool,
    queue_contrast,
    skelemix,
    skeleton_augment,
    stgcn_block,
)
from aimclr_fast.ops import (
    Backend,
    BackendError,
    explain,
    register_backend,
    unregister_backend,
)
from aimclr_fast.ops import eadm_pool as op
from aimclr_fast.ops._dispatch import find
from aimclr_fast.ops.philox import philox4x32
from aimclr_fast.reference.skeleton_augment import AugmentConfig, AugmentParams

MINE = '''
"""A backend of eadm_pool: what a file outside the package says to add one."""
import torch
from aimclr_fast.ops import Backend, register_backend
from aimclr_fast.reference import eadm_pool as reference

calls = []


def forward(call, out):
    calls.append(call.backend)
    pooled, dropped = reference.eadm_pool(call.x, call.keep_prob, call.e_lambda)
    kept = reference.attention(call.x, call.e_lambda) < call.keep_prob
    octets = torch.nn.functional.pad(kept, (0, 0, 0, -kept.shape[2] % 8)).unflatten(2, (-1, 8))
    places = 2 ** torch.arange(8)
    joints = reference.attention(call.x, call.e_lambda).mean((1, 2)) < call.keep_prob
    out.pooled.copy_(pooled)
    out.pooled_drop.copy_(dropped)
    out.bits.copy_((octets * places[:, None]).sum(3))
    out.kept_joints.copy_(joints)
    shares = [each.numel() / each.sum().clamp(min=1) for each in (kept, joints)]
    out.scale.copy_((shares[0] * shares[1])[None])


def backward(call, dx):
    calls.append(f"{call.backend} backward")
    places = torch.arange(8)[:, None]
    kept = (call.bits[:, :, :, None].long() >> places & 1).flatten(2, 3)[:, :, : call.frames]
    mask = kept * call.kept_joints[:, None, None, :]
    plain, dropped = (each[:, :, None, None] for each in (call.grad_pooled, call.grad_drop))
    dx.copy_((plain + dropped * mask * call.scale) / (dx.shape[2] * dx.shape[3]))


def why_not(x):
    return "it takes maps of no more than 100 channels" if x.shape[1] > 100 else None


register_backend("eadm_pool", Backend("mine", None, why_not, forward, backward))
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    names = [backend.name for backend in op.BACKENDS]
    yield runpy.run_path(str(tmp_path / "mine.py"))["calls"]
    unregister_backend("eadm_pool", "mine")
    assert [backend.name for backend in op.BACKENDS] == names
    with pytest.raises(ValueError, match="unknown backend 'mine'"):
        eadm_pool(torch.ones(1, 2, 3, 4), backend="mine")


def value_and_gradient(x: Tensor, backend: str) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    pooled, dropped = eadm_pool(x, backend=backend)
    (gradient,) = torch.autograd.grad((pooled * dropped).sum(), x)
    return pooled.detach(), dropped.detach(), gradient


def test_a_registered_backend_runs_by_name_and_is_asked_first(mine):
    x = torch.randn(2, 5, 11, 6)
    for got, wanted in zip(
        value_and_gradient(x, "mine"), value_and_gradient(x, "reference"), strict=True
    ):
        assert_near(got, wanted, gradient=True)
    assert mine == ["mine", "mine backward"]
    eadm_pool(x)
    assert len(mine) == 3
    torch.library.opcheck(torch.ops.aimclr_fast.eadm_pool, (x, 0.7, 1e-4, "mine"))


def test_a_registered_backend_is_among_the_reasons(mine):
    wide = torch.randn(2, 101, 3, 4)
    reason = "it takes maps of no more than 100 channels"
    assert explain(op.BACKENDS, wide)["mine"] == reason
    with pytest.raises(BackendError, match=f"'mine' cannot run here: {reason}"):
        eadm_pool(wide, backend="mine")
    with pytest.raises(ValueError, match="this op has auto, mine, cpp, triton, reference"):
        eadm_pool(wide, backend="yours")
    with pytest.raises(ValueError, match="the op has mine, cpp, triton"):
        torch.ops.aimclr_fast.eadm_pool(wide, 0.7, 1e-4, "reference")
    eadm_pool(wide)
    assert not mine


def test_what_cannot_be_registered(mine):
    for name in ("mine", "auto", "reference"):
        with pytest.raises(ValueError, match=f"eadm_pool already has a backend '{name}'"):
            register_backend("eadm_pool", Backend(name, lambda call: None))
    run = forward = lambda *_: None
    for both_or_neither in (Backend("yours"), Backend("yours", run, forward=forward)):
        with pytest.raises(ValueError, match="'yours' must have either run or forward"):
            register_backend("eadm_pool", both_or_neither)
    with pytest.raises(ValueError, match="philox is no torch op: backend 'yours' must have run"):
        register_backend("philox", Backend("yours", forward=forward))
    for name in ("no_op", "_op", "eadm_pool.x"):
        with pytest.raises(ValueError, match=f"aimclr_fast.ops has no op '{name}'"):
            register_backend(name, Backend("mine", lambda call: None))
    with pytest.raises(ValueError, match="unknown backend 'yours'"):
        unregister_backend("eadm_pool", "yours")


def test_a_backend_of_torchs_operations_needs_no_gradient_of_its_own():
    from aimclr_fast.reference.queue_contrast import queue_losses

    def run(call):
        rows, keys = call.stacked("rows"), call.stacked("keys")
        return queue_losses(rows, keys, call.queues, call.terms, call.temperature)

    register_backend("queue_contrast", Backend("mine", run))
    try:
        query = torch.randn(3, 8, requires_grad=True)
        rows = [torch.randn(3, 8) for _ in range(3)]
        queue = torch.randn(9, 8)
        found = [
            torch.autograd.grad(queue_contrast(query, *rows, queue, backend=name).loss, query)
            for name in ("mine", "reference")
        ]
        assert torch.equal(found[0][0], found[1][0])
    finally:
        unregister_backend("queue_contrast", "mine")


def test_a_backend_without_a_gradient_says_so():
    def forward(call: op.Call, out: op.Saved) -> None:
        for tensor in out:
            tensor.zero_()

    register_backend("eadm_pool", Backend("mine", forward=forward))
    try:
        x = torch.randn(2, 3, 4, 5, requires_grad=True)
        pooled, _ = eadm_pool(x, backend="mine")
        with pytest.raises(NotImplementedError, match="backend 'mine' has no gradient"):
            pooled.sum().backward()
    finally:
        unregister_backend("eadm_pool", "mine")


def test_a_backend_that_is_named_is_asked_once():
    asked = []
    forward = next(backend.forward for backend in op.BACKENDS if backend.name == "cpp")
    register_backend("eadm_pool", Backend("mine", None, lambda x: asked.append(x), forward))
    try:
        eadm_pool(torch.randn(2, 3, 4, 5), backend="mine")
        assert len(asked) == 1
    finally:
        unregister_backend("eadm_pool", "mine")


class Twice:
    """As if another process had the same batch."""

    size = 2

    def __call__(self, tensor: Tensor) -> Tensor:
        return 2 * tensor


def test_the_sum_over_processes_goes_through_the_op():
    x = torch.randn(2, 3, 4, 5)
    for got, wanted in zip(eadm_pool(x, over_ranks=Twice()), eadm_pool(x), strict=True):
        assert_near(got, wanted)
    with pytest.raises(BackendError, match="'cpp' cannot run here: it counts what is kept in one"):
        eadm_pool(x, backend="cpp", over_ranks=Twice())
    with pytest.raises(ValueError, match="keep_prob must lie in"):
        eadm_pool(x, 2.0, over_ranks=Twice())


def block(backend: str, over_ranks: Twice | None = None) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    spatial = torch.randn(8, 3, 1, 1), torch.randn(8)
    temporal = torch.randn(4, 4, 3, 1), torch.randn(4)
    x, adjacency, norms = torch.randn(2, 3, 5, 6), torch.rand(2, 6, 6), torch.randn(2, 2, 4)
    more = {"backend": backend, "over_ranks": over_ranks}
    return stgcn_block(x, adjacency, spatial, temporal, norms, **more)


def test_a_blocks_sum_over_processes_goes_through_the_op():
    for got, wanted in zip(block("auto", Twice()), block("reference"), strict=True):
        assert_near(got, wanted)
    with pytest.raises(BackendError, match="'cpp' cannot run here: it takes statistics in one"):
        block("cpp", Twice())


DATA = torch.arange(2 * 3 * 6 * 25.0).reshape(2, 3, 6, 25, 1)
USES = {  # by op: a call
    "apply_augment": lambda backend: [
        apply_augment(DATA, AugmentParams(crop_start=torch.tensor([0, 2])), backend=backend)
    ],
    "eadm_pool": lambda backend: eadm_pool(torch.randn(2, 3, 4, 5), backend=backend),
    "masked_pool": lambda backend: masked_pool(
        torch.randn(2, 3, 4, 5), torch.eye(4, 5, dtype=torch.bool), backend
    ),
    "philox": lambda backend: [philox4x32(torch.arange(8).view(2, 4), (1, 2), backend)],
    "queue_contrast": lambda backend: queue_contrast(
        *torch.randn(4, 3, 8), torch.randn(9, 8), backend=backend
    ),
    "skeleton_augment": lambda backend: skeleton_augment(
        DATA, torch.tensor([1, 0]), layout="ntu-rgb+d", config=AugmentConfig(crop_ratio=3), seed=1,
        step=2, backend=backend,
    ),
    "skelemix": lambda backend: skelemix(
        torch.randn(4, 3, 44, 25, 1), layout="ntu-rgb+d", config=MixConfig(), seed=1, step=2,
        backend=backend,
    ).views,
    "stgcn_block": block,
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.iter_modules(ops.__path__) if m.name[0] != "_"]
)
def test_every_op_takes_another_backend(name):
    module = importlib.import_module(f"aimclr_fast.ops.{name}")
    names = [backend.name for backend in module.BACKENDS]
    calls = []

    def run(call):
        calls.append(call)
        return find(name, module.BACKENDS, "reference").run(call)

    torch.manual_seed(0)
    wanted = USES[name]("reference")
    torch.manual_seed(0)
    register_backend(name, Backend("mine", run))
    try:
        assert [backend.name for backend in module.BACKENDS] == ["mine", *names]
        found = USES[name]("mine")
        assert [(type(call), call.backend) for call in calls] == [(module.Call, "mine")]
        for got, expected in zip(found, wanted, strict=True):
            assert torch.equal(got, expected)
    finally:
        unregister_backend(name, "mine")
    assert [backend.name for backend in module.BACKENDS] == names

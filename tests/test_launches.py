"""The first that runs on a new machine: every module is imported, every op launched once.

A launch is only asked for finite numbers of the right shape; other tests compare them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import aimclr_fast
from aimclr_fast import ops
from aimclr_fast.functional import (
    AugmentConfig,
    AugmentParams,
    MixConfig,
    apply_augment,
    eadm_pool,
    masked_pool,
    queue_contrast,
    skelemix,
    skeleton_augment,
)
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.ops.philox import philox4x32

PACKAGE = "aimclr_fast"
#: What parses commands, and reads and writes other formats: not every GPU machine has it.
OPTIONAL = {"jsonargparse", "docstring_parser", "typeshed_client", "safetensors", "onnx"}
MODULES = [PACKAGE, *(m.name for m in pkgutil.walk_packages(aimclr_fast.__path__, f"{PACKAGE}."))]
Launch = Callable[[str, str], list[Tensor]]


def launch_philox(device: str, backend: str) -> list[Tensor]:
    return [philox4x32(torch.arange(8, device=device).reshape(2, 4), (1, 2), backend)]


def launch_apply_augment(device: str, backend: str) -> list[Tensor]:
    x = torch.randn(2, 3, 12, 25, 2, device=device, requires_grad=True)
    params = AugmentParams(crop_start=torch.tensor([1, 3], device=device))
    out = apply_augment(x, params, backend=backend)
    return [out, *torch.autograd.grad(out.sum(), x)]


def launch_skeleton_augment(device: str, backend: str) -> list[Tensor]:
    data = torch.randn(4, 3, 12, 25, 2, device=device)
    index = torch.tensor([2, 0], device=device)
    layout = get_layout("ntu-rgb+d")
    return [
        *skeleton_augment(
            data, index, layout=layout, config=AugmentConfig(), seed=0, step=0, backend=backend
        )
    ]


def launch_eadm_pool(device: str, backend: str) -> list[Tensor]:
    x = torch.randn(4, 16, 6, 25, device=device, requires_grad=True)
    pooled = eadm_pool(x, backend=backend)
    return [*pooled, *torch.autograd.grad(sum(each.sum() for each in pooled), x)]


def launch_masked_pool(device: str, backend: str) -> list[Tensor]:
    x = torch.randn(4, 16, 6, 25, device=device, requires_grad=True)
    mask = torch.eye(6, 25, dtype=torch.bool, device=device)
    pooled = masked_pool(x, mask, backend)
    return [*pooled, *torch.autograd.grad(sum(each.sum() for each in pooled), x)]


def launch_skelemix(device: str, backend: str) -> list[Tensor]:
    query = torch.randn(4, 3, 44, 25, 2, device=device)
    mixed = skelemix(query, layout="ntu-rgb+d", config=MixConfig(), seed=0, step=0, backend=backend)
    return [*mixed.views, mixed.mask, mixed.partner]


def launch_queue_contrast(device: str, backend: str) -> list[Tensor]:
    rows = [normalize(torch.randn(n, 16, device=device), dim=1) for n in (4, 4, 4, 4, 64)]
    views = [row.requires_grad_() for row in rows[:3]]
    losses = queue_contrast(*views, *rows[3:], 0.07, 1, backend=backend)
    return [losses.loss, *torch.autograd.grad(losses.loss, views)]


def launch_stgcn_block(device: str, backend: str) -> list[Tensor]:
    encoder = SkeletonEncoder(STGCN(channels=8, features=16), 8).to(device)
    encoder.backend = backend
    out = encoder(torch.randn(2, 3, 12, 25, 2, device=device))
    out.sum().backward()
    return [out, *(p.grad for p in encoder.parameters() if p.grad is not None)]


LAUNCHES: dict[str, Launch] = {
    name.removeprefix("launch_"): function
    for name, function in list(globals().items())
    if name.startswith("launch_")
}


def test_modules_are_imported():
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in OPTIONAL:
                raise


def test_every_op_is_launched():
    files = {path.stem for path in Path(ops.__path__[0]).glob("[!_]*.py")}
    assert set(LAUNCHES) == files


def cases() -> list[object]:
    """Each op by each backend that a device could have; what is fastest there comes first."""
    kinds = {
        "cpu": ("cpp", "torch", "reference"),
        "cuda": ("cuda", "torch", "triton", "reference"),
    }
    found = []
    for op in LAUNCHES:
        registered = importlib.import_module(f"{PACKAGE}.ops.{op}").BACKENDS
        for device, names in kinds.items():
            marks = [pytest.mark.cuda] if device == "cuda" else []
            for backend in registered:
                if backend.name in names:
                    name = f"{op}-{backend.name}-{device}"
                    found.append(pytest.param(op, device, backend.name, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("op", "device", "backend"), cases())
def test_one_launch(op, device, backend):
    torch.manual_seed(0)
    found = LAUNCHES[op](device, backend)
    assert found
    for tensor in found:
        assert tensor.device.type == device
        assert tensor.isfinite().all()

"""What `auto` computes in, and that no test leaves its precision to the next."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from aimclr_fast.training.precision import resolve_precision, use_precision

CUDA = torch.device("cuda")


@pytest.mark.parametrize(("major", "wanted"), [(7, "fp32"), (8, "bf16"), (9, "bf16"), (12, "bf16")])
def test_auto_takes_no_emulated_bf16(monkeypatch, major, wanted):
    """Turing (7.5) has tensors of bf16, which it computes with by way of float32."""
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    properties = SimpleNamespace(major=major)
    monkeypatch.setattr(cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert cuda.is_bf16_supported()  # with emulation, everywhere
    assert resolve_precision("auto", CUDA) == wanted
    assert resolve_precision("bf16", CUDA) == "bf16"  # asked for by name


def test_a_cpu_trains_in_float32():
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"


def settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
def test_a_test_begins_with_exact_products(precision):
    """Whatever the tests before it have set: each of these three sets something."""
    assert settings() == ("highest", False)
    assert torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = False
    use_precision(precision, CUDA)
    assert settings() == (("highest", False) if precision == "fp32" else ("high", True))

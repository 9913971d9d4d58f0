"""What `auto` computes in, and that no test leaves its precision to the next."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from aimclr_fast import native
from aimclr_fast.nn.precision import (
    check_precision,
    resolve_precision,
    use_precision,
    why_not_precision,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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


@pytest.mark.parametrize(("products", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_on_cpus_with_products_of_it(monkeypatch, products, wanted):
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: None if products else "no")
    assert resolve_precision("auto", CPU) == wanted
    assert resolve_precision("bf16", CPU) == "bf16"  # asked for by name, and refused where it must


def library(level: str, levels: tuple[str, ...], **more: object) -> SimpleNamespace:
    return SimpleNamespace(
        cpu_level=lambda: level,
        cpu_levels=lambda: list(levels),
        stgcn_block_forward_bf16_cpu=None,
        **more,
    )


LEVELS = ("baseline", "v3", "v4", "v4_bf16", "amx")


@pytest.mark.parametrize(
    ("level", "levels", "reason"),
    [
        ("amx", LEVELS, None),
        ("v4_bf16", LEVELS[:4], None),
        ("v4_bf16", LEVELS, None),
        ("v4", LEVELS[:3], "need AVX512-BF16 or AMX-BF16, and the highest level of this processor "
         "and build is v4 (AVX-512)"),
        ("baseline", LEVELS[:1], "this processor and build is baseline (SSE2)"),
        ("v3", LEVELS[:4], "held at level v3 (AVX2), below v4_bf16 (AVX512-BF16), which this "
         "processor has: unset AIMCLR_CPU_LEVEL"),
    ],
)  # fmt: skip
def test_what_a_cpu_lacks_for_bf16_is_said(monkeypatch, level, levels, reason):
    monkeypatch.setattr(native, "load", lambda: library(level, levels))
    found = why_not_precision("bf16", CPU)
    assert found is None if reason is None else reason in found
    assert why_not_precision("fp32", CPU) is None
    assert why_not_precision("tf32", CPU) == "only GPUs compute in tf32"
    assert why_not_precision("bf16", CUDA) is None


def test_a_missing_library_has_no_bf16(monkeypatch):
    monkeypatch.setattr(native, "why_unavailable", lambda: "AIMCLR_NATIVE=OFF is set")
    assert why_not_precision("bf16", CPU) == "AIMCLR_NATIVE=OFF is set"


@pytest.mark.parametrize("name", ["auto", "tf32", "fp16", ""])
def test_inference_is_in_fp32_or_bf16(name):
    with pytest.raises(ValueError, match=f"precision is '{name}', but must be fp32 or bf16"):
        check_precision(name, CPU)


def settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["tf32", "fp32", "bf16"])
def test_a_test_begins_with_exact_products(name):
    """Whatever the tests before it have set: each of these three sets something."""
    assert settings() == ("highest", False)
    assert torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = False
    use_precision(name, CUDA)
    assert settings() == (("highest", False) if name == "fp32" else ("high", True))

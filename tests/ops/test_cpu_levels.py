"""The CPU kernels at each level of x86-64 (csrc/cpu/levels.h): all ops against the reference."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from emulation import CPP
from ops import test_apply_augment as apply_augment
from ops import test_eadm_pool as eadm_pool
from ops import test_masked_pool as masked_pool
from ops import test_queue_losses as queue_losses
from ops import test_skelemix as skelemix
from ops import test_skeleton_augment as skeleton_augment
from ops import test_stgcn_block as stgcn_block
from tolerances import assert_near
from torch import Tensor

from aimclr_fast import functional, native
from aimclr_fast.functional import queue_contrast
from aimclr_fast.ops.philox import philox4x32
from aimclr_fast.reference import philox as philox_reference
from aimclr_fast.reference.skeleton_augment import AugmentParams

ROOT = Path(__file__).resolve().parents[2]
FLOATS = (torch.float32, torch.float64)


def contrast(dtype: torch.dtype, backend: str) -> list[Tensor]:
    """Losses, neighbors and gradients."""
    torch.manual_seed(0)
    sizes = [(70, 36)] * 4 + [(1500, 36)]
    rows = [F.normalize(torch.randn(*size, dtype=torch.float64), dim=1).to(dtype) for size in sizes]
    views = [row.requires_grad_() for row in rows[:3]]
    losses = queue_contrast(*rows, 0.07, 4, backend)
    return [*losses, *torch.autograd.grad(losses.loss, views)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_queue_contrast(cpu_level, dtype):
    found, wanted = contrast(dtype, "cpp"), contrast(torch.float64, "reference")
    for i, (value, expected) in enumerate(zip(found, wanted, strict=True)):
        if i == 4:
            assert torch.equal(value, expected)
        else:
            assert_near(value, expected, dtype=dtype, gradient=i > 4)


@pytest.mark.parametrize("place", queue_losses.CPP)
def test_queue_losses(cpu_level, place):
    for case in queue_losses.ALL:
        queue_losses.check(place, case)


BLOCKS = [
    stgcn_block.Case(2, 3, 16, 13, 25, residual="none"),
    stgcn_block.Case(2, 16, 32, 13, 25, stride=2, residual="convolution"),
    stgcn_block.Case(2, 48, 48, 9, 17, taps=5),
    stgcn_block.Case(2, 64, 64, 15, 17),  # convolved over frequencies
    stgcn_block.Case(2, 8, 8, 5, 6, training=False),  # no whole vector of AVX-512
    stgcn_block.Case(2, 4, 4, 5, 6),  # nor of AVX2
    stgcn_block.Case(2, 5, 7, 4, 3, stride=2, residual="convolution"),  # nor of any
]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("case", BLOCKS, ids=str)
def test_stgcn_block(cpu_level, case, dtype):
    stgcn_block.test_equals_the_reference_in_float64(case, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("case", [BLOCKS[1], *BLOCKS[5:]], ids=str)
def test_bits_of_dropout(cpu_level, case, dtype):
    """They go on in the next place of a byte within a frame, and within a vector."""
    stgcn_block.test_bits_of_keep_are_its_elements(case, "cpp", dtype)


@pytest.mark.parametrize("memory_format", eadm_pool.FORMATS.values(), ids=eadm_pool.FORMATS)
@pytest.mark.parametrize("shape", [(2, 6, 13, 25), (2, 33, 7, 20), (4, 3, 1, 25)], ids=str)
def test_eadm_pool(cpu_level, shape, memory_format):
    eadm_pool.test_equals_the_reference(("cpp", "cpu"), shape, memory_format)


@pytest.mark.parametrize("memory_format", masked_pool.FORMATS.values(), ids=masked_pool.FORMATS)
@pytest.mark.parametrize("shape", masked_pool.SHAPES[:3], ids=str)
def test_masked_pool(cpu_level, shape, memory_format):
    masked_pool.test_equals_the_reference(("cpp", "cpu"), shape, memory_format)


@pytest.mark.parametrize("dtype", skelemix.DTYPES, ids=str)
def test_skelemix(cpu_level, dtype):
    def mix(query: Tensor, **changes: int) -> skelemix.Mixed:
        return skelemix.call(query, **changes, backend="cpp")

    for shape in skelemix.SHAPES[:2]:
        skelemix.test_equals_the_reference(mix, shape, dtype)


@pytest.mark.parametrize("shape", skeleton_augment.SHAPES[:4], ids=str)
def test_skeleton_augment(cpu_level, shape):
    for config in (skeleton_augment.MIXED, skeleton_augment.ON):
        skeleton_augment.test_equals_the_reference(CPP, shape, config)


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, torch.bfloat16, torch.int16])
@pytest.mark.parametrize("out", [torch.float32, torch.float16, torch.bfloat16])
def test_stored_and_written_dtypes(cpu_level, stored, out):
    skeleton_augment.test_stored_and_written_dtypes(CPP, stored, out)


@pytest.mark.parametrize("dtype", apply_augment.DTYPES)
def test_apply_augment(cpu_level, dtype):
    for shape in apply_augment.SHAPES[:3]:
        apply_augment.test_equals_the_reference(CPP, shape, dtype)
        apply_augment.test_gradients_equal_the_reference(CPP, shape, dtype)


def test_philox(cpu_level):
    counters = torch.randint(0, 1 << 32, (1003, 4))
    assert torch.equal(
        philox4x32(counters, (1, 2), "cpp"), philox_reference.philox4x32(counters, (1, 2))
    )


def test_every_op_with_kernels_is_tested_at_each_level():
    ops = {path.parent.name for path in (ROOT / "csrc" / "cpu").glob("*/*_kernels.cpp")}
    assert len(ops) > 5
    for name in ops:
        assert "cpu_level" in inspect.signature(globals()[f"test_{name}"]).parameters


# --- The choice of a level -----------------------------------------------------------------------


def outputs(level: str) -> dict[str, list[Tensor]]:
    native.load().set_cpu_level(level)
    case = BLOCKS[1]
    torch.manual_seed(0)
    arguments = stgcn_block.converted(stgcn_block.make(case), torch.float32)
    block = stgcn_block.run(arguments, torch.ones(2, 32, 7, 25), "cpp")
    data = skeleton_augment.make_data(50, 25, 2)
    views = skeleton_augment.augment(CPP, data, torch.arange(4))
    return {
        "stgcn_block": list(block.values()),
        "queue_contrast": contrast(torch.float32, "cpp"),
        "skeleton_augment": [*views[0]],
    }


def test_levels_are_what_runs(request):
    """With fused multiply-adds, which v3 has and the baseline lacks, roundings differ."""
    library = native.load()
    if "v3" not in library.cpu_levels():
        pytest.skip("this processor or build has the baseline alone")
    before = library.cpu_level()
    request.addfinalizer(lambda: library.set_cpu_level(before))
    baseline, again, v3 = outputs("baseline"), outputs("baseline"), outputs("v3")
    for op, tensors in baseline.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, again[op], strict=True)), op
        assert not all(torch.equal(a, b) for a, b in zip(tensors, v3[op], strict=True)), op


def spectral_block() -> list[Tensor]:
    torch.manual_seed(0)
    case = BLOCKS[3]._replace(batch=16)
    arguments = stgcn_block.converted(stgcn_block.make(case), torch.float32)
    return [*functional.stgcn_block(**arguments, backend="cpp")]


def augmented(gradient: bool) -> list[Tensor]:
    x = skeleton_augment.make_data(50, 25, 2).repeat(20, 1, 1, 1, 1).requires_grad_()
    count = len(x)
    params = AugmentParams(
        crop_start=torch.arange(count) % 17,
        shear=torch.eye(3).repeat(count, 1, 1) + 0.3,
        blur_sigma=torch.full((count,), 1.5),
    )
    y = functional.apply_augment(x, params, stream="motion", backend="cpp")
    return [*torch.autograd.grad(y, x, x.detach())] if gradient else [y]


CALLS = {  # by name: some milliseconds in one call of the library
    "apply_augment": lambda: augmented(gradient=False),
    "apply_augment_backward": lambda: augmented(gradient=True),
    "queue_contrast": lambda: contrast(torch.float32, "cpp")[:4],
    "skeleton_augment": lambda: skeleton_augment.augment(
        CPP, skeleton_augment.make_data(50, 25, 2), torch.arange(200) % 5
    )[0],
    "stgcn_block": spectral_block,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_keeps_its_level(request, name):
    """Another thread keeps changing the level; each result is still of one level."""
    library = native.load()
    if "v3" not in library.cpu_levels():
        pytest.skip("this processor or build has the baseline alone")
    before = library.cpu_level()
    request.addfinalizer(lambda: library.set_cpu_level(before))
    wanted = []
    for level in ("baseline", "v3"):
        library.set_cpu_level(level)
        wanted.append(CALLS[name]())
    done, changes = threading.Event(), [0]

    def change() -> None:
        while not done.is_set():
            library.set_cpu_level(("baseline", "v3")[changes[0] % 2])
            changes[0] += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            found = CALLS[name]()
            assert any(all(map(torch.equal, found, level)) for level in wanted)
    finally:
        done.set()
        thread.join()
    assert changes[0] > 10


@pytest.mark.parametrize("name", ["", "v2", "V3", "x86-64-v3"])
def test_an_unknown_level_is_refused(name):
    library = native.load()
    before = library.cpu_level()
    with pytest.raises(ValueError, match=rf"must be one that this .*\(baseline.*got '{name}'"):
        library.set_cpu_level(name)
    assert library.cpu_level() == before


@pytest.mark.parametrize(
    ("asked", "there", "used"),
    [
        ("v4", ["baseline", "v3"], "v3"),
        ("v4", ["baseline"], "baseline"),
        ("v3", ["baseline", "v3", "v4"], "v3"),
        ("amx", ["baseline", "v3", "v4", "v4_bf16"], "v4_bf16"),
        ("v9", ["baseline"], "v9"),  # which the library refuses
    ],
)
def test_a_level_above_the_highest_is_the_highest(monkeypatch, asked, there, used):
    found = []
    library = types.SimpleNamespace(cpu_levels=lambda: there, set_cpu_level=found.append)
    monkeypatch.setenv("AIMCLR_CPU_LEVEL", asked)
    native._set_level(library)
    assert found == [used]


def level_under(value: str) -> subprocess.CompletedProcess[str]:
    code = "from aimclr_fast import native; print(native.load().cpu_level())"
    environment = {**os.environ, "AIMCLR_CPU_LEVEL": value}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_levels_of_bfloat16_are_v4_for_all_other_kernels(request):
    library = native.load()
    if "v4_bf16" not in library.cpu_levels():
        pytest.skip("this processor or build multiplies no bfloat16")
    before = library.cpu_level()
    request.addfinalizer(lambda: library.set_cpu_level(before))
    wanted = outputs("v4")
    for level in library.cpu_levels()[3:]:
        for op, tensors in outputs(level).items():
            assert all(torch.equal(a, b) for a, b in zip(tensors, wanted[op], strict=True)), op


def test_the_environment_sets_the_level():
    highest = native.load().cpu_levels()[-1]
    assert level_under("baseline").stdout.split() == ["baseline"]
    assert level_under("").stdout.split() == [highest]
    refused = level_under("v9")
    assert refused.returncode != 0
    assert "AIMCLR_CPU_LEVEL=v9: the CPU level must be one that" in refused.stderr


# --- What a level's objects offer the linker -----------------------------------------------------


def check_level(source: str, level: str, folder: Path, *options: str) -> str:
    """What cmake/CheckLevel.cmake says of a source compiled for a level."""
    path = folder / "kernels.cpp"
    path.write_text(source)
    subprocess.run(
        ["g++", "-std=c++17", "-O1", f"-march=x86-64-{level}", *options, "-c", path.name],
        cwd=folder, check=True,
    )  # fmt: skip
    done = subprocess.run(
        ["cmake", "-DNM=nm", f"-DLEVEL={level}", f"-DOBJECTS={folder / 'kernels.o'}",
         "-P", str(ROOT / "cmake" / "CheckLevel.cmake")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr


KERNELS = """
#include <algorithm>
[[gnu::noinline]] inline int shared(int* x) { return x[0] + x[1]; }
namespace aimclr::cpu::v3 {
[[gnu::externally_visible]] int entry(int* x, int n) { std::sort(x, x + n); return shared(x); }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("g++", "cmake", "nm")),
    reason="needs g++, cmake and nm",
)
def test_the_build_refuses_symbols_that_other_levels_could_take(tmp_path):
    if "v3" not in native.load().cpu_levels():
        pytest.skip("this build has the baseline alone")
    assert "offers all" in check_level(KERNELS, "v3", tmp_path)
    assert check_level(KERNELS, "v3", tmp_path, "-fwhole-program") == ""
    outside = KERNELS.replace("aimclr::cpu::v3", "aimclr::cpu::v4")
    assert "offers all" in check_level(outside, "v3", tmp_path, "-fwhole-program")

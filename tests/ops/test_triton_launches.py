"""What the `cuda` tests launch, compiled ahead of time: one of each kind of specialization.

All of them, for more GPUs: python scripts/triton_report.py --tests. After a change of what those
tests launch, write the list anew as tests/triton_recording.py says.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpus import PROCESSORS, warps_that_fit
from triton_aot import (
    ARCHS,
    Launch,
    assert_as_committed,
    assert_no_spills,
    committed_rows,
    compile_launches,
    compile_recorded,
    recorded_launches,
)
from triton_published import programs

LAUNCHES = recorded_launches()
NUMBERS = ("arch", "warps", "programs", "registers", "local_bytes", "shared_bytes")


def kind(launch: dict[str, Any]) -> tuple[object, ...]:
    """Module, kernel, dtypes, and how it multiplies."""
    arguments = launch["arguments"]
    tensors = {v["tensor"] for v in arguments.values() if isinstance(v, dict) and "tensor" in v}
    name = launch["module"], launch["kernel"]
    return *name, *sorted(tensors), str(arguments.get("OPERAND"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_one_of_each_kind_compiles(arch):
    kinds = {kind(launch): launch for launch in LAUNCHES}
    launches = compile_recorded(kinds.values(), [arch])
    assert len(launches) == len(kinds)
    assert_no_spills(launches)
    for launch in launches:
        assert launch.shared_bytes <= 99 << 10, str(launch)
        assert warps_that_fit(launch.registers) >= launch.warps, str(launch)


@pytest.mark.slow
def test_an_error_of_the_compiling_process_is_told():
    """And the next request finds another process."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        compile_launches("aimclr_fast.triton_kernels.eadm_pool", "1 / 0")
    with pytest.raises(AssertionError, match="nothing was launched by 1"):
        compile_launches("aimclr_fast.triton_kernels.eadm_pool", "1")


def test_a_launch_that_no_gpu_can_hold_is_a_fault():
    path = Path(__file__).parents[2] / "scripts" / "triton_report.py"
    spec = importlib.util.spec_from_file_location("triton_report", path)
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    launch = Launch("k", 90, warps=16, programs=1, registers=255, local_bytes=0, shared_bytes=0,
                    ptx="")  # fmt: skip
    assert "too many registers" in report.fault(launch)
    assert report.fault(replace(launch, registers=128)) is None


def test_the_committed_table_is_of_the_published_launches():
    """What each case takes is compared where it is compiled: see `compile_published`."""
    rows = committed_rows()
    archs = {int(row["arch"]) for row in rows}
    assert set(ARCHS) <= archs <= set(PROCESSORS)
    cases = {(program.name, arch) for program in programs() for arch in archs}
    assert {(row["case"], int(row["arch"])) for row in rows} == cases
    assert {row["kernel"] for row in rows} <= {launch["kernel"] for launch in LAUNCHES}


def test_launches_unlike_the_committed_ones_are_told():
    case = "eadm_pool 256x256x13x25 float32"
    launches = [
        Launch(
            **{name: int(row[name]) for name in NUMBERS},
            kernel=row["kernel"],
            ptx="",
        )
        for row in committed_rows()
        if row["case"] == case
    ]
    assert_as_committed(case, launches)
    first, *rest = launches
    for changed in (rest, [replace(first, warps=16), *rest]):
        with pytest.raises(AssertionError, match=f"{case}: run scripts/triton_report.py"):
            assert_as_committed(case, changed)


def test_the_list_has_every_kernel():
    from aimclr_fast.triton_kernels import (
        eadm_pool,
        masked_pool,
        queue_contrast,
        stgcn_block_norm,
        stgcn_block_spatial,
        stgcn_block_temporal,
        stgcn_block_weights,
    )

    blocks = stgcn_block_norm, stgcn_block_spatial, stgcn_block_temporal, stgcn_block_weights
    modules = eadm_pool, masked_pool, queue_contrast, *blocks
    kernels = {
        (module.__name__, name)
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_kernel") and value.fn.__module__ == module.__name__
    }
    assert len(kernels) > 15
    assert {(launch["module"], launch["kernel"]) for launch in LAUNCHES} == kernels

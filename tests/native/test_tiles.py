"""Products of bfloat16 by AMX's tiles, which are emulated where the processor has none."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess

import pytest
from missing import compiler, require
from native.test_launch import HERE, run

from aimclr_fast import native


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is of x86-64")
def test_products_are_sums_over_what_was_packed(tmp_path):
    """Each shape of a tile, the last rows, channels and words included."""
    require(compiler(), "no C++ compiler was found")
    options = ("-mamx-tile", "-mamx-bf16", "-Wall", "-Wextra", "-Werror")
    run(compiler(), HERE / "tile_checks.cpp", tmp_path, *options, str(HERE / "amx_traps.cpp"))


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def instructions(library: str, function: str) -> str:
    """Those of all functions whose name holds `function`, of each level."""
    found = [
        line.split()[:2] for line in output("nm", "-S", library).splitlines() if function in line
    ]
    assert found, function
    return "".join(
        output(
            "objdump", "-d", "--no-show-raw-insn", f"--start-address=0x{start}",
            f"--stop-address={int(start, 16) + int(size, 16)}", library,
        )
        for start, size in found
    )  # fmt: skip


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("objdump", "nm")), reason="needs objdump and nm"
)
def test_the_library_has_the_instructions_of_each_level():
    """They cannot run on every machine that tests, so it is looked whether they are there."""
    if "v3" not in native.load().cpu_levels():
        pytest.skip("this processor or build has the baseline alone")
    library = str(native.load().__file__)
    for function, wanted in {
        "9amx_outer": ("ldtilecfg", "tileloadd", "tilestored", "tdpbf16ps", "tilerelease"),
        "11amx_product": ("ldtilecfg", "tilezero", "tileloadd", "tdpbf16ps", "vcvtneps2bf16"),
        "10bf16_outer": ("vdpbf16ps",),
    }.items():
        text = instructions(library, function)
        for name in wanted:
            assert re.search(rf"\t{name}\b", text), (function, name)

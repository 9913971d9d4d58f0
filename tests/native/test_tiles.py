"""Products of bfloat16 by AMX's tiles, on processors that have none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from missing import compiler, require
from native.conftest import ROOT
from native.test_launch import HERE, run

from aimclr_fast import native

BLOCK = ROOT / "csrc" / "cpu" / "stgcn_block"


def test_tiles_multiply_what_the_plain_products_do(tmp_path):
    require(compiler(), "no C++ compiler was found")
    sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    run(compiler(), HERE / "tile_checks.cpp", tmp_path, "-Wall", "-Wextra", *sanitize)


def instructions(library: Path) -> str:
    return subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(library)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_the_library_has_the_instructions_of_each_level():
    """They cannot run on every machine that tests, so it is looked whether they are there."""
    require(shutil.which("objdump"), "objdump was not found")
    library = Path(str(native.load().__file__))
    if "v3" not in native.load().cpu_levels():
        pytest.skip("this processor or build has the baseline alone")
    text = instructions(library)
    for instruction in (
        "vdpbf16ps", "vcvtneps2bf16", "tdpbf16ps", "tileloadd", "tilestored", "ldtilecfg",
        "tilerelease",
    ):  # fmt: skip
        assert f"\t{instruction} " in text or f"\t{instruction}\n" in text, instruction
